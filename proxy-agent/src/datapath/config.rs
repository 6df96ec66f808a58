//! CONFIG: what the programs must know of this node.

use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proxy_common::layout::{
    CONFIG_CHECKSUM_IPV6, CONFIG_HOPS_BY_PORT, CONFIG_MARK, CONFIG_MARK_BIT, CONFIG_NO_LOOPBACK4,
    CONFIG_NO_LOOPBACK6, CONFIG_NO_PING, CONFIG_PODS_SOCKET_LB, Config, LAYOUT_VERSION,
};

use super::clock;
use super::error::{Context, DatapathError};
use super::node_ports::NodePortAddresses;
use super::options::{DatapathOptions, FlowLives, SocketLb};
use super::sys::{self, program_type};
use super::tables::Tables;
use super::xdp_attach::hops_depend_on_ports;

/// TCP that is not established, and TCP that both sides have ended: nobody can choose these.
const TCP_EMBRYO: u32 = 60;
const TCP_CLOSING: u32 = 120;

/// The configuration of this node.
pub(super) fn of_node(options: &DatapathOptions) -> Result<Config, DatapathError> {
    let rate = clock::ticks_per_second()?;
    let mut config = Config {
        host_netns_cookie: own_netns_cookie()?,
        layout_version: LAYOUT_VERSION,
        flags: flags(options)?,
        ticks_per_second: rate,
        snat_first: options.snat_ports.first(),
        snat_count: options.snat_ports.count(),
        tcp_embryo: TCP_EMBRYO * rate,
        tcp_closing: TCP_CLOSING * rate,
        ..Config::default()
    };
    set_lives(&mut config, options.lives);
    Ok(config)
}

/// Changes what CONFIG says. Several threads of the agent do.
pub(super) fn change(tables: &Tables, change: impl FnOnce(&mut Config)) -> Result<(), DatapathError> {
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = tables.config.get(&0)?.unwrap_or_default();
    let mut config = before;
    change(&mut config);
    if config != before {
        tables.config.put(&0, &config)?;
    }
    Ok(())
}

/// Puts down which families' loopback addresses have NodePorts.
pub(super) fn set_node_ports(config: &mut Config, addresses: &NodePortAddresses) {
    config.flags &= !(CONFIG_NO_LOOPBACK4 | CONFIG_NO_LOOPBACK6);
    config.flags |= addresses.config_flags();
}

/// Puts lives in ticks.
pub(super) fn set_lives(config: &mut Config, lives: FlowLives) {
    // Ages are compared as differences of 32 bits.
    const LONGEST: u128 = u32::MAX as u128 / 2;
    let rate = u128::from(config.ticks_per_second);
    let ticks = |life: Duration| (life.as_millis() * rate / 1000).clamp(1, LONGEST) as u32;
    config.tcp_established = ticks(lives.tcp_established);
    config.tcp_half_closed = ticks(lives.tcp_half_closed);
    config.udp_embryo = ticks(lives.udp_embryo);
    config.udp_established = ticks(lives.udp_established);
}

fn flags(options: &DatapathOptions) -> Result<u32, DatapathError> {
    let pods = match options.socket_lb {
        SocketLb::Enabled => CONFIG_PODS_SOCKET_LB,
        SocketLb::HostOnly => 0,
    };
    let checksum = if kernel_has_checksum_flag()? {
        CONFIG_CHECKSUM_IPV6
    } else {
        0
    };
    let hops = if hops_depend_on_ports() {
        CONFIG_HOPS_BY_PORT
    } else {
        0
    };
    let ping = if options.ping { 0 } else { CONFIG_NO_PING };
    let mark = options
        .mark
        .map_or(0, |mark| CONFIG_MARK | mark.bit() << CONFIG_MARK_BIT);
    Ok(pods | checksum | hops | ping | mark | options.node_ports.config_flags())
}

/// Whether bpf_l4_csum_replace takes `BPF_F_IPV6` (6.16, or brought back): tried on a packet, because the verifier does
/// not look at flags.
pub(super) fn kernel_has_checksum_flag() -> Result<bool, DatapathError> {
    const PSEUDO_HEADER: u64 = 1 << 4;
    const IPV6: u64 = 1 << 7;
    // bpf_l4_csum_replace(context, 0, 0, 0, flags); exit
    let program = [
        0x02b7,
        0x03b7,
        0x04b7,
        (PSEUDO_HEADER | IPV6) << 32 | 0x05b7,
        11 << 32 | 0x85,
        0x95,
    ];
    let probe = sys::program_load(program_type::SCHED_CLS, 0, &program)
        .call("BPF_PROG_LOAD", "the checksum probe")?;
    let result = sys::program_run(probe.as_fd(), &[0; 64]).call("BPF_PROG_TEST_RUN", "the checksum probe")?;
    Ok(result == 0)
}

/// The cookie of the network namespace in which the agent runs: the host's.
pub(super) fn own_netns_cookie() -> Result<u64, DatapathError> {
    let socket = UnixDatagram::unbound().call("socket", "a local socket")?;
    Ok(sys::netns_cookie(socket.as_fd()).call("getsockopt", "SO_NETNS_COOKIE (kernel 5.14 and later)")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::Mark;

    #[test]
    fn lives_are_in_ticks_and_the_switch_is_a_flag() {
        let mut options = DatapathOptions::new("/".into(), "/".into());
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
        assert_eq!(config.flags & CONFIG_PODS_SOCKET_LB, CONFIG_PODS_SOCKET_LB);
        options.lives.udp_established = Duration::from_millis(2500);
        options.lives.tcp_established = Duration::from_secs(u64::from(u32::MAX));
        let config = of_node(&options).unwrap();
        assert_eq!(config.udp_established, rate * 5 / 2);
        assert_eq!(config.tcp_established, u32::MAX / 2, "as long as can be told");
        assert_eq!(config.mark(), 0);
        options.mark = Mark::new(0x80);
        assert_eq!(of_node(&options).unwrap().mark(), 0x80);
        options.socket_lb = SocketLb::HostOnly;
        assert_eq!(of_node(&options).unwrap().flags & CONFIG_PODS_SOCKET_LB, 0);
    }

    #[test]
    fn the_checksum_flag_is_that_of_the_kernel() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let numbers: Vec<u32> = release
            .split(['.', '-'])
            .map_while(|part| part.trim().parse().ok())
            .collect();
        // Brought back into some older kernels; a kernel from 6.16 on must have it.
        assert!(
            kernel_has_checksum_flag().unwrap() || (numbers[0], numbers[1]) < (6, 16),
            "{release}"
        );
    }
}
