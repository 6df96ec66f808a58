//! The command line.

mod arguments;
mod daemon;
mod hold;
mod init;
mod serve;
mod source;
mod table;
mod view;

pub use arguments::{
    AgentArguments, Arguments, Command, DoctorArguments, InstanceArguments, LogFormat, Output, ViewArguments,
};
pub use daemon::{run_agent, start_logging};
pub use hold::hold;
pub use init::{InitArguments, run_init};
pub use source::{SourceArguments, SourceChoice};
pub use view::{print_backends, print_checks, print_drops, print_flows, print_removed, print_services};
