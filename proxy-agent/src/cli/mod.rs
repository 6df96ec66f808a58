//! The command line.

mod arguments;
mod audit;
mod configure;
mod daemon;
mod downgrade;
mod explain;
mod feed;
mod forward;
mod hold;
mod hooks;
mod init;
mod plan;
mod reload;
mod serve;
mod source;
mod table;
mod uninstall;
mod view;

use anyhow::Context;
pub use arguments::{
    AgentArguments, Arguments, CleanupArguments, Command, DoctorArguments, InstanceArguments, LogFormat,
    Output, ViewArguments,
};
pub use audit::{AuditArguments, run_audit};
pub use configure::{ConfigArguments, Configuration, ServingArguments};
pub use daemon::run_agent;
pub use downgrade::{DowngradeArguments, ObjectArguments, run_downgrade, run_object};
pub use explain::{ExplainArguments, run_explain};
pub use forward::ForwardingArguments;
pub use hold::hold;
pub use hooks::HookArguments;
pub use init::{InitArguments, run_init};
pub use plan::{PlanArguments, run_plan};
pub use source::{SourceArguments, SourceChoice};
pub use uninstall::{UninstallArguments, run_uninstall};
pub use view::{
    print_backends, print_checks, print_drops, print_flows, print_leftovers, print_removed, print_services,
    print_source_ports,
};

/// The host's name in small letters, as kube-proxy takes it for the node's.
fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("reading the host's name; give --node-name")?;
    Ok(name.to_string_lossy().trim().to_lowercase())
}
