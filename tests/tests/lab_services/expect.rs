//! What a row of calls must come to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lab::Place;
use lab::address::{self, Family};
use lab::call::{Answer, Calls, Outcome, Outcomes, Transport};

use crate::cluster::{Cluster, Frontend, Kind};

/// Enough for every one of two pods to answer: the odds against are 2^-39.
const SPREAD: usize = 40;
/// Enough to see a way that works.
const FEW: usize = 3;
/// How long a call that must come to nothing waits.
const NOTHING: Duration = Duration::from_millis(250);
/// The agent's range for SNAT.
const SNAT_PORTS: RangeInclusive<u16> = 45_000..=60_999;

/// Whom the server must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The caller's own address and port.
    Caller,
    /// A node's address, with a port of the range for SNAT.
    Snat(u8),
    /// Any address: the caller's own has several.
    Any,
}

/// Who calls what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The caller: a pod, a node or the client.
    pub(crate) from: &'a str,
    /// The Service.
    pub(crate) to: Kind,
    /// Where.
    pub(crate) at: Frontend,
    /// IPv4 or IPv6.
    pub(crate) family: Family,
    /// How.
    pub(crate) transport: Transport,
}

impl Call<'_> {
    /// The row's name.
    pub(crate) fn name(&self) -> String {
        let Self {
            from,
            to,
            at,
            family,
            transport,
        } = self;
        format!("{family} {transport} {from}->{at} {to:?}")
    }

    fn place<'a>(&self, cluster: &'a Cluster) -> Result<&'a Place> {
        cluster.lab.place(self.from)
    }

    fn target(&self) -> SocketAddr {
        self.at.of(self.to, self.family)
    }

    /// Every socket has a port of its own. Else a flow that is remembered would be in the way: by rule a second frontend
    /// of the same pod, called from the same port, makes the pod see another port.
    pub(crate) fn calls(&self, cluster: &Cluster, times: usize) -> Calls {
        Calls {
            source_port: cluster.ports(times),
            ..Calls::new(self.transport, self.target(), times)
        }
    }

    /// The Service's pods must answer, seeing that peer; and the caller must see the frontend.
    pub(crate) fn answered(&self, cluster: &Cluster, peer: Peer) -> Result<()> {
        let times = if self.to.pods().len() > 1 { SPREAD } else { FEW };
        let outcomes = self.place(cluster)?.calls(self.calls(cluster, times))?;
        self.judge(cluster, &outcomes, self.to.pods(), peer)
    }

    /// The same by an IPv6 socket that calls the IPv4 frontend at its mapped address.
    pub(crate) fn answered_mapped(&self, cluster: &Cluster) -> Result<()> {
        let SocketAddr::V4(target) = self.target() else {
            bail!("{} is no IPv4 address", self.target());
        };
        let to = SocketAddr::new(target.ip().to_ipv6_mapped().into(), target.port());
        let outcomes = self.place(cluster)?.calls(Calls {
            to,
            ..self.calls(cluster, FEW)
        })?;
        ensure!(
            outcomes.by_name().into_keys().eq(self.to.pods().iter().copied()),
            "{outcomes}"
        );
        ensure!(outcomes.all_answered(), "{outcomes}");
        ensure!(
            outcomes.answers().all(|answer| answer.from == to),
            "the caller does not see {to}: {outcomes:?}"
        );
        Ok(())
    }

    /// Datagrams or segments of that size must come back whole.
    pub(crate) fn answered_whole(&self, cluster: &Cluster, payload: usize) -> Result<()> {
        let calls = Calls {
            payload,
            ..self.calls(cluster, FEW)
        };
        let outcomes = self.place(cluster)?.calls(calls)?;
        ensure!(outcomes.all_answered(), "{payload} bytes: {outcomes}");
        Ok(())
    }

    /// These pods must answer, and no other.
    pub(crate) fn answered_by(&self, cluster: &Cluster, pods: &[&str]) -> Result<()> {
        let outcomes = self.place(cluster)?.calls(self.calls(cluster, SPREAD))?;
        self.judge(cluster, &outcomes, pods, Peer::Any)
    }

    /// Every call must be refused at once.
    pub(crate) fn refused(&self, cluster: &Cluster) -> Result<()> {
        let outcomes = self.place(cluster)?.calls(self.calls(cluster, FEW))?;
        ensure!(outcomes.all_refused(), "expected refusals: {outcomes}");
        Ok(())
    }

    /// Nothing must come back at all.
    pub(crate) fn dropped(&self, cluster: &Cluster) -> Result<()> {
        let calls = Calls {
            timeout: NOTHING,
            ..self.calls(cluster, 1)
        };
        let outcomes = self.place(cluster)?.calls(calls)?;
        ensure!(
            outcomes.count(&Outcome::Timeout) == 1,
            "expected nothing to come back: {outcomes}"
        );
        Ok(())
    }

    fn judge(&self, cluster: &Cluster, outcomes: &Outcomes, pods: &[&str], peer: Peer) -> Result<()> {
        ensure!(outcomes.all_answered(), "not every call was answered: {outcomes}");
        let seen: BTreeSet<_> = outcomes.by_name().into_keys().collect();
        let expected: BTreeSet<_> = pods.iter().copied().collect();
        if self.transport == Transport::OneUdpSocket {
            ensure!(
                seen.len() == 1 && seen.is_subset(&expected),
                "a socket keeps its pod: {outcomes}"
            );
        } else {
            ensure!(seen == expected, "expected answers of {expected:?}: {outcomes}");
        }
        outcomes.answers().try_for_each(|answer| {
            self.judge_answer(answer, peer, cluster.lab.options().tunnel)
                .with_context(|| format!("{answer:?}"))
        })
    }

    fn judge_answer(&self, answer: &Answer, peer: Peer, has_tunnel: bool) -> Result<()> {
        ensure!(
            answer.from == self.target(),
            "the caller sees {} and called {}",
            answer.from,
            self.target()
        );
        let own = |family| -> Option<IpAddr> {
            match self.from {
                "client" => Some(address::CLIENT.of(family)),
                "n1" | "n2" => None,
                _ => Some(answer.own.ip()),
            }
        };
        match peer {
            Peer::Any => {}
            Peer::Caller => {
                ensure!(
                    answer.peer.port() == answer.own.port(),
                    "the server sees another port than the caller's"
                );
                if let Some(own) = own(self.family).filter(|own| !own.is_unspecified()) {
                    ensure!(
                        answer.peer.ip() == own,
                        "the server sees another address than the caller's {own}"
                    );
                }
            }
            Peer::Snat(node) => {
                let node = if has_tunnel {
                    address::tunnel(node)
                } else {
                    address::node(node)
                };
                let node = node.of(self.family);
                ensure!(
                    answer.peer.ip() == node,
                    "the server does not see the node's address {node}"
                );
                ensure!(
                    SNAT_PORTS.contains(&answer.peer.port()),
                    "the port is not of the range for SNAT"
                );
            }
        }
        Ok(())
    }
}
