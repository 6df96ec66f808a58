//! The maps' content as text: by service port, without ids, so that it is the same whatever came first.
//!
//! ```text
//! default/web:http affinity 60s
//!   at ClusterIP TCP 10.96.0.1:80
//!   at NodePort TCP IPv4 node port 30080
//!   internal: 10.4.0.1:8080 local, 10.5.0.1:8080
//!   external: drop
//!   shortcut: 10.5.0.1:8080
//!   serving: 10.4.0.1:8080 local, 10.5.0.1:8080
//!   open to: 192.0.2.0/24
//! 10.96.0.1: cluster, answers ping
//! 10.96.0.0/16: cluster addresses
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proxy_agent::plan::{Frontend, Snapshot};
use proxy_common::layout::{
    Addr, Backend, BackendId, ChoiceRule, FrontendKind, ListWord, Network, NetworkList, Networks, ServiceId,
    Vip, When,
};

/// Everything that the maps hold of Services, in the order of names.
pub fn content(snapshot: &Snapshot) -> String {
    let backends: BTreeMap<BackendId, &Backend> = snapshot
        .backends
        .iter()
        .map(|(id, backend)| (*id, backend))
        .collect();
    let slots: BTreeMap<u32, &Vec<BackendId>> =
        snapshot.slots.iter().map(|(first, run)| (*first, run)).collect();
    let mut services: Vec<String> = Vec::new();
    for (id, identity) in &snapshot.identities {
        let service = snapshot.services.iter().find(|(other, _)| other == id);
        let Some((_, service)) = service else { continue };
        let frontends = frontends_of(snapshot, *id);
        let serving = snapshot
            .backends
            .iter()
            .filter(|(_, backend)| backend.is_alive() && backend.service == *id);
        let serving: BTreeSet<String> = serving.map(|(_, backend)| text_of(backend)).collect();
        if frontends.is_empty() && serving.is_empty() {
            // Its id rests.
            continue;
        }
        let mut text = identity.name.as_str().to_owned();
        if service.affinity.seconds() > 0 {
            text += &format!(" affinity {}s", service.affinity.seconds());
        }
        text.push('\n');
        for frontend in frontends {
            text += &format!("  at {frontend}\n");
        }
        for (name, word) in [
            ("internal", service.internal),
            ("external", service.external),
            ("shortcut", service.shortcut),
        ] {
            text += &format!("  {name}: {}\n", list(word, &slots, &backends));
        }
        let serving: Vec<String> = serving.into_iter().collect();
        text += &format!(
            "  serving: {}\n",
            if serving.is_empty() {
                "none".into()
            } else {
                serving.join(", ")
            }
        );
        let ranges = snapshot.ranges.iter().filter(|(owner, ..)| owner == id);
        let ranges: Vec<String> = ranges
            .map(|(_, range, _)| format!("{}/{}", range.address, range.length))
            .collect();
        if !ranges.is_empty() {
            text += &format!("  open to: {}\n", ranges.join(", "));
        }
        services.push(text);
    }
    services.sort_unstable();
    services.concat() + &addresses(snapshot)
}

/// What stands at the Services' addresses, and the ranges that the programs know.
fn addresses(snapshot: &Snapshot) -> String {
    let says = |vip: &Vip| {
        let kind = if vip.is_cluster() { "cluster" } else { "external" };
        let ping = if vip.answers() { "answers ping" } else { "silent" };
        format!("{kind}, {ping}")
    };
    let vips = snapshot.vips.iter();
    let mut lines: Vec<String> = vips
        .map(|(address, vip)| format!("{address}: {}\n", says(vip)))
        .collect();
    let Networks {
        service4,
        service6,
        local4,
        local6,
    } = &snapshot.networks;
    lines.extend(ranges(service4, "cluster addresses"));
    lines.extend(ranges(service6, "cluster addresses"));
    lines.extend(ranges(local4, "this node's pods"));
    lines.extend(ranges(local6, "this node's pods"));
    lines.concat()
}

fn ranges<A: Addr>(list: &NetworkList<A>, of: &str) -> Vec<String>
where
    IpAddr: From<A>,
{
    let text =
        |network: &Network<A>| format!("{}/{}: {of}\n", IpAddr::from(network.address), network.length());
    list.iter().map(text).collect()
}

fn frontends_of(snapshot: &Snapshot, id: ServiceId) -> Vec<String> {
    let own = snapshot.frontends.iter().filter(|(_, value)| value.service == id);
    let mut frontends: Vec<(u8, Frontend)> = own.map(|(frontend, value)| (value.kind, *frontend)).collect();
    frontends.sort_unstable();
    let text = |(kind, frontend): (u8, Frontend)| {
        let kind = FrontendKind::from_byte(kind).map_or("?".to_owned(), |kind| format!("{kind:?}"));
        format!("{kind} {frontend}")
    };
    frontends.into_iter().map(text).collect()
}

fn list(
    word: ListWord,
    slots: &BTreeMap<u32, &Vec<BackendId>>,
    backends: &BTreeMap<BackendId, &Backend>,
) -> String {
    if word.count() == 0 {
        return match word.when_empty() {
            When::Reject => "reject".to_owned(),
            When::Drop => "drop".to_owned(),
            When::Pass => "pass".to_owned(),
        };
    }
    let run = slots.get(&word.first()).map(|run| &run[..]).unwrap_or_default();
    let Some((members, table)) = word.split(run) else {
        return "cut short".to_owned();
    };
    let entries = table.get(1..).unwrap_or_default();
    let share = |id: &BackendId| match entries {
        [] => String::new(),
        _ => format!(" x{}", entries.iter().filter(|entry| *entry == id).count()),
    };
    let text = |id: &BackendId| {
        let backend = backends.get(id);
        let text = backend.map_or_else(|| format!("nobody ({})", id.0), |backend| text_of(backend));
        text + &share(id)
    };
    let mut texts: Vec<String> = members.iter().map(text).collect();
    texts.sort_unstable();
    let rule = match word.rule() {
        ChoiceRule::Random => "",
        ChoiceRule::Weighted => " by weight",
        ChoiceRule::Maglev => " by the flow's hash",
        ChoiceRule::LeastConnections => " by connections",
    };
    texts.join(", ") + rule
}

fn text_of(backend: &Backend) -> String {
    let address = SocketAddr::new(backend.address.into(), backend.port.number());
    let dead = if backend.is_alive() { "" } else { " dead" };
    let place = if backend.is_local() { " local" } else { "" };
    format!("{address}{place}{dead}")
}
