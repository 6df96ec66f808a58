//! Functions that the verifier looks at once, each on its own: BTF global functions (Linux 5.6).
//!
//! A function that is not inlined is looked at for every call, with all that is known of the caller's registers. One whose name leaves
//! the object is looked at alone: its context and any numbers are all that it gets, and a number is all that is known of what it
//! gives. So it takes nothing from its caller but those, and finds the workspace for itself.

use core::arch::asm;

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use proxy_common::{
    layout::{BackendId, Family, ListWord, V4, V6},
    rules::{
        Work, affinity, choice,
        headers::Parsed,
        step::{self, Step, StepName},
    },
};

use crate::{
    ETHERNET, LAYER3,
    maps::Maps,
    node::{Node, Tables, config},
    redirect::{self, Arrival},
    skb::Packet,
    tc::work,
    xdp::Frame,
};

/// Tells the compiler that what follows may read and write this workspace, though it is not handed to it.
#[inline(always)]
pub(crate) fn lend<A>(work: &mut Work<A>) {
    // SAFETY: no instruction; that the workspace's address is known elsewhere is true of a map value.
    unsafe { asm!("/* {0} */", in(reg) core::ptr::from_mut(work), options(nostack)) }
}

/// Takes a step with this CPU's workspace; 0 without a configuration, which its callers have had.
#[inline(always)]
fn take<A: Maps, P: Arrival, S: Step>(arrival: P, numbers: &[u32]) -> u32 {
    let (Some(config), Some(work)) = (config(), work::<A>()) else {
        return 0;
    };
    S::of_numbers([
        numbers.first().copied().unwrap_or(0),
        numbers.get(1).copied().unwrap_or(0),
    ])
    .take(&Node::new(arrival, config), work)
}

/// Uses what a function is handed: what the compiler sees unused is not handed over at all, and the verifier wants all of it.
#[inline(always)]
fn handed<T>(context: *mut T, numbers: &[u32]) -> *mut T {
    for number in numbers {
        // SAFETY: no instruction.
        unsafe { asm!("/* {0} */", in(reg) *number, options(nomem, nostack, preserves_flags)) }
    }
    // SAFETY: no instruction.
    unsafe { asm!("/* {0} */", in(reg) context as usize, options(nomem, nostack, preserves_flags)) }
    context
}

/// Calls a function with as many numbers as it takes.
macro_rules! call {
    ($function:ident, $context:ident, $numbers:ident;) => {
        $function($context)
    };
    ($function:ident, $context:ident, $numbers:ident; $first:ident) => {
        $function($context, $numbers[0])
    };
    ($function:ident, $context:ident, $numbers:ident; $first:ident $second:ident) => {
        $function($context, $numbers[0], $numbers[1])
    };
}

/// Defines the steps' functions, for packets and for frames, in each family; and what calls them by their names.
macro_rules! steps {
    ($call:ident($context:ty, $arrival:expr); $($step:ident($($number:ident)*): $four:ident, $six:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $four(context: *mut $context $(, $number: u32)*) -> u32 {
                take::<V4, _, step::$step>($arrival(handed(context, &[$($number),*])), &[$($number),*])
            }
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $six(context: *mut $context $(, $number: u32)*) -> u32 {
                take::<V6, _, step::$step>($arrival(handed(context, &[$($number),*])), &[$($number),*])
            }
        )*
        /// Calls a step's function.
        #[inline(always)]
        pub(crate) fn $call<A: Maps, S: Step>(context: *mut $context, step: S) -> u32 {
            let numbers = step.numbers();
            match (S::NAME, A::FAMILY) {
                $(
                    (StepName::$step, Family::V4) => call!($four, context, numbers; $($number)*),
                    (StepName::$step, Family::V6) => call!($six, context, numbers; $($number)*),
                )*
            }
        }
    };
}

steps! { packet(__sk_buff, core::convert::identity);
    Piece(handed_on): piece4, piece6;
    Message(place): message4, message6;
    Quoted(place): quoted4, quoted6;
    Find(): find4, find6;
    Refresh(table bits): refresh4, refresh6;
    Promote(bits): promote4, promote6;
    Remove(): remove4, remove6;
    Answered(bits): answered4, answered6;
    Create(origin): create4, create6;
    Settle(origin backend): settle4, settle6;
    GoAround(origin): go_around4, go_around6;
    ReserveReverse(): reserve_reverse4, reserve_reverse6;
    Publish(): publish4, publish6;
    DrawWaiting(): draw_waiting4, draw_waiting6;
    FindWaiting(): find_waiting4, find_waiting6;
    Reclaim(): reclaim4, reclaim6;
    Foreign(): foreign4, foreign6;
}

