//! What the operator chooses of the data path.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::error::DatapathError;
use super::node_ports::NodePortAddresses;
use super::object::OBJECT;
use super::pod_networks::PodNetworks;
use super::size::MapEntries;

/// Fewest ports that a range for SNAT may have.
const FEWEST_SNAT_PORTS: u16 = 10_000;

/// Everything that [`super::Datapath::start`] must know.
#[derive(Clone, Debug)]
pub struct DatapathOptions {
    /// Directory of this instance's own on a BPF file system.
    pub instance: PathBuf,
    /// Root of the cgroup v2 hierarchy whose sockets are served.
    pub cgroup: PathBuf,
    /// Whose sockets socket LB serves.
    pub socket_lb: SocketLb,
    /// Which interfaces lead to pods.
    pub pod_interfaces: PodInterfaces,
    /// Which interfaces lead to other nodes and the world.
    pub uplinks: Uplinks,
    /// How programs are attached to interfaces.
    pub attach: AttachMode,
    /// Whether XDP takes part at uplinks.
    pub xdp: XdpMode,
    /// Source ports for SNAT.
    pub snat_ports: SnatPorts,
    /// Where Kubernetes allocates NodePorts.
    pub node_port_range: NodePortRange,
    /// Bytes that all maps together take at a start; none: 1 % of the node's memory.
    pub memory: Option<u64>,
    /// Bytes that they may take when they have grown; none: twice as many.
    pub memory_limit: Option<u64>,
    /// Sizes of maps that are said one by one.
    pub map_entries: Vec<MapEntries>,
    /// How long flows live without traffic.
    pub lives: FlowLives,
    /// At which addresses NodePorts answer.
    pub node_ports: NodePortAddresses,
    /// Whether the addresses of Services answer ping.
    pub ping: bool,
    /// What the skb mark of packets from an uplink to a backend of this node gets.
    pub mark: Option<Mark>,
    /// How packets of new flows go from one interface to another.
    pub host_routing: HostRouting,
    /// Where pods of all nodes have their addresses.
    pub pod_networks: PodNetworks,
    /// Time between two looks at the hooks; nought: never.
    pub hook_check_period: Duration,
    /// The BPF object.
    pub object: &'static [u8],
}

impl DatapathOptions {
    /// An instance's with every choice as it is by default.
    pub fn new(instance: PathBuf, cgroup: PathBuf) -> Self {
        Self {
            instance,
            cgroup,
            socket_lb: SocketLb::Enabled,
            pod_interfaces: PodInterfaces::Auto,
            uplinks: Uplinks::Auto,
            attach: AttachMode::Auto,
            xdp: XdpMode::Auto,
            snat_ports: SnatPorts::default(),
            node_port_range: NodePortRange::default(),
            memory: None,
            memory_limit: None,
            map_entries: Vec::new(),
            lives: FlowLives::default(),
            node_ports: NodePortAddresses::default(),
            ping: true,
            mark: None,
            host_routing: HostRouting::Stack,
            pod_networks: PodNetworks::default(),
            hook_check_period: Duration::from_secs(30),
            object: OBJECT,
        }
    }
}

/// One bit of the skb mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u32);

impl Mark {
    /// The mark with this one bit; none if it has more, or none.
    pub fn new(mark: u32) -> Option<Self> {
        mark.is_power_of_two().then_some(Self(mark))
    }

    /// The number of its bit.
    pub fn bit(self) -> u32 {
        self.0.trailing_zeros()
    }
}

/// How long flows live without traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowLives {
    /// TCP, established.
    pub tcp_established: Duration,
    /// TCP, one side has ended.
    pub tcp_half_closed: Duration,
    /// UDP, not answered twice.
    pub udp_embryo: Duration,
    /// UDP, established.
    pub udp_established: Duration,
}

impl Default for FlowLives {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self {
            tcp_established: minutes(24 * 60),
            tcp_half_closed: minutes(60),
            udp_embryo: Duration::from_secs(30),
            udp_established: minutes(3),
        }
    }
}

/// How packets of flows go from one interface to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostRouting {
    /// Through the node's stack, where their source is not changed.
    #[default]
    Stack,
    /// Around it in both directions where they can, unless a policy engine works in the stack.
    Fast,
}

/// Whose sockets socket LB serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketLb {
    /// The host's and the pods'.
    Enabled,
    /// The host's alone; pods go by packets.
    HostOnly,
}

/// Which interfaces lead to pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodInterfaces {
    /// The veths whose peer is in another network namespace and that are no uplink.
    Auto,
    /// Those whose name matches one of these shell globs.
    Patterns(Vec<String>),
    /// The pods' ports of this bridge (kube-proxy's detectLocalMode BridgeInterface).
    Bridge(String),
    /// Those whose name begins so, and the pods' ports of bridges whose name does (InterfaceNamePrefix).
    Prefix(String),
}

