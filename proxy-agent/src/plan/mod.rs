//! Desired against installed: ordered map operations, ids, slots. Pure: no I/O, no clock, no Kubernetes types.

mod adopt;
mod audit;
mod backends;
mod capacity;
mod desired;
mod draft;
mod exempt;
mod filter;
mod forwarding;
mod ids;
mod installed;
mod maglev;
mod networks;
mod operation;
mod owners;
mod part;
mod planner;
mod put;
mod retire;
mod rule;
mod slots;
mod takeaway;
mod view;
mod vips;

pub use audit::{Audit, Difference};
pub use capacity::{Capacity, PlanError, Shortage};
pub use desired::{Endpoint, List, Mortal, PortKey, ServicePort, family_name, protocol_name};
pub use forwarding::Forwarding;
pub use maglev::TableSize;
pub use networks::{RangeKind, Ranges, UnknownRanges, ranges_of};
pub use operation::{Frontend, Operation, Range, Snapshot, Writes};
pub use part::Part;
pub use planner::{Plan, Planner};
pub use retire::Token;
pub use rule::{Rule, Weight};
pub use view::View;

#[cfg(test)]
pub(crate) mod tests;
