//! A host beside the control plane: it reaches the API server, and nothing else runs on it.

use anyhow::Result;

use super::address::CONTROL_PLANE;
use super::control_plane::ControlPlane;
use crate::cgroup::Cgroup;
use crate::{Namespace, Place};

/// Its address in the control plane's network.
pub const ADDRESS: std::net::Ipv4Addr = std::net::Ipv4Addr::new(172, 31, 99, 200);

impl ControlPlane {
    /// Makes it; it goes with the control plane. There is one.
    pub fn host_beside(&self) -> Result<Place> {
        let name = "beside";
        let namespace = Namespace::create(&format!("{}-{name}", self.id()))?;
        self.place().namespace().ip(&[
            format!(
                "link add {name} type veth peer name eth0 netns {}",
                namespace.name()
            ),
            format!("link set {name} master nodes up"),
        ])?;
        namespace.ip(&[
            "link set eth0 up".to_owned(),
            format!("address add {ADDRESS}/24 dev eth0"),
            format!("route add default via {}", CONTROL_PLANE.v4),
        ])?;
        let cgroup = Cgroup::of_lab(self.id())?.child(name)?;
        Ok(Place {
            name: name.to_owned(),
            namespace,
            cgroup: cgroup.child("host")?,
        })
    }
}
