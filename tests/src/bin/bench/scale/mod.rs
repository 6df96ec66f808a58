//! `cargo xtask bench scale`: a proxy at scale, against a real API server.
//!
//! N Services of M endpoints each are in the API before the proxy starts on a host beside it. Then one Service after the other
//! is added, and a client on the host calls it until it is served. Each proxy gets a host of its own.

pub(crate) mod api;
mod latency;
mod measure;
mod page;
mod probe;
mod report;
mod subject;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lab::cluster::iptables::Iptables;
use lab::cluster::{ControlPlane, Controllers};

pub(crate) use probe::serve_probe;

use self::api::Api;
use self::measure::{Outcome, measure};
use self::report::Report;

/// How much, and who.
#[derive(Args)]
pub(crate) struct Scale {
    /// How many Services there are, one after the other
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,10000")]
    services: Vec<usize>,
    /// How many endpoints each of them has
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// How many Services are added, one after the other
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    added: u16,
    /// How often each of them is measured, in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Who serves them, in turn
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "shunt,kube-proxy-nftables,kube-proxy-iptables-legacy,kube-proxy-iptables"
    )]
    proxies: Vec<Proxy>,
    /// How many seconds until all is programmed are waited for; who is not ready then is not tried with more Services
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    patience: u64,
    /// Where the records go
    #[arg(long, default_value = "target/bench/scale.json")]
    output: PathBuf,
    /// Also write the table into docs/performance.md
    #[arg(long)]
    page: bool,
}

impl Scale {
    fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }
}

/// Who serves Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Proxy {
    /// Shunt
    Shunt,
    /// kube-proxy in mode nftables
    KubeProxyNftables,
    /// kube-proxy in mode iptables, with the legacy programs
    KubeProxyIptablesLegacy,
    /// kube-proxy in mode iptables, with the programs that make rules of nf_tables: Debian's default
    KubeProxyIptables,
}

impl Proxy {
    fn name(self) -> &'static str {
        match self {
            Self::Shunt => "Shunt",
            Self::KubeProxyNftables => "kube-proxy nftables",
            Self::KubeProxyIptablesLegacy => "kube-proxy iptables (legacy)",
            Self::KubeProxyIptables => "kube-proxy iptables (nf_tables)",
        }
    }

    /// kube-proxy's mode, and which programs it finds.
    fn kube_proxy(self) -> Option<(&'static str, Iptables)> {
        match self {
            Self::Shunt => None,
            Self::KubeProxyNftables => Some(("nftables", Iptables::Nft)),
            Self::KubeProxyIptablesLegacy => Some(("iptables", Iptables::Legacy)),
            Self::KubeProxyIptables => Some(("iptables", Iptables::Nft)),
        }
    }
}

/// Measures all of it.
pub(crate) fn run(scale: &Scale) -> Result<()> {
    let mut report = Report::begin(scale)?;
    for &services in &scale.services {
        let plane = ControlPlane::start(Controllers::None)?;
        let api = Api::of(&plane)?;
        println!(
            "bench: making {services} Services of {} endpoints each",
            scale.endpoints
        );
        api.fill(services, scale.endpoints)?;
        let mut rounds: BTreeMap<Proxy, Vec<measure::Values>> = BTreeMap::new();
        for _ in 0..scale.rounds {
            for &proxy in &scale.proxies {
                if report.gave_up(proxy) {
                    report.unfinished(proxy, services, "not tried".to_owned());
                    continue;
                }
                let outcome = measure(scale, proxy, &plane, &api, &mut report)
                    .with_context(|| format!("{}, {services} Services", proxy.name()))?;
                match outcome {
                    Outcome::Measured(values) => rounds.entry(proxy).or_default().push(values),
                    Outcome::Unfinished(reason) => report.unfinished(proxy, services, reason),
                }
            }
        }
        rounds.retain(|proxy, _| !report.gave_up(*proxy));
        for (proxy, rounds) in &rounds {
            report.add(*proxy, services, rounds);
        }
        // What was measured is kept, whatever comes.
        report.write(&scale.output)?;
    }
    println!("{}", report.records.table());
    let section = page::section(&report);
    println!("\n{section}");
    if scale.page {
        crate::page::write("scale", &section)?;
    }
    Ok(())
}
