//! A Node.

use serde::Deserialize;

use super::Metadata;

/// A Node: its name and, among the labels, its zone. Its addresses are read from its interfaces.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Node {
    /// metadata
    pub metadata: Metadata,
}
