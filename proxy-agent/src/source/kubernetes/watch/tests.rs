use std::convert::Infallible;
use std::sync::Mutex;

use super::super::kind::{ServiceCidrs, Services};
use super::*;

const EMPTY: &str =
    r#"{"kind": "ServiceList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": []}"#;

fn status(code: u16) -> String {
    format!(
        r#"{{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "not this", "reason": "x", "code": {code}}}"#
    )
}

/// An API that answers lists, or not, and no watch; it notes what it is asked for.
fn api(list: u16, watch: u16) -> (Client, Arc<Mutex<Vec<&'static str>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let is_watch = request.uri().query().unwrap_or_default().contains("watch=true");
        notes
            .lock()
            .unwrap()
            .push(if is_watch { "watch" } else { "list" });
        let code = if is_watch { watch } else { list };
        let body = if code == 200 {
            EMPTY.to_owned()
        } else {
            status(code)
        };
        let response = Response::builder()
            .status(code)
            .body(Body::from(body.into_bytes()));
        futures::future::ready(Ok::<_, Infallible>(response.unwrap()))
    });
    (Client::new(service, "default"), asked)
}

/// No API server does this on purpose, so none can be made to.
#[tokio::test]
async fn a_server_that_keeps_refusing_to_go_on_is_listed_anew() {
    let (client, asked) = api(200, 410);
    let state = Arc::new(Status::default());
    let mut events = watch::<Services>(client, config(None, None), Watched::Services, state.clone());
    let mut lists = 0;
    while lists < 2 {
        match events.next().await.unwrap() {
            Ok(Event::InitDone) => lists += 1,
            Ok(_) => {}
            Err(error) => assert_eq!(describe(&error), "not this"),
        }
    }
    assert_eq!(
        *asked.lock().unwrap(),
        ["list", "watch", "watch", "watch", "list"]
    );
    assert_eq!(
        (state.lists(Watched::Services), state.failures(Watched::Services)),
        (2, 3)
    );
}

#[tokio::test]
async fn what_the_api_does_not_have_is_not_asked_for_again_and_again() {
    let (client, _) = api(404, 404);
    let state = Arc::new(Status::default());
    let mut watch =
        Watch::<ServiceCidrs>::new(client, config(None, None), Watched::ServiceCidrs, state.clone());
    while watch.next().await.is_ok() {}
    assert_eq!(watch.pause, Some(LONG_PAUSE));
    let (client, _) = api(404, 404);
    let mut watch = Watch::<Services>::new(client, config(None, None), Watched::Services, state);
    while watch.next().await.is_ok() {}
    assert!(watch.pause.unwrap() < LONGEST_PAUSE);
}
