//! kube-proxy's chains and rules among those of others, as iptables-save prints them. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// Chains of kube-proxy in the modes iptables and ipvs. KUBE-FIREWALL is the kubelet's too, and KUBE-KUBELET-CANARY,
/// KUBE-IPTABLES-HINT and KUBE-MARK-DROP are its alone: they stay.
const CHAINS: [&str; 13] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];
/// Chains of one Service or endpoint: this and a hash of 16 letters and digits.
const PREFIXES: [&str; 6] = [
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-SEP-",
    "KUBE-FW-",
    "KUBE-XLB-",
    "KUBE-EXT-",
];
/// How the comments begin of kube-proxy's own jumps from built-in chains.
const COMMENT: &str = "kubernetes ";
/// Marked packets are masqueraded there.
const PARTNERS: (&str, &str) = ("KUBE-MARK-MASQ", "KUBE-POSTROUTING");

/// What to feed to iptables-restore --noflush.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) restore: String,
    /// What that removes, a line a table.
    pub(super) removed: Vec<String>,
    /// Chains of kube-proxy that others need.
    pub(super) kept: Vec<String>,
}

pub(super) fn plan(rules: &str) -> Plan {
    let mut plan = Plan::default();
    for table in tables(rules) {
        table.plan(&mut plan);
    }
    plan
}

#[derive(Debug, Default)]
struct Table<'a> {
    name: &'a str,
    /// With whether they are built in.
    chains: BTreeMap<&'a str, bool>,
    rules: Vec<Rule<'a>>,
}

#[derive(Debug)]
struct Rule<'a> {
    line: &'a str,
    chain: String,
    target: Option<String>,
    comment: Option<String>,
}

fn tables(rules: &str) -> Vec<Table<'_>> {
    let mut tables: Vec<Table<'_>> = Vec::new();
    for line in rules.lines() {
        if let Some(name) = line.strip_prefix('*') {
            let name = name.trim();
            tables.push(Table {
                name,
                ..Table::default()
            });
            continue;
        }
        let Some(table) = tables.last_mut() else { continue };
        if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            if let (Some(name), Some(policy)) = (words.next(), words.next()) {
                table.chains.insert(name, policy != "-");
            }
        } else if let Some(rule) = line.strip_prefix("-A ").and_then(|_| Rule::read(line)) {
            table.rules.push(rule);
        }
    }
    tables
}

impl<'a> Rule<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let words = words(line);
        let after = |switches: [&str; 2]| {
            let place = words.iter().position(|word| switches.contains(&word.as_str()))?;
            words.get(place + 1).cloned()
        };
        Some(Self {
            line,
            chain: words.get(1)?.clone(),
            target: after(["-j", "-g"]),
            comment: after(["--comment", "--comment"]),
        })
    }

    /// Made by kube-proxy to get from a built-in chain to one of its own.
    fn is_entry(&self) -> bool {
        self.comment
            .as_ref()
            .is_some_and(|comment| comment.starts_with(COMMENT))
    }
}

/// The words of a line; quotes hold one together.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' => word.get_or_insert_default().extend(letters.next()),
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn is_of_kube_proxy(chain: &str) -> bool {
    let is_hash = |rest: &str| {
        rest.len() == 16
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    };
    let is_of_one = |prefix: &str| chain.strip_prefix(prefix).is_some_and(is_hash);
    CHAINS.contains(&chain) || PREFIXES.iter().any(|prefix| is_of_one(prefix))
}

