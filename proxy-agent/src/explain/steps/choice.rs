//! How one of the backends is chosen, and who keeps the one he has.

use proxy_common::layout::{ChoiceRule, When};

use super::Writer;
use crate::explain::decide::Met;
use crate::explain::node::Caller;

fn by_rule(rule: ChoiceRule, count: u32, table: u32) -> String {
    let by_weight = if table == 0 {
        ""
    } else {
        ", drawn as often as their weights say"
    };
    match rule {
        ChoiceRule::Random => format!("one of {count} at random, each as likely as the others"),
        ChoiceRule::Weighted => format!("one of {count} at random, each as likely as its weight says"),
        ChoiceRule::Maglev => format!(
            "one of {count} by the hash of the packet's addresses, ports and protocol, the same on each node (Maglev, {table} \
             entries)"
        ),
        ChoiceRule::LeastConnections => {
            format!("one of {count}: of two{by_weight}, the one that has fewer connections through this node")
        }
    }
}

impl Writer<'_> {
    pub(super) fn choice(&mut self, met: &Met) {
        let text = match (met.count, met.when_empty) {
            (0, When::Reject) => "nobody to choose: no endpoint is usable anywhere".to_owned(),
            (0, When::Drop) => {
                "nobody to choose here: other nodes have endpoints, or the Service says so".to_owned()
            }
            (0, When::Pass) => {
                "nobody to choose: the packet goes on as it is, as the Service asks (shunt.dev/without-endpoints)".to_owned()
            }
            (1, _) => "one backend: it is taken".to_owned(),
            (count, _) => by_rule(met.rule, count, met.table),
        };
        self.say("choice", text);
        if met.count > 1 && met.rule == ChoiceRule::Maglev && self.ruling.is_by_socket {
            self.say(
                "choice",
                "a socket has no packets to hash yet: by any entry of the table",
            );
        }
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
        let key = match self.caller {
            Caller::Host(_) => "its network namespace",
            Caller::Pod(_) | Caller::Outside(_) => "its address",
        };
        let text = format!(
            "ClientIP: the caller, known by {key}, keeps its backend for {seconds} s from its last new connection to any \
             frontend of this service port, as long as the backend is in the list"
        );
        self.say("affinity", text);
        let is_of_a_pod = self.ruling.is_by_socket && matches!(self.caller, Caller::Pod(_));
        if is_of_a_pod && self.scene.is_running() && !self.scene.knows(self.question.from) {
            let text = "socket LB does not know the caller's address yet: this call goes by packets, with the same choice, and \
                        makes it known";
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
