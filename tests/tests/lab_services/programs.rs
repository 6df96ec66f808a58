//! Programs that know nothing of Shunt: nginx with curl, and iperf3 with itself.

use anyhow::{Context, Result, ensure};
use lab::Lab;
use lab::address::{self, Family};
use lab::call::pattern;
use lab::manifest::Service;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::runner::Rows;

const PORT: u16 = 8090;
const NODE_PORT: u16 = 30_090;
/// The pod that serves, on n2: n1's NodePort sends to it by SNAT.
const POD: &str = "programs";
const FILE: usize = 3_000_000;

/// A Service in front of nginx, then of iperf3.
pub(crate) fn rows(cluster: &mut Cluster, rows: &mut Rows) {
    if rows
        .build("a pod for programs", || cluster.lab.add_pod(POD, 2).map(drop))
        .is_none()
    {
        return;
    }
    if rows
        .build("nginx serves", || start_nginx(&mut cluster.lab))
        .is_none()
    {
        return;
    }
    each_way(cluster, rows, "curl gets a file from nginx", curl);
    each_way(cluster, rows, "iperf3 over TCP", |lab, from, host, port| {
        iperf(lab, from, host, port, &[])
    });
    let udp = ["--udp", "--bitrate", "20M", "--length", "1200"];
    each_way(cluster, rows, "iperf3 over UDP", |lab, from, host, port| {
        iperf(lab, from, host, port, &udp)
    });
}

fn each_way(
    cluster: &mut Cluster,
    rows: &mut Rows,
    what: &str,
    run: impl Fn(&mut Lab, &str, &str, u16) -> Result<()>,
) {
    let ways = [
        ("a", address::cluster(20), PORT),
        ("client", address::node(1), NODE_PORT),
    ];
    for (from, pair, port) in ways {
        for family in Family::BOTH {
            rows.row(format!("{family} {from} {what}"), || {
                run(&mut cluster.lab, from, &pair.of(family).to_string(), port)
            });
        }
    }
}

fn start_nginx(lab: &mut Lab) -> Result<()> {
    let folder = lab.agent(1).manifests().with_file_name("nginx");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("file"), (0..FILE).map(pattern).collect::<Vec<_>>())?;
    let folder = folder.to_str().context("the lab's folder has a strange name")?;
    let configuration = format!(
        "daemon off; user root; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n\
         events {{}}\n\
         http {{ access_log off; server {{ listen {PORT}; listen [::]:{PORT}; root {folder}; }} }}\n"
    );
    let file = format!("{folder}/nginx.conf");
    std::fs::write(&file, configuration)?;
    serve(lab, "nginx", &["-c", &file])
}

/// Starts the program, waits until it listens, and puts the Service in front of it.
fn serve(lab: &mut Lab, program: &str, arguments: &[&str]) -> Result<()> {
    let pod = lab.pod_mut(POD)?;
    pod.run(program, arguments)?;
    pod.wait_listening(PORT)?;
    lab.apply(
        &Service::new("programs", 20, PORT, PORT)
            .node_port(NODE_PORT)
            .over([lab.pod(POD)]),
    )
}

fn curl(lab: &mut Lab, from: &str, host: &str, port: u16) -> Result<()> {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let url = format!("http://{host}:{port}/file");
    let output = lab.place(from)?.output(
        "curl",
        &["--silent", "--show-error", "--globoff", "--max-time", "10", &url],
    )?;
    ensure!(
        output.status.success(),
        "curl {url}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        output.stdout.len() == FILE,
        "curl got {} bytes of {FILE}",
        output.stdout.len()
    );
    let wrong = output
        .stdout
        .iter()
        .enumerate()
        .find(|(position, byte)| **byte != pattern(*position));
    ensure!(wrong.is_none(), "curl got a wrong byte: {wrong:?}");
    Ok(())
}

/// A server for each row: between two clients iperf3 stops to listen for a moment.
fn iperf(lab: &mut Lab, from: &str, host: &str, port: u16, more: &[&str]) -> Result<()> {
    let listening = PORT.to_string();
    let pod = lab.pod_mut(POD)?;
    pod.stop()?;
    pod.run_until(
        "iperf3",
        &["--server", "--forceflush", "--port", &listening],
        "Server listening",
    )?;
    let port = port.to_string();
    let mut arguments = vec!["--client", host, "--port", &port, "--bytes", "5M", "--json"];
    arguments.extend(more);
    let output = lab.place(from)?.output("iperf3", &arguments)?;
    let result: Value = serde_json::from_slice(&output.stdout).context("iperf3 printed no JSON")?;
    // It ends with success also when it failed.
    let error = &result["error"];
    ensure!(error.is_null() && output.status.success(), "iperf3: {error}");
    let end = &result["end"];
    if let Some(lost) = end["sum"]["lost_percent"].as_f64() {
        // On a busy machine the receiver's buffer overflows: other rows see to it that no datagram is lost on the way.
        ensure!(
            end["sum"]["packets"].as_u64() > Some(1_000) && lost < 50.0,
            "iperf3: {}",
            end["sum"]
        );
    } else {
        ensure!(
            end["sum_received"]["bytes"].as_u64() >= Some(100_000),
            "iperf3: {}",
            end["sum_received"]
        );
    }
    Ok(())
}
