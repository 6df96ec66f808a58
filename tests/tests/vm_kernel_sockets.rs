//! Sockets of the kernel itself through a Service: file systems over the network, whose connections are made by kernel
//! threads, and made anew when their server is gone. `cargo xtask test --layer vm`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lab::address::{self, Family};
use lab::file_system::{Mount, connections, nfs, smb};
use lab::manifest::{Endpoint, Service};
use lab::options::SocketLb;
use lab::{Lab, Namespace, Options};

/// The Services' ports: others than the servers', so that a client's connection tells who translated.
const NFS: u16 = 12_049;
const SMB: u16 = 10_445;
const WAY_OUT: &str =
    "run `cargo xtask test --layer vm`, or this program by `cargo xtask vm run 6.12 -- PROGRAM`";

#[test]
fn a_mount_of_nfs_moves_with_its_service() -> Result<()> {
    ensure!(nfs::is_there(), "this kernel has no NFS: {WAY_OUT}");
    let mut case = Case::start()?;
    let clients: Vec<IpAddr> = Family::BOTH
        .into_iter()
        .flat_map(|family| [address::node(1), case.lab.pod("p").address].map(|pair| pair.of(family)))
        .collect();
    let start = |name: &str| nfs::Server::start(&case.lab.pod(name).place, &case.served(), &clients);
    let servers = [start("near")?, start("far")?];
    case.each_row(|row| row.nfs_story(&servers))
}

#[test]
fn a_mount_of_smb_moves_with_its_service() -> Result<()> {
    ensure!(smb::is_there(), "this machine has no SMB: {WAY_OUT}");
    let mut case = Case::start()?;
    let server = smb::Server::start(case.lab.network(), &case.served())?;
    case.each_row(|row| row.smb_story(&server))
}

/// A node with an agent and a pod that calls, one with neither, and a server's pod on each.
struct Case {
    lab: Lab,
    folder: PathBuf,
}

impl Case {
    fn start() -> Result<Self> {
        let mut lab = Lab::build(Options::default())?;
        // The other node has none: there is one root.
        lab.agent_mut(1).use_root_cgroup()?;
        for (name, node) in [("near", 1), ("far", 2), ("p", 1)] {
            lab.add_pod(name, node)?;
        }
        let folder = std::env::temp_dir().join(format!("files-{}", lab.id()));
        let case = Self { lab, folder };
        let served = case.served();
        std::fs::create_dir_all(&served).with_context(|| format!("making {}", served.display()))?;
        Ok(case)
    }

    /// What all servers serve.
    fn served(&self) -> PathBuf {
        self.folder.join("served")
    }

    /// The host's sockets are translated always, the pod's if socket LB is for pods too.
    fn each_row(&mut self, story: impl Fn(&Row<'_>) -> Result<()>) -> Result<()> {
        for socket_lb in [SocketLb::Enabled, SocketLb::HostOnly] {
            let agent = self.lab.agent_mut(1);
            agent.use_socket_lb(socket_lb);
            agent.start()?;
            for family in Family::BOTH {
                for (caller, at_the_socket) in [("n1", true), ("p", socket_lb == SocketLb::Enabled)] {
                    let row = Row {
                        case: self,
                        caller,
                        family,
                        at_the_socket,
                    };
                    println!("{row}");
                    story(&row).with_context(|| row.to_string())?;
                }
            }
            self.lab.agent_mut(1).stop()?;
        }
        Ok(())
    }
}

/// One caller, and who translates for it.
struct Row<'a> {
    case: &'a Case,
    caller: &'static str,
    family: Family,
    at_the_socket: bool,
}

impl Row<'_> {
    /// The mount goes on with the next endpoint, whether its server says farewell or not.
    fn nfs_story(&self, [near, _]: &[nfs::Server; 2]) -> Result<()> {
        let lab = &self.case.lab;
        let serve_by = |name: &str| self.serve(NFS, nfs::PORT, Endpoint::of(lab.pod(name)));
        let exchange = |mount: &Mount, by: &str, name: &str| -> Result<()> {
            mount.exchange(&self.case.served(), name)?;
            let namespace = lab.pod(by).place.namespace();
            self.has_connection(namespace, by, |connection| connection.local == nfs::PORT)
        };
        serve_by("near")?;
        let to = address::cluster(1).at(self.family, NFS);
        let mount = Mount::new(
            lab.place(self.caller)?,
            &nfs::source(to),
            &self.mount_point("nfs"),
        )?;
        exchange(&mount, "near", "first")?;
        self.is_translated(NFS, nfs::PORT)?;

        serve_by("far")?;
        near.stop()?;
        // It could answer, and must not be asked.
        near.resume()?;
        exchange(&mount, "far", "second")?;

        serve_by("near")?;
        self.cut_off_far(true)?;
        exchange(&mount, "near", "third")?;
        self.cut_off_far(false)?;
        mount.end()
    }

    /// The same without a farewell: the server is outside of the cluster, and has two addresses.
    fn smb_story(&self, server: &smb::Server) -> Result<()> {
        let serve_by = |number: usize| {
            let endpoint = Endpoint::of(self.case.lab.pod("far"));
            let address = smb::ADDRESSES[number];
            self.serve(SMB, smb::PORT, Endpoint { address, ..endpoint })
        };
        serve_by(0)?;
        let to = address::cluster(1).at(self.family, SMB);
        let place = self.case.lab.place(self.caller)?;
        let mount = Mount::new(place, &smb::source(to), &self.mount_point("smb"))?;
        mount.exchange(&self.case.served(), "first")?;
        self.is_translated(SMB, smb::PORT)?;
        for (name, next) in [("second", 1), ("third", 0)] {
            serve_by(next)?;
            server.set_address(1 - next, false)?;
            mount.exchange(&self.case.served(), name)?;
            server.set_address(1 - next, true)?;
        }
        mount.end()
    }

    fn serve(&self, port: u16, target: u16, by: Endpoint) -> Result<()> {
        let mut service = Service::new("files", 1, port, target);
        service.ports.truncate(1);
        service.endpoints = vec![by];
        self.case.lab.apply(&service)
    }

    /// The port that the client is connected to tells whether its socket was translated.
    fn is_translated(&self, port: u16, target: u16) -> Result<()> {
        let seen = if self.at_the_socket { target } else { port };
        let namespace = self.case.lab.place(self.caller)?.namespace();
        self.has_connection(namespace, self.caller, |connection| connection.remote == seen)
    }

    fn has_connection(
        &self,
        namespace: &Namespace,
        name: &str,
        is_wanted: impl Fn(&lab::file_system::Connection) -> bool,
    ) -> Result<()> {
        let found = connections(namespace)?;
        ensure!(
            found.iter().any(is_wanted),
            "{name} has other connections: {found:?}"
        );
        Ok(())
    }

    fn mount_point(&self, kind: &str) -> PathBuf {
        let name = format!("{kind}-{}-{}", self.caller, self.family);
        Path::new(&self.case.folder).join(name)
    }

    /// As when its node dies: nobody says anything.
    fn cut_off_far(&self, is_cut: bool) -> Result<()> {
        let is_open = if is_cut { "0" } else { "1" };
        let node = self.case.lab.host(2).namespace();
        node.sysctl("ipv4/ip_forward", is_open)?;
        node.sysctl("ipv6/conf/all/forwarding", is_open)
    }
}

impl std::fmt::Display for Row<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { caller, family, .. } = self;
        let place = if self.at_the_socket {
            "at the socket"
        } else {
            "by packets"
        };
        write!(formatter, "{caller} {family}, translated {place}")
    }
}
