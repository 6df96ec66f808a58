//! The whole life of an installation, by the very commands of docs/operations.md: beside kube-proxy, in its place, upgraded,
//! rolled back, taken away, and kube-proxy again; connections live on.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::loaded_links;
use lab::call::{Calls, Held, Transport, hold};
use lab::cluster::echo::serve;
use lab::cluster::{Cluster, Options, Proxy, TAGS, address};
use lab::{Place, programs};

/// What is run must stand here.
const DOCS: &str = include_str!("../../docs/operations.md");
/// How long the cluster gets for what takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(300);
const NODES: [u8; 2] = [1, 2];
/// Between two lines of a held connection.
const PAUSE: Duration = Duration::from_millis(100);
/// When the connections were made that go through netfilter.
const OF_KUBE_PROXY: &str = "of kube-proxy";
const CLUSTER_IP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 7, 7)), 80);

fn node_port() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address::node(1).v4), 30080)
}

/// A connection that is held.
struct Connection {
    when: &'static str,
    from: String,
    held: Held,
}

/// The cluster, and who talks in it.
struct Life {
    held: Vec<Connection>,
    servers: Vec<Child>,
    pod: Place,
    /// Calls through Shunt alone. A call to an endpoint by a source port that a connection of kube-proxy to the same endpoint
    /// has is given another by netfilter, and breaks with kube-proxy's rules, as the docs say.
    newcomer: Place,
    outside: Place,
    cluster: Cluster,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.held.clear();
        for server in &mut self.servers {
            // They may have ended with their pods.
            drop(server.kill());
            drop(server.wait());
        }
    }
}

impl Connection {
    fn check(&mut self) -> Result<()> {
        let what = || format!("from {}, of the time {}", self.from, self.when);
        self.held.check().map(drop).with_context(what)
    }
}

impl Life {
    fn begin() -> Result<Self> {
        let cluster = Cluster::start(Options {
            next_layout: true,
            ..Options::of(Proxy::KubeProxyNftables)
        })?;
        cluster.control_plane().apply(include_str!("cluster_life.yaml"))?;
        cluster.control_plane().kubectl(&[
            "wait",
            "--for=condition=Ready",
            "--timeout=300s",
            "pod/one",
            "pod/two",
            "pod/client",
            "pod/newcomer",
            "pod/host-n1",
            "pod/host-n2",
        ])?;
        let servers = ["one", "two"].into_iter().map(|name| serve(&cluster.pod(name)?));
        Ok(Self {
            held: Vec::new(),
            servers: servers.collect::<Result<_>>()?,
            pod: cluster.pod("client")?,
            newcomer: cluster.pod("newcomer")?,
            outside: cluster.control_plane().host_beside()?,
            cluster,
        })
    }

    /// Runs a command of the docs as an operator would.
    fn documented(&self, command: &str) -> Result<String> {
        ensure!(
            DOCS.contains(command),
            "docs/operations.md does not say: {command}"
        );
        self.run(command)
    }

    fn run(&self, command: &str) -> Result<String> {
        let control_plane = self.cluster.control_plane();
        let line = format!("exec timeout {} {command}", PATIENCE.as_secs());
        control_plane.client().shell(&line, control_plane.folder())
    }

    /// Makes that many connections each way, and holds them.
    fn hold(&mut self, when: &'static str, count: usize) -> Result<()> {
        let pod = if when == OF_KUBE_PROXY {
            &self.pod
        } else {
            &self.newcomer
        };
        for _ in 0..count {
            for (place, to) in [(pod, CLUSTER_IP), (&self.outside, node_port())] {
                self.held.push(Connection {
                    when,
                    from: place.name().to_owned(),
                    held: hold(place, to, PAUSE)?,
                });
            }
        }
        Ok(())
    }

