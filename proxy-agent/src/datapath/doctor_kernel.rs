//! The doctor's look at the kernel and at the rights of the process.

use std::fs;

use super::attach::kernel_has_tcx;
use super::config::kernel_has_checksum_flag;
use super::doctor::Check;
use super::error::Context;
use super::needs::{self, NEEDS, Need, OLDEST};
use super::xdp_attach::kernel_tells_xdp_features;
use super::{capability, size, sockets};

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![version(), capabilities(), memlock()];
    checks.extend(NEEDS.iter().map(need));
    checks.extend([
        tcx(),
        xdp_features(),
        checksum(),
        jit(),
        btf(),
        socket_destroy(),
        forwarding(
            "ip_forward",
            "/proc/sys/net/ipv4/ip_forward",
            "net.ipv4.ip_forward",
        ),
        forwarding(
            "ip6_forward",
            "/proc/sys/net/ipv6/conf/all/forwarding",
            "net.ipv6.conf.all.forwarding",
        ),
    ]);
    checks
}

/// The kernel's version: major and minor number.
fn release() -> Option<(u32, u32, String)> {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let mut numbers = text.trim().split(['.', '-']).map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?, text.trim().to_owned()))
}

fn version() -> Check {
    const NAME: &str = "kernel";
    match release() {
        Some((major, minor, text)) if (major, minor) >= OLDEST => Check::ok(NAME, text),
        Some((_, _, text)) => Check::warn(
            NAME,
            format!(
                "{text}: older than {}.{}, from which on Shunt is tested",
                OLDEST.0, OLDEST.1
            ),
            "works if the kernel has what the checks below ask for, which distributions bring back; else upgrade it",
        ),
        None => Check::fail(NAME, "/proc/sys/kernel/osrelease can't be read", "mount /proc"),
    }
}

fn capabilities() -> Check {
    const NAME: &str = "capabilities";
    match capability::missing() {
        Ok(missing) if missing.is_empty() => Check::ok(NAME, "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"),
        Ok(missing) => {
            let missing = missing.join(", ");
            Check::fail(
                NAME,
                format!("{missing} missing"),
                format!("run as root, or add {missing} to the container"),
            )
        }
        Err(error) => Check::error(NAME, &error),
    }
}

fn memlock() -> Check {
    const NAME: &str = "memlock";
    if release().is_some_and(|(major, minor, _)| (major, minor) >= (5, 11)) {
        return Check::ok(NAME, "maps are charged to the memory cgroup (kernel 5.11)");
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max locked memory"))
        .unwrap_or_default();
    if line.contains("unlimited") {
        return Check::ok(NAME, "unlimited");
    }
    Check::fail(
        NAME,
        line.trim(),
        "before kernel 5.11 maps need ulimit -l unlimited",
    )
}

fn tcx() -> Check {
    const NAME: &str = "tcx";
    match kernel_has_tcx() {
        Ok(true) => Check::ok(NAME, "programs are attached to interfaces by TCX links"),
        Ok(false) => Check::warn(
            NAME,
            "no TCX links: programs are attached by clsact filters",
            "works; kernel 6.6 and later have TCX, where other tools can't remove our programs by accident",
        ),
        Err(error) => Check::error(NAME, &error),
    }
}

/// What the kernel says of drivers' XDP.
fn xdp_features() -> Check {
    const NAME: &str = "xdp_features";
    if kernel_tells_xdp_features() {
        return Check::ok(NAME, "the kernel says to which interfaces XDP can send");
    }
    Check::warn(
        NAME,
        "the kernel does not say to which interfaces XDP can send: it sends back by the one that a frame came in by, and never at a veth",
        "works, the rest goes by TC; kernel 6.3 and later say it",
    )
}

fn checksum() -> Check {
    const NAME: &str = "checksum_ipv6";
    match kernel_has_checksum_flag() {
        Ok(true) => Check::ok(
            NAME,
            "a network card's sum over an IPv6 packet stays right when addresses change",
        ),
        Ok(false) => Check::warn(
            NAME,
            "a network card's sum over an IPv6 packet whose addresses change is not used (no BPF_F_IPV6)",
            "works, the kernel sums such packets up itself; kernel 6.16 and later need not",
        ),
        Err(error) => Check::error(NAME, &error),
    }
}

fn need(need: &Need) -> Check {
    match (need.attempt)() {
        Ok(()) => Check::ok(need.name, need.gives),
        Err(error) if needs::is_a_right(&error) => {
            Check::fail(need.name, error.to_string(), "needs CAP_BPF and CAP_NET_ADMIN")
        }
        Err(error) => {
            let (major, minor) = need.since;
            Check::fail(
                need.name,
                format!("the kernel does not know {} ({error})", need.what),
                format!("Linux {major}.{minor} and later have it: upgrade it"),
            )
        }
    }
}

fn jit() -> Check {
    const NAME: &str = "jit";
    match fs::read_to_string("/proc/sys/net/core/bpf_jit_enable")
        .as_deref()
        .map(str::trim)
    {
        Ok("0") => Check::warn(
            NAME,
            "programs are interpreted, which is slow",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Ok(_) => Check::ok(NAME, "on"),
        // A kernel whose JIT is always on hides the switch from namespaces other than the first.
        Err(_) => Check::ok(
            NAME,
            "no switch net.core.bpf_jit_enable in this network namespace",
        ),
    }
}

fn btf() -> Check {
    const NAME: &str = "btf";
    if fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false) {
        return Check::ok(NAME, "/sys/kernel/btf/vmlinux");
    }
    Check::warn(
        NAME,
        "/sys/kernel/btf/vmlinux is missing",
        "Shunt works without; tools that explain maps and programs do not (CONFIG_DEBUG_INFO_BTF)",
    )
}

fn socket_destroy() -> Check {
    const NAME: &str = "sock_destroy";
    match sockets::kernel_can_destroy() {
        Ok(true) => Check::ok(NAME, "UDP sockets of the host leave a gone backend at once"),
        Ok(false) => Check::warn(
            NAME,
            "the kernel can't destroy UDP sockets (CONFIG_INET_DIAG_DESTROY, CONFIG_INET_UDP_DIAG)",
            "the host's connected UDP sockets stay with a gone backend until their program connects anew",
        ),
        Err(error) => Check::error(NAME, &error),
    }
}

fn forwarding(name: &'static str, path: &'static str, sysctl: &str) -> Check {
    match fs::read_to_string(path).call("read", path) {
        Ok(text) if text.trim() != "0" => Check::ok(name, "on"),
        Ok(_) => Check::warn(
            name,
            format!("{sysctl} = 0: packets from and to pods that go through the stack are dropped"),
            format!("sysctl -w {sysctl}=1 (most CNI plugins do it)"),
        ),
        Err(error) => Check::warn(name, error.to_string(), "this family is off on the node"),
    }
}

/// Bytes for people.
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// One hundredth of the node's memory, which all maps together may take.
pub(super) fn budget() -> Option<u64> {
    Some(size::node_memory().ok()? / 100)
}
