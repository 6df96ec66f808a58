//! Whether the proxy and its node are well: what kube-proxy says at /healthz and /livez.

mod page;
mod state;

pub use page::{PORT, page};
pub use state::{Health, NodeFitness, Report};
