//! TC hooks: from a packet to the rules and from their verdict to the kernel's.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use proxy_common::{
    layout::{Action, Config, Counter, Direction, Flow, V4, V6},
    rules::{Origin, Verdict, Work, headers::Readable, hook, settled},
};

use crate::{
    LAYER3, ahead,
    answer::{self, Answer},
    encapsulate::{self, Outside},
    error::{self, Message},
    global,
    maps::Maps,
    node::{Node, Tables, config, count},
    probe,
    redirect::{self, Leaving, MARK, Route},
    rewrite::{self, Rewrite},
    segment,
    skb::Packet,
};

/// ETH_P_IP and ETH_P_IPV6 as `__sk_buff.protocol` shows them.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
/// `__sk_buff.pkt_type` of a frame to this host (linux/if_packet.h).
const PACKET_HOST: u32 = 0;
/// Goes on to other programs and then to the stack; in TCX the same as TCX_NEXT.
const PASS: i32 = TC_ACT_UNSPEC;

/// All that an address family needs here.
pub(crate) trait Family: Readable + Maps + Rewrite + Route + Answer + Outside {}
impl Family for V4 {}
impl Family for V6 {}

/// TC ingress.
#[inline(always)]
pub(crate) fn ingress<const LINK: u32>(skb: *mut __sk_buff, origin: Origin) -> i32 {
    // SAFETY: `skb` is the program's context.
    let ours = unsafe {
        if (*skb).tc_index == MARK {
            // Left by another node on this machine, over a veth.
            (*skb).tc_index = 0;
        }
        (*skb).vlan_present == 0
            && (origin == Origin::Pod || LINK == LAYER3 || (*skb).pkt_type == PACKET_HOST)
    };
    // SAFETY: `skb` is the program's context.
    match unsafe { (*skb).protocol } {
        IPV4 if ours => ingress_family::<V4, LINK>(skb, origin),
        IPV6 if ours => ingress_family::<V6, LINK>(skb, origin),
        probe::PROTOCOL => probe::arrived::<LINK>(skb, 0),
        _ => PASS,
    }
}

/// TC egress of a pod interface.
#[inline(always)]
pub(crate) fn egress_pod<const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    if is_done(skb) {
        return PASS;
    }
    // SAFETY: `skb` is the program's context.
    match unsafe { (*skb).protocol } {
        IPV4 => egress_pod_family::<V4, LINK>(skb),
        IPV6 => egress_pod_family::<V6, LINK>(skb),
        probe::PROTOCOL => probe::arrived::<LINK>(skb, 1),
        _ => PASS,
    }
}

/// TC egress of an uplink.
#[inline(always)]
pub(crate) fn egress_uplink<const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    if is_done(skb) {
        return PASS;
    }
    // SAFETY: `skb` is the program's context.
    match unsafe { (*skb).protocol } {
        IPV4 => egress_uplink_family::<V4, LINK>(skb),
        IPV6 => egress_uplink_family::<V6, LINK>(skb),
        probe::PROTOCOL => probe::arrived::<LINK>(skb, 1),
        _ => PASS,
    }
}

/// Whether one of our programs redirected this packet here. The mark goes no further.
#[inline(always)]
fn is_done(skb: *mut __sk_buff) -> bool {
    // SAFETY: `skb` is the program's context.
    unsafe {
        if (*skb).tc_index == MARK {
            (*skb).tc_index = 0;
            return true;
        }
        (*skb).vlan_present != 0
    }
}

/// What [`follow_ingress`] and its like give for a packet on which the whole rule must decide.
pub(crate) const UNSETTLED: i32 = i32::MIN;

