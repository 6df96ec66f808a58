//! Kubernetes' own suite against a cluster: which specs count, what came of each, and the page that tells.

mod list;
mod page;
mod run;
mod verdict;

pub use list::{Exclusions, Specs};
pub use page::{Column, read as read_page, read_passed, write as write_page};
pub use run::run;
pub use verdict::{Results, Verdict};
