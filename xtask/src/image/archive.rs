//! The OCI image and its archive: nothing in it depends on when or where it is written.

use std::io::Write;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::label::Labels;

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// A piece of the image, kept by its digest.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            digest: digest(&bytes),
            bytes,
        }
    }

    fn of_json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len() })
    }
}

/// One layer with one file, its configuration and its manifest.
pub(super) struct Image {
    name: String,
    tag: String,
    layer: Blob,
    config: Blob,
    manifest: Blob,
}

impl Image {
    /// The image whose entry point is this binary.
    pub(super) fn new(binary: &[u8], name: &str, labels: &Labels) -> Result<Self> {
        let (repository, tag) = name
            .rsplit_once(':')
            .filter(|(repository, tag)| !repository.is_empty() && !tag.is_empty() && !tag.contains('/'))
            .with_context(|| format!("--name {name:?} is no image's name; write it as shunt:dev"))?;
        let files = tar(&[("shunt", 0o755, binary)])?;
        let layer = Blob::new(compress(&files)?);
        let config = Blob::of_json(&config(&digest(&files), labels));
        let manifest = Blob::of_json(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.descriptor(CONFIG_TYPE),
            "layers": [layer.descriptor(LAYER_TYPE)],
            "annotations": labels.labels,
        }));
        Ok(Self {
            name: full_name(repository, tag),
            tag: tag.to_owned(),
            layer,
            config,
            manifest,
        })
    }

    /// How much a node pulls.
    pub(super) fn layer_bytes(&self) -> usize {
        self.layer.bytes.len()
    }

    /// What a registry calls it.
    pub(super) fn digest(&self) -> String {
        format!("sha256:{}", self.manifest.digest)
    }

    /// Who imports the archive finds the image here: containerd by its own annotation, others by the specification's.
    fn index(&self) -> Value {
        let mut manifest = self.manifest.descriptor(MANIFEST_TYPE);
        manifest["platform"] = json!({ "architecture": architecture(), "os": "linux" });
        manifest["annotations"] = json!({
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.tag,
        });
        json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [manifest] })
    }

    /// The same for `docker load` before version 25, which knows no OCI layout.
    fn docker_manifest(&self) -> Value {
        let layers = [self.layer.path()];
        json!([{ "Config": self.config.path(), "RepoTags": [self.name], "Layers": layers }])
    }
}

fn config(layer: &str, labels: &Labels) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "created": labels.created,
        "config": {
            "Entrypoint": ["/shunt"],
            // `kubectl exec ... -- shunt services` finds it.
            "Env": ["PATH=/"],
            "User": "0:0",
            "WorkingDir": "/",
            "Labels": labels.labels,
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
        "history": [{ "created": labels.created, "created_by": "cargo xtask image" }],
    })
}

/// The whole image in one file.
pub(super) struct Archive(Vec<u8>);

impl Archive {
    /// Packs it.
    pub(super) fn of(image: &Image) -> Result<Self> {
        let index = image.index().to_string();
        let docker = image.docker_manifest().to_string();
        let layout = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
        let mut blobs = [&image.layer, &image.config, &image.manifest].map(|blob| (blob.path(), &blob.bytes));
        blobs.sort();
        let mut files: Vec<(&str, u32, &[u8])> = blobs
            .iter()
            .map(|(path, bytes)| (path.as_str(), 0o644, bytes.as_slice()))
            .collect();
        files.push(("index.json", 0o644, index.as_bytes()));
        files.push(("manifest.json", 0o644, docker.as_bytes()));
        files.push(("oci-layout", 0o644, layout.as_bytes()));
        Ok(Self(tar(&files)?))
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A tar archive of root's files, all of the same age.
fn tar(files: &[(&str, u32, &[u8])]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len().try_into()?);
        builder.append_data(&mut header, path, *bytes)?;
    }
    Ok(builder.into_inner()?)
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// As the Go compiler and so all registries name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What a pod's short name stands for.
fn full_name(repository: &str, tag: &str) -> String {
    let registry = repository.split_once('/').map(|(first, _)| first);
    if registry.is_some_and(|first| first.contains(['.', ':']) || first == "localhost") {
        return format!("{repository}:{tag}");
    }
    let library = if registry.is_some() { "" } else { "library/" };
    format!("docker.io/{library}{repository}:{tag}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn labels() -> Labels {
        Labels {
            created: "2026-01-02T03:04:05Z".into(),
            labels: BTreeMap::from([("org.opencontainers.image.title", "shunt".to_owned())]),
        }
    }

    fn image(binary: &[u8]) -> Image {
        Image::new(binary, "shunt:dev", &labels()).unwrap()
    }

    #[test]
    fn the_same_binary_makes_the_same_bytes_and_another_makes_others() {
        let archive = |binary| Archive::of(&image(binary)).unwrap().0;
        assert_eq!(archive(b"one"), archive(b"one"));
        assert_ne!(archive(b"one"), archive(b"two"));
    }

    #[test]
    fn short_names_are_what_a_kubelet_makes_of_them() {
        for (name, full) in [
            ("shunt:dev", "docker.io/library/shunt:dev"),
            ("team/shunt:v1", "docker.io/team/shunt:v1"),
            ("ghcr.io/shunt-proxy/shunt:v1", "ghcr.io/shunt-proxy/shunt:v1"),
            ("localhost:5000/shunt:v1", "localhost:5000/shunt:v1"),
        ] {
            assert_eq!(Image::new(b"", name, &labels()).unwrap().name, full);
        }
    }

    #[test]
    fn a_name_without_a_tag_is_refused_with_the_way_out() {
        for name in ["shunt", "localhost:5000/shunt", ":dev", "shunt:"] {
            let error = Image::new(b"", name, &labels())
                .map(drop)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(name) && error.contains("write it as shunt:dev"),
                "{error}"
            );
        }
    }
}
