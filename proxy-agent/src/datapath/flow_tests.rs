//! Sweeping, released bits and destroyed sockets: with real maps, sockets and the kernel's own clock.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::time::Duration;

use proxy_common::layout::{
    Action, Addr, Affinity, AffinityKey, Backend, BackendId, CONFIG_BYPASSED, CONFIG_FAST, Config, Direction,
    Family, FilterBit, Flow, FlowKey, Meta, NamespaceAddress, NamespaceKey, Port, ServiceId, SocketKey,
    SocketValue, V4, V6, protocol, state,
};

use super::Datapath;
use super::clock::Clock;
use super::map::Map;
use super::options::FlowLives;
use super::sweep::{Sweeper, Swept};
use super::sys::{self, Layout};
use super::tables::{FlowTables, Tables};
use super::testing::{Namespace, Place, eventually};
use crate::plan::Operation;

struct Running {
    node: Namespace,
    _place: Place,
    datapath: Datapath,
}

fn running() -> Running {
    let (node, place) = (Namespace::new(), Place::new());
    let datapath = place.start(&node).unwrap();
    Running {
        node,
        _place: place,
        datapath,
    }
}

/// A flow of client port `client` to frontend `address`:80, last seen `seconds` ago, in one table.
struct Put<'a, A> {
    table: &'a Map<FlowKey<A>, Flow<A>>,
    frontend: A,
    protocol: u8,
    rate: u32,
    now: u32,
}

impl<A: Addr> Put<'_, A>
where
    FlowKey<A>: Layout,
    Flow<A>: Layout,
{
    fn flow(&self, client: u16, seconds: u32, bits: u8) -> FlowKey<A> {
        let key = FlowKey {
            destination: self.frontend,
            source_port: Port::new(client),
            destination_port: Port::new(80),
            protocol: self.protocol,
            direction: Direction::Forward as u8,
            ..FlowKey::default()
        };
        let seen = self.now.wrapping_sub(seconds * self.rate);
        let flow = Flow {
            meta: Meta::new(key.tag(), bits, seen),
            destination_port: Port::new(8080),
            backend: BackendId(1),
            action: Action::Stack as u8,
            ..Flow::default()
        };
        self.table.put(&key, &flow).unwrap();
        key
    }
}

fn sweeper(datapath: &Datapath) -> Sweeper {
    let (tables, released) = (datapath.tables.clone(), datapath.released.clone());
    Sweeper::new(tables, released, datapath.grace.clone()).unwrap()
}

fn sweep(datapath: &Datapath) -> Swept {
    let mut sweeper = sweeper(datapath);
    let mut total = Swept::default();
    while !total.end {
        let slice = sweeper.slice().unwrap();
        total = Swept {
            deleted: total.deleted + slice.deleted,
            cleared: total.cleared + slice.cleared,
            end: slice.end,
            counts: slice.counts,
        };
    }
    total
}

fn swept_table<A: Addr>(
    datapath: &Datapath,
    table: &Map<FlowKey<A>, Flow<A>>,
    ip_protocol: u8,
    bits: u8,
    life: u32,
) where
    FlowKey<A>: Layout,
    Flow<A>: Layout,
{
    let put = Put {
        table,
        frontend: A::default(),
        protocol: ip_protocol,
        rate: datapath.tables.config.get(&0).unwrap().unwrap().ticks_per_second,
        now: Clock::new().unwrap().now().unwrap(),
    };
    let young = put.flow(1, life - 30, bits);
    let expired = put.flow(2, life + 30, bits);
    let long_gone = put.flow(3, life + 90, bits);
    assert_eq!(sweep(datapath).deleted, 1);
    assert!(table.get(&young).unwrap().is_some());
    assert!(
        table.get(&expired).unwrap().is_some(),
        "expired less than a minute ago"
    );
    assert!(table.get(&long_gone).unwrap().is_none());
}

