//! The Go modules below tests/cluster, and what is built of each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One Go module: the versions of what it builds are in its go.mod.
#[derive(Debug)]
pub(crate) struct Module {
    /// Its folder below tests/cluster.
    pub(crate) name: &'static str,
    /// The module whose version counts.
    requirement: &'static str,
    /// Whether a part of it is written in C.
    pub(crate) needs_c: bool,
    programs: &'static [(&'static str, Source)],
}

/// What a program is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A main package.
    Package(&'static str),
    /// A package's tests.
    Tests(&'static str),
}

const MODULES: [Module; 8] = [
    Module {
        name: "kubernetes",
        requirement: "k8s.io/kubernetes",
        needs_c: false,
        programs: &[
            (
                "kube-apiserver",
                Source::Package("k8s.io/kubernetes/cmd/kube-apiserver"),
            ),
            (
                "kube-controller-manager",
                Source::Package("k8s.io/kubernetes/cmd/kube-controller-manager"),
            ),
            (
                "kube-scheduler",
                Source::Package("k8s.io/kubernetes/cmd/kube-scheduler"),
            ),
            ("kube-proxy", Source::Package("k8s.io/kubernetes/cmd/kube-proxy")),
            ("kubelet", Source::Package("k8s.io/kubernetes/cmd/kubelet")),
            ("kubectl", Source::Package("k8s.io/kubernetes/cmd/kubectl")),
            (
                "agnhost",
                Source::Package("k8s.io/kubernetes/test/images/agnhost"),
            ),
            (
                "regression-issue-74839",
                Source::Package("k8s.io/kubernetes/test/images/regression-issue-74839"),
            ),
            ("ginkgo", Source::Package("github.com/onsi/ginkgo/v2/ginkgo")),
            ("e2e.test", Source::Tests("k8s.io/kubernetes/test/e2e")),
        ],
    },
    Module {
        name: "etcd",
        requirement: "go.etcd.io/etcd/server/v3",
        needs_c: false,
        programs: &[("etcd", Source::Package("go.etcd.io/etcd/server/v3"))],
    },
    Module {
        name: "containerd",
        requirement: "github.com/containerd/containerd/v2",
        needs_c: false,
        programs: &[
            (
                "containerd",
                Source::Package("github.com/containerd/containerd/v2/cmd/containerd"),
            ),
            (
                "containerd-shim-runc-v2",
                Source::Package("github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
            ),
            (
                "ctr",
                Source::Package("github.com/containerd/containerd/v2/cmd/ctr"),
            ),
        ],
    },
    Module {
        name: "cni",
        requirement: "github.com/containernetworking/plugins",
        needs_c: false,
        programs: &[
            (
                "ptp",
                Source::Package("github.com/containernetworking/plugins/plugins/main/ptp"),
            ),
            (
                "bridge",
                Source::Package("github.com/containernetworking/plugins/plugins/main/bridge"),
            ),
            (
                "loopback",
                Source::Package("github.com/containernetworking/plugins/plugins/main/loopback"),
            ),
            (
                "portmap",
                Source::Package("github.com/containernetworking/plugins/plugins/meta/portmap"),
            ),
            (
                "host-local",
                Source::Package("github.com/containernetworking/plugins/plugins/ipam/host-local"),
            ),
        ],
    },
    Module {
        name: "flannel",
        requirement: "github.com/flannel-io/flannel",
        needs_c: true,
        programs: &[("flanneld", Source::Package("github.com/flannel-io/flannel"))],
    },
    // Another version of the plugins: the last that has this one.
    Module {
        name: "flannel-cni",
        requirement: "github.com/containernetworking/plugins",
        needs_c: false,
        programs: &[(
            "flannel",
            Source::Package("github.com/containernetworking/plugins/plugins/meta/flannel"),
        )],
    },
    Module {
        name: "coredns",
        requirement: "github.com/coredns/coredns",
        needs_c: false,
        programs: &[("coredns", Source::Package("."))],
    },
    // Not the cluster's: what reads the files of deploy/.
    Module {
        name: "deploy",
        requirement: "helm.sh/helm/v3",
        needs_c: false,
        programs: &[
            ("helm", Source::Package("helm.sh/helm/v3/cmd/helm")),
            (
                "actionlint",
                Source::Package("github.com/rhysd/actionlint/cmd/actionlint"),
            ),
            ("check", Source::Package(".")),
        ],
    },
];

/// The module that builds this program, and from what.
pub(crate) fn find(program: &str) -> Result<(&'static Module, Source)> {
    MODULES
        .iter()
        .find_map(|module| {
            let entry = module.programs.iter().find(|(name, _)| *name == program)?;
            Some((module, entry.1))
        })
        .with_context(|| format!("no module below tests/cluster builds {program}"))
}

/// The module with this name.
pub(crate) fn named(name: &str) -> Result<&'static Module> {
    MODULES
        .iter()
        .find(|module| module.name == name)
        .with_context(|| format!("tests/cluster has no {name}"))
}

/// Every program that a cluster runs.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    MODULES
        .iter()
        .flat_map(|module| module.programs)
        .map(|(name, _)| *name)
}

/// The version of Kubernetes, as `v1.36.2`.
pub fn kubernetes_version() -> Result<String> {
    let (module, _) = find("kube-apiserver")?;
    module.version()
}

impl Module {
    /// Its folder.
    pub(crate) fn directory(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("cluster")
            .join(self.name)
    }

    /// The version of what it builds.
    pub(crate) fn version(&self) -> Result<String> {
        let text = self.read("go.mod")?;
        requirement(&text, self.requirement)
            .with_context(|| format!("{}/go.mod requires no {}", self.name, self.requirement))
    }

    /// The Go release that builds it, as `go1.26.8`.
    pub(crate) fn toolchain(&self) -> Result<String> {
        let text = self.read("go.mod")?;
        let line = text.lines().find_map(|line| line.strip_prefix("toolchain "));
        line.map(ToOwned::to_owned)
            .with_context(|| format!("{}/go.mod names no toolchain", self.name))
    }

    /// One of its files.
    pub(crate) fn read(&self, file: &str) -> Result<String> {
        let path = self.directory().join(file);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

fn requirement(text: &str, module: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.trim().strip_prefix("require ").unwrap_or(line.trim());
        let version = line.strip_prefix(module)?.strip_prefix(' ')?;
        version.split(' ').next().map(ToOwned::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_names_its_version_and_its_toolchain() {
        for module in &MODULES {
            assert!(module.version().unwrap().starts_with('v'), "{}", module.name);
            assert!(module.toolchain().unwrap().starts_with("go1."), "{}", module.name);
        }
    }

    #[test]
    fn a_required_version_is_found_alone_and_in_a_block() {
        let text =
            "module m\nrequire k8s.io/api v1.2.3 // indirect\nrequire (\n\tk8s.io/apiserver v0.4.0\n)\n";
        assert_eq!(requirement(text, "k8s.io/api").as_deref(), Some("v1.2.3"));
        assert_eq!(requirement(text, "k8s.io/apiserver").as_deref(), Some("v0.4.0"));
        assert_eq!(requirement(text, "k8s.io/ap"), None);
    }

    #[test]
    fn an_unknown_program_is_named() {
        assert!(
            find("kube-anything")
                .unwrap_err()
                .to_string()
                .contains("kube-anything")
        );
    }
}