    /// Every held connection goes on.
    fn check(&mut self) -> Result<()> {
        let count = self.held.len();
        std::thread::scope(|scope| {
            let checks: Vec<_> = self
                .held
                .iter_mut()
                .map(|one| scope.spawn(|| one.check()))
                .collect();
            let results = checks.into_iter().map(|check| check.join());
            let failures: Vec<_> = results
                .filter_map(|result| result.map_err(|_| anyhow!("a check panicked")).flatten().err())
                .collect();
            ensure!(
                failures.is_empty(),
                "{} of {count} connections broke: {failures:#?}",
                failures.len()
            );
            Ok(())
        })
    }

    /// Each of some new connections is answered, and both pods answer, each way.
    fn called(&self) -> Result<()> {
        self.called_by(&self.pod)
    }

    /// The same, the cluster IP by this pod.
    fn called_by(&self, pod: &Place) -> Result<()> {
        for (place, to) in [(pod, CLUSTER_IP), (&self.outside, node_port())] {
            let outcomes = place.calls(Calls::new(Transport::Tcp, to, 40))?;
            ensure!(
                outcomes.all_answered() && outcomes.by_name().len() == 2,
                "from {} to {to}: {outcomes}",
                place.name()
            );
        }
        Ok(())
    }

    /// What Shunt's agent on a node counted.
    fn counted(&self, node: u8, name: &str) -> Result<u64> {
        let said = self.run(&format!(
            "kubectl -n kube-system exec {} -- /shunt drops -o json",
            self.agent(node)?
        ))?;
        let counters: serde_json::Value = serde_json::from_str(&said).context("reading the counters")?;
        let counters = counters.as_array().context("the counters are no list")?;
        let found = counters.iter().find(|counter| counter["name"] == name);
        found
            .and_then(|counter| counter["value"].as_u64())
            .with_context(|| format!("nothing is called {name} in {said}"))
    }

    fn agent(&self, node: u8) -> Result<String> {
        let found = self.run(&format!(
            "kubectl -n kube-system get pods -l app.kubernetes.io/name=shunt,app.kubernetes.io/component=agent \
             --field-selector=spec.nodeName=n{node} -o name"
        ))?;
        let found = found.trim();
        ensure!(found.lines().count() == 1, "the agents of n{node}: {found:?}");
        Ok(found.to_owned())
    }

    /// Whether a node's agent is kept from its start by maps of a newer layout, and says so.
    fn refuses(&self, node: u8) -> Result<bool> {
        let said = self.run(&format!(
            "kubectl -n kube-system logs {} -c init",
            self.agent(node)?
        ))?;
        Ok(said.contains("newer layout version 2") && said.contains("shunt downgrade --to 1"))
    }

    /// The maps of each node have this layout, and no other.
    fn have_layout(&self, layout: u32) -> Result<()> {
        for node in NODES {
            let instance = self.instance(node);
            let entries =
                std::fs::read_dir(&instance).with_context(|| format!("reading {}", instance.display()))?;
            let found = entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<Result<Vec<_>>>()?;
            ensure!(
                found == [format!("v{layout}")],
                "n{node} has the layouts {found:?}"
            );
        }
        Ok(())
    }

    /// What Shunt has on a node's BPF file system.
    fn instance(&self, node: u8) -> PathBuf {
        self.cluster.root(node).join("sys/fs/bpf/shunt")
    }

    /// Whether each node's nftables have kube-proxy's rules for the Service.
    fn rules(&self) -> Result<[bool; 2]> {
        let mut found = [false; 2];
        for (node, found) in NODES.into_iter().zip(&mut found) {
            let ruleset = self.run(&format!("kubectl exec host-n{node} -- nft list ruleset"))?;
            *found = ruleset.contains("table ip kube-proxy") && ruleset.contains("10.96.7.7");
        }
        Ok(found)
    }

    /// Every agent is of this tag, and never ended by itself.
    fn runs(&self, tag: &str) -> Result<()> {
        let said = self.run(
            "kubectl -n kube-system get pods -l app.kubernetes.io/name=shunt \
             -o jsonpath='{range .items[*]}{.spec.containers[0].image} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}'",
        )?;
        let right = |line: &str| line.ends_with(&format!(":{tag} 0"));
        ensure!(
            said.lines().count() == 2 && said.lines().all(right),
            "not two agents of {tag}: {said}"
        );
        Ok(())
    }
}

