//! How one of the backends is chosen, and who keeps the one he has.

use proxy_common::layout::When;

use super::Writer;
use crate::explain::decide::Met;
use crate::explain::node::Caller;

impl Writer<'_> {
    pub(super) fn choice(&mut self, met: &Met) {
        let text = match (met.count, met.when_empty) {
            (0, When::Reject) => "nobody to choose: no endpoint is usable anywhere".to_owned(),
            (0, When::Drop) => "nobody to choose here, though other nodes have endpoints".to_owned(),
            (1, _) => "one backend: it is taken".to_owned(),
            (count, _) => format!("one of {count} at random, each as likely as the others"),
        };
        self.say("choice", text);
        let place = match (self.caller, self.ruling.is_by_socket) {
            (_, true) => "made once, at the system call (socket LB): the socket calls the backend itself",
            (Caller::Host(_), false) => "the host's calls of this protocol are not translated",
            (Caller::Pod(_), false) => "made for the first packet, where it leaves the pod",
            (Caller::Outside(_), false) => "made for the first packet, where it enters the node",
        };
        if met.count > 0 {
            self.say("choice", place);
        }
    }

    pub(super) fn affinity(&mut self, met: &Met) {
        let seconds = met.affinity;
        if seconds == 0 {
            return;
        }
        let key = match self.ruling.is_by_socket {
            true => "its network namespace (a socket has no address yet)",
            false => "its address",
        };
        let text = format!(
            "ClientIP: the caller, known by {key}, keeps its backend for {seconds} s from its last new connection to any \
             frontend of this service port, as long as the backend is in the list"
        );
        self.say("affinity", text);
        if self.scene.is_running() && self.ruling.is_by_socket && matches!(self.caller, Caller::Pod(_)) {
            let text =
                "which namespace is the caller's is not known here: whether it has a record is not said";
            self.say("affinity", text);
        }
        if let Some((backend, age)) = self.ruling.kept {
            let text = if age < seconds {
                format!("a record names {backend}, used {age} s ago")
            } else {
                format!("a record names {backend}, but it was used {age} s ago: it holds no more")
            };
            self.say("affinity", text);
        }
    }
}