#[test]
fn records_of_session_affinity_are_swept_after_the_longest_time() {
    let running = running();
    let tables = running.datapath.tables.clone();
    let rate = tables.config.get(&0).unwrap().unwrap().ticks_per_second;
    let now = Clock::new().unwrap().now().unwrap();
    let put = |client, seconds: u32| {
        let key = AffinityKey::of_namespace(client, ServiceId(1));
        let seen = now.wrapping_sub(seconds * rate);
        let record = Affinity::new(key.tag(1), seen, BackendId(1), 1);
        tables.affinity.put(&key, &record).unwrap();
        key
    };
    let (young, old) = (put(1, 86_400), put(2, 86_400 + 90));
    assert_eq!(sweep(&running.datapath).deleted, 1);
    assert!(tables.affinity.get(&young).unwrap().is_some());
    assert!(tables.affinity.get(&old).unwrap().is_none());
}

#[test]
fn addresses_of_namespaces_are_swept_when_nobody_believes_them() {
    let running = running();
    let tables = running.datapath.tables.clone();
    let rate = tables.config.get(&0).unwrap().unwrap().ticks_per_second;
    let now = Clock::new().unwrap().now().unwrap();
    let put = |cookie, seconds: u32| {
        let key = NamespaceKey::new(cookie, Family::V4);
        let seen = now.wrapping_sub(seconds * rate);
        let address = NamespaceAddress::new(&key, &V4::new([10, 0, 0, 1]), seen);
        tables.namespaces.put(&key, &address).unwrap();
        key
    };
    let (young, old) = (put(1, 3600), put(2, 3600 + 90));
    assert_eq!(sweep(&running.datapath).deleted, 1);
    assert!(tables.namespaces.get(&young).unwrap().is_some());
    assert!(tables.namespaces.get(&old).unwrap().is_none());
}

#[test]
fn lives_are_changed_while_programs_run_and_all_else_stays() {
    let running = running();
    let config = || running.datapath.tables.config.get(&0).unwrap().unwrap();
    let before = config();
    let lives = FlowLives {
        udp_embryo: Duration::from_secs(7),
        ..FlowLives::default()
    };
    running.datapath.lives().set(lives).unwrap();
    let expected = Config {
        udp_embryo: 7 * before.ticks_per_second,
        ..before
    };
    assert_eq!(config(), expected);
}

/// Their replies are looked for where packets come in, until a sweep has met none and no new ones are made.
#[test]
fn flows_around_the_stack_are_forgotten_once_a_sweep_meets_none() {
    let running = running();
    let datapath = &running.datapath;
    let tables = datapath.tables.clone();
    let put = Put {
        table: &tables.flows4.tcp_flows,
        frontend: V4::default(),
        protocol: protocol::TCP,
        rate: tables.config.get(&0).unwrap().unwrap().ticks_per_second,
        now: Clock::new().unwrap().now().unwrap(),
    };
    let key = put.flow(1, 0, state::REPLIED | state::ESTABLISHED);
    let mut flow = put.table.get(&key).unwrap().unwrap();
    flow.action = Action::Bypass as u8;
    put.table.put(&key, &flow).unwrap();
    let set = |flags| {
        super::config::change(&tables, |config| config.flags |= flags).unwrap();
    };
    let flags = || tables.config.get(&0).unwrap().unwrap().flags & (CONFIG_FAST | CONFIG_BYPASSED);
    set(CONFIG_BYPASSED);
    sweep(datapath);
    assert_eq!(flags(), CONFIG_BYPASSED, "one lives");
    put.table.remove(&key).unwrap();
    set(CONFIG_FAST);
    sweep(datapath);
    assert_eq!(flags(), CONFIG_FAST | CONFIG_BYPASSED, "others are made");
    super::config::change(&tables, |config| config.flags &= !CONFIG_FAST).unwrap();
    sweep(datapath);
    assert_eq!(flags(), 0);
}

