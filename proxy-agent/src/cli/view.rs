//! What is in the maps, for people or for programs.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::Output;
use super::table::table;
use crate::datapath::cleanup::Removed;
use crate::datapath::doctor::{Check, State};
use crate::datapath::dump::{BackendEntry, CounterEntry, FlowEntry, FrontendEntry, ListEntry, ServiceEntry};
use crate::datapath::snat::SnatUse;
use crate::predecessor::Leftovers;

/// Prints entries as JSON, or as the table that is made of them.
fn print<T: Serialize>(
    writer: &mut impl Write,
    output: Output,
    entries: &[T],
    table: impl FnOnce(&[T]) -> String,
) -> io::Result<()> {
    match output {
        Output::Table => writeln!(writer, "{}", table(entries)),
        Output::Json => {
            serde_json::to_writer_pretty(&mut *writer, entries)?;
            writeln!(writer)
        }
    }
}

/// One row for each frontend.
pub fn print_services(
    writer: &mut impl Write,
    output: Output,
    mut services: Vec<ServiceEntry>,
    backends: &[BackendEntry],
) -> io::Result<()> {
    services.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    print(writer, output, &services, |services| {
        let header = [
            "SERVICE",
            "KIND",
            "FRONTEND",
            "INTERNAL",
            "EXTERNAL",
            "SHORTCUT",
            "FORWARDING",
            "AFFINITY",
            "CHOICE",
            "BACKENDS (LOCAL/ALL)",
            "HINTS",
        ];
        let rows = services.iter().flat_map(|service| {
            let all = || {
                backends
                    .iter()
                    .filter(|backend| backend.service == service.id && backend.alive)
            };
            let counts = format!(
                "{}/{}",
                all().filter(|backend| backend.local).count(),
                all().count()
            );
            service
                .frontends
                .iter()
                .map(move |frontend| service_row(service, frontend, &counts))
        });
        table(header, rows)
    })
}

/// Of the three lists those count that the frontend uses.
fn service_row(service: &ServiceEntry, frontend: &FrontendEntry, counts: &str) -> [String; 11] {
    let is_cluster_ip = frontend.kind == "ClusterIP";
    let list = |list: &ListEntry, is_used: bool| match (is_used, list.backends.len()) {
        (false, _) => "-".to_owned(),
        (true, 0) => list.when_empty.to_owned(),
        (true, count) => count.to_string(),
    };
    [
        service.name.clone(),
        frontend.kind.to_owned(),
        frontend_text(frontend),
        list(&service.internal, is_cluster_ip),
        list(&service.external, !is_cluster_ip),
        list(&service.shortcut, !is_cluster_ip),
        match is_cluster_ip {
            true => "-".to_owned(),
            false => service.forwarding.to_owned(),
        },
        match service.affinity_seconds {
            0 => "-".to_owned(),
            seconds => format!("{seconds}s"),
        },
        choice(service, is_cluster_ip).to_owned(),
        counts.to_owned(),
        match &service.hints_not_followed {
            None => "-".to_owned(),
            Some(why) => format!("not followed: {why}"),
        },
    ]
}

/// How the lists that a frontend uses are chosen from: an empty one does not say.
fn choice(service: &ServiceEntry, is_cluster_ip: bool) -> &'static str {
    let lists = if is_cluster_ip {
        [&service.internal, &service.internal]
    } else {
        [&service.external, &service.shortcut]
    };
    let used = lists.into_iter().find(|list| !list.backends.is_empty());
    used.map_or("-", |list| list.choice)
}

fn frontend_text(frontend: &FrontendEntry) -> String {
    let protocol = frontend.protocol;
    match frontend.address {
        IpAddr::V4(address) if address.is_unspecified() => format!("{protocol} *:{}", frontend.port),
        IpAddr::V6(address) if address.is_unspecified() => format!("{protocol} [*]:{}", frontend.port),
        address => format!("{protocol} {}", SocketAddr::new(address, frontend.port)),
    }
}

/// Names of service ports, by id.
fn names(services: &[ServiceEntry]) -> HashMap<u32, &str> {
    services
        .iter()
        .map(|service| (service.id, service.name.as_str()))
        .collect()
}

fn name(names: &HashMap<u32, &str>, id: u32) -> String {
    names
        .get(&id)
        .map_or_else(|| format!("(gone, id {id})"), |name| (*name).to_owned())
}

