//! How packets from outside go to backends of other nodes.

/// What becomes of a packet from outside whose backend is on another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Forwarding {
    /// It goes on in this node's name, and the answer comes back here.
    #[default]
    Snat,
    /// It goes on whole, in an outer header, and the backend's node answers the client (direct server return).
    Dsr,
}

impl Forwarding {
    /// From its name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Snat, Self::Dsr].into_iter().find(|one| one.name() == name)
    }

    /// `snat` or `dsr`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snat => "snat",
            Self::Dsr => "dsr",
        }
    }
}
