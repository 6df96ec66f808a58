//! COUNTERS: every drop has a counted reason, and so has every rare event.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $drop:literal;)+) => {
        /// Index into COUNTERS (per-CPU array of u64, counting since the maps were made).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Counter {
            /// All of them, in the order of their indices.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The name in metrics, in the command line and in the docs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// What it counts, in a sentence.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }

            /// Whether the packet or call that it counts was dropped or refused.
            pub const fn is_drop(self) -> bool {
                match self { $(Self::$name => $drop,)+ }
            }
        }
    };
}

counters! {
    /// Refused: the service port has no usable endpoint anywhere.
    NoEndpoint = "no_endpoint", true;
    /// Dropped: a Local traffic policy leaves no endpoint on this node.
    NoLocalEndpoint = "no_local_endpoint", true;
    /// Dropped: every source port tried for SNAT was in use towards that backend.
    SourcePortsExhausted = "source_ports_exhausted", true;
    /// Dropped: this node has no address to SNAT with on the way to the backend.
    NoSourceAddress = "no_source_address", true;
    /// Dropped: the routing table knows no way for a translated packet.
    NoRoute = "no_route", true;
    /// Dropped: a translated packet is larger than the next hop's MTU; the sender was told, unless it was an ICMP error.
    TooBig = "too_big", true;
    /// Dropped: the hop limit of a packet to redirect ran out; the sender was told, unless it was an ICMP error.
    HopLimit = "hop_limit", true;
    /// Dropped: a fragment whose first fragment has not been seen.
    FragmentWithoutFirst = "fragment_without_first", true;
    /// Dropped: the kernel refused to rewrite a packet, for want of memory.
    RewriteFailed = "rewrite_failed", true;
    /// Dropped: a flow table took no new entry.
    FlowTableRefused = "flow_table_refused", true;
    /// Refused: a packet to a cluster address that would leave the node untranslated.
    HostUntranslated = "host_untranslated", true;
    /// Dropped: a packet to a load balancer's address that would leave by the uplink that it came in by.
    TurnedBack = "turned_back", true;
    /// Dropped: a header that contradicts itself on the way to a frontend.
    Malformed = "malformed", true;
    /// A new flow entered EMBRYOS.
    FlowCreated = "flow_created", false;
    /// A flow moved from EMBRYOS to FLOWS.
    FlowPromoted = "flow_promoted", false;
    /// A flow's lost partner entry was put back.
    PartnerRestored = "partner_restored", false;
    /// A reverse key was taken by another flow: another backend or source port was tried.
    ReverseCollision = "reverse_collision", false;
    /// Another CPU made the same flow first.
    LostRace = "lost_race", false;
    /// A TCP packet without SYN to a frontend, and without a flow: passed to the stack.
    TcpWithoutFlow = "tcp_without_flow", false;
    /// A UDP flow's backend stopped serving: the flow was balanced anew.
    UdpRebalanced = "udp_rebalanced", false;
    /// A packet from a backend without a flow: passed unchanged.
    ReverseWithoutFlow = "reverse_without_flow", false;
    /// Netfilter uses a port of the SNAT range: its tuple was entered as foreign.
    ForeignPort = "foreign_port", false;
    /// Socket LB translated a connect or sendmsg.
    SocketTranslated = "socket_translated", false;
    /// A TCP reset or ICMP error was sent for a refused or dropped packet.
    ErrorSent = "error_sent", false;
    /// Dropped: the source is in none of the Service's loadBalancerSourceRanges.
    SourceNotAllowed = "source_not_allowed", true;
    /// Session affinity gave a client's new flow the backend of the one before.
    AffinityKept = "affinity_kept", false;
    /// An ICMP error about a packet of a flow was translated as the packet had been.
    ErrorTranslated = "error_translated", false;
    /// An ICMP error about a later fragment, which quotes no ports: passed unchanged.
    ErrorWithoutPorts = "error_without_ports", false;
    /// An ICMP error was not sent, because its CPU has sent as many as it may: 1,000 a second, 100 at once.
    ErrorLimited = "error_limited", false;
    /// An SCTP packet without INIT to a frontend, and without a flow: passed to the stack.
    SctpWithoutFlow = "sctp_without_flow", false;
    /// Dropped: a fragment of an SCTP packet whose ports would change, and with them a checksum over all its fragments.
    SctpFragment = "sctp_fragment", true;
    /// Refused: no Service has this port at this cluster address.
    UnknownPort = "unknown_port", true;
    /// Dropped: an address of a ServiceCIDR that no Service has.
    UnallocatedAddress = "unallocated_address", true;
    /// A Service's address answered ping.
    PingAnswered = "ping_answered", false;
    /// XDP translated a packet and sent it on.
    XdpForwarded = "xdp_forwarded", false;
    /// Every source port tried for SNAT was in use: one was taken from a flow whose client had not answered.
    SourcePortReclaimed = "source_port_reclaimed", false;
    /// A packet in the middle of a connection that nobody knew was balanced by its hash (Maglev).
    FlowJoined = "flow_joined", false;
    /// A fragment ahead of its first came in again, to find it: how often it did is not counted.
    FragmentAhead = "fragment_ahead", false;
    /// A packet to a service port without an endpoint, which asks that such packets go on as they are.
    NoEndpointPassed = "no_endpoint_passed", false;
    /// A packet was handed on whole to its backend's node (DSR).
    Encapsulated = "encapsulated", false;
    /// A packet that another node handed on whole was taken over (DSR).
    Decapsulated = "decapsulated", false;
}

/// What a hook does with a counter if another hook decides on the same packet again, as TC does on what XDP lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twice {
    /// A change of a table: the other hook finds it made, so it is counted here.
    Made,
    /// A step towards a new flow: counted here if that was made. Else the other hook takes it again.
    Tried,
    /// Of the packet itself: the other hook counts it.
    Seen,
}

impl Counter {
    /// Which of them this one is.
    #[inline(always)]
    pub const fn twice(self) -> Twice {
        match self {
            Self::FlowCreated
            | Self::FlowPromoted
            | Self::PartnerRestored
            | Self::LostRace
            | Self::UdpRebalanced
            | Self::ForeignPort
            | Self::SourcePortReclaimed
            | Self::FlowJoined
            | Self::XdpForwarded => Twice::Made,
            Self::ReverseCollision | Self::AffinityKept => Twice::Tried,
            _ => Twice::Seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_counted_by_the_hook_that_drops_it() {
        for counter in Counter::ALL.iter().filter(|counter| counter.is_drop()) {
            assert_eq!(counter.twice(), Twice::Seen, "{counter:?}");
        }
    }

    #[test]
    fn indices_follow_the_order_and_names_are_unique() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
        let names: std::collections::BTreeSet<_> =
            Counter::ALL.iter().map(|counter| counter.name()).collect();
        assert_eq!(names.len(), Counter::ALL.len());
    }
}