/// The backends that serve; as JSON, those that no longer do as well.
pub fn print_backends(
    writer: &mut impl Write,
    output: Output,
    mut backends: Vec<BackendEntry>,
    services: &[ServiceEntry],
) -> io::Result<()> {
    let names = names(services);
    backends.sort_by_key(|backend| {
        (
            name(&names, backend.service),
            backend.address,
            backend.port,
            backend.id,
        )
    });
    print(writer, output, &backends, |backends| {
        let header = ["SERVICE", "BACKEND", "WHERE", "ID", "GENERATION", "CONNECTIONS"];
        let rows = backends.iter().filter(|backend| backend.alive).map(|backend| {
            [
                name(&names, backend.service),
                format!(
                    "{} {}",
                    backend.protocol,
                    SocketAddr::new(backend.address, backend.port)
                ),
                if backend.local { "here" } else { "elsewhere" }.to_owned(),
                backend.id.to_string(),
                backend.generation.to_string(),
                backend.connections.to_string(),
            ]
        });
        table(header, rows)
    })
}

/// One row for each direction of a flow.
pub fn print_flows(
    writer: &mut impl Write,
    output: Output,
    flows: &[FlowEntry],
    services: &[ServiceEntry],
) -> io::Result<()> {
    let names = names(services);
    print(writer, output, flows, |flows| {
        let header = [
            "DIRECTION",
            "PACKET",
            "TRANSLATED TO",
            "ACTION",
            "STATE",
            "IDLE",
            "TABLE",
            "SERVICE",
        ];
        let rows = flows.iter().map(|flow| {
            [
                flow.direction.to_owned(),
                format!("{} {} > {}", flow.protocol, flow.source, flow.destination),
                format!("{} > {}", flow.new_source, flow.new_destination),
                flow.action.to_owned(),
                flow_state(flow),
                format!("{}s", flow.idle_seconds),
                flow.table.to_owned(),
                name(&names, flow.service),
            ]
        });
        table(header, rows)
    })
}

fn flow_state(flow: &FlowEntry) -> String {
    match (flow.expires_seconds, flow.state.is_empty()) {
        (0, _) => "expired".to_owned(),
        (_, true) => "new".to_owned(),
        _ => flow.state.join(","),
    }
}

/// One row for each destination towards which source ports are in use.
pub fn print_source_ports(writer: &mut impl Write, output: Output, uses: &[SnatUse]) -> io::Result<()> {
    print(writer, output, uses, |uses| {
        let rows = uses.iter().map(|row| {
            let percent = u64::from(row.used) * 100 / u64::from(row.of.max(1));
            [
                format!("{} {}", row.protocol, row.destination),
                row.source.to_string(),
                format!("{} of {} ({percent} %)", row.used, row.of),
                if row.service.is_empty() {
                    "- (netfilter)".to_owned()
                } else {
                    row.service.clone()
                },
            ]
        });
        table(["DESTINATION", "SOURCE", "PORTS", "SERVICE"], rows)
    })
}

/// All counters, drops first.
pub fn print_drops(
    writer: &mut impl Write,
    output: Output,
    mut counters: Vec<CounterEntry>,
) -> io::Result<()> {
    counters.sort_by_key(|counter| !counter.drop);
    print(writer, output, &counters, |counters| {
        let rows = counters.iter().map(|counter| {
            [
                counter.name.to_owned(),
                counter.value.to_string(),
                counter.help.to_owned(),
            ]
        });
        table(["COUNTER", "COUNT", "WHAT IT COUNTS"], rows)
    })
}

/// What was looked at, and how it went.
pub fn print_checks(writer: &mut impl Write, output: Output, checks: &[Check]) -> io::Result<()> {
    print(writer, output, checks, |checks| {
        let rows = checks.iter().map(|check| {
            let state = match check.state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "FAIL",
            };
            [
                state.to_owned(),
                check.name.to_owned(),
                check.found.clone(),
                check.way_out.clone(),
            ]
        });
        table(["STATE", "CHECK", "FOUND", "WAY OUT"], rows)
    })
}

/// What a cleanup took away.
pub fn print_removed(writer: &mut impl Write, removed: &Removed) -> io::Result<()> {
    let Removed {
        links,
        filters,
        maps,
        reserved_ports,
    } = removed;
    writeln!(writer, "removed: {links} links, {filters} filters, {maps} maps")?;
    if !reserved_ports.is_empty() {
        writeln!(writer, "no longer reserved: ports {}", reserved_ports.join(", "))?;
    }
    Ok(())
}

/// What of kube-proxy a cleanup took away, and what it did not.
pub fn print_leftovers(writer: &mut impl Write, leftovers: &Leftovers) -> io::Result<()> {
    let Leftovers { removed, left } = leftovers;
    if removed.is_empty() && left.is_empty() {
        return writeln!(writer, "nothing of kube-proxy is left");
    }
    removed
        .iter()
        .try_for_each(|removed| writeln!(writer, "removed: {removed}"))?;
    left.iter().try_for_each(|left| writeln!(writer, "left: {left}"))
}

#[cfg(test)]
mod tests;