#[test]
fn only_what_expired_a_minute_ago_is_swept_from_every_table() {
    let running = running();
    let tables = running.datapath.tables.clone();
    let established = state::REPLIED | state::ESTABLISHED;
    let datapath = &running.datapath;
    swept_table(datapath, &tables.flows4.tcp_embryos, protocol::TCP, 0, 60);
    swept_table(
        datapath,
        &tables.flows4.tcp_flows,
        protocol::TCP,
        established,
        86_400,
    );
    swept_table(datapath, &tables.flows4.udp_embryos, protocol::UDP, 0, 30);
    swept_table(
        datapath,
        &tables.flows4.udp_flows,
        protocol::UDP,
        established,
        180,
    );
    swept_table(datapath, &tables.flows6.tcp_embryos, protocol::TCP, 0, 60);
    swept_table(
        datapath,
        &tables.flows6.tcp_flows,
        protocol::TCP,
        established | state::FIN_FORWARD,
        3600,
    );
    swept_table(
        datapath,
        &tables.flows6.tcp_flows,
        protocol::TCP,
        established | state::RESET,
        120,
    );
    swept_table(datapath, &tables.flows6.udp_embryos, protocol::UDP, 0, 30);
    swept_table(
        datapath,
        &tables.flows6.udp_flows,
        protocol::UDP,
        established,
        180,
    );
    let counts = sweep(datapath).counts;
    assert_eq!((counts.live, counts.all), ([1; 8], [2; 8]));
}

/// Fills a table beyond its size, and compares what two sweeps say with what is gone.
fn counted_as_pushed_out<A: Addr>(
    of: impl Fn(&FlowTables<A>) -> &Map<FlowKey<A>, Flow<A>>,
    family: impl Fn(&Tables) -> &FlowTables<A>,
    ip_protocol: u8,
    number: usize,
) where
    FlowKey<A>: Layout,
    Flow<A>: Layout,
{
    const ROOM: u16 = 1024;
    let (node, place) = (Namespace::new(), Place::new());
    let entries = [
        format!("tcp-flows={ROOM}"),
        format!("udp-flows={ROOM}"),
        format!("embryos={ROOM}"),
    ];
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    let datapath = place.start_with_entries(&node, &entries, 1 << 30).unwrap();
    let tables = datapath.tables.clone();
    let table = of(family(&tables));
    let put = Put {
        table,
        frontend: A::default(),
        protocol: ip_protocol,
        rate: tables.config.get(&0).unwrap().unwrap().ticks_per_second,
        now: Clock::new().unwrap().now().unwrap(),
    };
    let open = state::REPLIED | state::ESTABLISHED;
    let mut sweeper = sweeper(&datapath);
    let mut pushed_out = || {
        let mut last = Swept::default();
        while !last.end {
            last = sweeper.slice().unwrap();
        }
        last.counts.pushed_out
    };
    let flows: Vec<_> = (0..ROOM / 2).map(|client| put.flow(client, 0, open)).collect();
    // Those that are over, or will be before the next sweep, are nobody's loss.
    for client in ROOM / 2..ROOM * 3 / 4 {
        let (seconds, bits) = if client % 2 == 0 {
            (90_000, open)
        } else {
            (0, open | state::RESET | state::FIN_FORWARD | state::FIN_REVERSE)
        };
        put.flow(client, seconds, bits);
    }
    assert_eq!(pushed_out(), [0; 4]);
    for client in 0..ROOM * 2 {
        put.flow(20_000 + client, 0, 0);
    }
    let gone = flows.iter().filter(|key| table.get(key).unwrap().is_none());
    let mut expected = [0; 4];
    expected[number] = gone.count() as u64;
    assert!(expected[number] > u64::from(ROOM / 4), "{expected:?}");
    assert_eq!(pushed_out(), [0; 4], "it may be between two tables");
    assert_eq!(pushed_out(), expected);
    assert_eq!(pushed_out(), expected, "each counts once");
}

#[test]
fn established_flows_that_are_pushed_out_are_counted() {
    counted_as_pushed_out(
        |flows| &flows.tcp_flows,
        |tables| &tables.flows4,
        protocol::TCP,
        0,
    );
    counted_as_pushed_out(
        |flows| &flows.tcp_flows,
        |tables| &tables.flows4,
        protocol::SCTP,
        0,
    );
    counted_as_pushed_out(
        |flows| &flows.udp_flows,
        |tables| &tables.flows4,
        protocol::UDP,
        1,
    );
    counted_as_pushed_out(
        |flows| &flows.tcp_flows,
        |tables| &tables.flows6,
        protocol::TCP,
        2,
    );
    counted_as_pushed_out(
        |flows| &flows.udp_flows,
        |tables| &tables.flows6,
        protocol::UDP,
        3,
    );
}