#[inline(always)]
fn ingress_family<A: Family, const LINK: u32>(skb: *mut __sk_buff, origin: Origin) -> i32 {
    let Some(config) = config() else { return PASS };
    if let Some(seen) = A::glance(&Packet::<LINK>::new(skb)) {
        let may_be_frontend = hook::may_be_frontend(&Tables, &seen);
        let is_ours = may_be_frontend
            || hook::in_snat_range(config, seen.destination_port)
            || config.has_bypassed() && global::may_be_reply::<LINK>(skb, A::FAMILY);
        if !is_ours {
            return PASS;
        }
        let followed = follow_ingress::<A, LINK>(skb, may_be_frontend as u32);
        if followed != UNSETTLED {
            if followed == PASS && origin == Origin::Network {
                // Translated and for the stack: what is for nobody here is not settled.
                mark(skb, config);
            }
            return followed;
        }
    } else if origin == Origin::Network {
        let taken = encapsulate::take::<A, LINK>(skb);
        if taken != UNSETTLED {
            return taken;
        }
    }
    let is_pod = (origin == Origin::Pod) as u32;
    let verdict = judge::<A, LINK>(skb, is_pod);
    const ENCAPSULATE: Option<u8> = Some(Action::Encapsulate as u8);
    let is_error = verdict.error_action() == ENCAPSULATE;
    if !is_error && verdict.action() != ENCAPSULATE {
        return execute::<A, LINK>(skb, is_pod, verdict);
    }
    ahead::found(skb);
    if origin == Origin::Pod {
        // An error about what somebody else sent in its name.
        return dropped(Counter::NoRoute as u32);
    }
    encapsulate::hand_on::<A, LINK>(skb, is_error as u32)
}

/// Sends a packet on of which nothing is new. Not inlined, as its like: the whole rule needs the stack.
#[inline(never)]
fn follow_ingress<A: Family, const LINK: u32>(skb: *mut __sk_buff, may_be_frontend: u32) -> i32 {
    const STACK: u8 = Action::Stack as u8;
    const REDIRECT: u8 = Action::Redirect as u8;
    const BYPASS: u8 = Action::Bypass as u8;
    let (Some(config), Some(packet)) = (config(), A::plain(&Packet::<LINK>::with(skb))) else {
        return UNSETTLED;
    };
    let node = Node::new(skb, config);
    let mut flow = Flow::default();
    let Some(direction) = settled::ingress(&node, &packet, may_be_frontend != 0, &mut flow) else {
        return UNSETTLED;
    };
    match flow.action {
        STACK => ended(rewrite::translate_plain::<A, LINK>(
            skb,
            config.flags,
            &packet,
            &flow,
        )),
        REDIRECT | BYPASS if packet.hop_limit > 1 => {
            let Ok(hop) = redirect::next_hop(skb, &Leaving::packet(&packet, &flow, 0)) else {
                return UNSETTLED;
            };
            // An answer that would leave by another uplink than the call came in by.
            let via = flow.via.interface();
            if via != 0 && hop.interface != via && matches!(direction, Direction::Reverse) {
                return UNSETTLED;
            }
            if rewrite::translate_plain::<A, LINK>(skb, config.flags, &packet, &flow).is_none()
                || A::set_hop_limit::<LINK>(skb, packet.hop_limit.wrapping_sub(1)).is_none()
            {
                return dropped(Counter::RewriteFailed as u32);
            }
            if flow.action == BYPASS {
                redirect::deliver::<LINK>(skb, hop)
            } else {
                redirect::send::<LINK>(skb, hop)
            }
        }
        _ => UNSETTLED,
    }
}

#[inline(always)]
const fn origin(is_pod: u32) -> Origin {
    if is_pod != 0 { Origin::Pod } else { Origin::Network }
}

/// What the whole rule says. Not inlined, as what is done about it is not: they need the stack one after the other.
#[inline(never)]
fn judge<A: Family, const LINK: u32>(skb: *mut __sk_buff, is_pod: u32) -> Verdict {
    let (Some(config), Some(work)) = (config(), work::<A>()) else {
        return Verdict::PASS;
    };
    let node = Node::new(skb, config);
    hook::ingress(&node, origin(is_pod), &Packet::<LINK>::with(skb), work)
}