// Whether the end of a frame is in other buffers matters to none of them.
steps! { frame(xdp_md, Frame::<false>::new);
    Piece(handed_on): xdp_piece4, xdp_piece6;
    Message(place): xdp_message4, xdp_message6;
    Quoted(place): xdp_quoted4, xdp_quoted6;
    Find(): xdp_find4, xdp_find6;
    Refresh(table bits): xdp_refresh4, xdp_refresh6;
    Promote(bits): xdp_promote4, xdp_promote6;
    Remove(): xdp_remove4, xdp_remove6;
    Answered(bits): xdp_answered4, xdp_answered6;
    Create(origin): xdp_create4, xdp_create6;
    Settle(origin backend): xdp_settle4, xdp_settle6;
    GoAround(origin): xdp_go_around4, xdp_go_around6;
    ReserveReverse(): xdp_reserve_reverse4, xdp_reserve_reverse6;
    Publish(): xdp_publish4, xdp_publish6;
    DrawWaiting(): xdp_draw_waiting4, xdp_draw_waiting6;
    FindWaiting(): xdp_find_waiting4, xdp_find_waiting6;
    Reclaim(): xdp_reclaim4, xdp_reclaim6;
    Foreign(): xdp_foreign4, xdp_foreign6;
}

/// Defines what reads packets behind a link header of some length: their headers, what an error quotes, and whether one may be a
/// reply (whose caller's stack is part of every chain).
macro_rules! readers {
    ($($link:ident, $family:ty: $read:ident, $quoted:ident, $reply:ident;)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $read(skb: *mut __sk_buff) -> u32 {
                match work::<$family>() {
                    Some(work) => <$family as proxy_common::rules::headers::Readable>::parse(&Packet::<$link>::with(skb), &mut work.packet).number(),
                    None => Parsed::Other.number(),
                }
            }
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $quoted(skb: *mut __sk_buff) -> u32 {
                match work::<$family>() {
                    Some(work) => proxy_common::rules::quote::look_inside(&Packet::<$link>::with(skb), work) as u32,
                    None => 0,
                }
            }
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $reply(skb: *mut __sk_buff) -> u32 {
                let packet = Packet::<$link>::with(handed(skb, &[]));
                let seen = <$family as proxy_common::rules::headers::Readable>::glance(&packet);
                seen.map_or(0, |seen| proxy_common::rules::hook::may_be_reply(&Tables, &seen) as u32)
            }
        )*
        /// Whether a packet that can be glanced at may be a reply.
        #[inline(always)]
        pub(crate) fn may_be_reply<const LINK: u32>(skb: *mut __sk_buff, family: Family) -> bool {
            match (LINK, family) {
                $(($link, <$family as proxy_common::layout::Addr>::FAMILY) => $reply(skb) != 0,)*
                _ => false,
            }
        }
        #[inline(always)]
        pub(crate) fn read<const LINK: u32>(skb: *mut __sk_buff, family: Family) -> Parsed {
            match (LINK, family) {
                $(($link, <$family as proxy_common::layout::Addr>::FAMILY) => Parsed::of_number($read(skb)),)*
                _ => Parsed::Other,
            }
        }
        #[inline(always)]
        pub(crate) fn read_quoted<const LINK: u32>(skb: *mut __sk_buff, family: Family) -> bool {
            match (LINK, family) {
                $(($link, <$family as proxy_common::layout::Addr>::FAMILY) => $quoted(skb) != 0,)*
                _ => false,
            }
        }
    };
}

readers! {
    ETHERNET, V4: read4, read_quoted4, may_be_reply4;
    ETHERNET, V6: read6, read_quoted6, may_be_reply6;
    LAYER3, V4: read4_l3, read_quoted4_l3, may_be_reply4_l3;
    LAYER3, V6: read6_l3, read_quoted6_l3, may_be_reply6_l3;
}

/// Sends a packet into the pod at the other end of an interface, if there is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn into_pod(skb: *mut __sk_buff, interface: u32) -> i32 {
    redirect::into_pod(handed(skb, &[interface]), interface)
}

/// Whether a list holds a backend.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn offers(list: u64, id: u32) -> u32 {
    affinity::offers::<V4, _>(&Tables, ListWord(list), BackendId(id)) as u32
}

/// A backend of a list by a number; 0 if it does not serve.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn draw(list: u64, number: u32) -> u32 {
    choice::draw_by::<V4, _>(&Tables, ListWord(list), number)
}
