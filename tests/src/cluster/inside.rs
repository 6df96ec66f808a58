//! A node's first process: mounts what a node has of its own, then runs containerd and kubelet.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;

use super::settings::{SOCKET, Settings};
use crate::ip::run;

/// What kubelet would set for the whole machine: it is shown to it as set, and the machine's own values stay.
const SHOWN: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];
/// How long containerd may take to listen.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs until containerd or kubelet ends, which is an error; the settings are in the file.
pub fn node(settings: &Path) -> Result<()> {
    let text =
        std::fs::read_to_string(settings).with_context(|| format!("reading {}", settings.display()))?;
    let settings: Settings = serde_json::from_str(&text).context("reading a node's settings")?;
    ensure!(
        std::process::id() == 1,
        "a node is the first process of a PID namespace of its own"
    );
    std::fs::write("/proc/sys/kernel/hostname", &settings.name).context("naming the node")?;
    mounts(&settings).context("mounting what is the node's own")?;
    settings.write()?;
    let containerd = start(
        &settings,
        &settings.containerd,
        &["--config".into(), settings.file("containerd.toml")],
    )?;
    wait_for(Path::new(SOCKET))?;
    for images in &settings.images {
        let mut import = Command::new(&settings.ctr);
        import
            .args([
                "--address",
                SOCKET,
                "--namespace",
                "k8s.io",
                "images",
                "import",
                "--local",
            ])
            .arg(images);
        run(&mut import)?;
    }
    let mut own = vec![("containerd", containerd)];
    if let Some(flannel) = &settings.network.flannel {
        let arguments = flannel.arguments(settings.flannel_network());
        own.push(("flanneld", start(&settings, &flannel.program, &arguments)?));
    }
    own.push(("kubelet", kubelet(&settings)?));
    reap(&own)
}

fn kubelet(settings: &Settings) -> Result<Pid> {
    let address = super::address::node(settings.number);
    let option = |name: &str, value: String| PathBuf::from(format!("--{name}={value}"));
    let arguments = [
        option("config", settings.file("kubelet.json").display().to_string()),
        option("kubeconfig", settings.kubeconfig.display().to_string()),
        option("hostname-override", settings.name.clone()),
        option("node-ip", format!("{},{}", address.v4, address.v6)),
        option("v", "2".to_owned()),
    ];
    start(settings, &settings.kubelet, &arguments)
}

/// Starts a program with its output in a log of its own.
fn start(settings: &Settings, program: &Path, arguments: &[PathBuf]) -> Result<Pid> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let log = settings.file(&format!("{name}.log"));
    let open = || {
        File::options()
            .append(true)
            .create(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))
    };
    // containerd finds its shim, ctr and runc by PATH.
    let directory = settings.containerd.parent().unwrap_or(Path::new("/"));
    let path = format!(
        "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        directory.display()
    );
    let child = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .env("TMPDIR", "/run")
        // flannel's daemon asks for it.
        .env("NODE_NAME", &settings.name)
        .stdin(Stdio::null())
        .stdout(open()?)
        .stderr(open()?)
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

fn wait_for(path: &Path) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        ensure!(Instant::now() < deadline, "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Takes the ends of all processes, as a first process must, until one of the node's own ends.
fn reap(own: &[(&str, Pid)]) -> Result<()> {
    loop {
        let status = wait().context("waiting for the node's processes")?;
        let (WaitStatus::Exited(process, _) | WaitStatus::Signaled(process, ..)) = status else {
            continue;
        };
        if let Some((name, _)) = own.iter().find(|(_, own)| *own == process) {
            bail!("{name} ended: {status:?}");
        }
    }
}

fn mounts(settings: &Settings) -> Result<()> {
    // Containers may ask for mounts to be seen both ways, which needs a shared root; that of the machine stays as it is.
    change("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    change("/", MsFlags::MS_REC | MsFlags::MS_SHARED)?;
    let var = settings.file("var");
    for directory in ["lib", "log"] {
        bind(&var.join(directory), &Path::new("/var").join(directory))?;
    }
    bind(&settings.folder, &settings.folder)?;
    // Files of the machine are no node's to write.
    change("/", MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY)?;
    new("tmpfs", "/run", Some("mode=755"))?;
    std::fs::create_dir_all("/run/netns").context("making /run/netns")?;
    new("tmpfs", "/run/netns", None)?;
    // Another mount shows the network interfaces of this namespace.
    new("sysfs", "/sys", None)?;
    cgroups(&settings.controllers)?;
    for (key, value) in SHOWN {
        let file = settings.file(&key.replace('/', "-"));
        std::fs::write(&file, format!("{value}\n")).with_context(|| format!("writing {}", file.display()))?;
        bind_file(&file, &Path::new("/proc/sys").join(key))?;
    }
    Ok(())
}

/// Version 1 as the machine has it and version 2 beside it, each with the node's own group as the root.
fn cgroups(controllers: &[String]) -> Result<()> {
    new("tmpfs", "/sys/fs/cgroup", Some("mode=755"))?;
    for controller in controllers {
        let directory = Path::new("/sys/fs/cgroup").join(controller.trim_start_matches("name="));
        std::fs::create_dir(&directory).with_context(|| format!("making {}", directory.display()))?;
        let options = if controller.starts_with("name=") {
            format!("none,{controller}")
        } else {
            controller.clone()
        };
        new("cgroup", &directory, Some(&options))?;
    }
    let unified = "/sys/fs/cgroup/unified";
    std::fs::create_dir(unified).context("making the directory of version 2")?;
    new("cgroup2", unified, None)
}

fn new(kind: &str, target: impl AsRef<Path>, options: Option<&str>) -> Result<()> {
    let target = target.as_ref();
    mount(Some(kind), target, Some(kind), MsFlags::empty(), options)
        .with_context(|| format!("mounting {kind} at {}", target.display()))
}

fn change(target: &str, flags: MsFlags) -> Result<()> {
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("changing how {target} is shared"))
}

fn bind(source: &Path, target: &Path) -> Result<()> {
    std::fs::create_dir_all(source).with_context(|| format!("making {}", source.display()))?;
    bind_file(source, target)
}

fn bind_file(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("mounting {} at {}", source.display(), target.display()))
}
