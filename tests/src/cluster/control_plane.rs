//! etcd, the API server and, if wanted, the controllers and the scheduler, in a network namespace of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use super::address::{API_PORT, API_SERVICE, CONTROL_PLANE, PODS, SERVICES};
use super::binaries::binary;
use super::certificates::{Authority, Identity};
use super::client::Client;
use super::process::Process;
use crate::cgroup::Cgroup;
use crate::guard::Guard;
use crate::place::Place;
use crate::{Namespace, clean, programs};

const ETCD: &str = "http://127.0.0.1:2379";

/// What runs beside etcd and the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controllers {
    /// Nothing: objects are what the test makes of them.
    None,
    /// The controller manager and the scheduler.
    All,
}

/// A control plane; it removes all that it made when it is dropped, and also when its process is killed.
#[derive(Debug)]
pub struct ControlPlane {
    id: String,
    place: Place,
    folder: PathBuf,
    authority: Authority,
    kubeconfig: PathBuf,
    api_arguments: Vec<String>,
    api: Option<Process>,
    controllers: Vec<Process>,
    _etcd: Process,
    // The last field: programs are ended before the guardian looks for what is left.
    _guard: Guard,
}

impl ControlPlane {
    /// Builds what the cache does not have, starts all, and waits until the API server is ready.
    pub fn start(controllers: Controllers) -> Result<Self> {
        let mut control_plane = Self::start_api_server().context("starting the control plane")?;
        if controllers == Controllers::All {
            control_plane.start_controllers()?;
        }
        Ok(control_plane)
    }

    fn start_api_server() -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the control plane gets a network namespace: run this as root"
        );
        let (etcd, _) = (binary("etcd")?, binary("kube-apiserver")?);
        let id = new_id();
        let guard = Guard::start(&id)?;
        let place = Place {
            name: "control".to_owned(),
            namespace: network(&id)?,
            cgroup: Cgroup::of_lab(&id)?.child("control")?,
        };
        let folder = clean::folder(&id);
        let secrets = folder.join("secrets");
        std::fs::create_dir_all(&secrets).with_context(|| format!("making {}", secrets.display()))?;
        let authority = Authority::create(&secrets)?;
        let kubeconfig = authority.kubeconfig("admin", "admin", Some("system:masters"), &server())?;
        let api_arguments = api_arguments(&authority)?;
        let etcd = Process::start(&place, "etcd", &etcd, &etcd_arguments(&folder), &folder)?;
        let mut control_plane = Self {
            id,
            place,
            folder,
            authority,
            kubeconfig,
            api_arguments,
            api: None,
            controllers: Vec::new(),
            _etcd: etcd,
            _guard: guard,
        };
        control_plane.start_api()?;
        Ok(control_plane)
    }

    /// Starts the API server again, and waits until it is ready.
    pub fn start_api(&mut self) -> Result<()> {
        ensure!(self.api.is_none(), "the API server runs already");
        let name = "kube-apiserver";
        let mut api = Process::start(
            &self.place,
            name,
            &binary(name)?,
            &self.api_arguments,
            &self.folder,
        )?;
        api.wait_until("ready", || self.is_ready())?;
        self.api = Some(api);
        Ok(())
    }

    /// Ends the API server and waits for its end.
    pub fn stop_api(&mut self) -> Result<()> {
        self.api.take().context("the API server does not run")?.stop()
    }

    /// A kubeconfig of an administrator. The server's address is inside [`Self::place`] alone.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A kubeconfig of another user, whom RBAC rules may name.
    pub fn kubeconfig_of(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let file = user.replace([':', '/'], "-");
        self.authority.kubeconfig(&file, user, group, &server())
    }

    /// The certificate of the authority that signs all clients and servers.
    pub fn authority(&self) -> PathBuf {
        self.authority.certificate()
    }

    /// Where it runs, and where clients of it have to run.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Its unique name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where its files and logs are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs kubectl as the administrator, and returns what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.client().output(arguments, "")
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.client()
            .output(&["apply", "--filename=-"], manifests)
            .map(drop)
    }

    /// What runs kubectl, also in another thread.
    pub fn client(&self) -> Client {
        Client {
            namespace: self.place.namespace.clone(),
            kubeconfig: self.kubeconfig.clone(),
        }
    }

    /// Starts what gives Services of type `LoadBalancer` their addresses, and leads them to so many nodes.
    pub fn start_load_balancer(&mut self, nodes: u8) -> Result<()> {
        let arguments = [
            "load-balancer".to_owned(),
            self.kubeconfig.display().to_string(),
            nodes.to_string(),
        ];
        let process = Process::start(
            &self.place,
            "load-balancer",
            &programs::cluster()?,
            &arguments,
            &self.folder,
        )?;
        self.controllers.push(process);
        Ok(())
    }

    fn start_controllers(&mut self) -> Result<()> {
        for (name, own) in [
            ("kube-controller-manager", self.controller_manager_arguments()),
            ("kube-scheduler", Vec::new()),
        ] {
            let kubeconfig = self.kubeconfig_of(&format!("system:{name}"), None)?;
            let mut arguments = flags(&[
                ("kubeconfig", &kubeconfig.display().to_string()),
                ("authentication-kubeconfig", &kubeconfig.display().to_string()),
                ("authorization-kubeconfig", &kubeconfig.display().to_string()),
                ("bind-address", "127.0.0.1"),
                ("leader-elect", "false"),
            ]);
            arguments.extend(own);
            let process = Process::start(&self.place, name, &binary(name)?, &arguments, &self.folder)?;
            self.controllers.push(process);
        }
        let mut manager = self.controllers.remove(0);
        manager.wait_until("at work", || {
            self.kubectl(&["get", "serviceaccount", "default"]).is_ok()
        })?;
        self.controllers.insert(0, manager);
        Ok(())
    }

    fn controller_manager_arguments(&self) -> Vec<String> {
        let secrets = self.folder.join("secrets");
        let file = |name: &str| secrets.join(name).display().to_string();
        flags(&[
            ("use-service-account-credentials", "true"),
            ("root-ca-file", &file("authority.crt")),
            ("service-account-private-key-file", &file("tokens.key")),
            ("cluster-signing-cert-file", &file("authority.crt")),
            ("cluster-signing-key-file", &file("authority.key")),
            // Nodes bring their pods' networks.
            ("allocate-node-cidrs", "false"),
            ("cluster-cidr", PODS),
            ("service-cluster-ip-range", SERVICES),
            // While there is no API server no kubelet can say that it lives. By the default of less than a minute, the first
            // thing that the controllers do with the server back is to take every endpoint away.
            ("node-monitor-grace-period", "10m"),
            ("kube-api-qps", "200"),
            ("kube-api-burst", "400"),
        ])
    }

    fn is_ready(&self) -> bool {
        let secrets = self.folder.join("secrets");
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "2", "--output", "/dev/null"])
            .arg("--cacert")
            .arg(secrets.join("authority.crt"))
            .arg("--cert")
            .arg(secrets.join("admin.crt"))
            .arg("--key")
            .arg(secrets.join("admin.key"))
            .arg(format!("{}/readyz", server()));
        let status = self
            .place
            .namespace
            .run(|| curl.status().context("starting curl"));
        status.is_ok_and(|status| status.success())
    }
}

