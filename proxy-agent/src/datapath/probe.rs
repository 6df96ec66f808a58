//! Whether what passes an interface comes to the program there. Others' programs in front may end it, or send it elsewhere, and
//! nothing tells of that (E25): the agent sends a frame of its own through each hook, and looks whether it arrived.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use proxy_common::layout::{PROBE_ETHERTYPE, ProbeKey, ProbeSide};
use tracing::{info, warn};

use super::attach::program_name;
use super::classify::Target;
use super::clsact::Side;
use super::error::{Context, DatapathError};
use super::follow::Follower;
use super::map::Map;
use super::sys::{self, program_type};

/// How long a frame may take from the backlog of a CPU to the hook.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);
/// So many are awaited at once; PROBES has room for more.
const AT_ONCE: usize = 256;
/// Bytes of a frame: the smallest that Ethernet has, without its check sequence.
const LENGTH: usize = 60;
/// Where the interface, the direction and the token stand.
const INTERFACE: usize = 14;
const DIRECTION: usize = 18;
const TOKEN: usize = 22;
/// The program's result where the frame could not be brought in: its interface is down, or a CPU's backlog is full.
const SENT: u32 = 0;

type Hook = (u32, Side);

/// What was found out so far.
#[derive(Debug, Default)]
pub(super) struct Probing {
    sender: Option<OwnedFd>,
    tried: BTreeSet<u32>,
    unreached: BTreeMap<Hook, String>,
}

impl Probing {
    /// All are to be tried again.
    pub(super) fn forget(&mut self) {
        self.tried.clear();
    }

    /// The program that sends a frame by the interface and in the direction that it names: see bpf_clone_redirect.
    fn sender(&mut self) -> Result<&OwnedFd, DatapathError> {
        const CLONE_REDIRECT: u64 = 13;
        let load_word = |offset: usize| (offset as u64) << 32 | 0x20;
        let program = [
            0x16bf, // r6 = r1, the context, where loads of words look for it
            load_word(INTERFACE),
            0x07bf, // r7 = r0
            load_word(DIRECTION),
            0x03bf, // r3 = r0
            0x72bf, // r2 = r7
            0x61bf, // r1 = r6
            CLONE_REDIRECT << 32 | 0x85,
            0x95,
        ];
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => sys::program_load(program_type::SCHED_CLS, 0, &program)
                .call("BPF_PROG_LOAD", "the sender of frames")?,
        };
        Ok(self.sender.insert(sender))
    }

    /// Those of the hooks that a frame did not come to. A hook that could not be tried is not among them.
    fn send(&mut self, probes: &Map<ProbeKey, u32>, hooks: &[Hook]) -> Result<Vec<Hook>, DatapathError> {
        let sender = self.sender()?;
        let mut awaited = Vec::new();
        for (index, side) in hooks {
            let (key, token) = (key(*index, *side), token());
            probes.put(&key, &token)?;
            let sent = sys::program_run(sender.as_fd(), &frame(*index, *side, token));
            let sent = sent.call("BPF_PROG_TEST_RUN", "the sender of frames")?;
            // What ends at egress gives what a full queue gives: whether it arrived is seen.
            if *side == Side::Egress || sent == SENT {
                awaited.push((*index, *side));
            }
        }
        let since = Instant::now();
        loop {
            let mut waiting = Vec::new();
            for (index, side) in awaited {
                if probes.get(&key(index, side))? != Some(0) {
                    waiting.push((index, side));
                }
            }
            awaited = waiting;
            if awaited.is_empty() || since.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        for (index, side) in hooks {
            probes.remove(&key(*index, *side))?;
        }
        Ok(awaited)
    }
}

impl Follower {
    /// Tries the interfaces that have their programs and were not tried yet, and says what is new.
    pub(super) fn probe(&mut self) {
        let Some(probes) = self.attacher.programs.probes() else {
            return;
        };
        let attached = &self.attacher.attached;
        let probing = &mut self.probing;
        probing.tried.retain(|index| attached.contains_key(index));
        probing
            .unreached
            .retain(|(index, _), _| attached.contains_key(index));
        let fresh: Vec<u32> = attached
            .keys()
            .copied()
            .filter(|index| !probing.tried.contains(index))
            .collect();
        let hooks: Vec<Hook> = fresh
            .iter()
            .flat_map(|index| Side::BOTH.map(|side| (*index, side)))
            .collect();
        for hooks in hooks.chunks(AT_ONCE) {
            match probing.send(probes, hooks) {
                Ok(unreached) => probing.note(hooks, &unreached, attached),
                Err(error) => warn!(%error, "whether packets come to the programs was not tried"),
            }
        }
        probing.tried.extend(fresh);
        let unreached: Vec<String> = probing.unreached.values().cloned().collect();
        self.hooks.send_if_modified(|hooks| {
            let is_other = hooks.unreached != unreached;
            hooks.unreached = unreached;
            is_other
        });
    }
}

impl Probing {
    fn note(&mut self, tried: &[Hook], unreached: &[Hook], targets: &BTreeMap<u32, Target>) {
        for hook in tried {
            let Some(target) = targets.get(&hook.0) else {
                continue;
            };
            if !unreached.contains(hook) {
                if let Some(text) = self.unreached.remove(hook) {
                    info!(hook = text, "frames come to the program again");
                }
                continue;
            }
            let text = format!(
                "{} at {} ({})",
                program_name(target, hook.1),
                target.name,
                hook.1.name()
            );
            if !self.unreached.contains_key(hook) {
                warn!(
                    hook = text,
                    "a frame of the agent's own did not come to the program: another's before it ends frames, or sends them \
                     elsewhere; `bpftool net show` and `tc filter show` name them"
                );
            }
            self.unreached.insert(*hook, text);
        }
    }
}

fn key(index: u32, side: Side) -> ProbeKey {
    let side = match side {
        Side::Ingress => ProbeSide::Ingress,
        Side::Egress => ProbeSide::Egress,
    };
    ProbeKey::new(index, side)
}

/// Nobody outside can know it, so that nobody else's frame is ever taken for ours.
fn token() -> u32 {
    (RandomState::new().build_hasher().finish() as u32).max(1)
}

fn frame(index: u32, side: Side, token: u32) -> [u8; LENGTH] {
    /// BPF_F_INGRESS of bpf_clone_redirect.
    const INWARDS: u32 = 1;
    let direction = match side {
        Side::Ingress => INWARDS,
        Side::Egress => 0,
    };
    let mut frame = [0; LENGTH];
    frame[12..INTERFACE].copy_from_slice(&PROBE_ETHERTYPE.to_be_bytes());
    frame[INTERFACE..DIRECTION].copy_from_slice(&index.to_be_bytes());
    frame[DIRECTION..TOKEN].copy_from_slice(&direction.to_be_bytes());
    frame[TOKEN..TOKEN + 4].copy_from_slice(&token.to_ne_bytes());
    frame
}