/// Does what the whole rule said, but for what goes on in an outer header.
#[inline(never)]
fn execute<A: Family, const LINK: u32>(skb: *mut __sk_buff, is_pod: u32, verdict: Verdict) -> i32 {
    let (Some(config), Some(work)) = (config(), work::<A>()) else {
        return PASS;
    };
    const REDIRECT: u8 = Action::Redirect as u8;
    const BYPASS: u8 = Action::Bypass as u8;
    const HAIRPIN: u8 = Action::Hairpin as u8;
    if let Some(counter) = verdict.dropped() {
        if counter == Counter::FragmentWithoutFirst as u32 {
            let verdict = ahead::again(skb);
            if verdict != ahead::ENOUGH {
                return verdict;
            }
        }
        return dropped(counter);
    }
    if let Some(counter) = verdict.rejected() {
        count(counter);
        return answer::reject::<A, LINK>(skb, &work.packet);
    }
    if verdict == Verdict::AWAIT_FIRST {
        let verdict = ahead::again(skb);
        return if verdict == ahead::ENOUGH { PASS } else { verdict };
    }
    ahead::found(skb);
    if verdict == Verdict::ANSWER_ECHO {
        return match answer::echo::<A, LINK>(skb, &work.packet) {
            Some(()) => redirect::back::<LINK>(skb),
            None => dropped(Counter::RewriteFailed as u32),
        };
    }
    if let Some(action) = verdict.error_action() {
        return relay::<A, LINK>(skb, work, action as u32);
    }
    match verdict.action() {
        None => PASS,
        Some(REDIRECT | BYPASS) => around::<A, LINK>(skb, work),
        Some(HAIRPIN) => hairpin::<A, LINK>(skb, work),
        Some(_) => {
            if origin(is_pod) == Origin::Network {
                mark(skb, config);
            }
            ended(write::<A, LINK>(skb, work))
        }
    }
}

/// Lets the stack's rules tell a packet whose destination was translated here.
#[inline(always)]
pub(crate) fn mark(skb: *mut __sk_buff, config: &Config) {
    let mark = config.mark();
    if mark != 0 {
        // SAFETY: `skb` is the program's context.
        unsafe { (*skb).mark |= mark }
    }
}

#[inline(always)]
fn egress_pod_family<A: Family, const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    if let Some(seen) = A::glance(&Packet::<LINK>::new(skb)) {
        if !hook::may_be_reply(&Tables, &seen) {
            return PASS;
        }
        let followed = follow_egress_pod::<A, LINK>(skb);
        if followed != UNSETTLED {
            return followed;
        }
    }
    decide_egress_pod::<A, LINK>(skb)
}

/// [`follow_ingress`] at the egress of a pod interface.
#[inline(never)]
fn follow_egress_pod<A: Family, const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    let (Some(config), Some(packet)) = (config(), A::plain(&Packet::<LINK>::with(skb))) else {
        return UNSETTLED;
    };
    let node = Node::new(skb, config);
    let mut flow = Flow::default();
    if !settled::egress_pod(&node, &packet, &mut flow) || flow.action != Action::Stack as u8 {
        return UNSETTLED;
    }
    ended(rewrite::translate_plain::<A, LINK>(
        skb,
        config.flags,
        &packet,
        &flow,
    ))
}

#[inline(always)]
fn decide_egress_pod<A: Family, const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    let (Some(config), Some(work)) = (config(), work::<A>()) else {
        return PASS;
    };
    let node = Node::new(skb, config);
    let verdict = hook::egress_pod(&node, &Packet::<LINK>::with(skb), work);
    egress::<A, LINK>(skb, work, verdict)
}

/// Whether a packet came in by the interface that it leaves by.
#[inline(always)]
fn turns_back(skb: *mut __sk_buff) -> bool {
    // SAFETY: `skb` is the program's context.
    unsafe { (*skb).ingress_ifindex == (*skb).ifindex }
}

