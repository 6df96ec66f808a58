//! The cluster's program: keeps a real Kubernetes standing for hand use, and is the first process of each node.

use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use anyhow::Result;
use clap::{Parser, Subcommand};
use lab::cluster::{Options, be_node, load_balancer, standing};

#[derive(Parser)]
#[command(
    name = "cluster",
    bin_name = "cargo xtask cluster",
    about = "A real Kubernetes in namespaces"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the programs and images that the cache does not have: about a quarter of an hour, once
    Build,
    /// Start a cluster that stands until `down`
    Up {
        #[command(flatten)]
        options: Options,
    },
    /// End the standing cluster
    Down,
    /// Tell what stands
    Status,
    /// Run kubectl as the administrator
    Kubectl {
        /// kubectl's arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a program on a node
    Exec {
        /// n1 or n2
        name: String,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Be a standing cluster's holder
    #[command(hide = true)]
    Hold {
        #[command(flatten)]
        options: Options,
    },
    /// Be a node's first process
    #[command(hide = true)]
    Node { settings: PathBuf },
    /// Be the load balancer before so many nodes
    #[command(hide = true)]
    LoadBalancer { kubeconfig: PathBuf, nodes: u8 },
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Build => standing::build(true),
        Verb::Up { options } => standing::up(options),
        Verb::Down => standing::down(),
        Verb::Status => standing::status(),
        Verb::Kubectl { arguments } => return standing::kubectl(&arguments).map(code),
        Verb::Exec { name, command } => return standing::exec(&name, &command).map(code),
        Verb::Hold { options } => standing::hold(options),
        Verb::Node { settings } => be_node(&settings),
        Verb::LoadBalancer { kubeconfig, nodes } => load_balancer::serve(&kubeconfig, nodes),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
