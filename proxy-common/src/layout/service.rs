//! SERVICES: a service port's lists of slots.

use super::{AffinityWord, BackendId};

/// Index into SERVICES: one service port (Service, port name, protocol) in one family. 0 is never a service.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u32);

/// What happens to a new flow when a list is empty (semantics A5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// No usable endpoint anywhere: refuse (TCP RST, ICMP port unreachable, ECONNREFUSED).
    Reject,
    /// Endpoints exist, but a Local policy leaves none here: drop silently.
    Drop,
    /// As if there were no Service: whoever else serves the address may have it.
    Pass,
}

/// How a new flow gets its backend out of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChoiceRule {
    /// Each backend is as likely as the next.
    #[default]
    Random = 0,
    /// At random out of the list's table, in which a backend stands as often as its weight says.
    Weighted = 1,
    /// By the hash of the flow out of the list's table, which is the same on each node (Maglev, NSDI 2016 §3.4).
    Maglev = 2,
    /// Two are drawn, and the one with fewer connections is taken ("power of two choices").
    LeastConnections = 3,
}

/// One list of slots, which hold backend ids in ascending order, in one aligned u64, replaced by one atomic store: bits 0..24 the first slot, 24..46 the count,
/// 46..48 the [`ChoiceRule`], 48..64 a tag of the service port that owns it. With count 0 the first-slot field says [`When`]: 0 reject, 1 drop, 2 pass.
///
/// Unless the rule is [`ChoiceRule::Random`], the run of slots goes on behind the backends: one slot with the length of a table, then the table, whose
/// entries are backends of the list too. A table of length 0 stands for the list itself.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListWord(pub u64);

impl ListWord {
    /// The largest slot index that a word can hold.
    pub const MAX: u32 = (1 << 24) - 1;
    /// The largest count.
    pub const MAX_COUNT: u32 = (1 << 22) - 1;

    /// A list of `count` slots, at most [`Self::MAX_COUNT`], from slot `first`, at most [`Self::MAX`]; drawn from at random.
    #[inline(always)]
    pub const fn new(first: u32, count: u32, tag: u16) -> Self {
        Self((first & Self::MAX) as u64 | ((count & Self::MAX_COUNT) as u64) << 24 | (tag as u64) << 48)
    }

    /// The same list, chosen from by another rule.
    #[inline(always)]
    #[must_use]
    pub const fn with_rule(self, rule: ChoiceRule) -> Self {
        Self(self.0 & !(3 << 46) | (rule as u64) << 46)
    }

    /// A list without backends.
    #[inline(always)]
    pub const fn empty(when: When, tag: u16) -> Self {
        Self::new(
            match when {
                When::Reject => 0,
                When::Drop => 1,
                When::Pass => 2,
            },
            0,
            tag,
        )
    }

    /// First slot.
    #[inline(always)]
    pub const fn first(self) -> u32 {
        self.0 as u32 & Self::MAX
    }

    /// How many slots.
    #[inline(always)]
    pub const fn count(self) -> u32 {
        (self.0 >> 24) as u32 & Self::MAX_COUNT
    }

    /// How a new flow gets its backend.
    #[inline(always)]
    pub const fn rule(self) -> ChoiceRule {
        match (self.0 >> 46) & 3 {
            0 => ChoiceRule::Random,
            1 => ChoiceRule::Weighted,
            2 => ChoiceRule::Maglev,
            _ => ChoiceRule::LeastConnections,
        }
    }

    /// The slot that holds the length of the list's table; none: it has no table.
    #[inline(always)]
    pub const fn table_length_slot(self) -> Option<u32> {
        match self.rule() {
            ChoiceRule::Random => None,
            _ => Some(self.first() + self.count()),
        }
    }

    /// The list's backends, and what of its run stands behind them, given the slots from [`Self::first`] on; `None` if these end
    /// before the run does.
    pub fn split(self, slots: &[BackendId]) -> Option<(&[BackendId], &[BackendId])> {
        let (backends, rest) = slots.split_at_checked(self.count() as usize)?;
        let length = match (self.rule(), rest.first()) {
            (ChoiceRule::Random, _) => 0,
            (_, Some(BackendId(entries))) => (*entries as usize).checked_add(1)?,
            (_, None) => return None,
        };
        Some((backends, rest.get(..length)?))
    }

    /// Tag of the owner: equal to the tag in the frontend's value, else the id has a new owner.
    #[inline(always)]
    pub const fn tag(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// What an empty list means.
    #[inline(always)]
    pub const fn when_empty(self) -> When {
        match self.first() {
            0 => When::Reject,
            2 => When::Pass,
            _ => When::Drop,
        }
    }
}

/// A value of SERVICES (array by [`ServiceId`], mmapable). Each word is read once and stands on its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// For the ClusterIP: internal traffic policy.
    pub internal: ListWord,
    /// For NodePort, LoadBalancer and externalIP from outside: external traffic policy.
    pub external: ListWord,
    /// For the same frontends from a pod of this node or from this host: always the Cluster list (semantics A4). Where the
    /// service port forwards by DSR ([`Self::hands_on`]), that is `external`, and this is the Local list, for what other nodes
    /// hand on.
    pub shortcut: ListWord,
    /// How long a client keeps its backend, and whether the service port forwards by DSR.
    pub affinity: AffinityWord,
}

impl Service {
    /// Whether packets from outside go to backends of other nodes whole (DSR), if the service port with this tag still has the
    /// id. Never with an external policy Local, which leaves no backend of another node.
    #[inline(always)]
    pub const fn hands_on(&self, tag: u16) -> bool {
        self.affinity.tag() == tag && self.affinity.hands_on()
    }
}

const _: () = assert!(size_of::<Service>() == 32 && align_of::<Service>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_word_holds_its_parts() {
        let word = ListWord::new(ListWord::MAX, ListWord::MAX_COUNT, 0xbeef);
        for rule in [
            ChoiceRule::Random,
            ChoiceRule::Maglev,
            ChoiceRule::Weighted,
            ChoiceRule::LeastConnections,
        ] {
            let word = word.with_rule(rule);
            assert_eq!(
                (word.first(), word.count(), word.rule(), word.tag()),
                (ListWord::MAX, ListWord::MAX_COUNT, rule, 0xbeef)
            );
        }
        assert_eq!(word.table_length_slot(), None);
        let table = ListWord::new(5, 3, 7).with_rule(ChoiceRule::Maglev);
        assert_eq!(table.table_length_slot(), Some(8));
        let slots = [7, 8, 9, 2, 8, 7, 1].map(BackendId);
        assert_eq!(table.split(&slots), Some((&slots[..3], &slots[3..6])));
        assert_eq!(table.split(&slots[..5]), None, "the table is cut short");
        assert_eq!(ListWord::new(5, 3, 7).split(&slots), Some((&slots[..3], &[][..])));
        assert_eq!(ListWord::new(5, 8, 7).split(&slots), None);
        for when in [When::Reject, When::Drop, When::Pass] {
            let word = ListWord::empty(when, 7);
            assert_eq!((word.count(), word.tag(), word.when_empty()), (0, 7, when));
        }
    }
}
