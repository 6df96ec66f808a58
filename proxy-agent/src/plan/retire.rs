//! What was taken away and may still be held by a reader.

use std::collections::VecDeque;

use foldhash::HashMap;
use proxy_common::layout::{BackendId, ServiceId};

use super::installed::{IdentityKey, PortIdentity};
use super::slots::Run;
use super::{Operation, Planner};

/// Marks all that was taken away up to a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(u64);

/// Things that rest, in the order of their tokens.
#[derive(Debug, Default)]
pub(super) struct Retired {
    last: u64,
    /// Whether the plan that is being made has retired something.
    has_news: bool,
    runs: VecDeque<(Token, Run)>,
    backends: VecDeque<(Token, BackendId)>,
    /// Service ids whose flows may live on.
    services: HashMap<ServiceId, (Token, PortIdentity)>,
    by_identity: HashMap<IdentityKey, ServiceId>,
}

impl Retired {
    /// The token of the plan that is being made.
    fn current(&self) -> Token {
        Token(self.last + 1)
    }

    /// Later tokens than the other's.
    pub(super) fn go_on_from(&mut self, other: &Self) {
        self.last = other.last;
    }

    /// Ends a plan; its token, if it retired something.
    pub(super) fn end_plan(&mut self) -> Option<Token> {
        std::mem::take(&mut self.has_news).then(|| {
            self.last += 1;
            Token(self.last)
        })
    }

    pub(super) fn run(&mut self, run: Run) {
        self.has_news = true;
        self.runs.push_back((self.current(), run));
    }

    pub(super) fn backend(&mut self, id: BackendId) {
        self.has_news = true;
        self.backends.push_back((self.current(), id));
    }

    pub(super) fn service(&mut self, id: ServiceId, identity: PortIdentity) {
        self.has_news = true;
        self.services.insert(id, (self.current(), identity));
        self.by_identity.insert(identity.key, id);
    }

    /// The resting id of a service port that comes back.
    pub(super) fn find(&self, key: &IdentityKey) -> Option<(ServiceId, PortIdentity)> {
        let id = *self.by_identity.get(key)?;
        self.services.get(&id).map(|(_, identity)| (id, *identity))
    }

    pub(super) fn wake(&mut self, id: ServiceId) {
        if let Some((_, identity)) = self.services.remove(&id) {
            self.by_identity.remove(&identity.key);
        }
    }
}

fn pop_until<T>(queue: &mut VecDeque<(Token, T)>, token: Token) -> Vec<T> {
    let count = queue.iter().take_while(|(other, _)| *other <= token).count();
    queue.drain(..count).map(|(_, thing)| thing).collect()
}

impl Planner {
    /// Every reader that ran when the plan of this token had been carried out has ended: its slots and backend ids
    /// may be used again.
    pub fn grace_passed(&mut self, token: Token) {
        for run in pop_until(&mut self.retired.runs, token) {
            self.slots.give_back(run);
        }
        for id in pop_until(&mut self.retired.backends, token) {
            self.backends.give_back(id);
        }
    }

    /// A whole sweep of the flow tables, begun after the grace period of this token, has ended: no flow names the
    /// service ids that were taken away before. They may be used again once these operations are carried out.
    pub fn swept(&mut self, token: Token) -> Vec<Operation> {
        let services = self.retired.services.iter();
        let mut rested: Vec<ServiceId> = services
            .filter(|(_, (other, _))| *other <= token)
            .map(|(id, _)| *id)
            .collect();
        rested.sort_unstable();
        for id in &rested {
            self.retired.wake(*id);
            self.ids.give_back(id.0);
        }
        rested.into_iter().map(Operation::RemoveIdentity).collect()
    }
}
