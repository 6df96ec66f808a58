//! What a lab can be made of.

use std::fmt;

use clap::{Args, ValueEnum};

/// How pods are connected to their node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// A veth a pod, with a host route to each of the pod's addresses.
    #[default]
    Routed,
    /// Veths that are ports of one bridge, which has the gateway's address.
    Bridge,
}

/// The agent's `--socket-lb`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SocketLb {
    /// For pods too.
    #[default]
    Enabled,
    /// For the host alone: pods go by packets.
    HostOnly,
}

/// The agent's `--attach`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Attach {
    /// TCX links.
    #[default]
    Tcx,
    /// Filters of a clsact queueing discipline.
    Clsact,
    /// Whichever the kernel has.
    Auto,
}

/// The agent's `--xdp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Xdp {
    /// On hardware alone: the lab has none.
    #[default]
    Auto,
    /// On the nodes' uplinks, which are veths.
    Native,
    /// Behind the driver.
    Generic,
    /// Nowhere.
    Off,
}

/// A lab's configuration.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How pods are connected.
    #[arg(long, value_enum, default_value_t)]
    pub style: Style,
    /// Whether pods' sockets are translated.
    #[arg(long, value_enum, default_value_t)]
    pub socket_lb: SocketLb,
    /// How TC programs are attached.
    #[arg(long, value_enum, default_value_t)]
    pub attach: Attach,
    /// Checksum and segmentation offloads of all interfaces.
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true)]
    pub offloads: bool,
    /// Nodes with rp_filter=1, `ct state invalid drop` and FORWARD policy DROP with accept rules for pod addresses.
    #[arg(long)]
    pub strict: bool,
    /// Pods of different nodes talk through a tunnel, whose interfaces have no link-layer header.
    #[arg(long)]
    pub tunnel: bool,
    /// Whether XDP takes part.
    #[arg(long, value_enum, default_value_t)]
    pub xdp: Xdp,
}

impl Options {
    /// What a lab is made of where nothing else is asked for.
    pub const DEFAULT: Self = Self {
        style: Style::Routed,
        socket_lb: SocketLb::Enabled,
        attach: Attach::Tcx,
        offloads: true,
        strict: false,
        tunnel: false,
        xdp: Xdp::Auto,
    };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl SocketLb {
    /// As the agent's option takes it.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::HostOnly => "host-only",
        }
    }
}

impl Xdp {
    /// As the agent's option takes it.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        }
    }
}

impl Attach {
    /// As the agent's option takes it.
    pub fn argument(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::Auto => "auto",
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let style = match self.style {
            Style::Routed => "routed",
            Style::Bridge => "bridge",
        };
        let offloads = if self.offloads { "offloads" } else { "no-offloads" };
        let nodes = if self.strict { "strict" } else { "plain" };
        write!(
            formatter,
            "{style}/{}/{offloads}/{nodes}/{}{}/xdp-{}",
            self.socket_lb.argument(),
            self.attach.argument(),
            if self.tunnel { "/tunnel" } else { "" },
            self.xdp.argument()
        )
    }
}
