//! What is to be done with a packet, and where the rules put what they know of it.

use crate::layout::{Action, Addr, Counter, Direction, Flow, FlowKey, Port, protocol};
use crate::rules::Headers;
use crate::rules::dsr::Outer;
use crate::rules::headers::Fragment;
use crate::rules::quote::Quote;

/// Where a packet comes from, as the policies see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a pod of this node.
    Pod,
    /// From the network.
    Network,
}

/// What is to be done with a packet, in one number: bits 8.. say what, bits 0..8 how or why.
///
/// A number, because an enum with data leaves half of a register undefined where it crosses a function that the kernel
/// does not inline, and the verifier refuses to see that touched. [`Verdict::decision`] shows it as an enum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verdict(pub(super) u32);

/// A [`Verdict`] to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Pass it on as it is.
    Pass,
    /// Give it the tuple of [`Work::flow`] and send it on; never [`Action::Foreign`].
    Translate(Action),
    /// The same for an ICMP error: give it and the packet that it quotes what [`Work::error_after`] says.
    TranslateError(Action),
    /// Answer with a TCP RST or an ICMP port unreachable, and drop it.
    Reject(Counter),
    /// Drop it.
    Drop(Counter),
    /// Answer an echo request, or a fragment of one, in the name of its destination.
    AnswerEcho,
    /// Pass it on as it is, unless it can wait for the first fragment of its datagram, which it has overtaken.
    AwaitFirst,
}

impl Verdict {
    const TRANSLATE: u32 = 1;
    const REJECT: u32 = 2;
    const DROP: u32 = 3;
    const TRANSLATE_ERROR: u32 = 4;

    /// [`Decision::AnswerEcho`].
    pub const ANSWER_ECHO: Self = Self(5 << 8);

    /// [`Decision::AwaitFirst`].
    pub const AWAIT_FIRST: Self = Self(6 << 8);

    /// [`Decision::Pass`].
    pub const PASS: Self = Self(0);

    /// [`Decision::Reject`].
    #[inline(always)]
    pub const fn reject(counter: Counter) -> Self {
        Self(Self::REJECT << 8 | counter as u32)
    }

    /// [`Decision::Drop`].
    #[inline(always)]
    pub const fn drop(counter: Counter) -> Self {
        Self(Self::DROP << 8 | counter as u32)
    }

    /// The verdict of a flow's action: a foreign flow, or one without a known action, passes the packet.
    #[inline(always)]
    pub const fn of_action(action: u8) -> Self {
        if action == Action::Foreign as u8 || action == 0 {
            return Self::PASS;
        }
        Self(Self::TRANSLATE << 8 | action as u32)
    }

    /// The verdict on an ICMP error about a packet of a flow with this action.
    #[inline(always)]
    pub const fn of_error(action: u8) -> Self {
        if action == Action::Foreign as u8 || action == 0 {
            return Self::PASS;
        }
        Self(Self::TRANSLATE_ERROR << 8 | action as u32)
    }

    /// The action of an ICMP error's translation.
    #[inline(always)]
    pub const fn error_action(self) -> Option<u8> {
        if self.0 >> 8 == Self::TRANSLATE_ERROR {
            Some(self.0 as u8)
        } else {
            None
        }
    }

    /// The action of a translation.
    #[inline(always)]
    pub const fn action(self) -> Option<u8> {
        if self.0 >> 8 == Self::TRANSLATE {
            Some(self.0 as u8)
        } else {
            None
        }
    }

    /// The index of the counter of a refusal.
    #[inline(always)]
    pub const fn rejected(self) -> Option<u32> {
        if self.0 >> 8 == Self::REJECT {
            Some(self.0 & 0xff)
        } else {
            None
        }
    }

    /// The index of the counter of a drop.
    #[inline(always)]
    pub const fn dropped(self) -> Option<u32> {
        if self.0 >> 8 == Self::DROP {
            Some(self.0 & 0xff)
        } else {
            None
        }
    }

    /// The verdict as an enum.
    pub fn decision(self) -> Decision {
        let counter = |index: u32| Counter::ALL.get(index as usize).copied();
        if let Some(action) = self.action().and_then(Action::from_byte) {
            return Decision::Translate(action);
        }
        if let Some(action) = self.error_action().and_then(Action::from_byte) {
            return Decision::TranslateError(action);
        }
        if let Some(counter) = self.rejected().and_then(counter) {
            return Decision::Reject(counter);
        }
        if self == Self::ANSWER_ECHO {
            return Decision::AnswerEcho;
        }
        if self == Self::AWAIT_FIRST {
            return Decision::AwaitFirst;
        }
        match self.dropped().and_then(counter) {
            Some(counter) => Decision::Drop(counter),
            None => Decision::Pass,
        }
    }
}

