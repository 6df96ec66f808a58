//! The binary `shunt`: the node's agent and the operator's command line.

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use proxy_agent::cli::{self, Arguments, Command};
use proxy_agent::datapath::doctor::{self, State};
use proxy_agent::datapath::{cleanup, dump};
use proxy_agent::predecessor;

/// What `audit` ends with if there are differences, apart from failure.
const DIFFERENT: u8 = 2;

pub(crate) fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        // Who reads has seen enough: `shunt flows | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shunt: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    match command {
        Command::Agent(arguments) => {
            cli::run_agent(&arguments)?;
        }
        Command::Services(view) => {
            let instance = &view.instance.instance;
            cli::print_services(
                &mut out,
                view.output,
                dump::services(instance)?,
                &dump::backends(instance)?,
            )?;
        }
        Command::Backends(view) => {
            let instance = &view.instance.instance;
            cli::print_backends(
                &mut out,
                view.output,
                dump::backends(instance)?,
                &dump::services(instance)?,
            )?;
        }
        Command::Flows(view) => {
            let instance = &view.instance.instance;
            cli::print_flows(
                &mut out,
                view.output,
                &dump::flows(instance)?,
                &dump::services(instance)?,
            )?;
        }
        Command::Snat(view) => {
            let instance = &view.instance.instance;
            cli::print_source_ports(&mut out, view.output, &dump::source_ports(instance)?)?;
        }
        Command::Drops(view) => {
            cli::print_drops(&mut out, view.output, dump::counters(&view.instance.instance)?)?;
        }
        Command::Audit(arguments) => {
            if !cli::run_audit(&mut out, &arguments)? {
                return Ok(ExitCode::from(DIFFERENT));
            }
        }
        Command::Explain(arguments) => cli::run_explain(&mut out, &mut io::stderr(), &arguments)?,
        Command::Plan(arguments) => cli::run_plan(&mut out, &mut io::stderr(), &arguments)?,
        Command::Init(arguments) => cli::run_init(&mut out, &arguments)?,
        Command::Uninstall(arguments) => cli::run_uninstall(&mut out, &arguments)?,
        Command::Downgrade(arguments) => cli::run_downgrade(&mut out, &arguments)?,
        Command::Object(arguments) => cli::run_object(&mut out, &arguments)?,
        Command::Hold => cli::hold()?,
        Command::Cleanup(arguments) if arguments.kube_proxy => {
            let leftovers = predecessor::remove(arguments.host_root.as_deref());
            cli::print_leftovers(&mut out, &leftovers.context("cleaning up after kube-proxy")?)?;
        }
        Command::Cleanup(arguments) => {
            let removed = cleanup::run(&arguments.instance.instance).context("cleaning up")?;
            cli::print_removed(&mut out, &removed)?;
        }
        Command::Doctor(arguments) => {
            let checks = doctor::run(&arguments.options());
            cli::print_checks(&mut out, arguments.view.output, &checks)?;
            if checks.iter().any(|check| check.state == State::Fail) {
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
