//! Image archives in OCI's layout: what a container runtime imports without a registry.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::binaries::hexadecimal;

/// One image of an archive: its names, its layers from the lowest, and what runs in it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) names: Vec<String>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) entry: Vec<String>,
    pub(crate) arguments: Vec<String>,
}

/// A tar file with its digest.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    file: PathBuf,
    digest: String,
    size: u64,
}

impl Layer {
    /// An existing tar file.
    pub(crate) fn of(file: &Path) -> Result<Self> {
        let input = File::open(file).with_context(|| format!("opening {}", file.display()))?;
        let size = input.metadata().context("asking for a layer's size")?.len();
        let mut input = BufReader::with_capacity(1 << 20, input);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = input
                .read(&mut buffer)
                .with_context(|| format!("reading {}", file.display()))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
        Ok(Self {
            file: file.to_owned(),
            digest: hexadecimal(&hash.finalize()),
            size,
        })
    }

    /// Packs these files under these absolute paths; a file that comes again is a link to its first path.
    pub(crate) fn pack(file: &Path, contents: &[(PathBuf, String)]) -> Result<Self> {
        let output = File::create(file).with_context(|| format!("making {}", file.display()))?;
        let mut archive = tar::Builder::new(output);
        // Runtimes do not unpack sparse files.
        archive.sparse(false);
        let mut packed: BTreeMap<&Path, &str> = BTreeMap::new();
        for (source, target) in contents {
            let target = target.trim_start_matches('/');
            let result = match packed.get(source.as_path()) {
                Some(first) => link(&mut archive, target, first),
                None => archive.append_path_with_name(source, target),
            };
            result.with_context(|| format!("packing {}", source.display()))?;
            packed.entry(source).or_insert(target);
        }
        archive
            .finish()
            .with_context(|| format!("writing {}", file.display()))?;
        Self::of(file)
    }
}

/// Writes the images into one archive; a layer that several of them have is there once.
pub(crate) fn write(file: &Path, images: &[Image]) -> Result<()> {
    let output = File::create(file).with_context(|| format!("making {}", file.display()))?;
    let mut archive = tar::Builder::new(output);
    // Runtimes do not unpack sparse files.
    archive.sparse(false);
    let mut manifests = Vec::new();
    let mut blobs = BTreeMap::new();
    for image in images {
        manifests.extend(describe(image, &mut blobs)?);
    }
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    append(&mut archive, "index.json", index.to_string().as_bytes())?;
    for (digest, bytes) in &blobs {
        append(&mut archive, &format!("blobs/sha256/{digest}"), bytes)?;
    }
    let mut written = BTreeSet::new();
    for layer in images.iter().flat_map(|image| &image.layers) {
        if written.insert(&layer.digest) {
            archive
                .append_path_with_name(&layer.file, format!("blobs/sha256/{}", layer.digest))
                .with_context(|| format!("adding {}", layer.file.display()))?;
        }
    }
    archive
        .finish()
        .with_context(|| format!("writing {}", file.display()))
}

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const SEARCH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Its manifest's entry in the index, once a name.
fn describe(image: &Image, blobs: &mut BTreeMap<String, Vec<u8>>) -> Result<Vec<Value>> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let digests: Vec<_> = image
        .layers
        .iter()
        .map(|layer| format!("sha256:{}", layer.digest))
        .collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": image.entry, "Cmd": image.arguments, "Env": [SEARCH], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": digests},
    });
    let config = blob(CONFIG, &config, blobs)?;
    let layers: Vec<_> = image
        .layers
        .iter()
        .map(|layer| json!({"mediaType": LAYER, "digest": format!("sha256:{}", layer.digest), "size": layer.size}))
        .collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
    let manifest = blob(MANIFEST, &manifest, blobs)?;
    Ok(image.names.iter().map(|name| named(&manifest, name)).collect())
}

fn named(manifest: &Value, name: &str) -> Value {
    let mut entry = manifest.clone();
    entry["annotations"] =
        json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    entry
}

/// Keeps a JSON document as a blob, and describes it.
fn blob(kind: &str, document: &Value, blobs: &mut BTreeMap<String, Vec<u8>>) -> Result<Value> {
    let bytes = serde_json::to_vec(document).context("writing an image's description")?;
    let digest = hexadecimal(&Sha256::digest(&bytes));
    let descriptor = json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()});
    blobs.insert(digest, bytes);
    Ok(descriptor)
}

fn link(archive: &mut tar::Builder<File>, name: &str, target: &str) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    header.set_mode(0o755);
    archive.append_link(&mut header, name, target)
}

fn append(archive: &mut tar::Builder<File>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    archive
        .append_data(&mut header, name, bytes)
        .with_context(|| format!("adding {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The archive's entries by name.
    fn entries(file: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(File::open(file).unwrap());
        let mut entries = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            let name = entry.path().unwrap().display().to_string();
            assert!(entries.insert(name, bytes).is_none(), "an entry is there twice");
        }
        entries
    }

    #[test]
    fn every_digest_is_that_of_its_blob_and_a_shared_layer_is_there_once() {
        let directory = std::env::temp_dir().join(format!("shunt-archive-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let source = directory.join("source");
        std::fs::write(&source, "content").unwrap();
        let layer = Layer::pack(&directory.join("layer"), &[(source, "/bin/program".to_owned())]).unwrap();
        let image = |name: &str| Image {
            names: vec![name.to_owned()],
            layers: vec![layer.clone()],
            entry: vec!["/bin/program".to_owned(), name.to_owned()],
            ..Image::default()
        };
        let file = directory.join("archive");
        write(&file, &[image("one:1"), image("two:2")]).unwrap();
        let entries = entries(&file);
        std::fs::remove_dir_all(directory).unwrap();
        let blobs: Vec<_> = entries
            .iter()
            .filter_map(|(name, bytes)| Some((name.strip_prefix("blobs/sha256/")?, bytes)))
            .collect();
        assert_eq!(blobs.len(), 5, "two configs, two manifests, one layer");
        for (digest, bytes) in blobs {
            assert_eq!(digest, hexadecimal(&Sha256::digest(bytes)));
        }
        let index: Value = serde_json::from_slice(&entries["index.json"]).unwrap();
        let names: Vec<_> = index["manifests"]
            .as_array()
            .unwrap()
            .iter()
            .map(|manifest| {
                manifest["annotations"]["io.containerd.image.name"]
                    .as_str()
                    .unwrap()
            })
            .collect();
        assert_eq!(names, ["one:1", "two:2"]);
    }
}
