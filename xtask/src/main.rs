//! Every task of a developer or of CI as one cargo command: `cargo xtask`.

mod cluster;
mod command;
mod compare;
mod image;
mod kernels;
mod lab;
mod lint;
mod object;
mod setup;
mod test;
mod turns;
mod vm;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "Shunt's tasks: set-up, builds, checks, tests, the lab and the demo"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what builds, tests and the lab need; says what it does, does nothing twice
    Setup,
    /// Build the BPF object into target/bpf/shunt.o
    BuildEbpf {
        /// Also Shunt with a map layout that only tests have, as target/debug/shunt-next
        #[arg(long)]
        next_layout: bool,
    },
    /// Build the container image as an OCI archive; needs no container engine
    Image(image::Options),
    /// Check formatting and lints, warnings are errors
    Lint,
    /// Set up, lint, build and run every layer of tests
    #[command(args_conflicts_with_subcommands = true)]
    Test {
        /// Every layer, also those that take long
        #[arg(long)]
        all: bool,
        /// Only these layers
        #[arg(long, value_enum)]
        layer: Vec<test::Layer>,
        #[command(subcommand)]
        task: Option<TestTask>,
    },
    /// Keep a lab of two nodes, pods and a client standing, for hand use
    Lab {
        /// up | down | status | exec NAME -- COMMAND; see `cargo xtask lab help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
    /// Keep a real Kubernetes standing: etcd, API server, kubelets with containerd, CoreDNS, and Shunt or kube-proxy
    Cluster {
        /// up [--proxy P] [--nodes N] [--cni C] [--release] [--next-layout] | down | status | kubectl ... | exec NODE -- COMMAND | build; see `cargo xtask cluster help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
    /// Run a command on another kernel, in a virtual machine
    Vm {
        #[command(subcommand)]
        task: VmTask,
    },
    /// Run Kubernetes' own suite against Shunt and kube-proxy; writes docs/conformance.md
    Conformance {
        /// --focus TEXT, --subset, --proxy P; see `cargo xtask conformance -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Watch a two-node cluster serve a Kubernetes Service
    Demo,
    /// Measure connections and packets beside nftables and iptables; writes target/bench/latest.json
    Bench {
        /// --rounds N, --connections N, --services N,N,..., --packets-only; or agent, flood, live or scale, each with its own
        /// --help; or --compare BASE, which measures another revision's build beside this one's
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum TestTask {
    /// On each kernel that is served, in virtual machines: load every program with what the DaemonSet may do and compare what the
    /// verifier says with tests/tests/kernels_programs/verified.txt, hand packets to them, and run a small lab
    Kernels {
        /// On this kernel alone, like 6.12; may be given more than once
        #[arg(long)]
        kernel: Vec<String>,
        /// Write what was measured into the table
        #[arg(long)]
        write: bool,
        /// Load programs and compare the table, and nothing else: minutes instead of an hour
        #[arg(long)]
        programs_only: bool,
    },
}

#[derive(Subcommand)]
enum VmTask {
    /// Start a kernel, like 6.12, run a command in it and end it; its files are those of the workspace's build
    Run {
        /// The kernel's version, as Debian's packages have it
        kernel: String,
        /// The command: a program by its path or of the machine's few, and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => setup::run().map(drop),
        Task::BuildEbpf { next_layout } => object::build().and_then(|_| {
            if next_layout {
                return lab::build_next(&setup::toolchain::ensure()?);
            }
            Ok(())
        }),
        Task::Image(options) => image::run(&options),
        Task::Lint => lint::run(),
        Task::Test {
            task:
                Some(TestTask::Kernels {
                    kernel,
                    write,
                    programs_only,
                }),
            ..
        } => kernels::run(&kernel, write, programs_only),
        Task::Test { all, layer, .. } => test::run(all, &layer),
        Task::Lab { arguments } => lab::lab(&arguments),
        Task::Vm {
            task: VmTask::Run { kernel, command },
        } => vm::run(&kernel, &command),
        Task::Cluster { arguments } => cluster::cluster(&arguments),
        Task::Conformance { arguments } => cluster::conformance(&arguments),
        Task::Demo => lab::demo(),
        Task::Bench { arguments } => lab::bench(&arguments),
    }
}