impl Table<'_> {
    fn plan(&self, plan: &mut Plan) {
        let needed = self.needed();
        let own = self
            .chains
            .iter()
            .filter(|(name, built_in)| !**built_in && is_of_kube_proxy(name));
        let own: BTreeSet<&str> = own.map(|(name, _)| *name).collect();
        plan.kept.extend(
            own.intersection(&needed)
                .map(|chain| format!("chain {chain} of table {}", self.name)),
        );
        let doomed: BTreeSet<&str> = own.difference(&needed).copied().collect();
        if doomed.is_empty() {
            return;
        }
        let entries = self.rules.iter().filter(|rule| {
            let leads_there = rule
                .target
                .as_deref()
                .is_some_and(|target| doomed.contains(target));
            leads_there && !is_of_kube_proxy(&rule.chain)
        });
        let entries: Vec<&Rule<'_>> = entries.collect();
        let mut lines = vec![format!("*{}", self.name)];
        // To name a chain is to empty it.
        lines.extend(doomed.iter().map(|chain| format!(":{chain} - [0:0]")));
        lines.extend(entries.iter().map(|rule| rule.line.replacen("-A ", "-D ", 1)));
        lines.extend(doomed.iter().map(|chain| format!("-X {chain}")));
        lines.push("COMMIT\n".to_owned());
        plan.restore += &lines.join("\n");
        plan.removed.push(format!(
            "table {}: {} chains and {} rules that lead there",
            self.name,
            doomed.len(),
            entries.len()
        ));
    }

    /// Chains that rules of others lead to, and what those in turn need.
    fn needed(&self) -> BTreeSet<&str> {
        let foreign = |rule: &&Rule<'_>| {
            let is_built_in = self.chains.get(rule.chain.as_str()).copied().unwrap_or(false);
            !(is_of_kube_proxy(&rule.chain) || is_built_in && rule.is_entry())
        };
        let targets = self
            .rules
            .iter()
            .filter(foreign)
            .filter_map(|rule| rule.target.as_deref());
        let mut open: Vec<&str> = targets.filter(|target| is_of_kube_proxy(target)).collect();
        let mut needed = BTreeSet::new();
        while let Some(chain) = open.pop() {
            if needed.insert(chain) {
                let rules = self.rules.iter().filter(|rule| rule.chain == chain);
                let targets = rules.filter_map(|rule| rule.target.as_deref());
                open.extend(targets.filter(|target| is_of_kube_proxy(target)));
                open.extend((chain == PARTNERS.0).then_some(PARTNERS.1));
            }
        }
        needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_others_are_told_apart() {
        for own in [
            "KUBE-SERVICES",
            "KUBE-SVC-67NZLRHBNDSAWJRO",
            "KUBE-SEP-34ZZ2QFGO32YYXXO",
        ] {
            assert!(is_of_kube_proxy(own), "{own}");
        }
        for other in [
            "KUBE-FIREWALL",
            "KUBE-KUBELET-CANARY",
            "KUBE-IPTABLES-HINT",
            "KUBE-ROUTER-SERVICES",
            "KUBE-NWPLCY-67NZLRHBNDSAWJRO",
            "KUBE-POD-FW-67NZLRHBNDSAWJRO",
            "KUBE-SVC-short",
            "cali-PREROUTING",
        ] {
            assert!(!is_of_kube_proxy(other), "{other}");
        }
    }

    #[test]
    fn a_comment_that_looks_like_a_jump_is_none() {
        let line = r#"-A INPUT -m comment --comment "say -j KUBE-SERVICES \"now\"" -j ACCEPT"#;
        let rule = Rule::read(line).unwrap();
        assert_eq!(rule.target.as_deref(), Some("ACCEPT"));
        assert_eq!(rule.comment.as_deref(), Some("say -j KUBE-SERVICES \"now\""));
    }

    #[test]
    fn what_others_need_stays_with_all_that_it_needs() {
        let rules = "*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-HOSTPORT - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A CNI-HOSTPORT -p tcp -j KUBE-MARK-MASQ
-A KUBE-SERVICES -j KUBE-MARK-MASQ
COMMIT
";
        let plan = plan(rules);
        assert_eq!(
            plan.kept,
            [
                "chain KUBE-MARK-MASQ of table nat",
                "chain KUBE-POSTROUTING of table nat"
            ]
        );
        assert_eq!(
            plan.restore,
            "*nat\n:KUBE-SERVICES - [0:0]\n-D PREROUTING -m comment --comment \"kubernetes service portals\" -j \
             KUBE-SERVICES\n-X KUBE-SERVICES\nCOMMIT\n"
        );
        assert_eq!(plan.removed, ["table nat: 1 chains and 1 rules that lead there"]);
    }

    #[test]
    fn without_kube_proxy_nothing_is_done() {
        let rules =
            "*filter\n:INPUT ACCEPT [0:0]\n:KUBE-FIREWALL - [0:0]\n-A INPUT -j KUBE-FIREWALL\nCOMMIT\n";
        assert_eq!(plan(rules), Plan::default());
    }
}
