//! Scenario files: manifests in, then the whole content of the maps and what becomes of calls.
//!
//! One file a rule, in `tests/scenarios`. Its grammar is told in the README there; [`File`] reads it, [`content`] writes
//! the maps' content, [`Line`] is a call and what becomes of it;
//! [`Paper`] are maps to write to, [`programs`] asks the kernel the same.

pub mod content;
mod file;
mod line;
mod paper;
pub mod programs;

pub use content::content;
pub use file::{File, FileError, Section, Step};
pub use line::{Line, LineError};
pub use paper::Paper;
