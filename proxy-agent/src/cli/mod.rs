//! The command line.

mod arguments;
mod configure;
mod daemon;
mod hold;
mod init;
mod reload;
mod serve;
mod source;
mod table;
mod uninstall;
mod view;

pub use arguments::{
    AgentArguments, Arguments, CleanupArguments, Command, DoctorArguments, InstanceArguments, LogFormat,
    Output, ViewArguments,
};
pub use configure::{ConfigArguments, Configuration};
pub use daemon::run_agent;
pub use hold::hold;
pub use init::{InitArguments, run_init};
pub use source::{SourceArguments, SourceChoice};
pub use uninstall::{UninstallArguments, run_uninstall};
pub use view::{
    print_backends, print_checks, print_drops, print_flows, print_leftovers, print_removed, print_services,
};