/// Waits until something succeeds. Nothing tells when.
fn eventually<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            result => return result,
        }
    }
}

/// Ids of the links that are pinned below a directory.
fn links(directory: &Path) -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    let entries = std::fs::read_dir(directory).with_context(|| format!("reading {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            ids.extend(links(&path)?);
        } else {
            // Dropped, the link lives on by its pin.
            ids.insert(FdLink::from(PinnedLink::from_pin(&path)?).info()?.id());
        }
    }
    Ok(ids)
}

fn reserved_ports(node: &Place) -> Result<String> {
    node.namespace().run(|| {
        let ports = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports")?;
        Ok(ports.trim().to_owned())
    })
}

#[test]
fn shunt_takes_kube_proxys_place_is_upgraded_rolled_back_and_gives_the_place_back() {
    let mut life = Life::begin().unwrap();
    eventually(|| life.called()).unwrap();
    let reserved = NODES.map(|node| reserved_ports(life.cluster.host(node)).unwrap());
    life.hold(OF_KUBE_PROXY, 50).unwrap();

    install_beside(&mut life).unwrap();
    take_over(&mut life).unwrap();
    let held = life.held.len();
    upgrade_and_roll_back(&mut life).unwrap();
    assert_eq!((held, life.held.len()), (140, 160));
    take_rules_away(&mut life).unwrap();
    give_back(&mut life, &reserved).unwrap();
}

/// "In place of kube-proxy", 1 and 2: both are there, connections of kube-proxy live on, new ones are Shunt's.
fn install_beside(life: &mut Life) -> Result<()> {
    life.cluster.write_deploy(TAGS[0])?;
    life.documented("kubectl apply -k deploy/manifests")?;
    life.documented("kubectl -n kube-system rollout status daemonset/shunt")?;
    let compare = "kubectl -n kube-system exec daemonset/shunt -- /shunt services";
    life.documented(compare)?;
    // kube-proxy answers the probes: that agents are ready says nothing yet.
    for node in NODES {
        eventually(|| {
            let agent = life.agent(node)?;
            let services = life.run(&compare.replace("daemonset/shunt", &agent))?;
            ensure!(
                services.contains("10.96.7.7") && services.contains("30080"),
                "{services}"
            );
            Ok(())
        })?;
    }
    life.check()?;
    let before = (
        life.counted(1, "socket_translated")?,
        life.counted(1, "flow_created")?,
    );
    life.called()?;
    life.hold("beside kube-proxy", 10)?;
    let after = (
        life.counted(1, "socket_translated")?,
        life.counted(1, "flow_created")?,
    );
    ensure!(
        after.0 >= before.0 + 50 && after.1 >= before.1 + 50,
        "not all of 50 new connections each way were Shunt's: {before:?}, {after:?}"
    );
    Ok(())
}

/// "In place of kube-proxy", 3: it ends, its connections do not.
fn take_over(life: &mut Life) -> Result<()> {
    life.documented(
        r#"kubectl -n kube-system patch daemonset kube-proxy -p '{"spec":{"template":{"spec":{"nodeSelector":{"shunt/kube-proxy":"no"}}}}}'"#,
    )?;
    life.run("kubectl -n kube-system wait --for=delete pod -l k8s-app=kube-proxy --timeout=300s")?;
    life.check()?;
    life.called()?;
    life.hold("of Shunt alone", 10)
}

/// "Upgrade and roll back", to a version whose maps have another layout: agents give way to others, connections of either proxy
/// live on.
fn upgrade_and_roll_back(life: &mut Life) -> Result<()> {
    life.have_layout(1)?;
    life.cluster.write_deploy(TAGS[1])?;
    life.documented("kubectl apply -k deploy/manifests")?;
    life.documented("kubectl -n kube-system rollout status daemonset/shunt")?;
    life.runs(TAGS[1])?;
    life.have_layout(2)?;
    life.check()?;
    life.called()?;
    life.hold("of the upgraded", 10)?;
    undone_without_conversion(life)?;
    life.cluster.write_deploy(TAGS[0])?;
    life.documented("kubectl apply -k deploy/downgrade")?;
    life.documented("kubectl -n kube-system rollout status daemonset/shunt")?;
    life.runs(TAGS[0])?;
    life.have_layout(1)?;
    life.check()?;
    life.called()
}

