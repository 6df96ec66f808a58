//! Nanoseconds a packet, by the kernel's own test run: the data path's programs beside one that does nothing and one
//! that does a single look-up in an LRU of the same size.
//!
//! A test run that repeats hands the program its own output. So each flow is measured as a pair of entries, each of
//! which leads to the other: every run finds a flow and rewrites the whole tuple.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use aya::maps::{Array, HashMap, MapData};
use aya::programs::{Program, ProgramError, SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use proxy_common::layout::{
    Action, BackendId, Direction, FilterBit, Flow, FlowKey, FrontendKey, FrontendKind, ListWord, Meta, Port,
    V4, names, protocol, state,
};

use crate::record::Records;

/// Flows in the table.
pub(crate) const FLOWS: u32 = 65_536;
const REPEAT: u32 = 500_000;
const NEW_FLOWS: u32 = 20_000;

const CLIENT: V4 = V4::new([10, 244, 1, 2]);
const FRONTEND: (V4, Port) = (V4::new([10, 96, 0, 1]), Port::new(80));
const BACKEND: (V4, Port) = (V4::new([10, 244, 1, 3]), Port::new(8080));
const STRANGER: (V4, Port) = (V4::new([10, 244, 1, 4]), Port::new(8080));

/// Measures all.
pub(crate) fn run(rounds: usize, records: &mut Records) -> Result<()> {
    println!("bench: packets");
    let mut shunt = load("shunt.o")?;
    let mut testing = load("testing.o")?;
    for object in [&mut shunt, &mut testing] {
        fill(object)?;
    }
    let seen = new_flow_time(&mut shunt)?;
    flows(&mut shunt, seen)?;
    flows(&mut testing, seen)?;

    let association = sctp_packet((CLIENT, client_port(1)), FRONTEND);
    let forward = packet((CLIENT, client_port(1)), FRONTEND, ACK);
    let reverse = packet(BACKEND, (CLIENT, client_port(1)), ACK);
    let stranger = packet((CLIENT, client_port(1)), STRANGER, ACK);
    let hot = [
        ("empty program", "empty", &forward),
        ("one LRU look-up", "bare", &forward),
        ("from_pod, no Service", names::program::FROM_POD, &stranger),
        (
            "from_network, no Service",
            names::program::FROM_NETWORK,
            &stranger,
        ),
        ("from_pod, established", names::program::FROM_POD, &forward),
        (
            "from_network, established",
            names::program::FROM_NETWORK,
            &forward,
        ),
        (
            "from_network, established, SCTP",
            names::program::FROM_NETWORK,
            &association,
        ),
        ("to_pod, reply", names::program::TO_POD, &reverse),
        ("to_network, reply", names::program::TO_NETWORK, &reverse),
    ];
    let mut times: Vec<Vec<f64>> = hot.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((_, program, packet), times) in hot.iter().zip(&mut times) {
            let object = if shunt.program(program).is_some() {
                &mut shunt
            } else {
                &mut testing
            };
            times.push(f64::from(time(object, program, packet, REPEAT)?));
        }
    }
    for ((variant, ..), times) in hot.iter().zip(&times) {
        records.add("TC packet, hot", variant, 1, "ns", times);
    }
    cold(rounds, &mut shunt, &mut testing, records)
}

/// A packet a run: what is measured includes the test run's own start.
fn cold(rounds: usize, shunt: &mut Ebpf, testing: &mut Ebpf, records: &mut Records) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    let mut number = 0_u32;
    for _ in 0..rounds {
        let mut sums = [0_u64; 2];
        for _ in 0..NEW_FLOWS {
            number += 1;
            let [_, b, c, d] = number.to_be_bytes();
            let opening = packet((V4::new([10, b, c, d]), client_port(1)), FRONTEND, SYN);
            sums[0] += u64::from(time(testing, "empty", &opening, 1)?);
            sums[1] += u64::from(time(shunt, names::program::FROM_POD, &opening, 1)?);
        }
        for (times, sum) in times.iter_mut().zip(sums) {
            times.push(sum as f64 / f64::from(NEW_FLOWS));
        }
    }
    for (variant, times) in ["empty program", "from_pod, new flow"].into_iter().zip(&times) {
        records.add("TC packet, one a run", variant, 1, "ns", times);
    }
    Ok(())
}

