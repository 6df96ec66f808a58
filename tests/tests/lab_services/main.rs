//! Services in the lab: each feature, in IPv4 and IPv6, over TCP and UDP, with and without socket LB for pods, on routed
//! and on bridged pods, with offloads on and off, on plain and on strict nodes. A lab a configuration, a row a check.
//!
//! `cargo test -p shunt-tests --test lab_services -- WORD...` runs the rows whose names hold all the words.

mod affinity;
mod change;
mod cluster;
mod drops;
mod expect;
mod guard;
mod life;
mod local;
mod programs;
mod reach;
mod refuse;
mod runner;
mod transfer;

use std::process::ExitCode;

use lab::options::{Attach, Options, SocketLb, Style, Xdp};

use cluster::Cluster;
use runner::{Rows, Runner};

fn main() -> ExitCode {
    let runner = Runner::new(std::env::args().skip(1));
    runner.run(configurations(), |options, rows| {
        if let Some(mut cluster) = rows.build("the cluster starts", || Cluster::start(options)) {
            everything(options, &mut cluster, rows);
        }
    })
}

fn everything(options: Options, cluster: &mut Cluster, rows: &mut Rows) {
    reach::rows(cluster, rows);
    refuse::rows(cluster, rows);
    local::rows(cluster, rows);
    guard::rows(cluster, rows);
    transfer::rows(cluster, rows);
    drops::rows(cluster, rows);
    change::rows(cluster, rows);
    affinity::rows(cluster, rows);
    programs::rows(cluster, rows);
    // Each way of attaching once, with pods that go by packets: every new agent loads all programs, which takes time.
    let resizes = Options {
        attach: options.attach,
        offloads: options.offloads,
        ..Options::default()
    };
    let by_packets = options.socket_lb == SocketLb::HostOnly;
    life::rows(
        cluster,
        rows,
        by_packets
            && options
                == Options {
                    socket_lb: options.socket_lb,
                    ..resizes
                },
    );
}

/// All of style, socket LB, offloads and strictness, both ways of attaching with each of them; and nodes with a tunnel
/// between them, whose interface has no link-layer header. Those are not strict: a pod's call to another node's address
/// goes there beside the tunnel and comes back through it, which a strict rp_filter forbids. And strict nodes with XDP.
fn configurations() -> Vec<Options> {
    let mut all = Vec::new();
    for strict in [false, true] {
        for offloads in [true, false] {
            let attach = if strict == offloads {
                Attach::Clsact
            } else {
                Attach::Tcx
            };
            for socket_lb in [SocketLb::Enabled, SocketLb::HostOnly] {
                for style in [Style::Routed, Style::Bridge] {
                    all.push(Options {
                        style,
                        socket_lb,
                        attach,
                        offloads,
                        strict,
                        tunnel: false,
                        xdp: Xdp::Auto,
                    });
                }
            }
        }
    }
    let by_packets = Options {
        socket_lb: SocketLb::HostOnly,
        tunnel: true,
        ..Options::default()
    };
    all.push(by_packets);
    all.push(Options {
        style: Style::Bridge,
        attach: Attach::Clsact,
        offloads: false,
        ..by_packets
    });
    // Without offloads checksums are complete, and XDP takes what it can.
    let by_xdp = Options {
        socket_lb: SocketLb::HostOnly,
        offloads: false,
        strict: true,
        xdp: Xdp::Native,
        ..Options::default()
    };
    all.push(by_xdp);
    all.push(Options {
        style: Style::Bridge,
        attach: Attach::Clsact,
        socket_lb: SocketLb::Enabled,
        ..by_xdp
    });
    all
}