/// Which interfaces lead to other nodes and the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplinks {
    /// Those that carry a default route or a route by a gateway.
    Auto,
    /// Those with these names.
    Names(Vec<String>),
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// TCX where the kernel has it, else clsact.
    Auto,
    /// TCX links (kernel 6.6).
    Tcx,
    /// cls_bpf filters on a clsact qdisc.
    Clsact,
}

/// Whether XDP takes part at uplinks. Where it can't, TC does it all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// Native XDP on hardware whose driver has it.
    #[default]
    Auto,
    /// The same, and on veths.
    Native,
    /// The kernel's own XDP, behind the driver: slower than TC.
    Generic,
    /// Nowhere.
    Off,
}

/// A checked range of source ports for SNAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnatPorts {
    first: u16,
    last: u16,
}

impl SnatPorts {
    /// The range from `first` to `last`, both in it. Refused when it is small.
    pub fn new(first: u16, last: u16) -> Result<Self, DatapathError> {
        let refuse = |why: &str| {
            Err(DatapathError::Refused(format!(
                "--snat-ports {first}-{last}: {why}"
            )))
        };
        if first == 0 || last < first {
            return refuse("the first port must lie between 1 and the last; write it as 45000-60999");
        }
        if last - first < FEWEST_SNAT_PORTS - 1 {
            return refuse("the range holds fewer than 10000 ports; choose a wider one");
        }
        Ok(Self { first, last })
    }

    /// First port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// Last port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// How many ports.
    pub fn count(self) -> u16 {
        self.last - self.first + 1
    }
}

impl Default for SnatPorts {
    fn default() -> Self {
        Self {
            first: 45_000,
            last: 60_999,
        }
    }
}

/// The first and the last port of a range, written as `45000-60999`.
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

impl FromStr for SnatPorts {
    type Err = DatapathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match ports(text) {
            Some((first, last)) => Self::new(first, last),
            None => Err(DatapathError::Refused(format!(
                "--snat-ports {text}: not a range of ports; write it as 45000-60999"
            ))),
        }
    }
}

/// The range that Kubernetes allocates NodePorts from (kube-apiserver's --service-node-port-range): no socket of the host may
/// get one of them as its own port by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePortRange {
    first: u16,
    last: u16,
}

impl NodePortRange {
    /// First port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// Last port.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Refuses source ports for SNAT that are NodePorts.
    pub(super) fn check(self, snat: SnatPorts) -> Result<(), DatapathError> {
        if snat.first <= self.last && snat.last >= self.first {
            return Err(DatapathError::Refused(format!(
                "--snat-ports {}-{}: the range overlaps the NodePorts {}-{} (--node-port-range); choose one beside them",
                snat.first, snat.last, self.first, self.last
            )));
        }
        Ok(())
    }
}

impl Default for NodePortRange {
    fn default() -> Self {
        Self {
            first: 30_000,
            last: 32_767,
        }
    }
}

impl FromStr for NodePortRange {
    type Err = DatapathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match ports(text) {
            Some((first, last)) if 0 < first && first <= last => Ok(Self { first, last }),
            _ => Err(DatapathError::Refused(format!(
                "--node-port-range {text}: not a range of ports; write it as 30000-32767, as kube-apiserver has it"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_range_is_taken() {
        let ports: SnatPorts = "45000-60999".parse().unwrap();
        assert_eq!(
            (ports.first(), ports.last(), ports.count()),
            (45_000, 60_999, 16_000)
        );
        assert_eq!(ports, SnatPorts::default());
        assert_eq!(SnatPorts::new(10_000, 19_999).unwrap().count(), 10_000);
    }

    #[test]
    fn bad_ranges_are_refused_by_name() {
        for (text, why) in [
            ("45000", "not a range"),
            ("45000-70000", "not a range"),
            ("50000-45000", "the first port"),
            ("0-20000", "the first port"),
            ("45000-54998", "fewer than 10000"),
        ] {
            let error = text.parse::<SnatPorts>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(text), "{error}");
        }
    }

    #[test]
    fn source_ports_stand_beside_the_node_ports() {
        let check = |node_ports: &str, snat: &str| {
            let range: NodePortRange = node_ports.parse().unwrap();
            range
                .check(snat.parse().unwrap())
                .map_err(|error| error.to_string())
        };
        for snat in ["20000-30000", "32767-60000", "10000-60000"] {
            let error = check("30000-32767", snat).unwrap_err();
            assert!(
                error.contains("overlaps the NodePorts 30000-32767") && error.contains(snat),
                "{error}"
            );
        }
        assert_eq!(check("30000-32767", "45000-60999"), Ok(()));
        assert_eq!(check("61000-65535", "30000-45000"), Ok(()));
        for wrong in ["30000", "2-1", "0-5", "1-70000"] {
            let error = wrong.parse::<NodePortRange>().unwrap_err().to_string();
            assert!(error.contains(wrong) && error.contains("30000-32767"), "{error}");
        }
    }
}
