//! Small HTTP servers beside the way: health and metrics. They read what others publish, and change nothing.

mod address;
mod connections;
mod reply;
mod server;
mod thread;
mod watcher;

pub use address::{AddressError, BindAddress};
pub use reply::Reply;
pub use server::{Failed, Handler, Server};
pub use thread::{Serving, ServingError};
pub use watcher::Watcher;
