//! How long a flow lives without traffic. Checked on use: an expired entry does not exist.

use crate::layout::{Config, Meta, protocol, state};

/// The life, in ticks, of a flow in this state. SCTP's associations live as TCP's connections do.
#[inline(always)]
pub fn of(config: &Config, ip_protocol: u8, bits: u8) -> u32 {
    const BOTH_FINS: u8 = state::FIN_FORWARD | state::FIN_REVERSE;
    if ip_protocol == protocol::UDP {
        return if bits & state::ESTABLISHED != 0 {
            config.udp_established
        } else {
            config.udp_embryo
        };
    }
    if bits & state::RESET != 0 || bits & BOTH_FINS == BOTH_FINS {
        config.tcp_closing
    } else if bits & state::ESTABLISHED == 0 {
        config.tcp_embryo
    } else if bits & BOTH_FINS != 0 {
        config.tcp_half_closed
    } else {
        config.tcp_established
    }
}

/// Ticks since a flow was last noted. A time in the future (another CPU was a tick ahead) counts as now.
#[inline(always)]
pub const fn age(meta: Meta, now: u32) -> u32 {
    since(meta.seen(), now)
}

/// Ticks from one time to another, 0 if that was before.
#[inline(always)]
pub const fn since(seen: u32, now: u32) -> u32 {
    let age = now.wrapping_sub(seen);
    if age > u32::MAX / 2 { 0 } else { age }
}

/// Whether a flow's life is over.
#[inline(always)]
pub fn expired(config: &Config, ip_protocol: u8, meta: Meta, now: u32) -> bool {
    age(meta, now) > of(config, ip_protocol, meta.state())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONFIG: Config = Config {
        host_netns_cookie: 0,
        layout_version: 1,
        flags: 0,
        ticks_per_second: 250,
        snat_first: 45000,
        snat_count: 16000,
        tcp_embryo: 60 * 250,
        tcp_established: 86_400 * 250,
        tcp_half_closed: 3600 * 250,
        tcp_closing: 120 * 250,
        udp_embryo: 30 * 250,
        udp_established: 180 * 250,
    };

    #[test]
    fn a_life_follows_the_state() {
        use state::{ESTABLISHED, FIN_FORWARD, FIN_REVERSE, REPLIED, RESET};
        let life = |bits| of(&CONFIG, protocol::TCP, bits) / 250;
        assert_eq!(life(0), 60);
        assert_eq!(life(REPLIED), 60);
        assert_eq!(life(REPLIED | ESTABLISHED), 86_400);
        assert_eq!(life(ESTABLISHED | FIN_FORWARD), 3600);
        assert_eq!(life(ESTABLISHED | FIN_REVERSE), 3600);
        assert_eq!(life(ESTABLISHED | FIN_FORWARD | FIN_REVERSE), 120);
        assert_eq!(life(ESTABLISHED | RESET), 120);
        assert_eq!(of(&CONFIG, protocol::UDP, REPLIED) / 250, 30);
        assert_eq!(of(&CONFIG, protocol::UDP, REPLIED | ESTABLISHED) / 250, 180);
    }

    proptest! {
        /// The clock wraps; a flow is expired from the first tick after its life, and a flow of the future is young.
        #[test]
        fn expiry_holds_across_the_wrap(seen: u32, bits in 0_u8..32, early in 0_u32..1000) {
            let life = of(&CONFIG, protocol::TCP, bits);
            let meta = Meta::new(1, bits, seen);
            prop_assert!(!expired(&CONFIG, protocol::TCP, meta, seen.wrapping_add(life)));
            prop_assert!(expired(&CONFIG, protocol::TCP, meta, seen.wrapping_add(life).wrapping_add(1)));
            prop_assert!(!expired(&CONFIG, protocol::TCP, meta, seen.wrapping_sub(early)));
        }
    }
}
