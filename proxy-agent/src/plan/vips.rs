//! The addresses at which Services are reached, whatever the port: an entry of VIPS each, and what it says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use foldhash::{HashMap, HashSet};
use proxy_common::layout::{FrontendKind, V4, V6, Vip};

use super::installed::InstalledPort;
use super::{Difference, Frontend, Operation, Planner};

/// What stands in VIPS.
#[derive(Debug, Default)]
pub(super) struct Vips {
    installed: HashMap<IpAddr, Vip>,
    /// Addresses whose frontends changed, or whose frontends' lists; some of them several times.
    touched: Vec<IpAddr>,
    /// Addresses that a restart found, and at which nothing was looked since.
    found: HashSet<IpAddr>,
}

impl Vips {
    pub(super) fn adopt(entries: &[(IpAddr, Vip)]) -> Self {
        Self {
            installed: entries.iter().copied().collect(),
            touched: Vec::new(),
            found: entries.iter().map(|(address, _)| *address).collect(),
        }
    }

    /// Makes room for this many addresses more.
    pub(super) fn make_room(&mut self, addresses: usize) {
        self.installed.reserve(addresses);
    }

    /// A frontend that a restart found: there may be no entry for its address.
    pub(super) fn adopt_frontend(&mut self, frontend: &Frontend) {
        if !frontend.address.is_unspecified() {
            self.found.insert(frontend.address);
        }
    }

    /// Looks at an address again before the plan ends.
    pub(super) fn touch(&mut self, address: IpAddr) {
        if !address.is_unspecified() {
            self.touched.push(address);
        }
    }

    /// Looks at the addresses that a restart found, but for those that were looked at.
    pub(super) fn touch_found(&mut self) {
        self.touched.extend(std::mem::take(&mut self.found));
    }
}

/// What a service port has at its addresses, of which one frontend is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stand {
    is_cluster: bool,
    answers: bool,
}

impl Stand {
    /// One more frontend there; whether the list is empty that serves who calls it from outside (a cluster address: anyone).
    pub(super) fn add(&mut self, kind: u8, has_internal: bool, has_external: bool) {
        let is_cluster = kind == FrontendKind::ClusterIp as u8;
        self.is_cluster |= is_cluster;
        self.answers |= if is_cluster { has_internal } else { has_external };
    }

    /// What is to be in the map.
    pub(super) fn vip(self, address: IpAddr) -> Vip {
        match address {
            IpAddr::V4(address) => Vip::new(&V4::from(address), self.is_cluster, self.answers),
            IpAddr::V6(address) => Vip::new(&V6::from(address), self.is_cluster, self.answers),
        }
    }
}

impl Planner {
    /// Notes that what a service port has at its addresses may be something else now.
    pub(super) fn touch_vips(&mut self, frontends: &[(Frontend, FrontendKind)]) {
        for (frontend, _) in frontends {
            self.vips.touch(frontend.address);
        }
    }

    /// Brings the entries of what was touched up to date: after the frontends, so that nothing is refused that is about to
    /// be served.
    pub(super) fn settle_vips(&mut self, operations: &mut Vec<Operation>) {
        let mut touched = std::mem::take(&mut self.vips.touched);
        touched.sort_unstable();
        touched.dedup();
        for address in touched {
            self.vips.found.remove(&address);
            let wanted = self.vip_at(address);
            let before = match wanted {
                Some(vip) => self.vips.installed.insert(address, vip),
                None => self.vips.installed.remove(&address),
            };
            match wanted {
                _ if before == wanted => {}
                Some(vip) => operations.push(Operation::PutVip(address, vip)),
                None => operations.push(Operation::RemoveVip(address)),
            }
        }
    }

    fn vip_at(&self, address: IpAddr) -> Option<Vip> {
        let mut stand = None;
        for (frontend, id) in self.owners.at(address) {
            let stand: &mut Stand = stand.get_or_insert_default();
            if let Some(port) = self.installed.get(&id) {
                port.add_to(frontend, stand);
            }
        }
        stand.map(|stand| stand.vip(address))
    }
}

impl Planner {
    /// In what the map differs from what it should hold.
    pub fn vip_differences(&self, found: Vec<(IpAddr, Vip)>) -> Vec<Difference> {
        let mut found: BTreeMap<IpAddr, Vip> = found.into_iter().collect();
        let mut differences = Vec::new();
        let installed: BTreeMap<_, _> = self.vips.installed.iter().collect();
        for (address, vip) in installed {
            let problem = match found.remove(address) {
                Some(other) if other == *vip => continue,
                Some(_) => Difference::VIP_IS_OTHER,
                None => Difference::VIP_IS_MISSING,
            };
            differences.push(Difference::of_vip(*address, problem));
        }
        let strays = found.into_keys();
        differences.extend(strays.map(|address| Difference::of_vip(address, Difference::VIP_IS_NOBODYS)));
        differences
    }
}

impl InstalledPort {
    fn add_to(&self, frontend: &Frontend, stand: &mut Stand) {
        let words = &self.words;
        let kind = self.kind_of(frontend).unwrap_or_default();
        stand.add(kind, words.internal.count() > 0, words.external.count() > 0);
    }
}
