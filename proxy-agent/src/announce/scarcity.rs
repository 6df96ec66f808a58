//! Source ports that run short towards a destination: told once, and again only after there were enough of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::watch;

use super::{Announcer, Notice};
use crate::datapath::snat::{SnatReport, SnatUse};

/// Told in one go; of more only the number is.
const TOLD_AT_ONCE: usize = 8;

/// Tells of each report in the log and by Events, until there are no more reports.
pub async fn tell_of_source_ports(mut reports: watch::Receiver<SnatReport>, announcer: Announcer) {
    let mut scarcity = Scarcity::default();
    while reports.changed().await.is_ok() {
        let report = reports.borrow_and_update().clone();
        let new = scarcity.new_in(&report);
        for row in new.iter().take(TOLD_AT_ONCE) {
            tracing::warn!("{}", text(row));
            announcer.tell(Notice::of_source_ports(text(row)));
        }
        if new.len() > TOLD_AT_ONCE {
            tracing::warn!(
                destinations = new.len() - TOLD_AT_ONCE,
                "source ports run short towards further destinations: shunt snat shows them"
            );
        }
    }
}

fn text(row: &SnatUse) -> String {
    let SnatUse {
        protocol,
        destination,
        source,
        service,
        used,
        of,
    } = row;
    let whose = if service.is_empty() {
        "netfilter's masquerade"
    } else {
        service
    };
    format!(
        "source ports run short: {used} of {of} are in use from {source} towards {protocol} {destination} ({whose}); without one a \
         new call to it is dropped. Add endpoints, widen --snat-ports, or set externalTrafficPolicy: Local"
    )
}

/// Of whom was told.
#[derive(Debug, Default)]
struct Scarcity(BTreeSet<(&'static str, SocketAddr, IpAddr)>);

impl Scarcity {
    /// Those of which nobody was told yet.
    fn new_in<'a>(&mut self, report: &'a SnatReport) -> Vec<&'a SnatUse> {
        let name = |row: &SnatUse| (row.protocol, row.destination, row.source);
        let near: BTreeSet<_> = report.near.iter().map(name).collect();
        self.0.retain(|told| near.contains(told));
        let scarce = report.near.iter().filter(|row| row.is_scarce());
        scarce.filter(|row| self.0.insert(name(row))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: &[(u8, u32)]) -> SnatReport {
        let row = |(number, used): &(u8, u32)| SnatUse {
            protocol: "tcp",
            destination: SocketAddr::new([10, 1, 0, *number].into(), 80),
            source: [192, 168, 0, 1].into(),
            service: "shop/web".to_owned(),
            used: *used,
            of: 1000,
        };
        SnatReport {
            of: 1000,
            fullest: 0,
            near: rows.iter().map(row).collect(),
        }
    }

    #[test]
    fn a_destination_is_told_of_once_until_it_has_ports_again() {
        let mut scarcity = Scarcity::default();
        let mut told = |rows: &[(u8, u32)]| -> Vec<u32> {
            let report = report(rows);
            scarcity.new_in(&report).iter().map(|row| row.used).collect()
        };
        assert!(told(&[(1, 249)]).is_empty(), "less than a quarter");
        assert_eq!(told(&[(1, 250)]), [250]);
        assert!(told(&[(1, 400)]).is_empty(), "it was told");
        assert_eq!(told(&[(1, 400), (2, 300)]), [300]);
        assert!(told(&[(1, 210), (2, 300)]).is_empty());
        assert!(told(&[(1, 260), (2, 300)]).is_empty(), "it was never well again");
        assert!(told(&[(2, 300)]).is_empty());
        assert_eq!(told(&[(1, 260), (2, 300)]), [260]);
    }

    #[test]
    fn the_text_names_the_ends_the_service_and_the_way_out() {
        let report = report(&[(1, 250)]);
        let text = text(&report.near[0]);
        for part in [
            "250 of 1000",
            "192.168.0.1",
            "tcp 10.1.0.1:80",
            "shop/web",
            "--snat-ports",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