#[inline(always)]
fn egress_uplink_family<A: Family, const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    let Some(config) = config() else { return PASS };
    if let Some(seen) = A::glance(&Packet::<LINK>::new(skb)) {
        if hook::may_be_reply(&Tables, &seen) {
            let followed = follow_egress_uplink::<A, LINK>(skb);
            if followed != UNSETTLED {
                return followed;
            }
        } else if !hook::leaves_wrongly(&Tables, config, &seen, turns_back(skb)) {
            return PASS;
        }
    }
    decide_egress_uplink::<A, LINK>(skb)
}

/// [`follow_ingress`] at the egress of an uplink.
#[inline(never)]
fn follow_egress_uplink<A: Family, const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    let (Some(config), Some(packet)) = (config(), A::plain(&Packet::<LINK>::with(skb))) else {
        return UNSETTLED;
    };
    let node = Node::new(skb, config);
    let mut flow = Flow::default();
    if !settled::egress_uplink(&node, &packet, turns_back(skb), &mut flow)
        || flow.action != Action::Stack as u8
    {
        return UNSETTLED;
    }
    ended(rewrite::translate_plain::<A, LINK>(
        skb,
        config.flags,
        &packet,
        &flow,
    ))
}

#[inline(always)]
fn decide_egress_uplink<A: Family, const LINK: u32>(skb: *mut __sk_buff) -> i32 {
    let (Some(config), Some(work)) = (config(), work::<A>()) else {
        return PASS;
    };
    let node = Node::new(skb, config);
    let verdict = hook::egress_uplink(&node, &Packet::<LINK>::with(skb), work, turns_back(skb));
    if let Some(counter) = verdict.rejected() {
        count(counter);
        return answer::reject_sender::<A, LINK>(skb, &work.packet);
    }
    if verdict == Verdict::ANSWER_ECHO {
        return match answer::echo::<A, LINK>(skb, &work.packet) {
            Some(()) => redirect::inwards::<LINK>(skb),
            None => dropped(Counter::RewriteFailed as u32),
        };
    }
    egress::<A, LINK>(skb, work, verdict)
}

/// This CPU's workspace.
#[inline(always)]
pub(crate) fn work<A: Maps>() -> Option<&'static mut Work<A>> {
    // SAFETY: the value is this CPU's own, and no other program of ours runs on it before this one returns.
    unsafe { A::work().get_ptr_mut(0)?.as_mut() }
}

/// On egress a packet goes on where it was going, or nowhere.
#[inline(always)]
fn egress<A: Family, const LINK: u32>(skb: *mut __sk_buff, work: &Work<A>, verdict: Verdict) -> i32 {
    const STACK: u8 = Action::Stack as u8;
    const BYPASS: u8 = Action::Bypass as u8;
    if let Some(counter) = verdict.dropped().or(verdict.rejected()) {
        return dropped(counter);
    }
    if verdict.error_action().is_some() {
        return relay::<A, LINK>(skb, work, STACK as u32);
    }
    match verdict.action() {
        // A reply that should have gone around the stack: a program was missing where it came in.
        Some(STACK | BYPASS) => {
            ended(write::<A, LINK>(skb, work).and_then(|()| segment::leave_room::<A, LINK>(skb, work)))
        }
        // The other direction of a redirected flow never comes by here.
        _ => PASS,
    }
}

#[inline(always)]
pub(crate) fn dropped(counter: u32) -> i32 {
    count(counter);
    TC_ACT_SHOT
}

/// The verdict on a packet that was written and goes on through the stack. A half-written one goes nowhere.
#[inline(always)]
pub(crate) fn ended(written: Option<()>) -> i32 {
    match written {
        Some(()) => PASS,
        None => dropped(Counter::RewriteFailed as u32),
    }
}

#[inline(always)]
pub(crate) fn write<A: Family, const LINK: u32>(skb: *mut __sk_buff, work: &Work<A>) -> Option<()> {
    let flags = config().map_or(0, |config| config.flags);
    rewrite::translate::<A, LINK>(skb, flags, &work.packet, &work.flow)
}

