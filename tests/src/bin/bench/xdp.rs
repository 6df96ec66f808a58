//! Nanoseconds a packet at XDP, by the kernel's own test run: forwarded, of no Service, beside a program that does nothing
//! and one that does a single look-up in an LRU of the same size.
//!
//! The test run hands the program its own output. Each flow is a pair of entries that lead to each other, the neighbour has the
//! address that the uplink listens to, and the hop limit is counted down: after 250 runs a new packet is taken.
//!
//! All programs are attached somewhere, where no packet comes by: else the kernel would rewrite its dispatcher of XDP before
//! each test run, which costs milliseconds, and what is measured would be 250 runs of code that no cache holds yet.

use anyhow::{Context, Result, bail, ensure};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun, TestRunOptions, Xdp};
use lab::packet::wire;
use proxy_common::layout::{
    Action, Direction, FilterBit, Port, UPLINK_TAKES, UPLINK_TURNS, Uplink, V4, names, protocol,
};

use crate::packet::{ACK, FLOWS, client_port, fill, flow_entry, load, new_flow_time, packet, set};
use crate::record::Records;

/// Fewer than the hop limit that packets begin with.
const REPEAT: u32 = 250;
/// Test runs of one figure.
const PACKETS: u32 = 4000;

const CLIENT: V4 = V4::new([10, 1, 0, 0x20]);
/// Two addresses behind the uplink's neighbour.
const ENDS: [(V4, Port); 2] = [
    (V4::new([10, 5, 0, 1]), Port::new(80)),
    (V4::new([10, 5, 0, 2]), Port::new(8080)),
];
const STRANGER: (V4, Port) = (V4::new([10, 5, 0, 3]), Port::new(80));
/// The neighbour's link-layer address.
const LINK: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Measures all, in a network namespace of its own.
pub(crate) fn run(rounds: usize, records: &mut Records) -> Result<()> {
    println!("bench: packets at XDP");
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| -> Result<()> {
            let wire = wire::enter()?;
            measure(rounds, wire.uplink, records)
        });
        measured
            .join()
            .map_err(|_| anyhow::anyhow!("the bench of XDP panicked"))?
    })
}

fn measure(rounds: usize, uplink: u32, records: &mut Records) -> Result<()> {
    let mut shunt = load("shunt.o")?;
    let mut testing = load("testing.o")?;
    for object in [&mut shunt, &mut testing] {
        fill(object)?;
    }
    let seen = new_flow_time(&mut shunt)?;
    for object in [&mut shunt, &mut testing] {
        flows(object, seen)?;
    }
    let [a, b, c, d, e, f] = LINK;
    let mut element = [[a, b], [c, d], [e, f]].concat();
    element.extend((UPLINK_TAKES | UPLINK_TURNS).to_ne_bytes());
    element.extend(uplink.to_ne_bytes());
    element.resize(32, 0);
    let mut uplinks: Array<&mut MapData, [u8; 32]> =
        Array::try_from(shunt.map_mut(names::UPLINKS).context("no UPLINKS")?)?;
    let element: [u8; 32] = element.as_slice().try_into().context("an element of 32 bytes")?;
    uplinks.set(Uplink::slot(uplink), element, 0)?;

    let frame = |to| {
        let mut bytes = packet((CLIENT, client_port(1)), to, ACK);
        bytes[..6].copy_from_slice(&LINK);
        bytes[22] = 255;
        // Any checksum but the pseudo-header's own sum.
        bytes[50..52].copy_from_slice(&[0x12, 0x34]);
        bytes
    };
    let (forward, stranger) = (frame(ENDS[0]), frame(STRANGER));
    let names = [names::program::XDP_UPLINK_FRAGS, names::program::XDP_UPLINK];
    let rows = [
        ("empty program", "xdp_empty", &forward, 2),
        ("one LRU look-up", "xdp_bare", &forward, 3),
        ("xdp_uplink_frags, no Service", names[0], &stranger, 2),
        ("xdp_uplink_frags, forwarded", names[0], &forward, 3),
        ("xdp_uplink, forwarded", names[1], &forward, 3),
    ];
    let idle = ["uplink-far", "narrow-far", "pod-far", "pod"];
    let programs = ["xdp_empty", "xdp_bare", names[0], names[1]];
    for (interface, name) in idle.into_iter().zip(programs) {
        let object = if shunt.program(name).is_some() {
            &mut shunt
        } else {
            &mut testing
        };
        let program = program(object, name)?;
        program
            .attach(interface, XdpMode::Driver)
            .with_context(|| format!("attaching {name} to {interface}"))?;
    }
    let mut times: Vec<Vec<f64>> = rows.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for ((_, program, frame, verdict), times) in rows.iter().zip(&mut times) {
            let object = if shunt.program(program).is_some() {
                &mut shunt
            } else {
                &mut testing
            };
            times.push(time(object, program, frame, uplink, *verdict)?);
        }
    }
    for ((variant, ..), times) in rows.iter().zip(&times) {
        records.add("XDP packet, hot", variant, 1, "ns", times);
    }
    Ok(())
}

/// The pairs of flows.
fn flows(object: &mut Ebpf, seen: u32) -> Result<()> {
    for (address, port) in ENDS {
        set(object, FilterBit::forward(&address, port, protocol::TCP))?;
    }
    let mut table: HashMap<&mut MapData, [u8; 16], [u8; 40]> =
        HashMap::try_from(object.map_mut(names::TCP_FLOWS4).context("no flows")?)?;
    for number in 0..FLOWS / 2 {
        let client = (CLIENT, client_port(number));
        for (from, to) in [(ENDS[0], ENDS[1]), (ENDS[1], ENDS[0])] {
            let (key, flow) = flow_entry(
                Direction::Forward,
                (client, from),
                (client, to),
                (protocol::TCP, Action::Redirect, seen),
            );
            table.insert(key, flow, 0)?;
        }
    }
    Ok(())
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name);
    let program = program.with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// The mean over many test runs, but for those that leave a packet to TC, as one a second does.
fn time(object: &mut Ebpf, program: &str, frame: &[u8], uplink: u32, verdict: u32) -> Result<f64> {
    let program = self::program(object, program)?;
    let words = [0, frame.len() as u32, 0, uplink, 0, 0];
    let md: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let (mut sum, mut runs) = (0_u128, 0_u32);
    for _ in 0..PACKETS {
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&md),
            repeat: REPEAT,
            ..TestRunOptions::default()
        })?;
        if result.return_value == verdict {
            sum += result.duration.as_nanos();
            runs += 1;
        }
    }
    ensure!(
        runs > PACKETS / 2,
        "only {runs} of {PACKETS} runs ended as they should"
    );
    if sum == 0 {
        bail!("no time passed");
    }
    Ok(sum as f64 / f64::from(runs))
}
