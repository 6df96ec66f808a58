//! Whether every hook still runs what was put there: others detach links, delete a qdisc with all filters on it, remove pins,
//! or make a cgroup anew, and the kernel tells nobody of most of it.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

use tracing::{info, warn};

use super::attach::{Attacher, Hook, attach_cgroup, cgroup_programs, link_path, program_name};
use super::classify::{Role, Target};
use super::clsact::{self, Side};
use super::error::{Context, DatapathError};
use super::follow::Follower;
use super::links;
use super::sys::{self, LinkTarget, attach_type};
use super::xdp_attach::xdp_path;

/// What is known of the hooks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Hooks whose program others had taken away, and that have it again, since the start.
    pub restored: u64,
    /// What has no programs though it must: uplinks and sockets. Nobody should send to such a node.
    pub broken: Vec<String>,
    /// Programs that a frame of the agent's own did not come to: another's before them keeps packets from them, or some packets.
    pub unreached: Vec<String>,
}

/// A hook that does not run what was put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    place: Place,
    /// The program, and where it was.
    hook: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// TC's at an interface.
    Tc(u32),
    /// XDP's at an interface.
    Xdp(u32),
    /// The sockets'.
    Cgroup,
}

impl Attacher {
    /// The hooks that have lost their program. What stood at their interfaces is forgotten, so that it is attached anew.
    pub(super) fn look(&mut self) -> (Vec<Lost>, Vec<DatapathError>) {
        let (mut lost, mut failures) = (Vec::new(), Vec::new());
        for (index, target) in self.attached.clone() {
            for side in Side::BOTH {
                let name = program_name(&target, side);
                match self.runs(index, side, name) {
                    Ok(true) => {}
                    Ok(false) => lost.push(Lost {
                        place: Place::Tc(index),
                        hook: format!("{name} at {} ({})", target.name, side.name()),
                    }),
                    Err(error) => failures.push(error),
                }
            }
            match self.runs_xdp(index) {
                Ok(true) => {}
                Ok(false) => lost.push(Lost {
                    place: Place::Xdp(index),
                    hook: format!("XDP at {}", target.name),
                }),
                Err(error) => failures.push(error),
            }
        }
        match self.lost_of_sockets() {
            Ok(names) => lost.extend(names.into_iter().map(|name| Lost {
                place: Place::Cgroup,
                hook: format!("{name} at {}", self.sockets.cgroup.display()),
            })),
            Err(error) => failures.push(error),
        }
        for one in &lost {
            match one.place {
                Place::Tc(index) => drop(self.attached.remove(&index)),
                Place::Xdp(index) => self.xdp.forget(index),
                Place::Cgroup => {}
            }
        }
        (lost, failures)
    }

    fn runs(&mut self, index: u32, side: Side, name: &'static str) -> Result<bool, DatapathError> {
        let program = id(self.programs.get(name)?, name)?;
        match self.hook {
            Hook::Tcx => {
                let kind = match side {
                    Side::Ingress => attach_type::TCX_INGRESS,
                    Side::Egress => attach_type::TCX_EGRESS,
                };
                links::runs(
                    &link_path(&self.instance, index, side),
                    LinkTarget::Tcx(index, kind),
                    program,
                )
            }
            Hook::Clsact => {
                let filters = clsact::filters(&mut self.netlink, index, side);
                let filters = filters.call("RTM_GETTFILTER", format!("our filters on interface {index}"))?;
                Ok(filters
                    .iter()
                    .any(|filter| filter.ours && filter.program == program))
            }
        }
    }

    /// True where it takes no part.
    fn runs_xdp(&self, index: u32) -> Result<bool, DatapathError> {
        let (Some(way), Some(program)) = (self.xdp.way(index), self.programs.xdp()) else {
            return Ok(true);
        };
        let path = xdp_path(&self.instance, index, way);
        links::runs(&path, LinkTarget::Xdp(index), id(program, "XDP")?)
    }

    fn lost_of_sockets(&self) -> Result<Vec<&'static str>, DatapathError> {
        let cgroup = &self.sockets.cgroup;
        let mut lost = Vec::new();
        // One that is gone has lost all, though its links tell of number 0; what attaches them anew says why it can't.
        let number = std::fs::metadata(cgroup).map(|cgroup| cgroup.ino()).ok();
        for (name, kind) in cgroup_programs(&self.sockets.config) {
            let path = self.instance.cgroup_links().join(name);
            let program = id(self.programs.get(name)?, name)?;
            let runs = match number {
                Some(number) => links::runs(&path, LinkTarget::Cgroup(number, kind), program)?,
                None => false,
            };
            if !runs {
                lost.push(name);
            }
        }
        Ok(lost)
    }

    fn attach_sockets(&self) -> Result<(), DatapathError> {
        let sockets = &self.sockets;
        attach_cgroup(&self.instance, &self.programs, &sockets.config, &sockets.cgroup)
    }
}

fn id(program: BorrowedFd<'_>, name: &str) -> Result<u32, DatapathError> {
    Ok(sys::program_id(program).call("BPF_OBJ_GET_INFO_BY_FD", name)?)
}

impl Follower {
    /// Looks at all hooks; true if something is to be attached anew.
    pub(super) fn look(&mut self) -> bool {
        let (lost, failures) = self.attacher.look();
        for error in &failures {
            warn!(%error, "whether a hook has its program is not known");
        }
        let is_new = |one: &Lost| !self.lost.contains(one);
        let new: Vec<Lost> = lost.into_iter().filter(is_new).collect();
        self.lost.extend(new);
        !self.lost.is_empty()
    }

    /// After a step: says of which hooks what was lost is back, and what is still without its programs. True if sockets are.
    pub(super) fn settle(&mut self, targets: &BTreeMap<u32, Target>) -> bool {
        let sockets = match self.lost.iter().any(|one| one.place == Place::Cgroup) {
            true => self.attacher.attach_sockets(),
            false => Ok(()),
        };
        let mut restored = 0;
        let mut lost = std::mem::take(&mut self.lost);
        lost.retain(|one| {
            // An interface that was deleted, or that is no target any more, has lost nothing.
            let is_wanted = |index: &u32| targets.contains_key(index);
            let is_back = match one.place {
                Place::Tc(index) if is_wanted(&index) => self.attacher.has_tc(index),
                Place::Xdp(index) if is_wanted(&index) => {
                    if self.attacher.xdp.way(index).is_none() {
                        info!(hook = one.hook, "XDP was taken off, and TC does it all there");
                        return false;
                    }
                    true
                }
                Place::Tc(_) | Place::Xdp(_) => return false,
                Place::Cgroup => sockets.is_ok(),
            };
            if is_back {
                warn!(
                    hook = one.hook,
                    "a program had been taken from its hook; it is there again"
                );
                restored += 1;
            }
            !is_back
        });
        self.lost = lost;
        let uplinks = targets
            .iter()
            .filter(|(index, target)| target.role == Role::Uplink && !self.attacher.has_tc(**index));
        let uplinks = uplinks.map(|(_, target)| format!("uplink {}: it has no programs", target.name));
        let sockets = sockets.err().map(|error| {
            warn!(%error, "programs of sockets could not be attached");
            format!("sockets: {error}")
        });
        let is_without = sockets.is_some();
        let broken: Vec<String> = uplinks.chain(sockets).collect();
        self.hooks.send_if_modified(|hooks| {
            let is_other = restored != 0 || hooks.broken != broken;
            hooks.restored += restored;
            hooks.broken = broken;
            is_other
        });
        is_without
    }
}
