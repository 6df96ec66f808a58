//! net.ipv4.ip_local_reserved_ports: keeps the host's own sockets out of the range that SNAT uses, and out of the NodePorts.
//!
//! What was reserved before us is not ours to take back: the parts that we add are marked beside the pins.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::error::{Context, DatapathError};
use super::instance::{Instance, list, mark, remove};
use super::options::{NodePortRange, SnatPorts};

const PATH: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// A set of ports, read and written as the kernel does: `1,5-9`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports(BTreeSet<u16>);

impl Ports {
    fn parse(text: &str) -> Result<Self, DatapathError> {
        let mut ports = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
            let Some((first, last)) = range else {
                return Err(DatapathError::Refused(format!(
                    "{PATH} holds {part:?}, which is no port or range"
                )));
            };
            ports.extend(first..=last);
        }
        Ok(Self(ports))
    }

    fn of(snat: SnatPorts, node_ports: NodePortRange) -> Self {
        let snat = snat.first()..=snat.last();
        Self(snat.chain(node_ports.first()..=node_ports.last()).collect())
    }

    /// The ranges in order.
    fn ranges(&self) -> Vec<String> {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for port in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(*port) => *last = *port,
                _ => ranges.push((*port, *port)),
            }
        }
        let text = |(first, last)| {
            if first == last {
                format!("{first}")
            } else {
                format!("{first}-{last}")
            }
        };
        ranges.into_iter().map(text).collect()
    }

    fn minus(&self, other: &Self) -> Self {
        Self(&self.0 - &other.0)
    }

    fn plus(&self, other: &Self) -> Self {
        Self(&self.0 | &other.0)
    }
}

/// Reserves both ranges in the calling thread's network namespace, and takes back what earlier ones added.
pub(super) fn reserve(
    instance: &Instance,
    snat: SnatPorts,
    node_ports: NodePortRange,
) -> Result<(), DatapathError> {
    node_ports.check(snat)?;
    let wanted = Ports::of(snat, node_ports);
    let marks = instance.reserved_marks();
    let before = read()?;
    let ours = marked(&marks)?;
    let foreign = before.minus(&ours);
    let added = wanted.minus(&foreign);
    // New marks come before the deed and old ones go after it: a crash between leaves a mark too many, never one
    // too few.
    let keep = added.ranges();
    for range in &keep {
        mark(&marks, range)?;
    }
    let all = foreign.plus(&wanted);
    if all != before {
        write(&all)?;
    }
    for name in list(&marks)?.iter().filter(|name| !keep.contains(name)) {
        remove(&marks.join(name))?;
    }
    let now = read()?;
    if wanted.minus(&now) == Ports::default() {
        return Ok(());
    }
    Err(DatapathError::Refused(format!(
        "{PATH} does not hold {} after it was written: something else writes it; add that there",
        wanted.ranges().join(",")
    )))
}

/// Takes our ranges out again; which they were.
pub(super) fn give_back(instance: &Instance) -> Result<Vec<String>, DatapathError> {
    let marks = instance.reserved_marks();
    let ours = marked(&marks)?;
    let before = read()?;
    let after = before.minus(&ours);
    if after != before {
        write(&after)?;
    }
    for name in list(&marks)? {
        remove(&marks.join(name))?;
    }
    Ok(ours.ranges())
}

/// Whether the range is reserved.
pub(super) fn holds(first: u16, count: u16) -> Result<bool, DatapathError> {
    let now = read()?;
    Ok((first..first.saturating_add(count)).all(|port| now.0.contains(&port)))
}

/// What is reserved now, as the kernel writes it.
pub(super) fn text() -> Result<String, DatapathError> {
    Ok(read()?.ranges().join(","))
}

fn marked(marks: &Path) -> Result<Ports, DatapathError> {
    Ports::parse(&list(marks)?.join(","))
}

fn read() -> Result<Ports, DatapathError> {
    Ports::parse(&fs::read_to_string(PATH).call("read", PATH)?)
}

fn write(ports: &Ports) -> Result<(), DatapathError> {
    let text = format!("{}\n", ports.ranges().join(","));
    Ok(fs::write(PATH, text).call(
        "write",
        format!("{PATH} (needs CAP_NET_ADMIN and /proc/sys/net writable)"),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written_as_the_kernel_does() {
        for text in ["", "80", "1,5-9,65535", "45000-60999"] {
            assert_eq!(
                Ports::parse(&format!("{text}\n")).unwrap().ranges().join(","),
                text
            );
        }
        assert_eq!(Ports::parse("5-7,8,9-10").unwrap().ranges(), ["5-10"]);
        assert!(Ports::parse("a-b").unwrap_err().to_string().contains("a-b"));
    }
}