impl core::fmt::Debug for Verdict {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.decision().fmt(f)
    }
}

/// The rules' workspace for one packet. In the kernel it is a per-CPU map value: a program's stack has 512 bytes.
/// What it holds before a hook's rule is called does not matter.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Work<A> {
    /// The packet's headers.
    pub packet: Headers<A>,
    /// Of an ICMP error, what is not in `packet`.
    pub quote: Quote<A>,
    /// The key of the packet's flow.
    pub key: FlowKey<A>,
    /// The packet's flow; its tuple is the packet's new one.
    pub flow: Flow<A>,
    /// Whether the packet goes to a backend of another node whole (DSR).
    pub(crate) hands_on: bool,
    /// Whether another node handed it on to this one.
    pub(crate) is_taken_over: bool,
    /// Whether the flow, which goes through the stack so far, may be one that goes around it.
    pub(crate) may_go_around: bool,
    /// The outer header that it came in, if any.
    pub(crate) outer: Outer<A>,
    /// The key of the other direction.
    pub(crate) partner: FlowKey<A>,
    /// The flow of the other direction.
    pub(crate) other: Flow<A>,
    /// An entry that is in the way.
    pub(crate) spare: Flow<A>,
    /// For how long the flow has waited for its client that has `waiting_port`: ticks and one; 0: none is known that waits.
    pub(crate) waited: u32,
    /// The source port that it has.
    pub(crate) waiting_port: Port,
    /// Zero.
    pub(crate) pad: u16,
}

impl<A: Addr> Work<A> {
    /// The verdict of [`Self::flow`].
    #[inline(always)]
    pub(crate) fn verdict(&self) -> Verdict {
        if self.cuts_a_checksum() {
            return Verdict::drop(Counter::SctpFragment);
        }
        Verdict::of_action(self.flow.action)
    }

    /// Whether the packet is a piece of an SCTP packet whose ports change: where they stand in what the checksum covers is
    /// known only of the whole.
    #[inline(always)]
    fn cuts_a_checksum(&self) -> bool {
        let Self { packet, flow, .. } = self;
        packet.fragment != Fragment::Whole
            && packet.protocol == protocol::SCTP
            && flow.action != Action::Encapsulate as u8
            && (packet.source_port != flow.source_port || packet.destination_port != flow.destination_port)
    }

    /// The interface that the packet should leave by, because its flow came in by it; 0: the routing table alone decides.
    #[inline(always)]
    pub const fn way_back(&self) -> u32 {
        if self.key.direction == Direction::Reverse as u8 {
            self.flow.via.interface()
        } else {
            0
        }
    }

    /// Derives partner and other from key and flow.
    #[inline(always)]
    pub(crate) fn derive_partner(&mut self) {
        self.partner = self.key.partner(&self.flow);
        self.key.fill_partner(&self.flow, &self.partner, &mut self.other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_its_decision() {
        for action in [
            Action::Stack,
            Action::Redirect,
            Action::Hairpin,
            Action::Encapsulate,
        ] {
            assert_eq!(
                Verdict::of_action(action as u8).decision(),
                Decision::Translate(action)
            );
            assert_eq!(
                Verdict::of_error(action as u8).decision(),
                Decision::TranslateError(action)
            );
        }
        for counter in Counter::ALL {
            assert_eq!(Verdict::reject(*counter).decision(), Decision::Reject(*counter));
            assert_eq!(Verdict::drop(*counter).decision(), Decision::Drop(*counter));
        }
        assert_eq!(Verdict::PASS.decision(), Decision::Pass);
        assert_eq!(Verdict::ANSWER_ECHO.decision(), Decision::AnswerEcho);
        assert_eq!(Verdict::AWAIT_FIRST.decision(), Decision::AwaitFirst);
        assert_eq!(Verdict::of_action(Action::Foreign as u8), Verdict::PASS);
        assert_eq!(Verdict::of_error(Action::Foreign as u8), Verdict::PASS);
    }
}