pub(crate) fn load(name: &str) -> Result<Ebpf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../target/bpf")
        .join(name);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("reading {}: run `cargo xtask build-ebpf`", path.display()))?;
    let mut loader = EbpfLoader::new();
    for table in [names::TCP_FLOWS4, names::TCP_EMBRYOS4] {
        loader.map_max_entries(table, FLOWS * 4);
    }
    let mut object = loader.load(&bytes).with_context(|| format!("loading {name}"))?;
    for (program, loaded) in object.programs_mut() {
        let done = match loaded {
            Program::SchedClassifier(loaded) => loaded.load(),
            Program::Xdp(loaded) => loaded.load(),
            _ => continue,
        };
        done.with_context(|| format!("loading the program {program}"))?;
    }
    Ok(object)
}

fn time(object: &mut Ebpf, program: &str, packet: &[u8], repeat: u32) -> Result<u32> {
    let program: &mut SchedClassifier = object
        .program_mut(program)
        .with_context(|| format!("the object has no program {program}"))?
        .try_into()
        .map_err(|error: ProgramError| anyhow::anyhow!("{error}"))?;
    let result = program.test_run(TestRunOptions {
        data_in: Some(packet),
        repeat,
        ..TestRunOptions::default()
    })?;
    if result.return_value == 2 {
        bail!("the program dropped the packet");
    }
    u32::try_from(result.duration.as_nanos()).context("an absurd duration")
}

/// The tables of one Service with one backend.
pub(crate) fn fill(object: &mut Ebpf) -> Result<()> {
    let mut config = Vec::new();
    config.extend(0_u64.to_ne_bytes());
    config.extend([1_u32, 0, 250].map(u32::to_ne_bytes).concat());
    config.extend([45_000_u16, 16_000].map(u16::to_ne_bytes).concat());
    config.extend([u32::MAX / 4; 6].map(u32::to_ne_bytes).concat());
    put::<48>(object, names::CONFIG, 0, &config)?;
    let service = [ListWord::new(1, 1, 7); 3]
        .map(|word| word.0.to_ne_bytes())
        .concat();
    put::<32>(object, names::SERVICES, 1, &[service, vec![0; 8]].concat())?;
    put::<4>(object, names::SLOTS, 1, &1_u32.to_ne_bytes())?;
    let mut backend = vec![0; 10];
    backend.extend([0xff, 0xff]);
    backend.extend(BACKEND.0.octets());
    backend.extend(BACKEND.1.number().to_be_bytes());
    backend.extend([protocol::TCP, 1]);
    backend.extend([1_u32, 1, 0].map(u32::to_ne_bytes).concat());
    put::<32>(object, names::BACKENDS, 1, &backend)?;
    if object.map(names::FRONTENDS4).is_some() {
        let key = FrontendKey::new(FRONTEND.0, FRONTEND.1, protocol::TCP);
        let mut bytes = key.address.octets().to_vec();
        bytes.extend(key.port.number().to_be_bytes());
        bytes.extend([protocol::TCP, 0]);
        let mut value = [1, key.tag()].map(u32::to_ne_bytes).concat();
        value.extend(7_u16.to_ne_bytes());
        value.extend([FrontendKind::ClusterIp as u8, 0]);
        let mut frontends: HashMap<&mut MapData, [u8; 8], [u8; 12]> =
            HashMap::try_from(object.map_mut(names::FRONTENDS4).context("no frontends")?)?;
        frontends.insert(exact::<8>(&bytes)?, exact::<12>(&value)?, 0)?;
    }
    let ends = [FRONTEND, BACKEND];
    for (address, port) in ends {
        for ip_protocol in [protocol::TCP, protocol::SCTP] {
            set(object, FilterBit::forward(&address, port, ip_protocol))?;
            set(object, FilterBit::reverse(&address, port, ip_protocol))?;
        }
    }
    Ok(())
}

pub(crate) fn set(object: &mut Ebpf, bit: FilterBit) -> Result<()> {
    let mut words: Array<&mut MapData, u64> =
        Array::try_from(object.map_mut(names::PREFILTER).context("no prefilter")?)?;
    let word = words.get(&bit.word(), 0)?;
    words
        .set(bit.word(), word | bit.mask(), 0)
        .context("the prefilter")
}

fn put<const N: usize>(object: &mut Ebpf, map: &str, index: u32, value: &[u8]) -> Result<()> {
    let mut array: Array<&mut MapData, [u8; N]> =
        Array::try_from(object.map_mut(map).with_context(|| format!("no map {map}"))?)?;
    array
        .set(index, exact::<N>(value)?, 0)
        .with_context(|| format!("writing {map}"))
}

fn exact<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes
        .try_into()
        .with_context(|| format!("{} bytes, not {N}", bytes.len()))
}

