//! Names the BPF object that the agent embeds.

use std::path::Path;

fn main() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("the package has no parent directory")?;
    // What an agent embeds must have the agent's layout.
    let object = if std::env::var_os("CARGO_FEATURE_NEXT_LAYOUT").is_some() {
        "target/bpf/next-layout.o"
    } else {
        "target/bpf/shunt.o"
    };
    let object = root.join(object);
    println!("cargo::rerun-if-changed={}", object.display());
    if !object.is_file() {
        return Err(format!(
            "{} is missing: run `cargo xtask build-ebpf`",
            object.display()
        ));
    }
    println!("cargo::rustc-env=SHUNT_BPF_OBJECT={}", object.display());
    Ok(())
}
