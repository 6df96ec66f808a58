//! A client outside the cluster: on a network of its own, which the control plane's namespace routes, with no route to the
//! Services' cluster addresses.

use anyhow::{Context, Result};

use super::address;
use super::control_plane::ControlPlane;
use crate::address::{CLIENT, CLIENT_GATEWAY, ROUTED_TO_A_NODE};
use crate::cgroup::Cgroup;
use crate::{Namespace, Place};

impl ControlPlane {
    /// Makes it; it goes with the control plane. There is one. Its addresses are [`CLIENT`].
    pub fn client_outside(&self) -> Result<Place> {
        let name = "client";
        let namespace = Namespace::create(&format!("{}-{name}", self.id()))?;
        self.place().namespace().ip(&[
            format!(
                "link add {name} type veth peer name eth0 netns {}",
                namespace.name()
            ),
            format!("address add {}/24 dev {name}", CLIENT_GATEWAY.v4),
            format!("address add {}/64 dev {name} nodad", CLIENT_GATEWAY.v6),
            format!("link set {name} up"),
        ])?;
        namespace.ip(&[
            format!("address add {}/24 dev eth0", CLIENT.v4),
            format!("address add {}/64 dev eth0 nodad", CLIENT.v6),
            "link set eth0 up".to_owned(),
            format!("route add default via {}", CLIENT_GATEWAY.v4),
            format!("route add default via {}", CLIENT_GATEWAY.v6),
        ])?;
        let cgroup = Cgroup::of_lab(self.id())?
            .child(name)
            .context("making the client's group")?;
        Ok(Place {
            name: name.to_owned(),
            namespace,
            cgroup,
        })
    }

    /// Routes load balancers' addresses to a node, as the network of a load balancer does.
    pub fn route_load_balancers_to(&self, node: u8) -> Result<()> {
        let via = address::node(node);
        let commands = ROUTED_TO_A_NODE.map(|prefix| {
            if prefix.contains(':') {
                format!("route replace {prefix} via {}", via.v6)
            } else {
                format!("route replace {prefix} via {}", via.v4)
            }
        });
        self.place().namespace().ip(&commands)
    }
}