/// The kernel's clock as flows have it: out of a flow that a program makes.
pub(crate) fn new_flow_time(shunt: &mut Ebpf) -> Result<u32> {
    time(
        shunt,
        names::program::FROM_POD,
        &packet((CLIENT, Port::new(999)), FRONTEND, SYN),
        1,
    )?;
    let embryos: HashMap<&MapData, [u8; 16], [u8; 40]> =
        HashMap::try_from(shunt.map(names::TCP_EMBRYOS4).context("no embryos")?)?;
    let (_, flow) = embryos
        .iter()
        .next()
        .context("a SYN to a Service made no flow: the data path does not work")??;
    Ok(Meta(u64::from_ne_bytes(exact(&flow[..8])?)).seen())
}

/// Fills the flow table with TCP's pairs, in both directions, and one of SCTP's.
fn flows(object: &mut Ebpf, seen: u32) -> Result<()> {
    let mut table: HashMap<&mut MapData, [u8; 16], [u8; 40]> =
        HashMap::try_from(object.map_mut(names::TCP_FLOWS4).context("no flows")?)?;
    let connections = (0..FLOWS / 4).map(|number| (protocol::TCP, number));
    for (ip_protocol, number) in connections.chain([(protocol::SCTP, 1)]) {
        let client = (CLIENT, client_port(number));
        for (from, to) in [(FRONTEND, BACKEND), (BACKEND, FRONTEND)] {
            for (direction, old, new) in [
                (Direction::Forward, (client, from), (client, to)),
                (Direction::Reverse, (from, client), (to, client)),
            ] {
                let (key, flow) = flow_entry(direction, old, new, (ip_protocol, Action::Stack, seen));
                table.insert(key, flow, 0)?;
            }
        }
    }
    Ok(())
}

/// Source and destination.
type Tuple = ((V4, Port), (V4, Port));

/// An entry of a flow table: what a tuple becomes, by which protocol, in which way, and when that was noted last.
pub(crate) fn flow_entry(
    direction: Direction,
    old: Tuple,
    new: Tuple,
    (ip_protocol, action, seen): (u8, Action, u32),
) -> ([u8; 16], [u8; 40]) {
    let key = FlowKey {
        source: old.0.0,
        destination: old.1.0,
        source_port: old.0.1,
        destination_port: old.1.1,
        protocol: ip_protocol,
        direction: direction as u8,
        pad: 0,
    };
    let flow = Flow {
        meta: Meta::new(key.tag(), state::REPLIED | state::ESTABLISHED, seen),
        source: new.0.0,
        destination: new.1.0,
        source_port: new.0.1,
        destination_port: new.1.1,
        backend: BackendId(1),
        generation: 1,
        action: action as u8,
        ..Flow::default()
    };
    (key_bytes(&key), flow_bytes(&flow))
}

fn key_bytes(key: &FlowKey<V4>) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&key.source.octets());
    bytes[4..8].copy_from_slice(&key.destination.octets());
    bytes[8..10].copy_from_slice(&key.source_port.number().to_be_bytes());
    bytes[10..12].copy_from_slice(&key.destination_port.number().to_be_bytes());
    bytes[12] = key.protocol;
    bytes[13] = key.direction;
    bytes
}

fn flow_bytes(flow: &Flow<V4>) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(&flow.meta.0.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flow.source.octets());
    bytes[12..16].copy_from_slice(&flow.destination.octets());
    bytes[16..18].copy_from_slice(&flow.source_port.number().to_be_bytes());
    bytes[18..20].copy_from_slice(&flow.destination_port.number().to_be_bytes());
    bytes[20..24].copy_from_slice(&flow.backend.0.to_ne_bytes());
    bytes[24..28].copy_from_slice(&flow.generation.to_ne_bytes());
    bytes[36] = flow.action;
    bytes
}

pub(crate) fn client_port(number: u32) -> Port {
    Port::new(u16::try_from(number % 60_000 + 1024).unwrap_or(1024))
}

const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;

/// An Ethernet frame with an IPv4 TCP segment, without data and without checksums: nobody checks them here.
pub(crate) fn packet(from: (V4, Port), to: (V4, Port), flags: u8) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    bytes.extend([8, 0]);
    bytes.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, protocol::TCP, 0, 0]);
    bytes.extend(from.0.octets());
    bytes.extend(to.0.octets());
    bytes.extend(from.1.number().to_be_bytes());
    bytes.extend(to.1.number().to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes
}

/// The same with an SCTP packet of 1,400 bytes.
fn sctp_packet(from: (V4, Port), to: (V4, Port)) -> Vec<u8> {
    const LENGTH: u16 = 1400;
    let mut bytes = packet(from, to, ACK);
    bytes[16..18].copy_from_slice(&(20 + LENGTH).to_be_bytes());
    bytes[23] = protocol::SCTP;
    // A chunk of data.
    bytes[46] = 0;
    bytes.resize(14 + 20 + usize::from(LENGTH), 7);
    bytes
}
