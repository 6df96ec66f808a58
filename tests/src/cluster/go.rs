//! The Go toolchain: where it is, and what it says when it fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::modules::{Module, Source};

/// What the error of a build says when modules could not be had.
pub(crate) const UNREACHABLE: &str = "the Go module proxy can't be reached";

/// What Go prints when a module can't be fetched.
const NETWORK: [&str; 9] = [
    "dial tcp",
    "no such host",
    "i/o timeout",
    "connection refused",
    "proxyconnect",
    "TLS handshake",
    "module lookup disabled by GOPROXY=off",
    "network is unreachable",
    "502 Bad Gateway",
];

/// Builds one program of the module.
pub(crate) fn build(module: &Module, source: Source, output: &Path) -> Result<()> {
    let mut go = command(module)?;
    let package = match source {
        Source::Package(package) => {
            go.arg("build");
            package
        }
        Source::Tests(package) => {
            go.args(["test", "-c"]);
            package
        }
    };
    go.args(["-trimpath", "-buildvcs=false", "-ldflags"])
        .arg(linker_flags(module)?)
        .arg("-o")
        .args([output, Path::new(package)]);
    let result = go.output().with_context(|| format!("starting {go:?}"))?;
    if result.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&result.stderr);
    bail!("{}", failure(module, package, &said))
}

/// A command of the release that the module names; another release on this machine fetches that one.
fn command(module: &Module) -> Result<Command> {
    // The shell's `nice` without its process: builds take minutes, and others use the machine.
    let mut go = Command::new("nice");
    go.args(["-n", "5"])
        .arg(find()?)
        .current_dir(module.directory())
        .env("GOTOOLCHAIN", module.toolchain()?)
        .env("GOFLAGS", "-mod=readonly")
        .env("CGO_ENABLED", if module.needs_c { "1" } else { "0" });
    Ok(go)
}

/// Where a dependency's sources are.
pub(crate) fn module_directory(module: &str, dependency: &str) -> Result<PathBuf> {
    let module = super::modules::named(module)?;
    let mut go = command(module)?;
    go.args(["mod", "download", "-json", dependency]);
    let result = go.output().with_context(|| format!("starting {go:?}"))?;
    let said = String::from_utf8_lossy(&result.stderr);
    if !result.status.success() {
        bail!("{}", failure(module, dependency, &said));
    }
    let answer: serde_json::Value = serde_json::from_slice(&result.stdout)
        .with_context(|| format!("reading what go says of {dependency}"))?;
    answer["Dir"]
        .as_str()
        .map(PathBuf::from)
        .with_context(|| format!("go has no directory for {dependency}"))
}

fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/go/bin".into(), "/usr/lib/go/bin".into()])
        .map(|directory| directory.join("go"))
        .find(|file| file.is_file())
        .context(
            "there is no Go: Kubernetes is built with it.\n\
             Install Go 1.21 or newer (https://go.dev/dl, or a package golang-go of that version) as /usr/local/go or on PATH; \
             it fetches the release that tests/cluster/*/go.mod name by itself.",
        )
}

/// What is written into the program, and what is left out.
pub(crate) fn linker_flags(module: &Module) -> Result<String> {
    let version = module.version()?;
    let stamp = match module.name {
        "kubernetes" => {
            let numbers: Vec<_> = version.trim_start_matches('v').split('.').collect();
            let [major, minor, _] = numbers[..] else {
                bail!("{version} is no version of Kubernetes")
            };
            let package = "k8s.io/component-base/version";
            format!(
                "-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
            )
        }
        "containerd" => format!("-X github.com/containerd/containerd/v2/version.Version={version}"),
        _ => String::new(),
    };
    Ok(format!("-s -w {stamp}").trim_end().to_owned())
}

fn failure(module: &Module, package: &str, said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    let end = lines[lines.len().saturating_sub(15)..].join("\n");
    if NETWORK.iter().any(|sign| said.contains(sign)) {
        let proxy = std::env::var("GOPROXY").unwrap_or_else(|_| "Go's default".to_owned());
        return format!(
            "{UNREACHABLE} (GOPROXY: {proxy}), and {package} needs modules from it.\n\
             Set GOPROXY to one that this machine reaches, then run this again.\n{end}"
        );
    }
    format!(
        "go does not build {package} in tests/cluster/{}:\n{end}",
        module.name
    )
}

#[cfg(test)]
mod tests {
    use super::super::modules;
    use super::*;

    #[test]
    fn a_proxy_that_cannot_be_reached_is_named_as_such() {
        let (module, _) = modules::find("etcd").unwrap();
        let said = "go: go.etcd.io/etcd/server/v3@v3.6.8: Get \"https://proxy.golang.org/\": dial tcp: lookup proxy.golang.org: no such host";
        let error = failure(module, "go.etcd.io/etcd/server/v3", said);
        assert!(
            error.starts_with(UNREACHABLE) && error.contains("no such host"),
            "{error}"
        );
    }

    #[test]
    fn any_other_failure_shows_what_go_said() {
        let (module, _) = modules::find("etcd").unwrap();
        let error = failure(module, "p", "main.go:3: undefined: x");
        assert!(
            !error.contains(UNREACHABLE) && error.contains("undefined: x"),
            "{error}"
        );
    }

    #[test]
    fn kubernetes_is_told_its_version() {
        let (module, _) = modules::find("kubectl").unwrap();
        let flags = linker_flags(module).unwrap();
        let version = module.version().unwrap();
        assert!(flags.contains(&format!("gitVersion={version} ")), "{flags}");
    }
}