/// Where the API server answers.
pub fn server() -> String {
    format!("https://{}:{API_PORT}", CONTROL_PLANE.v4)
}

fn new_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("shunt-cluster-{}-{number}", std::process::id())
}

/// The namespace, with a bridge for the nodes to come.
fn network(id: &str) -> Result<Namespace> {
    let namespace = Namespace::create(&format!("{id}-control"))?;
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        namespace.sysctl(key, "1")?;
    }
    namespace.ip(&[
        "link add nodes type bridge forward_delay 0".to_owned(),
        "link set nodes up".to_owned(),
        format!("address add {}/24 dev nodes", CONTROL_PLANE.v4),
        format!("address add {}/64 dev nodes nodad", CONTROL_PLANE.v6),
    ])?;
    Ok(namespace)
}

fn etcd_arguments(folder: &Path) -> Vec<String> {
    let peer = "http://127.0.0.1:2380";
    flags(&[
        ("name", "etcd"),
        ("data-dir", &folder.join("etcd").display().to_string()),
        // What it holds ends with it.
        ("unsafe-no-fsync", "true"),
        ("quota-backend-bytes", "8589934592"),
        ("listen-client-urls", ETCD),
        ("advertise-client-urls", ETCD),
        ("listen-peer-urls", peer),
        ("initial-advertise-peer-urls", peer),
        ("initial-cluster", &format!("etcd={peer}")),
    ])
}

fn api_arguments(authority: &Authority) -> Result<Vec<String>> {
    let addresses = [
        CONTROL_PLANE.v4.into(),
        CONTROL_PLANE.v6.into(),
        API_SERVICE,
        std::net::Ipv4Addr::LOCALHOST.into(),
    ];
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "localhost",
    ];
    let server = authority.server("api", &addresses, &names)?;
    let kubelets = authority.client("kubelets", "kubelets", Some("system:masters"))?;
    let front = authority.client("front-proxy", "front-proxy", None)?;
    let tokens = authority.tokens()?;
    let address = CONTROL_PLANE.v4.to_string();
    let clients = authority.certificate().display().to_string();
    let mut arguments = flags(&[
        ("etcd-servers", ETCD),
        ("bind-address", &address),
        ("advertise-address", &address),
        ("secure-port", &API_PORT.to_string()),
        ("client-ca-file", &clients),
        ("service-account-issuer", "https://kubernetes.default.svc"),
        ("service-cluster-ip-range", SERVICES),
        ("authorization-mode", "Node,RBAC"),
        ("enable-admission-plugins", "NodeRestriction"),
        ("allow-privileged", "true"),
        ("kubelet-preferred-address-types", "InternalIP"),
        ("requestheader-client-ca-file", &clients),
        ("requestheader-allowed-names", "front-proxy"),
        ("requestheader-username-headers", "X-Remote-User"),
        ("requestheader-group-headers", "X-Remote-Group"),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        ("max-requests-inflight", "2000"),
        ("max-mutating-requests-inflight", "1000"),
        ("profiling", "false"),
    ]);
    arguments.extend(identity(&server, "tls-cert-file", "tls-private-key-file"));
    arguments.extend(identity(
        &kubelets,
        "kubelet-client-certificate",
        "kubelet-client-key",
    ));
    arguments.extend(identity(
        &front,
        "proxy-client-cert-file",
        "proxy-client-key-file",
    ));
    arguments.extend(identity(
        &tokens,
        "service-account-key-file",
        "service-account-signing-key-file",
    ));
    Ok(arguments)
}

fn identity(identity: &Identity, certificate: &str, key: &str) -> [String; 2] {
    [
        format!("--{certificate}={}", identity.certificate.display()),
        format!("--{key}={}", identity.key.display()),
    ]
}

/// Flags as Kubernetes' programs and etcd take them.
pub(crate) fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}
