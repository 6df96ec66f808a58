//! The cluster's images: made here, imported by each node, and pulled from nowhere.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::archive::{self, Image, Layer};
use super::binaries::{binary, cache, hexadecimal, lock};
use super::{debian, go};
use crate::ip::run;

/// What sandboxes are made of; kubelet and containerd are told this name.
pub(crate) const PAUSE: &str = "registry.k8s.io/pause:3.10.2";
/// Where the suite's images come from.
const SUITE: &str = "registry.k8s.io/e2e-test-images";

/// The archive of all images but Shunt's, made once.
pub(crate) fn archive() -> Result<PathBuf> {
    let tree = debian::tree()?;
    let programs = ["agnhost", "regression-issue-74839", "coredns", "kube-proxy"]
        .map(|name| binary(name).map(|file| (name, file)));
    let programs = programs.into_iter().collect::<Result<Vec<_>>>()?;
    let recipe = format!("{programs:?} {} {}", tree.display(), include_str!("images.rs"));
    let directory = cache()?.join(format!("images-{}", &hexadecimal(&Sha256::digest(recipe))[..8]));
    std::fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let file = directory.join("images.tar");
    let _lock = lock(&directory.join(".lock"))?;
    if !file.is_file() {
        eprintln!("cluster: making the images");
        let temporary = directory.join("images.part");
        let images = images(&directory, &tree)?;
        archive::write(&temporary, &images)?;
        for layer in ["pause", "agnhost", "regression", "coredns", "kube-proxy"] {
            let layer = directory.join(layer).with_extension("layer");
            std::fs::remove_file(&layer).with_context(|| format!("removing {}", layer.display()))?;
        }
        std::fs::rename(&temporary, &file).with_context(|| format!("naming {}", file.display()))?;
    }
    Ok(file)
}

fn images(directory: &Path, tree: &Path) -> Result<Vec<Image>> {
    let tools = Layer::of(tree)?;
    let pause = pause(directory)?;
    let layer = |name: &str, contents: &[(PathBuf, &str)]| {
        let contents: Vec<_> = contents
            .iter()
            .map(|(file, target)| (file.clone(), (*target).to_owned()))
            .collect();
        Layer::pack(&directory.join(name).with_extension("layer"), &contents)
    };
    let agnhost = [
        (binary("agnhost")?, "/agnhost"),
        (binary("agnhost")?, "/agnhost-2"),
        // Specs that bring a name server of their own run this one.
        (binary("coredns")?, "/coredns"),
    ];
    let image = |names: &[String], layers: Vec<Layer>, entry: &[&str], arguments: &[&str]| Image {
        names: names.to_vec(),
        layers,
        entry: entry.iter().map(ToString::to_string).collect(),
        arguments: arguments.iter().map(ToString::to_string).collect(),
    };
    let suite = |name: &str| format!("{SUITE}/{name}");
    Ok(vec![
        image(
            &[PAUSE.to_owned()],
            vec![layer("pause", &[(pause, "/pause")])?],
            &["/pause"],
            &[],
        ),
        image(
            &[suite("agnhost:2.63.0")],
            vec![tools.clone(), layer("agnhost", &agnhost)?],
            &["/agnhost"],
            &["pause"],
        ),
        image(
            &[suite("regression-issue-74839:1.4")],
            vec![layer(
                "regression",
                &[(binary("regression-issue-74839")?, "/regression-issue-74839")],
            )?],
            &["/regression-issue-74839"],
            &[],
        ),
        image(
            &[
                suite("busybox:1.37.0-1"),
                suite("glibc-dns-testing:2.0.0"),
                suite("nginx:1.15-4"),
                "registry.k8s.io/build-image/distroless-iptables:v0.9.3".to_owned(),
            ],
            vec![tools.clone()],
            &[],
            &["/bin/sh"],
        ),
        image(
            &["docker.io/library/coredns:cluster".to_owned()],
            vec![layer("coredns", &[(binary("coredns")?, "/coredns")])?],
            &["/coredns"],
            &[],
        ),
        image(
            &["docker.io/library/kube-proxy:cluster".to_owned()],
            vec![
                tools,
                layer(
                    "kube-proxy",
                    &[(binary("kube-proxy")?, "/usr/local/bin/kube-proxy")],
                )?,
            ],
            &["/usr/local/bin/kube-proxy"],
            &[],
        ),
    ])
}

/// Kubernetes' own pause, of the sources of the version that is built.
fn pause(directory: &Path) -> Result<PathBuf> {
    let source = go::module_directory("kubernetes", "k8s.io/kubernetes")?.join("build/pause/linux/pause.c");
    let program = directory.join("pause");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-Os", "-static", "-DVERSION=cluster", "-o"])
        .args([&program, &source]);
    run(&mut compiler)
        .context("a C compiler and the static C library (gcc, libc6-dev) make the pause image")?;
    Ok(program)
}