#[test]
fn connections_are_counted_anew_by_a_sweep() {
    let mut running = running();
    let tables = running.datapath.tables.clone();
    let put = Put {
        table: &tables.flows4.tcp_flows,
        frontend: V4::default(),
        protocol: protocol::TCP,
        rate: tables.config.get(&0).unwrap().unwrap().ticks_per_second,
        now: Clock::new().unwrap().now().unwrap(),
    };
    for id in [1, 2] {
        let backend = backend("10.1.0.1:80", protocol::TCP, 1);
        tables.backends.put(BackendId(id), &backend).unwrap();
        // What programs have counted, and nobody ended.
        tables.loads.put(&BackendId(id), &(40 + id as i32)).unwrap();
    }
    let open = state::REPLIED | state::ESTABLISHED;
    put.flow(1, 0, open);
    put.flow(2, 3600, open);
    put.flow(3, 0, open | state::RESET);
    put.flow(4, 200_000, open);
    sweep(&running.datapath);
    let load = |id: u32| tables.loads.get(&BackendId(id)).unwrap();
    assert_eq!(
        [1, 2].map(load),
        [Some(2), Some(0)],
        "closing ones and those whose time is up count no more"
    );
    // A new use of the id begins with none.
    let new = Operation::PutBackend(BackendId(1), backend("10.1.0.2:80", protocol::TCP, 2));
    running.datapath.apply(&[new]).unwrap();
    assert_eq!(load(1), Some(0));
}

#[test]
fn a_released_bit_waits_for_the_last_live_flow() {
    let mut running = running();
    let tables = running.datapath.tables.clone();
    let frontend = V4::new([10, 96, 0, 7]);
    let used = FilterBit::forward(&frontend, Port::new(80), protocol::TCP);
    let free = FilterBit::forward(&frontend, Port::new(81), protocol::TCP);
    let claimed = FilterBit::forward(&frontend, Port::new(82), protocol::TCP);
    for bit in [used, free, claimed] {
        running
            .datapath
            .apply(&[Operation::SetFilter(bit), Operation::ReleaseFilter(bit)])
            .unwrap();
    }
    running.datapath.apply(&[Operation::SetFilter(claimed)]).unwrap();
    let put = Put {
        table: &tables.flows4.tcp_flows,
        frontend,
        protocol: protocol::TCP,
        rate: tables.config.get(&0).unwrap().unwrap().ticks_per_second,
        now: Clock::new().unwrap().now().unwrap(),
    };
    let key = put.flow(40_000, 5, state::ESTABLISHED);
    let bits = || {
        [used, free, claimed].map(|bit| {
            let words: std::collections::BTreeMap<u32, u64> = tables.prefilter.used().into_iter().collect();
            words.get(&bit.word()).is_some_and(|word| word & bit.mask() != 0)
        })
    };
    assert_eq!(bits(), [true, true, true]);
    assert_eq!(sweep(&running.datapath).cleared, 1);
    assert_eq!(bits(), [true, false, true]);
    // The last flow expires: nothing holds the bit any more.
    put.flow(40_000, 86_400 + 10, state::ESTABLISHED);
    assert_eq!(sweep(&running.datapath).cleared, 1);
    assert_eq!(bits(), [false, false, true]);
    assert!(tables.flows4.tcp_flows.get(&key).unwrap().is_some());
}

#[test]
fn a_bit_claimed_and_released_during_a_sweep_waits_for_the_next() {
    let mut running = running();
    let bit = FilterBit::node_port(Port::new(30_080), protocol::TCP);
    running
        .datapath
        .apply(&[Operation::SetFilter(bit), Operation::ReleaseFilter(bit)])
        .unwrap();
    let datapath = &running.datapath;
    let candidates = datapath.released.candidates();
    running
        .datapath
        .apply(&[Operation::SetFilter(bit), Operation::ReleaseFilter(bit)])
        .unwrap();
    let datapath_after = &running.datapath;
    assert_eq!(
        datapath_after
            .released
            .clear(&datapath_after.tables.prefilter, &candidates),
        0
    );
    assert_eq!(sweep(datapath_after).cleared, 1);
}

