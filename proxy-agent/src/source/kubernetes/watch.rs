//! One watch: a list and what changes after it, for ever.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use http::{Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tower::{BoxError, Service};

use super::error::chain;
use super::kind::Kind;
use super::wire::Wire;
use crate::source::{Status, Watched};

/// Objects in a page of a list: memory for as many is in use for a moment.
const PAGE: u32 = 250;
/// Answers in a row that refuse to go on from where the watch was, after which everything is listed anew.
const REFUSALS: u32 = 3;
/// Pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Pause after many failures: what changed during an outage waits for it after the outage.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Pause before the API is asked again for what it does not have or does not give.
const LONG_PAUSE: Duration = Duration::from_secs(600);

/// What is watched, and how it is chosen.
pub(super) fn config(labels: Option<&str>, fields: Option<&str>) -> watcher::Config {
    watcher::Config {
        label_selector: labels.map(str::to_owned),
        field_selector: fields.map(str::to_owned),
        page_size: Some(PAGE),
        ..watcher::Config::default()
    }
}

struct Watch<K: Kind> {
    client: Client,
    config: watcher::Config,
    watched: Watched,
    status: Arc<Status>,
    events: Events<K>,
    backoff: ExponentialBackoff,
    pause: Option<Duration>,
    refusals: u32,
}

/// What a watch says.
pub(super) type Events<K> = BoxStream<'static, watcher::Result<Event<Wire<K>>>>;

/// Events, and failures in between; after each failure it pauses before it goes on.
pub(super) fn watch<K: Kind>(
    client: Client,
    config: watcher::Config,
    watched: Watched,
    status: Arc<Status>,
) -> Events<K> {
    let watch = Watch::new(client, config, watched, status);
    stream::unfold(watch, |mut watch| async move {
        let next = watch.next().await;
        Some((next, watch))
    })
    .boxed()
}

/// Up to as much again is added at random, so that not all nodes come back at once.
fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

fn events<K: Kind>(client: &Client, config: &watcher::Config) -> Events<K> {
    watcher(Api::<Wire<K>>::all(client.clone()), config.clone()).boxed()
}

impl<K: Kind> Watch<K> {
    fn new(client: Client, config: watcher::Config, watched: Watched, status: Arc<Status>) -> Self {
        let observed = Observed {
            client,
            watched,
            status: status.clone(),
        };
        let client = Client::new(observed, "default");
        Self {
            events: events(&client, &config),
            client,
            config,
            watched,
            status,
            backoff: backoff(),
            pause: None,
            refusals: 0,
        }
    }

    async fn next(&mut self) -> watcher::Result<Event<Wire<K>>> {
        loop {
            if let Some(pause) = self.pause.take() {
                tokio::time::sleep(pause).await;
            }
            match self.events.next().await {
                Some(Ok(event)) => {
                    self.refusals = 0;
                    self.backoff = backoff();
                    match event {
                        Event::Init => {}
                        Event::InitDone => self.status.set_listed(self.watched),
                        Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => {
                            self.status.set_event(self.watched, Timestamp::now());
                        }
                    }
                    return Ok(event);
                }
                Some(Err(error)) => {
                    self.failed(&error);
                    return Err(error);
                }
                None => self.events = events(&self.client, &self.config),
            }
        }
    }

    fn failed(&mut self, error: &watcher::Error) {
        if self.status.broken(self.watched).is_none() {
            // It was well since the last failure.
            self.backoff = backoff();
        }
        self.status.set_broken(self.watched, describe(error));
        self.pause = if is_withheld(error) && !self.watched.is_required() {
            Some(LONG_PAUSE)
        } else {
            self.backoff.next()
        };
        if refuses_to_go_on(error) {
            self.refusals += 1;
        }
        if self.refusals >= REFUSALS {
            // The version that the watch goes by may be none of this server's.
            self.refusals = 0;
            self.events = events(&self.client, &self.config);
        }
    }
}

/// What happened, without what the library did meanwhile.
pub(super) fn describe(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => match error {
            kube::Error::Api(status) => status.message.clone(),
            kube::Error::Service(error) => chain(&**error),
            error => chain(error),
        },
        watcher::Error::WatchError(status) => status.message.clone(),
        error => chain(error),
    }
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Whether the API does not have the kind, or does not give it to us.
pub(super) fn is_withheld(error: &watcher::Error) -> bool {
    matches!(code(error), Some(403 | 404))
}

/// Whether a server answered, but not with what comes after the version that we have.
fn refuses_to_go_on(error: &watcher::Error) -> bool {
    let is_watch = !matches!(error, watcher::Error::InitialListFailed(_));
    is_watch && !matches!(code(error), None | Some(401 | 403 | 429))
}

/// Calls whose outcome is noted.
struct Observed {
    client: Client,
    watched: Watched,
    status: Arc<Status>,
}

impl Service<Request<Body>> for Observed {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, watched, status) = (self.client.clone(), self.watched, self.status.clone());
        async move {
            // Failures are noted with what they say, where the watch gets them.
            let response = client.send(request).await?;
            if response.status().is_success() {
                status.set_well(watched);
            }
            Ok(response)
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
