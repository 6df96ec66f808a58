//! The image archive, read as a registry's client reads it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use oci_spec::image::{
    Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout, Os,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::yaml::root;

fn path() -> PathBuf {
    let path = root().join("target/oci/shunt.tar");
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask image`",
        path.display()
    );
    path
}

/// Its files by name.
fn archive() -> BTreeMap<String, Vec<u8>> {
    unpack(File::open(path()).unwrap())
        .into_iter()
        .map(|file| (file.name, file.bytes))
        .collect()
}

struct Entry {
    name: String,
    mode: u32,
    owner: u64,
    bytes: Vec<u8>,
}

fn unpack(reader: impl Read) -> Vec<Entry> {
    let mut archive = tar::Archive::new(reader);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        Entry {
            name: entry.path().unwrap().display().to_string(),
            mode: entry.header().mode().unwrap(),
            owner: entry.header().uid().unwrap(),
            bytes,
        }
    });
    entries.collect()
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// What a descriptor names, of the size and digest that it says.
fn blob<'a>(files: &'a BTreeMap<String, Vec<u8>>, descriptor: &Descriptor) -> &'a [u8] {
    let bytes = &files[&format!("blobs/sha256/{}", descriptor.digest().digest())];
    assert_eq!(bytes.len() as u64, descriptor.size());
    assert_eq!(digest(bytes), descriptor.digest().digest());
    bytes
}

struct Image {
    files: BTreeMap<String, Vec<u8>>,
    listed: Descriptor,
    manifest: ImageManifest,
    config: ImageConfiguration,
}

fn image() -> Image {
    let files = archive();
    let index = ImageIndex::from_reader(files["index.json"].as_slice()).unwrap();
    let listed = index.manifests()[0].clone();
    let manifest = ImageManifest::from_reader(blob(&files, &listed)).unwrap();
    let config = ImageConfiguration::from_reader(blob(&files, manifest.config())).unwrap();
    Image {
        files,
        listed,
        manifest,
        config,
    }
}

/// The only layer's files.
fn layer(image: &Image) -> Vec<Entry> {
    let [layer] = image.manifest.layers().as_slice() else {
        panic!("not one layer: {:?}", image.manifest.layers());
    };
    assert_eq!(*layer.media_type(), MediaType::ImageLayerGzip);
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(blob(&image.files, layer))
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(
        image.config.rootfs().diff_ids(),
        &[format!("sha256:{}", digest(&bytes))]
    );
    unpack(bytes.as_slice())
}

#[test]
fn it_follows_the_specification_and_every_digest_holds() {
    let image = image();
    let layout: OciLayout = OciLayout::from_reader(image.files["oci-layout"].as_slice()).unwrap();
    assert_eq!(layout.image_layout_version(), "1.0.0");
    assert_eq!(
        (image.config.os(), image.config.architecture()),
        (&Os::Linux, &Arch::default())
    );
    assert_eq!(layer(&image).len(), 1);
    let named = 3 + 3;
    assert_eq!(image.files.len(), named, "{:?}", image.files.keys());
}

#[test]
fn it_is_found_by_the_name_that_pods_have() {
    let annotations = image().listed.annotations().clone().unwrap();
    assert_eq!(
        annotations["io.containerd.image.name"],
        "docker.io/library/shunt:dev"
    );
    let docker: Value = serde_json::from_slice(&archive()["manifest.json"]).unwrap();
    assert_eq!(docker[0]["RepoTags"][0], "docker.io/library/shunt:dev");
    for key in [&docker[0]["Config"], &docker[0]["Layers"][0]] {
        assert!(archive().contains_key(key.as_str().unwrap()), "{key}");
    }
}

#[test]
fn its_labels_say_what_it_is() {
    let config = image().config;
    let labels = config.labels_of_config().unwrap();
    for (label, text) in [
        ("title", "shunt"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("licenses", "Apache-2.0"),
        ("source", "https://"),
    ] {
        let value = &labels[&format!("org.opencontainers.image.{label}")];
        assert!(value.starts_with(text), "{label}: {value}");
    }
}

#[test]
fn it_is_small_and_holds_one_program_of_roots() {
    let image = image();
    assert!(image.manifest.layers()[0].size() < 20_000_000);
    let files = layer(&image);
    let names: Vec<_> = files
        .iter()
        .map(|file| (file.name.as_str(), file.mode, file.owner))
        .collect();
    assert_eq!(names, [("shunt", 0o755, 0)]);
    assert!(files[0].bytes.len() < 20_000_000);
    assert_eq!(
        image
            .config
            .config()
            .as_ref()
            .unwrap()
            .entrypoint()
            .clone()
            .unwrap(),
        ["/shunt"]
    );
}

#[test]
fn its_program_runs_in_a_root_directory_where_nothing_else_is() {
    let directory = std::env::temp_dir().join(format!("shunt-image-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let program = directory.join("shunt");
    std::fs::write(&program, &layer(&image())[0].bytes).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new("chroot")
        .arg(&directory)
        .args(["/shunt", "--version"])
        .output();
    std::fs::remove_dir_all(&directory).unwrap();
    let output = output.expect("chroot (coreutils) can't be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(text.trim(), concat!("shunt ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn no_path_of_this_checkout_is_in_its_program() {
    let program = &layer(&image())[0].bytes;
    let root = root().to_str().unwrap().as_bytes();
    let found = program.windows(root.len()).position(|window| window == root);
    assert_eq!(found, None, "the same commit makes other bytes elsewhere");
}
