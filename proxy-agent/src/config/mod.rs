//! The configuration that kube-proxy's users have: KubeProxyConfiguration in a file, and kube-proxy's flags.
//!
//! Every field and flag is used, or named with what to do instead. One that nobody knows is refused.

mod advice;
mod document;
mod file;
mod flags;
mod settings;
mod value;
mod watch;

pub use advice::{Advice, advise};
pub use document::{Document, GROUP, KIND, VERSION};
pub use file::{ConfigFileError, read};
pub use flags::{KubeProxyFlags, ServingFlags};
pub use settings::{LocalMode, LogStyle, Settings};
pub use value::Period;
pub use watch::{ConfigWatch, ConfigWatchError};
