//! CONFIG: what the programs must know of this node.

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use proxy_common::layout::{CONFIG_PODS_SOCKET_LB, Config, LAYOUT_VERSION};

use super::clock;
use super::error::{Context, DatapathError};
use super::options::{DatapathOptions, SocketLb};
use super::sys;

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;

/// The configuration of this node.
pub(super) fn of_node(options: &DatapathOptions) -> Result<Config, DatapathError> {
    let rate = clock::ticks_per_second()?;
    Ok(Config {
        host_netns_cookie: own_netns_cookie()?,
        layout_version: LAYOUT_VERSION,
        flags: match options.socket_lb {
            SocketLb::Enabled => CONFIG_PODS_SOCKET_LB,
            SocketLb::HostOnly => 0,
        },
        ticks_per_second: rate,
        snat_first: options.snat_ports.first(),
        snat_count: options.snat_ports.count(),
        tcp_embryo: MINUTE * rate,
        tcp_established: 24 * HOUR * rate,
        tcp_half_closed: HOUR * rate,
        tcp_closing: 2 * MINUTE * rate,
        udp_embryo: 30 * rate,
        udp_established: 3 * MINUTE * rate,
    })
}

/// The cookie of the network namespace in which the agent runs: the host's.
pub(super) fn own_netns_cookie() -> Result<u64, DatapathError> {
    let socket = UnixDatagram::unbound().call("socket", "a local socket")?;
    Ok(sys::netns_cookie(socket.as_fd()).call("getsockopt", "SO_NETNS_COOKIE (kernel 5.14 and later)")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::options::{AttachMode, PodInterfaces, SnatPorts, Uplinks};

    #[test]
    fn lives_are_in_ticks_and_the_switch_is_a_flag() {
        let mut options = DatapathOptions {
            instance: "/".into(),
            cgroup: "/".into(),
            socket_lb: SocketLb::Enabled,
            pod_interfaces: PodInterfaces::Auto,
            uplinks: Uplinks::Auto,
            attach: AttachMode::Auto,
            snat_ports: SnatPorts::default(),
            memory: None,
            object: &[],
        };
        let config = of_node(&options).unwrap();
        let rate = config.ticks_per_second;
        assert!(config.host_netns_cookie != 0);
        assert_eq!((config.snat_first, config.snat_count), (45_000, 16_000));
        assert_eq!(
            (config.tcp_established, config.udp_embryo),
            (86_400 * rate, 30 * rate)
        );
        assert_eq!(
            (config.tcp_embryo, config.tcp_half_closed),
            (60 * rate, 3600 * rate)
        );
        assert_eq!(
            (config.tcp_closing, config.udp_established),
            (120 * rate, 180 * rate)
        );
        assert_eq!(config.flags, CONFIG_PODS_SOCKET_LB);
        options.socket_lb = SocketLb::HostOnly;
        assert_eq!(of_node(&options).unwrap().flags, 0);
    }
}
