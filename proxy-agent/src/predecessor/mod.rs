//! What kube-proxy leaves behind on a node, and how it is taken away: rules of iptables in both variants and families,
//! its tables of nftables, the interface of its IPVS mode. Nothing of anybody else's is touched.

mod nftables;
mod programs;
mod ruleset;

use std::path::Path;

use nix::net::if_::if_nametoindex;

use nftables::Family;
pub use programs::ProgramError;
use programs::{Programs, find, run, run_with};

/// Its table of nftables in each family.
const TABLE: &str = "kube-proxy";
/// Every address of a Service is on this interface in IPVS mode.
const IPVS_INTERFACE: &str = "kube-ipvs0";
/// The virtual servers of the network namespace, after two lines of headings.
const IPVS_SERVERS: &str = "/proc/net/ip_vs";
const IPVS_HEADINGS: usize = 3;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// What was removed.
    pub removed: Vec<String>,
    /// What stands, why, and the way out.
    pub left: Vec<String>,
}

/// Takes it away, in the calling thread's network namespace. `host_root`, if given, becomes this process's root: the
/// programs that it takes are then the host's.
pub fn remove(host_root: Option<&Path>) -> Result<Leftovers, ProgramError> {
    if let Some(root) = host_root {
        programs::change_root(root)?;
    }
    let mut leftovers = Leftovers::default();
    for programs in Programs::ALL {
        remove_iptables(&programs, &mut leftovers)?;
    }
    remove_nftables(&mut leftovers)?;
    remove_ipvs(&mut leftovers)?;
    Ok(leftovers)
}

fn remove_iptables(programs: &Programs, leftovers: &mut Leftovers) -> Result<(), ProgramError> {
    if !programs.may_have_rules() {
        return Ok(());
    }
    let (Some(save), Some(restore)) = (find(&programs.save()), find(&programs.restore())) else {
        leftovers.left.push(format!(
            "what {} has, if anything: it is not installed here. Give --host-root to use the host's, or run kube-proxy \
             --cleanup",
            programs.name()
        ));
        return Ok(());
    };
    let rules = run(&save, &[])?;
    let plan = ruleset::plan(&rules);
    for chain in &plan.kept {
        leftovers.left.push(format!(
            "{}: {chain}: rules of others jump there; when those are gone, run this again",
            programs.name()
        ));
    }
    if plan.removed.is_empty() {
        return Ok(());
    }
    run_with(&restore, &["--noflush"], &plan.restore)?;
    let removed = plan.removed.iter();
    let removed = removed.map(|removed| format!("{} {removed}", programs.name()));
    leftovers.removed.extend(removed);
    Ok(())
}

fn remove_nftables(leftovers: &mut Leftovers) -> Result<(), ProgramError> {
    for family in Family::BOTH {
        let table = format!("nftables table {} {TABLE}", family.name());
        match nftables::delete_table(family, TABLE) {
            Ok(true) => leftovers.removed.push(table),
            Ok(false) => {}
            Err(error) => return Err(ProgramError::Kernel { what: table, error }),
        }
    }
    Ok(())
}

/// Virtual servers have no mark of their maker: they are named, not removed.
fn remove_ipvs(leftovers: &mut Leftovers) -> Result<(), ProgramError> {
    if if_nametoindex(IPVS_INTERFACE).is_ok() {
        match find("ip") {
            Some(ip) => {
                run(&ip, &["link", "delete", IPVS_INTERFACE])?;
                leftovers.removed.push(format!("interface {IPVS_INTERFACE}"));
            }
            None => leftovers.left.push(format!(
                "interface {IPVS_INTERFACE}: ip link delete {IPVS_INTERFACE}"
            )),
        }
    }
    let servers = std::fs::read_to_string(IPVS_SERVERS).unwrap_or_default();
    let servers = servers
        .lines()
        .skip(IPVS_HEADINGS)
        .filter(|line| !line.trim_start().starts_with("->"));
    let count = servers.count();
    if count > 0 {
        leftovers.left.push(format!(
            "{count} virtual servers of IPVS, whoever made them: ipvsadm --clear, if nobody needs them"
        ));
    }
    Ok(())
}