/// The older agent does not know the layout: the first node's waits, the other nodes keep theirs, and traffic goes on.
fn undone_without_conversion(life: &mut Life) -> Result<()> {
    life.documented("kubectl -n kube-system rollout undo daemonset/shunt")?;
    let refused = eventually(|| {
        let mut refused = NODES
            .into_iter()
            .filter(|node| life.refuses(*node).unwrap_or(false));
        refused.next().context("no agent refuses the newer layout")
    })?;
    life.have_layout(2)?;
    life.check()
        .with_context(|| format!("with no agent on n{refused}"))?;
    life.called()
        .with_context(|| format!("with no agent on n{refused}"))
}

/// "In place of kube-proxy", 4: its connections are over, and its rules go; those of Shunt live on.
fn take_rules_away(life: &mut Life) -> Result<()> {
    life.held.retain(|one| one.when != OF_KUBE_PROXY);
    ensure!(
        DOCS.contains("shunt cleanup --kube-proxy "),
        "the docs do not say how"
    );
    ensure!(life.rules()? == [true; 2], "kube-proxy's rules are not there");
    let shunt = programs::shunt()?.display().to_string();
    for node in life.cluster.hosts() {
        let output = node.output(&shunt, &["cleanup", "--kube-proxy"])?;
        ensure!(output.status.success(), "{output:?}");
    }
    ensure!(life.rules()? == [false; 2], "kube-proxy's rules are still there");
    life.check()?;
    // For two minutes conntrack remembers kube-proxy's connections, and without its rules nothing gives a call that has the
    // source port of one of them, to the same endpoint, another: conntrack drops it. A pod that never called through
    // kube-proxy has none.
    life.called_by(&life.newcomer)
}

/// "Back to kube-proxy" and "Taking it away": nothing of Shunt is left on a node, and kube-proxy serves.
fn give_back(life: &mut Life, reserved: &[String; 2]) -> Result<()> {
    life.documented(
        r#"kubectl -n kube-system patch daemonset kube-proxy --type=json -p '[{"op":"remove","path":"/spec/template/spec/nodeSelector/shunt~1kube-proxy"}]'"#,
    )?;
    life.documented("kubectl -n kube-system rollout status daemonset/kube-proxy")?;
    eventually(|| {
        ensure!(life.rules()? == [true; 2], "kube-proxy's rules do not come");
        Ok(())
    })?;
    let instances = NODES.map(|node| life.instance(node));
    let mut ours = BTreeSet::new();
    for instance in &instances {
        let links = links(&instance.join("v1/links"))?;
        ensure!(links.len() > 8, "{} has links {links:?}", instance.display());
        ours.extend(links);
    }

    life.documented("kubectl delete -k deploy/manifests")?;
    // What only Shunt's maps know ends now, as the docs say: sockets that lead to the endpoint itself do not.
    life.held.retain(|one| one.from == life.newcomer.name());
    life.check()?;
    life.documented("kubectl apply -k deploy/cleanup")?;
    life.documented("kubectl -n kube-system rollout status daemonset/shunt-cleanup")?;
    for instance in &instances {
        ensure!(!instance.exists(), "{} is still there", instance.display());
    }
    let left: Vec<_> = loaded_links()
        .flatten()
        .map(|link| link.id())
        .filter(|id| ours.contains(id))
        .collect();
    ensure!(left.is_empty(), "links that are left: {left:?}");
    for (node, before) in NODES.into_iter().zip(reserved) {
        let host = life.cluster.host(node);
        ensure!(
            reserved_ports(host)? == *before,
            "ports are still reserved on n{node}"
        );
        let output = host.output("tc", &["qdisc", "show"])?;
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(!shown.contains("clsact"), "n{node} still has {shown}");
    }
    life.documented("kubectl delete -k deploy/cleanup")?;
    life.check()?;
    life.called()
}
