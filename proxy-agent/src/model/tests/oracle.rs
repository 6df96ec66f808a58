//! A naive reading of kube-proxy's rules for endpoints (semantics A2 to A5), against what the model makes of random
//! Services.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// One endpoint as its slice has it; what is none is left out of the manifest.
#[derive(Clone, Debug)]
struct Written {
    node: Option<&'static str>,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
    zones: Vec<&'static str>,
    nodes: Vec<&'static str>,
}

fn written() -> impl Strategy<Value = Written> {
    let node = prop_oneof![Just(None), Just(Some("here")), Just(Some("there"))];
    let condition = || prop::option::of(any::<bool>());
    let some = |names: [&'static str; 2]| {
        prop_oneof![
            1 => Just(Vec::new()),
            4 => prop::sample::subsequence(names.to_vec(), 1..=2),
        ]
    };
    (
        node,
        condition(),
        condition(),
        condition(),
        some(["west", "east"]),
        some(["here", "there"]),
    )
        .prop_map(|(node, ready, serving, terminating, zones, nodes)| Written {
            node,
            ready,
            serving,
            terminating,
            zones,
            nodes,
        })
}

impl Written {
    fn manifest(&self, number: usize) -> String {
        let mut text = format!("{{addresses: [10.1.0.{number}]");
        if let Some(node) = self.node {
            write!(text, ", nodeName: {node}").unwrap();
        }
        let conditions = [
            ("ready", self.ready),
            ("serving", self.serving),
            ("terminating", self.terminating),
        ];
        let conditions: Vec<_> = conditions
            .iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name}: {value}")))
            .collect();
        let named = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| format!("{{name: {name}}}")).collect();
            names.join(", ")
        };
        let (conditions, zones, nodes) = (conditions.join(", "), named(&self.zones), named(&self.nodes));
        write!(
            text,
            ", conditions: {{{conditions}}}, hints: {{forZones: [{zones}], forNodes: [{nodes}]}}}}"
        )
        .unwrap();
        text
    }

    fn is_ready(&self) -> bool {
        self.ready != Some(false)
    }

    /// Serves while it terminates.
    fn is_last_resort(&self) -> bool {
        self.serving != Some(false) && self.terminating == Some(true)
    }

    fn is_here(&self) -> bool {
        self.node == Some("here")
    }
}

/// The numbers of those that fit; if nobody does, of those that fit the second.
fn either(
    all: &[Written],
    first: impl Fn(&Written) -> bool,
    second: impl Fn(&Written) -> bool,
) -> Vec<usize> {
    let fitting = |rule: &dyn Fn(&Written) -> bool| -> Vec<usize> {
        (1..)
            .zip(all)
            .filter(|(_, one)| rule(one))
            .map(|(number, _)| number)
            .collect()
    };
    let found = fitting(&first);
    if found.is_empty() { fitting(&second) } else { found }
}

/// Every ready endpoint has such hints, and one of them names us.
fn is_hinted(all: &[Written], hints: impl Fn(&Written) -> &Vec<&'static str>, us: &str) -> bool {
    let mut named = false;
    for one in all.iter().filter(|one| one.is_ready()) {
        if hints(one).is_empty() {
            return false;
        }
        named |= hints(one).contains(&us);
    }
    named
}

fn expected(all: &[Written], is_local: bool) -> String {
    let found = if is_local {
        either(
            all,
            |one| one.is_here() && one.is_ready(),
            |one| one.is_here() && one.is_last_resort(),
        )
    } else if is_hinted(all, |one| &one.nodes, "here") {
        either(
            all,
            |one| one.is_ready() && one.nodes.contains(&"here"),
            Written::is_last_resort,
        )
    } else if is_hinted(all, |one| &one.zones, "west") {
        either(
            all,
            |one| one.is_ready() && one.zones.contains(&"west"),
            Written::is_last_resort,
        )
    } else {
        either(all, Written::is_ready, Written::is_last_resort)
    };
    if !found.is_empty() {
        let numbers: Vec<_> = found.iter().map(usize::to_string).collect();
        return numbers.join(" ");
    }
    // Somebody could serve somewhere, only not here.
    let is_any = all.iter().any(|one| one.is_ready() || one.is_last_resort());
    if is_any { "drop" } else { "reject" }.to_owned()
}

proptest! {
    #[test]
    fn lists_are_those_of_a_naive_reading(
        all in prop::collection::vec(written(), 0..6),
        internal_local: bool,
        external_local: bool,
        in_two_slices: bool,
    ) {
        let policy = |is_local| if is_local { "Local" } else { "Cluster" };
        let service = service(&format!(
            "type: LoadBalancer, internalTrafficPolicy: {}, externalTrafficPolicy: {}",
            policy(internal_local),
            policy(external_local)
        ));
        let endpoints: Vec<_> = (1..).zip(&all).map(|(number, one)| one.manifest(number)).collect();
        let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
        let (left, right) = endpoints.split_at(if in_two_slices { endpoints.len() / 2 } else { endpoints.len() });
        let model = model(&[&service, &slice_named("web-1", left), &slice_named("web-2", right)]);
        let naive = [internal_local, external_local, false].map(|is_local| expected(&all, is_local));
        prop_assert_eq!(lists(&model), naive, "{:?}", all);
    }
}
