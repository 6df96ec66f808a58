//! `cargo xtask bench scale`: a proxy at scale, against a real API server.
//!
//! N Services of M endpoints each are in the API before the proxy starts. Then one Service after the other is added, and a
//! client on the node calls it until it is served.

mod api;
mod latency;
mod probe;
mod subject;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use lab::Place;
use lab::cluster::{ControlPlane, Controllers};

use crate::record::Records;
pub(crate) use probe::serve_probe;

use self::api::Api;
use self::probe::Probe;
use self::subject::Subject;

/// How much, and who.
#[derive(Args)]
pub(crate) struct Scale {
    /// How many Services there are
    #[arg(long, value_delimiter = ',', default_value = "1000")]
    services: Vec<usize>,
    /// How many endpoints each of them has
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// How many Services are added, one after the other
    #[arg(long, default_value_t = 50)]
    added: usize,
    /// Who serves them, in turn
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "shunt,kube-proxy-nftables,kube-proxy-iptables"
    )]
    proxies: Vec<Proxy>,
    /// Where the records go
    #[arg(long, default_value = "target/bench/scale.json")]
    output: PathBuf,
}

/// Who serves Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Proxy {
    /// Shunt
    Shunt,
    /// kube-proxy in mode nftables
    KubeProxyNftables,
    /// kube-proxy in mode iptables
    KubeProxyIptables,
}

impl Proxy {
    fn name(self) -> &'static str {
        match self {
            Self::Shunt => "shunt",
            Self::KubeProxyNftables => "kube-proxy nftables",
            Self::KubeProxyIptables => "kube-proxy iptables",
        }
    }
}

/// Measures all of it.
pub(crate) fn run(scale: &Scale) -> Result<()> {
    let mut records = Records::default();
    for &services in &scale.services {
        let plane = ControlPlane::start(Controllers::None)?;
        let host = plane.host_beside()?;
        let api = Api::of(&plane)?;
        println!(
            "bench: making {services} Services of {} endpoints each",
            scale.endpoints
        );
        api.fill(services, scale.endpoints)?;
        for &proxy in &scale.proxies {
            measure(scale, services, proxy, &plane, &host, &api, &mut records)
                .with_context(|| format!("{}, {services} Services", proxy.name()))?;
        }
    }
    println!("{}", records.table());
    records.write(&scale.output)
}

fn measure(
    scale: &Scale,
    services: usize,
    proxy: Proxy,
    plane: &ControlPlane,
    host: &Place,
    api: &Api,
    records: &mut Records,
) -> Result<()> {
    let mut add = |name: &'static str, unit: &'static str, values: &[f64]| {
        records.add(name, proxy.name(), services, unit, values);
    };
    let mut subject = Subject::start(proxy, plane, host)?;
    let (cold, after_lists) = subject.wait_synced()?;
    add("start to all programmed", "ms", &[cold * 1e3]);
    if let Some(after_lists) = after_lists {
        add("lists to all programmed", "ms", &[after_lists * 1e3]);
    }
    let usage = subject.usage()?;
    add("CPU to all programmed", "ms", &[usage.cpu * 1e3]);
    add("peak RSS, cold", "MiB", &[usage.peak]);
    let latencies = subject.latencies();
    let mut probe = Probe::start(host)?;
    let mut times = Vec::new();
    for number in 0..scale.added {
        times.push(probe.time(|| api.add(number))? * 1e3);
        api.remove(number)?;
    }
    times.sort_by(f64::total_cmp);
    let quantile = |percent: usize| times[(times.len() - 1) * percent / 100];
    add("added Service, p50", "ms", &[quantile(50)]);
    add("added Service, p99", "ms", &[quantile(99)]);
    if let (Some(before), Some(after)) = (latencies, subject.latencies()) {
        for (name, part) in [
            ("heard to in the maps, p50", 0.5),
            ("heard to in the maps, p99", 0.99),
        ] {
            let bound = after.quantile_since(&before, part);
            add(name, "ms", &[bound.unwrap_or_default() * 1e3]);
        }
    }
    let end = subject.usage()?;
    add(
        "CPU of an added Service",
        "ms",
        &[(end.cpu - usage.cpu) * 1e3 / scale.added as f64],
    );
    add("RSS at the end", "MiB", &[end.now]);
    add("peak RSS", "MiB", &[end.peak]);
    add("of it data", "MiB", &[end.data]);
    add("of it mapped BPF maps", "MiB", &[end.mapped]);
    add("all BPF maps", "MiB", &[end.maps]);
    subject.stop()
}
