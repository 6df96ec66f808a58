//! What the tests of the data path stand on: network namespaces, an instance directory and a cgroup of their own. All
//! of it goes away with the test, the namespaces also when it is killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::options::DatapathOptions;
use super::programs::tests::tiny;
use super::{Datapath, DatapathError};

type Task = Box<dyn FnOnce() + Send>;

/// A network namespace that a thread holds.
pub(crate) struct Namespace {
    tasks: Option<Sender<Task>>,
    thread: Option<JoinHandle<()>>,
    path: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        let (tasks, receiver) = mpsc::channel::<Task>();
        let (started, start) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs CAP_SYS_ADMIN");
            started
                .send(format!(
                    "/proc/{}/task/{}/ns/net",
                    std::process::id(),
                    nix::unistd::gettid()
                ))
                .unwrap();
            receiver.iter().for_each(|task| task());
        });
        let namespace = Self {
            tasks: Some(tasks),
            thread: Some(thread),
            path: start.recv().unwrap(),
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// A path that names it to other threads and programs.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Does something inside.
    pub(crate) fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let task: Task = Box::new(move || drop(done.send(body())));
        self.tasks.as_ref().unwrap().send(task).unwrap();
        result.recv().expect("the namespace's thread panicked")
    }

    /// Runs a program inside; its output.
    pub(crate) fn command(&self, program: &str, arguments: &str) -> String {
        let (program, arguments) = (program.to_owned(), arguments.to_owned());
        self.run(move || {
            let output = Command::new(&program).args(arguments.split_whitespace()).output();
            let output = output.unwrap_or_else(|error| panic!("{program} can't be run: {error}"));
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program} {arguments}: {error}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }

    pub(super) fn ip(&self, arguments: &str) -> String {
        self.command("ip", arguments)
    }

    /// Makes a veth pair, one end here and one in another namespace, both up.
    pub(super) fn veth(&self, here: &str, there: &Self, peer: &str) {
        self.ip(&format!(
            "link add {here} type veth peer name {peer} netns {}",
            there.path
        ));
        self.ip(&format!("link set {here} up"));
        there.ip(&format!("link set {peer} up"));
    }

    /// Index of an interface.
    pub(super) fn index(&self, name: &str) -> u32 {
        let text = self.ip(&format!("-o link show dev {name}"));
        text.split(':').next().unwrap().trim().parse().unwrap()
    }
}

/// A node with the uplink `up0`, a veth whose other end takes frames from XDP; and what is at that end.
pub(super) fn uplink() -> (Namespace, Namespace) {
    let (here, there) = (Namespace::new(), Namespace::new());
    here.veth("up0", &there, "far0");
    there.command("ethtool", "-K far0 gro on");
    here.ip("addr add 192.0.2.1/24 dev up0");
    here.ip("route add default via 192.0.2.2");
    (here, there)
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.tasks.take();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// An instance directory and a cgroup.
pub(crate) struct Place {
    pub(super) instance: PathBuf,
    pub(super) cgroup: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let bpffs = Path::new("/sys/fs/bpf");
        if !super::instance::is_bpf_file_system(bpffs).unwrap() {
            mount(Some("bpf"), bpffs, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
        }
        let name = format!(
            "shunt-unit-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let place = Self {
            instance: bpffs.join(&name),
            cgroup: cgroup_root().join(&name),
        };
        std::fs::create_dir(&place.cgroup).unwrap();
        place
    }

    pub(super) fn options(&self) -> DatapathOptions {
        DatapathOptions {
            memory: Some(0),
            object: &[],
            ..DatapathOptions::new(self.instance.clone(), self.cgroup.clone())
        }
    }

    /// Starts a data path with programs of two instructions.
    pub(crate) fn start(&self, node: &Namespace) -> Result<Datapath, DatapathError> {
        start(node, self.options())
    }

    /// The same with these sizes of maps, and so much memory for all when they have grown.
    pub(crate) fn start_with_entries(
        &self,
        node: &Namespace,
        entries: &[&str],
        limit: u64,
    ) -> Result<Datapath, DatapathError> {
        let entries: Result<_, _> = entries.iter().map(|text| text.parse()).collect();
        start(
            node,
            DatapathOptions {
                memory_limit: Some(limit),
                map_entries: entries?,
                ..self.options()
            },
        )
    }

    /// The same with maps of so many bytes together.
    pub(crate) fn start_with_memory(&self, node: &Namespace, memory: u64) -> Result<Datapath, DatapathError> {
        start(
            node,
            DatapathOptions {
                memory: Some(memory),
                ..self.options()
            },
        )
    }
}

/// Starts a data path with programs of two instructions.
pub(super) fn start(node: &Namespace, options: DatapathOptions) -> Result<Datapath, DatapathError> {
    node.run(move || Datapath::start_with(&options, &[], |_| Ok(tiny())))
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.instance));
        drop(std::fs::remove_dir(&self.cgroup));
    }
}

fn cgroup_root() -> PathBuf {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(target))
    });
    found.expect("no cgroup v2 hierarchy is mounted")
}

/// Waits until something holds; panics after ten seconds with what was last seen.
pub(super) fn eventually<T: PartialEq + std::fmt::Debug>(expected: T, look: impl Fn() -> T) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let seen = look();
        if seen == expected {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "expected {expected:?}, seen {seen:?}"
        );
        std::thread::yield_now();
    }
}