/// A UDP socket of the node, connected to a port where nobody answers, and what socket LB would have noted of it.
fn connected(running: &Running, address: &'static str, noted: Option<(BackendId, u32)>) -> UdpSocket {
    let tables = running.datapath.tables.clone();
    running.node.run(move || {
        let target: std::net::SocketAddr = address.parse().unwrap();
        let local = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).unwrap();
        socket.connect(target).unwrap();
        let cookie = sys::socket_cookie(socket.as_fd()).unwrap();
        if let Some((backend, generation)) = noted {
            let key = SocketKey {
                cookie,
                address: V6::from(target.ip()),
                port: Port::new(target.port()),
                protocol: protocol::UDP,
                direction: Direction::Reverse as u8,
                pad: 0,
            };
            let value = SocketValue {
                tag: cookie as u32,
                backend,
                generation,
                port: Port::new(53),
                pad: 0,
                address: V6::from("10.96.0.10".parse::<std::net::IpAddr>().unwrap()),
            };
            tables.sockets.put(&key, &value).unwrap();
        }
        socket
    })
}

fn backend(address: &str, ip_protocol: u8, life: u32) -> Backend {
    let target: std::net::SocketAddr = address.parse().unwrap();
    Backend {
        address: V6::from(target.ip()),
        port: Port::new(target.port()),
        protocol: ip_protocol,
        flags: 0,
        service: ServiceId(1),
        life,
        last_life: 0,
    }
}

/// Whether a socket still has its peer.
fn is_connected(socket: &UdpSocket) -> bool {
    socket.peer_addr().is_ok()
}

#[test]
fn udp_sockets_to_a_killed_backend_are_destroyed_and_no_others() {
    for (address, other) in [
        ("127.0.0.9:5353", "127.0.0.8:5353"),
        ("[::1]:5353", "[::1]:5354"),
        // An IPv6 socket that talks IPv4.
        ("[::ffff:127.0.0.9]:5353", "[::ffff:127.0.0.8]:5353"),
    ] {
        let mut running = running();
        let victim = connected(&running, address, Some((BackendId(7), 3)));
        let second = connected(&running, address, Some((BackendId(7), 3)));
        let untranslated = connected(&running, address, None);
        let elsewhere = connected(&running, other, Some((BackendId(8), 1)));
        let other_use = connected(&running, address, Some((BackendId(9), 3)));
        let put = |id, backend| Operation::PutBackend(BackendId(id), backend);
        let operations = [
            put(7, backend(address, protocol::UDP, 3)),
            put(8, backend(other, protocol::UDP, 1)),
            put(9, backend(address, protocol::UDP, 3)),
            Operation::KillBackend(BackendId(7)),
        ];
        running.datapath.apply(&operations).unwrap();
        eventually((false, false), || (is_connected(&victim), is_connected(&second)));
        assert_eq!(
            victim.recv(&mut [0; 8]).unwrap_err().raw_os_error(),
            Some(libc::ECONNABORTED)
        );
        assert!(is_connected(&untranslated) && is_connected(&elsewhere) && is_connected(&other_use));
    }
}

#[test]
fn killing_a_tcp_backend_touches_no_udp_socket() {
    let mut running = running();
    let bystander = connected(&running, "127.0.0.9:53", Some((BackendId(7), 3)));
    let victim = connected(&running, "127.0.0.9:54", Some((BackendId(8), 3)));
    let operations = [
        Operation::PutBackend(BackendId(7), backend("127.0.0.9:53", protocol::TCP, 3)),
        Operation::PutBackend(BackendId(8), backend("127.0.0.9:54", protocol::UDP, 3)),
        Operation::KillBackend(BackendId(7)),
        Operation::KillBackend(BackendId(8)),
    ];
    running.datapath.apply(&operations).unwrap();
    // Kills are handled in order: once the second is done, the first has been.
    eventually(false, || is_connected(&victim));
    assert!(is_connected(&bystander));
}
