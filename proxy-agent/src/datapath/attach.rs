//! Puts the programs where packets and system calls pass, and takes them away again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use proxy_common::layout::names::program;
use proxy_common::layout::{CONFIG_PODS_SOCKET_LB, Config};
use tracing::info;

use super::classify::{Role, Target};
use super::clsact::{self, Side};
use super::error::{Context, DatapathError};
use super::instance::{Instance, mark, remove};
use super::links;
use super::netlink::Netlink;
use super::options::{AttachMode, XdpMode};
use super::programs::Programs;
use super::sys::{self, LinkTarget, attach_type, program_type};
use super::xdp_attach::{XdpAttacher, remove_xdp};

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    Tcx,
    Clsact,
}

impl Hook {
    /// What the operator asks for, if this kernel has it.
    pub(super) fn choose(mode: AttachMode) -> Result<Self, DatapathError> {
        match mode {
            AttachMode::Clsact => Ok(Self::Clsact),
            AttachMode::Auto if kernel_has_tcx()? => Ok(Self::Tcx),
            AttachMode::Auto => Ok(Self::Clsact),
            AttachMode::Tcx if kernel_has_tcx()? => Ok(Self::Tcx),
            AttachMode::Tcx => Err(DatapathError::Refused(
                "--attach tcx: this kernel has no TCX links (they came with 6.6); use --attach auto"
                    .to_owned(),
            )),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Asks for a link to interface 0: a kernel with TCX misses the interface, an older one does not know the type.
pub(super) fn kernel_has_tcx() -> Result<bool, DatapathError> {
    let pass = [0xffff_ffff << 32 | 0xb7, 0x95];
    let program =
        sys::program_load(program_type::SCHED_CLS, 0, &pass).call("BPF_PROG_LOAD", "the TCX probe")?;
    let refusal = sys::link_tcx(program.as_fd(), 0, attach_type::TCX_INGRESS).err();
    Ok(refusal.and_then(|error| error.raw_os_error()) == Some(libc::ENODEV))
}

/// The cgroup programs that a node needs, with their attach types.
pub(super) fn cgroup_programs(config: &Config) -> impl DoubleEndedIterator<Item = (&'static str, u32)> {
    let serves_pods = config.flags & CONFIG_PODS_SOCKET_LB != 0;
    let all = program::CGROUP.into_iter().zip(attach_type::CGROUP);
    // Every TCP socket pays for the last: nobody does where nothing is to be learnt of pods.
    all.filter(move |(name, _)| serves_pods || *name != program::SOCK_OPS)
}

/// Attaches the socket programs to a cgroup, or gives the links that are there the new programs.
pub(super) fn attach_cgroup(
    instance: &Instance,
    programs: &Programs,
    config: &Config,
    cgroup: &Path,
) -> Result<(), DatapathError> {
    check_cgroup2(cgroup)?;
    let directory = File::open(cgroup).file("open", cgroup)?;
    let id = directory.metadata().file("stat", cgroup)?.ino();
    // What shows the other end to a socket stands last in the table, and comes first: see `reconcile`.
    for (name, kind) in cgroup_programs(config).rev() {
        let path = instance.cgroup_links().join(name);
        let program = programs.get(name)?;
        let fits = |target| target == LinkTarget::Cgroup(id, kind);
        links::hold(&path, program, fits, || {
            sys::link_cgroup(program, directory.as_fd(), kind)
        })?;
    }
    for name in program::CGROUP {
        if cgroup_programs(config).all(|(needed, _)| needed != name) {
            links::release(&instance.cgroup_links().join(name))?;
        }
    }
    Ok(())
}

/// Refuses what is no cgroup of version 2.
pub(super) fn check_cgroup2(cgroup: &Path) -> Result<(), DatapathError> {
    let found = nix::sys::statfs::statfs(cgroup)
        .map_err(std::io::Error::from)
        .file("statfs", cgroup)?;
    if found.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC {
        return Ok(());
    }
    Err(DatapathError::Refused(format!(
        "--cgroup {}: this is no cgroup v2 hierarchy; give the directory where one is mounted (often /sys/fs/cgroup, \
         on hybrid hosts /sys/fs/cgroup/unified)",
        cgroup.display()
    )))
}

/// Keeps the programs on the interfaces that should have them.
pub(super) struct Attacher {
    pub(super) instance: Instance,
    pub(super) programs: Programs,
    pub(super) xdp: XdpAttacher,
    pub(super) sockets: Sockets,
    pub(super) hook: Hook,
    pub(super) netlink: Netlink,
    pub(super) attached: BTreeMap<u32, Target>,
}

/// Whose sockets have programs.
#[derive(Clone, Debug)]
pub(super) struct Sockets {
    pub(super) cgroup: PathBuf,
    pub(super) config: Config,
}

impl Attacher {
    pub(super) fn new(
        instance: Instance,
        programs: Programs,
        sockets: Sockets,
        hook: Hook,
        xdp: XdpMode,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            xdp: XdpAttacher::new(xdp),
            sockets,
            instance,
            programs,
            hook,
            netlink: Netlink::route().call("socket", "rtnetlink")?,
            attached: BTreeMap::new(),
        })
    }

    /// Attaches to what is new, gives changed interfaces their programs, detaches from what is no target any more
    /// and reaps what is left of deleted interfaces. Gives the failures; the others are done.
    pub(super) fn reconcile(&mut self, targets: &BTreeMap<u32, Target>) -> Vec<DatapathError> {
        let mut failures = Vec::new();
        let mut changed: Vec<(u32, &Target)> = targets
            .iter()
            .filter(|(index, target)| self.attached.get(index) != Some(target))
            .map(|(index, target)| (*index, target))
            .collect();
        // The hooks of replies first: with maps that are being replaced, a flow that a hook of calls makes in the new ones
        // must be found when its reply comes.
        for side in [Side::Egress, Side::Ingress] {
            changed.retain(|(index, target)| match self.attach(*index, target, side) {
                Ok(is_there) => is_there,
                Err(error) => {
                    failures.push(error);
                    false
                }
            });
        }
        for (index, target) in changed {
            failures.extend(self.settle(index, target).err());
        }
        match self.known() {
            Ok(known) => {
                for index in known.into_iter().filter(|index| !targets.contains_key(index)) {
                    failures.extend(self.detach(index).err());
                }
            }
            Err(error) => failures.push(error),
        }
        failures
    }

    /// Whether TC's programs are at an interface.
    pub(super) fn has_tc(&self, index: u32) -> bool {
        self.attached.contains_key(&index)
    }

    /// Interfaces at which something of ours is or was.
    fn known(&self) -> Result<BTreeSet<u32>, DatapathError> {
        Ok(self
            .instance
            .interfaces()?
            .into_iter()
            .chain(self.attached.keys().copied())
            .collect())
    }

    /// False if the interface is gone.
    fn attach(&mut self, index: u32, target: &Target, side: Side) -> Result<bool, DatapathError> {
        let name = program_name(target, side);
        let result = match self.hook {
            Hook::Tcx => self.attach_tcx(index, side, name),
            Hook::Clsact => self.attach_clsact(index, side, name),
        };
        match result {
            // It was deleted meanwhile: the event that says so is on its way.
            Err(DatapathError::Call(error)) if error.source.raw_os_error() == Some(libc::ENODEV) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Takes away what another way of attaching has left. Only now, so that at no moment an interface is without programs.
    fn settle(&mut self, index: u32, target: &Target) -> Result<(), DatapathError> {
        match self.hook {
            Hook::Tcx => remove_filters(&self.instance, &mut self.netlink, index).map(|_| ())?,
            Hook::Clsact => remove_links(&self.instance, index).map(|_| ())?,
        }
        self.attached.insert(index, target.clone());
        info!(
            interface = target.name,
            index,
            role = target.role.name(),
            hook = self.hook.name(),
            "attached"
        );
        Ok(())
    }

    fn attach_tcx(&self, index: u32, side: Side, name: &'static str) -> Result<(), DatapathError> {
        let kind = match side {
            Side::Ingress => attach_type::TCX_INGRESS,
            Side::Egress => attach_type::TCX_EGRESS,
        };
        let program = self.programs.get(name)?;
        let fits = |target| target == LinkTarget::Tcx(index, kind);
        let path = link_path(&self.instance, index, side);
        links::hold(&path, program, fits, || sys::link_tcx(program, index, kind)).map(|_| ())
    }

    fn attach_clsact(&mut self, index: u32, side: Side, name: &'static str) -> Result<(), DatapathError> {
        let marks = self.instance.clsact_marks();
        // The mark comes before the deed: a crash between the two leaves a mark too many, never one too few.
        mark(&marks, &index.to_string())?;
        let own = qdisc_mark(index);
        let was_ours = marks.join(&own).exists();
        mark(&marks, &own)?;
        let object = format!("clsact of interface {index}");
        if !clsact::make_qdisc(&mut self.netlink, index).call("RTM_NEWQDISC", object)? && !was_ours {
            remove(&marks.join(&own))?;
        }
        let program = self.programs.get(name)?;
        let object = format!("{name} on interface {index}");
        Ok(clsact::put_filter(&mut self.netlink, index, side, name, program)
            .call("RTM_NEWTFILTER", object)?)
    }

    fn detach(&mut self, index: u32) -> Result<(), DatapathError> {
        // First, because it lets pass to the others.
        remove_xdp(&self.instance, index)?;
        remove_links(&self.instance, index)?;
        remove_filters(&self.instance, &mut self.netlink, index)?;
        if let Some(target) = self.attached.remove(&index) {
            info!(
                interface = target.name,
                index,
                role = target.role.name(),
                hook = self.hook.name(),
                "detached"
            );
        }
        Ok(())
    }
}

pub(super) fn program_name(target: &Target, side: Side) -> &'static str {
    match (target.role, target.layer3, side) {
        (Role::Pod, _, Side::Ingress) => program::FROM_POD,
        (Role::Pod, _, Side::Egress) => program::TO_POD,
        (Role::Uplink, false, Side::Ingress) => program::FROM_NETWORK,
        (Role::Uplink, false, Side::Egress) => program::TO_NETWORK,
        (Role::Uplink, true, Side::Ingress) => program::FROM_NETWORK_L3,
        (Role::Uplink, true, Side::Egress) => program::TO_NETWORK_L3,
    }
}

pub(super) fn link_path(instance: &Instance, index: u32, side: Side) -> PathBuf {
    instance.tcx_links().join(format!("{index}-{}", side.name()))
}

fn qdisc_mark(index: u32) -> String {
    format!("{index}-qdisc")
}

/// Detaches our links from an interface; how many there were.
pub(super) fn remove_links(instance: &Instance, index: u32) -> Result<usize, DatapathError> {
    let mut removed = 0;
    for side in Side::BOTH {
        removed += usize::from(links::release(&link_path(instance, index, side))?);
    }
    Ok(removed)
}

/// Removes our filters from an interface that has a mark, and the qdisc if it was ours and nobody uses it; how many
/// filters there were.
pub(super) fn remove_filters(
    instance: &Instance,
    netlink: &mut Netlink,
    index: u32,
) -> Result<usize, DatapathError> {
    let marks = instance.clsact_marks();
    let (ours, qdisc_is_ours) = (marks.join(index.to_string()), marks.join(qdisc_mark(index)));
    if !ours.exists() {
        return Ok(0);
    }
    let object = || format!("our filters on interface {index}");
    let (mut removed, mut others) = (0, 0);
    for side in Side::BOTH {
        removed += usize::from(clsact::remove_filter(netlink, index, side).call("RTM_DELTFILTER", object())?);
        others += clsact::filters(netlink, index, side)
            .call("RTM_GETTFILTER", object())?
            .len();
    }
    if qdisc_is_ours.exists() {
        if others == 0 {
            clsact::remove_qdisc(netlink, index).call("RTM_DELQDISC", object())?;
        }
        remove(&qdisc_is_ours)?;
    }
    remove(&ours)?;
    Ok(removed)
}
