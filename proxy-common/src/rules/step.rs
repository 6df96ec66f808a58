//! Steps of the rules that stand on their own: a step knows the node, the workspace and a number or two, and gives a number.
//!
//! On the host a step is a plain call. In the kernel it is a global function: the verifier looks at it once, with nothing known of
//! who calls it, and not once for every way on which it can be reached.

use crate::layout::{Addr, BackendId, FlowTable};
use crate::rules::vip::Place;
use crate::rules::{
    FlowStore, Origin, Verdict, Work, bypass, create, forward, fragment, quote, reverse, vip,
};

/// What can be handed to a step in a register.
pub trait Number {
    /// It as a number.
    fn number(self) -> u32;
    /// What a number stands for; any number stands for something.
    fn of_number(number: u32) -> Self;
}

/// A step of the rules.
pub trait Step: Sized {
    /// Which one it is.
    const NAME: StepName;
    /// What it is told, as numbers.
    fn numbers(self) -> [u32; 2];
    /// The step that is told these numbers.
    fn of_numbers(numbers: [u32; 2]) -> Self;
    /// Takes the step.
    fn take<A: Addr, N: FlowStore<A>>(self, node: &N, work: &mut Work<A>) -> u32;
}

/// Defines steps, each with what it is told and what it does.
macro_rules! steps {
    ($node:ident, $work:ident; $($(#[$doc:meta])* $name:ident($($told:ident: $type:ty),*) => $do:expr;)*) => {
        /// The steps' names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum StepName {
            $($(#[$doc])* $name,)*
        }
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name {
                $(pub(crate) $told: $type,)*
            }
            impl Step for $name {
                const NAME: StepName = StepName::$name;
                #[inline(always)]
                fn numbers(self) -> [u32; 2] {
                    let numbers: &[u32] = &[$(self.$told.number()),*];
                    match *numbers {
                        [] => [0, 0],
                        [first] => [first, 0],
                        [first, second, ..] => [first, second],
                    }
                }
                #[inline(always)]
                fn of_numbers(numbers: [u32; 2]) -> Self {
                    let _rest = numbers;
                    $(let ($told, _rest) = (<$type>::of_number(_rest[0]), [_rest[1], 0]);)*
                    Self { $($told),* }
                }
                #[inline(always)]
                fn take<A: Addr, N: FlowStore<A>>(self, $node: &N, $work: &mut Work<A>) -> u32 {
                    let Self { $($told),* } = self;
                    $do
                }
            }
        )*
    };
}

steps! { node, work;
    /// Ports of a fragment: one of the numbers of [`fragment`].
    Piece(handed_on: bool) => fragment::piece(node, &mut work.packet, handed_on);
    /// A [`Verdict`] on a packet without ports.
    Message(place: Place) => vip::message(node, place, &work.packet).number();
    /// Whether there is an entry for what an ICMP error quotes.
    Quoted(place: Place) => quote::is_ours(node, place.side(), work) as u32;
    /// The table that has the flow of the work's key, as [`Number`] and one; 0: none has.
    Find() => forward::find(node, work).map_or(0, |table| table.number() + 1);
    /// Notes the state and the time of a flow and of its partner.
    Refresh(table: FlowTable, bits: u8) => { forward::refresh(node, work, table, bits); 0 };
    /// Moves a flow to where it is safe.
    Promote(bits: u8) => { forward::promote(node, work, bits); 0 };
    /// Takes a flow away.
    Remove() => { forward::remove_pair(node, work); 0 };
    /// Notes what the answer to an opening says.
    Answered(bits: u8) => { reverse::answered(node, work, bits); 0 };
    /// The [`Verdict`] on a packet whose key has no flow.
    Create(origin: Origin) => create::decide(node, origin, work).number();
    /// Settles how packets to a backend go on: [`Verdict::PASS`], or what becomes of them if they can't.
    Settle(origin: Origin, backend: BackendId) => create::settle(node, origin, work, backend).number();
    /// Lets a flow go around the stack, if it can.
    GoAround(origin: Origin) => { bypass::go_around(node, work, origin); 0 };
    /// Whether the reverse entry could be inserted.
    ReserveReverse() => create::reserve_reverse(node, work) as u32;
    /// The [`Verdict`] on a flow's first packet, whose forward entry is inserted.
    Publish() => create::publish(node, work).number();
    /// Draws a port whose flow may have waited longest for its client.
    DrawWaiting() => { create::draw_waiting(node, work); 0 };
    /// Whether a port is known whose flow waits for its client.
    FindWaiting() => create::find_waiting(node, work) as u32;
    /// Whether it gave its port up.
    Reclaim() => create::reclaim(node, work) as u32;
    /// Notes a port of ours that another has taken.
    Foreign() => { create::foreign(node, work); 0 };
}

impl Number for u8 {
    #[inline(always)]
    fn number(self) -> u32 {
        self.into()
    }
    #[inline(always)]
    fn of_number(number: u32) -> Self {
        number as u8
    }
}

impl Number for bool {
    #[inline(always)]
    fn number(self) -> u32 {
        self.into()
    }
    #[inline(always)]
    fn of_number(number: u32) -> Self {
        number != 0
    }
}

impl Number for BackendId {
    #[inline(always)]
    fn number(self) -> u32 {
        self.0
    }
    #[inline(always)]
    fn of_number(number: u32) -> Self {
        Self(number)
    }
}

impl Number for Origin {
    #[inline(always)]
    fn number(self) -> u32 {
        self as u32
    }
    #[inline(always)]
    fn of_number(number: u32) -> Self {
        match number {
            0 => Self::Pod,
            _ => Self::Network,
        }
    }
}

impl Number for FlowTable {
    #[inline(always)]
    fn number(self) -> u32 {
        self as u32
    }
    #[inline(always)]
    fn of_number(number: u32) -> Self {
        match number {
            0 => Self::Embryos,
            _ => Self::Flows,
        }
    }
}

impl Number for Place {
    #[inline(always)]
    fn number(self) -> u32 {
        match self {
            Self::Inwards => 0,
            Self::ToPod => 1,
            Self::Outwards { turns_back: false } => 2,
            Self::Outwards { turns_back: true } => 3,
        }
    }
    #[inline(always)]
    fn of_number(number: u32) -> Self {
        match number {
            0 => Self::Inwards,
            1 => Self::ToPod,
            2 => Self::Outwards { turns_back: false },
            _ => Self::Outwards { turns_back: true },
        }
    }
}

impl Number for Verdict {
    #[inline(always)]
    fn number(self) -> u32 {
        self.0
    }
    #[inline(always)]
    fn of_number(number: u32) -> Self {
        Self(number)
    }
}