/// Rewrites a packet and sends it on by the routing table, without the stack.
#[inline(always)]
fn around<A: Family, const LINK: u32>(skb: *mut __sk_buff, work: &Work<A>) -> i32 {
    if work.packet.hop_limit <= 1 {
        count(Counter::HopLimit as u32);
        return error::answer::<A, LINK>(skb, work.packet.transport, Message::TimeExceeded);
    }
    // The way is settled before the first write.
    let hop = match redirect::next_hop(skb, &Leaving::packet(&work.packet, &work.flow, work.way_back())) {
        Ok(hop) => hop,
        Err(redirect::NoWay::TooBig(mtu)) => {
            count(Counter::TooBig as u32);
            return error::answer::<A, LINK>(skb, work.packet.transport, Message::TooBig(mtu));
        }
        Err(redirect::NoWay::NoRoute) => return dropped(Counter::NoRoute as u32),
    };
    if write::<A, LINK>(skb, work).is_none()
        || A::set_hop_limit::<LINK>(skb, work.packet.hop_limit.wrapping_sub(1)).is_none()
    {
        return dropped(Counter::RewriteFailed as u32);
    }
    deliver::<A, LINK>(skb, work, hop)
}

/// Sends a packet that is written to its next hop.
#[inline(always)]
fn deliver<A: Family, const LINK: u32>(skb: *mut __sk_buff, work: &Work<A>, hop: redirect::Hop) -> i32 {
    if work.flow.action == Action::Bypass as u8 {
        redirect::deliver::<LINK>(skb, hop)
    } else {
        redirect::send::<LINK>(skb, hop)
    }
}

/// Rewrites a packet and sends it back to the pod that it came from.
#[inline(always)]
fn hairpin<A: Family, const LINK: u32>(skb: *mut __sk_buff, work: &Work<A>) -> i32 {
    if work.packet.hop_limit <= 1 {
        count(Counter::HopLimit as u32);
        return error::answer::<A, LINK>(skb, work.packet.transport, Message::TimeExceeded);
    }
    if write::<A, LINK>(skb, work).is_none()
        || A::set_hop_limit::<LINK>(skb, work.packet.hop_limit.wrapping_sub(1)).is_none()
    {
        return dropped(Counter::RewriteFailed as u32);
    }
    redirect::back::<LINK>(skb)
}

/// Sends an ICMP error on as the packets of its flow go on. What keeps it from that ends it: nobody is told of the fate of
/// an error (RFC 1122 §3.2.2, RFC 4443 §2.4).
#[inline(never)]
pub(crate) fn relay<A: Family, const LINK: u32>(skb: *mut __sk_buff, work: &Work<A>, action: u32) -> i32 {
    if action == Action::Stack as u32 {
        return ended(write_error::<A, LINK>(skb, work));
    }
    if work.packet.hop_limit <= 1 {
        return dropped(Counter::HopLimit as u32);
    }
    if action == Action::Hairpin as u32 {
        if write_error::<A, LINK>(skb, work).is_none()
            || A::set_hop_limit::<LINK>(skb, work.packet.hop_limit.wrapping_sub(1)).is_none()
        {
            return dropped(Counter::RewriteFailed as u32);
        }
        return redirect::back::<LINK>(skb);
    }
    let hop = match redirect::next_hop(skb, &Leaving::error(work, &work.error_after())) {
        Ok(hop) => hop,
        Err(redirect::NoWay::TooBig(_)) => return dropped(Counter::TooBig as u32),
        Err(redirect::NoWay::NoRoute) => return dropped(Counter::NoRoute as u32),
    };
    if write_error::<A, LINK>(skb, work).is_none()
        || A::set_hop_limit::<LINK>(skb, work.packet.hop_limit.wrapping_sub(1)).is_none()
    {
        return dropped(Counter::RewriteFailed as u32);
    }
    deliver::<A, LINK>(skb, work, hop)
}

#[inline(always)]
fn write_error<A: Family, const LINK: u32>(skb: *mut __sk_buff, work: &Work<A>) -> Option<()> {
    let flags = config().map_or(0, |config| config.flags);
    rewrite::translate_error::<A, LINK>(skb, flags, work)
}
