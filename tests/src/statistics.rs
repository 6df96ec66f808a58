//! What the kernel counts in a network namespace, under the names that nstat(8) has: `TcpOutRsts`, `Icmp6InPktTooBigs`.

use anyhow::{Context, Result};

use crate::Namespace;

/// Tables of two lines, names and values; and one of a name and a value a line.
const TABLES: [&str; 2] = ["snmp", "netstat"];
const LINES: &str = "snmp6";

impl Namespace {
    /// One of its counters.
    pub fn statistic(&self, name: &str) -> Result<u64> {
        let texts = self.run(|| {
            let read = |file: &str| {
                let path = format!("/proc/thread-self/net/{file}");
                std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
            };
            let tables = TABLES.map(read).into_iter().collect::<Result<Vec<_>>>()?;
            Ok((tables, read(LINES)?))
        });
        let (tables, lines) = texts.with_context(|| format!("in the namespace {}", self.name()))?;
        let mut tables = tables.iter();
        let value = tables
            .find_map(|text| in_table(text, name))
            .or_else(|| in_lines(&lines, name));
        value.with_context(|| format!("the kernel counts no {name}"))
    }
}

fn in_table(text: &str, name: &str) -> Option<u64> {
    let lines: Vec<&str> = text.lines().collect();
    let mut pairs = lines.as_chunks::<2>().0.iter();
    pairs.find_map(|[names, values]| {
        let (head, names) = names.split_once(':')?;
        let (_, values) = values.split_once(':')?;
        let own = name.strip_prefix(head)?;
        let mut both = names.split_whitespace().zip(values.split_whitespace());
        // Some values are below zero.
        both.find_map(|(other, value)| (other == own).then(|| value.parse().ok())?)
    })
}

fn in_lines(text: &str, name: &str) -> Option<u64> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace));
    lines.find_map(|(other, value)| (other == name).then(|| value.trim().parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_their_names() {
        let table = "Tcp: MaxConn OutRsts\nTcp: -1 7\nUdp: InDatagrams\nUdp: 3\n";
        assert_eq!(in_table(table, "TcpOutRsts"), Some(7));
        assert_eq!(in_table(table, "UdpInDatagrams"), Some(3));
        assert_eq!(in_table(table, "TcpInDatagrams"), None);
        let lines = "Ip6InReceives                   \t12\nIcmp6InPktTooBigs               \t5\n";
        assert_eq!(in_lines(lines, "Icmp6InPktTooBigs"), Some(5));
        assert_eq!(in_lines(lines, "Icmp6InPkt"), None);
    }
}
