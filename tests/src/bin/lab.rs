//! The lab's program: keeps a lab standing for hand use, and is server, client and guardian inside labs.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use lab::{Options, standing};

#[derive(Parser)]
#[command(
    name = "lab",
    bin_name = "cargo xtask lab",
    about = "Two nodes, pods and a client in network namespaces"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build a lab that stands until `down`, with a Service and three pods
    Up {
        /// --style routed|bridge, --socket-lb enabled|host-only, --attach tcx|clsact, --offloads true|false, --strict
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
    /// End the standing lab
    Down,
    /// Tell what stands
    Status,
    /// Run a program in a node, a pod or the client
    Exec {
        /// n1, n2, client, a, b or c
        name: String,
        /// The program and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Be a standing lab's holder
    #[command(hide = true)]
    Hold {
        #[command(flatten)]
        options: Options,
    },
    /// Be a pod's echo server
    #[command(hide = true)]
    Echo { name: String, port: u16 },
    /// Be a client: do what a request in JSON asks for
    #[command(hide = true)]
    Client { request: String },
    /// Be the wire of a tunnel between two namespaces
    #[command(hide = true)]
    Wire { first: String, second: String },
    /// Be a lab's guardian: clean when the input ends
    #[command(hide = true)]
    Guard { id: String },
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
        Verb::Exec { name, command } => {
            let status = standing::exec(&name, &command)?;
            return Ok(status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .map_or(ExitCode::FAILURE, ExitCode::from));
        }
        Verb::Up { options } => standing::up(&options),
        Verb::Down => standing::down(),
        Verb::Status => standing::status(),
        Verb::Hold { options } => standing::hold(options),
        Verb::Echo { name, port } => lab::call::echo(&name, port),
        Verb::Client { request } => lab::call::serve_request(&request),
        Verb::Wire { first, second } => lab::wire(&first, &second),
        Verb::Guard { id } => lab::guard(&id),
    }?;
    Ok(ExitCode::SUCCESS)
}
