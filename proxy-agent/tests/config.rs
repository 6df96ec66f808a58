//! kube-proxy's configuration file and flags, given to the agent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod place;
mod running;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use place::Place;
use running::{Agent, write};
use serde_json::Value;

const HEAD: &str = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

/// A place with a configuration file of its own, in a folder of its own.
struct Configured {
    place: Place,
    folder: PathBuf,
}

impl Drop for Configured {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

impl Configured {
    fn new(name: &str, text: &str) -> Self {
        let place = Place::enter(name);
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip (iproute2) can't be run").success());
        let folder = place.manifests.with_extension("config");
        std::fs::create_dir(&folder).unwrap();
        let configured = Self { place, folder };
        configured.write(text);
        configured
    }

    fn file(&self) -> PathBuf {
        self.folder.join("config.conf")
    }

    /// As ConfigMap volumes do it: a new file takes the old one's place.
    fn write(&self, text: &str) {
        let beside = self.folder.join("new");
        std::fs::write(&beside, HEAD.to_owned() + text).unwrap();
        std::fs::rename(beside, self.file()).unwrap();
    }

    fn start(&self, switches: &[&str]) -> Agent {
        let file = self.file();
        let config = ["--config", file.to_str().unwrap()];
        Agent::start_with(&self.place, &[&config[..], switches].concat())
    }
}

fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default())
}

fn configz(address: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match get(address, "/configz") {
            Ok(body) => {
                return serde_json::from_str::<Value>(&body).unwrap()["kubeproxy.config.k8s.io"].take();
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_changed_file_is_taken_over_or_refused_while_the_agent_goes_on() {
    let configured = Configured::new(
        "config",
        "metricsBindAddress: 127.0.0.1:8001\nhostnameOverride: elsewhere\nipvs: {strictARP: true}\n",
    );
    let mut agent = configured.start(&["--masquerade-all", "-v", "0"]);
    let warning = agent.wait_with("field", "ipvs.strictARP");
    assert!(
        warning["message"].as_str().unwrap().contains("take it out"),
        "{warning}"
    );
    let warning = agent.wait_with("flag", "masquerade-all");
    assert!(
        warning["message"]
            .as_str()
            .unwrap()
            .contains("void beside --config"),
        "{warning}"
    );
    agent.wait("ready");
    let shown = configz("127.0.0.1:8001");
    assert_eq!(
        shown["hostnameOverride"], "here",
        "--node-name stands above the file"
    );
    assert_eq!(
        (&shown["ipvs"]["strictARP"], &shown["healthzBindAddress"]),
        (&true.into(), &"[::]:10256".into())
    );

    configured.write("metricsBindAddress: 127.0.0.1:8002\nmasqueradeAll: true\n");
    let refused = agent.wait("the changed configuration is refused: the old one stands");
    let error = refused["error"].as_str().unwrap();
    assert!(
        error.contains("config.conf:4:1: ") && error.contains("masqueradeAll"),
        "{error}"
    );
    assert_eq!(configz("127.0.0.1:8001"), shown);

    configured
        .write("metricsBindAddress: 127.0.0.1:8002\nhostnameOverride: third\nlogging: {verbosity: 4}\n");
    let warning = agent.wait_with("field", "hostnameOverride");
    assert!(
        warning["message"]
            .as_str()
            .unwrap()
            .contains("once the agent is restarted"),
        "{warning}"
    );
    agent.wait("the changed configuration holds");
    assert_eq!(configz("127.0.0.1:8002")["hostnameOverride"], "here");
    assert!(
        TcpStream::connect("127.0.0.1:8001").is_err(),
        "the old address is left"
    );
    // What the agent was there for goes on.
    write(
        &configured.place,
        "a.yaml",
        "{apiVersion: v1, kind: Node, metadata: {name: here}}",
    );
    agent.wait("applied");
    agent.stop();
}

#[test]
fn verbosity_follows_the_file_and_the_flag_stands_above_it() {
    let levels = |agent: &mut Agent, place: &Place| {
        write(
            place,
            "a.yaml",
            "{apiVersion: v1, kind: Node, metadata: {name: here}}",
        );
        agent
            .until("applied")
            .iter()
            .filter(|event| event["level"] == "DEBUG")
            .count()
    };
    let configured = Configured::new("verbose", "logging: {verbosity: 5}\n");
    let mut agent = configured.start(&[]);
    assert!(
        levels(&mut agent, &configured.place) > 0,
        "5 is for those who look for a fault"
    );
    agent.stop();
    std::fs::remove_file(configured.place.manifests.join("a.yaml")).unwrap();
    let mut agent = configured.start(&["-v=1"]);
    assert_eq!(levels(&mut agent, &configured.place), 0);
    agent.stop();
}

#[test]
fn a_wrong_file_or_flag_is_named_before_anything_is_touched() {
    let configured = Configured::new("wrong-config", "conntrack:\n  mim: 3\n");
    let agent = configured.start(&[]);
    let (status, log) = agent.end();
    assert!(!status.success());
    assert!(
        log.contains("config.conf:4:3: ") && log.contains("`mim`"),
        "{log}"
    );
    let (status, log) = Agent::start_with(&configured.place, &["--conntrack-udp-timeout=5"]).end();
    assert!(
        !status.success() && log.contains("--conntrack-udp-timeout: ") && log.contains("30s"),
        "{log}"
    );
    std::fs::remove_file(configured.file()).unwrap();
    let (status, log) = configured.start(&[]).end();
    assert!(
        !status.success() && log.contains("config.conf can't be read: No such file"),
        "{log}"
    );
    assert!(!configured.place.instance.exists(), "nothing was made");
}

#[test]
fn a_port_that_must_be_bound_ends_the_agent() {
    let configured = Configured::new(
        "hard",
        "bindAddressHardFail: true\nhealthzBindAddress: 127.0.0.1:8003\n",
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:8003").unwrap();
    let (status, log) = configured.start(&[]).end();
    assert!(!status.success());
    assert!(
        log.contains("the healthz server can't listen at 127.0.0.1:8003: Address already in use"),
        "{log}"
    );
    drop(taken);
}

#[test]
fn flags_alone_are_a_configuration() {
    let configured = Configured::new("flags", "");
    let switches = [
        "--metrics-bind-address=127.0.0.1:8004",
        "--proxy-mode=ipvs",
        "--conntrack-min=0",
    ];
    let mut agent = Agent::start_with(&configured.place, &switches);
    let warning = agent.wait_with("flag", "proxy-mode");
    assert!(
        warning["message"]
            .as_str()
            .unwrap()
            .starts_with("--proxy-mode does nothing: "),
        "{warning}"
    );
    agent.wait("ready");
    let shown = configz("127.0.0.1:8004");
    assert_eq!(
        (&shown["mode"], &shown["conntrack"]["min"]),
        (&"ipvs".into(), &0.into())
    );
    agent.stop();
}
