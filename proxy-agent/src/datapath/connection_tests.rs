//! Connections of the host that end with their endpoint: with real sockets and the kernel's own destruction of them.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;

use proxy_common::layout::{
    BackendId, Direction, FrontendKey, FrontendValue, Port, SocketKey, SocketValue, V6, protocol,
};

use super::sockets::{self, Living};
use super::sys;
use super::tables::Tables;
use super::testing::{Namespace, Place, eventually};
use crate::agent::MapWriter;
use crate::name::ObjectName;
use crate::plan::{Frontend, Mortal};

/// A connection of the node, and its other end.
struct Connection {
    here: TcpStream,
    there: TcpStream,
}

impl Connection {
    fn is_whole(&mut self) -> bool {
        let sent = self
            .here
            .write_all(b"x")
            .and_then(|()| self.there.read_exact(&mut [0]));
        sent.and_then(|()| self.there.write_all(b"y"))
            .and_then(|()| self.here.read_exact(&mut [0]))
            .is_ok()
    }
}

fn frontend(address: &str) -> Frontend {
    let address: SocketAddr = address.parse().unwrap();
    Frontend {
        address: address.ip(),
        port: Port::new(address.port()),
        protocol: protocol::TCP,
    }
}

/// Listens at an address, connects to it, and notes what socket LB would have.
fn connect(node: &Namespace, tables: &Arc<Tables>, to: SocketAddr, called: Option<&str>) -> Connection {
    let (tables, called) = (tables.clone(), called.map(frontend));
    node.run(move || {
        let listener = TcpListener::bind(SocketAddr::new(to.ip().to_canonical(), 0)).unwrap();
        let to = SocketAddr::new(to.ip(), listener.local_addr().unwrap().port());
        let here = TcpStream::connect(to).unwrap();
        let (there, _) = listener.accept().unwrap();
        let cookie = sys::socket_cookie(here.as_fd()).unwrap();
        if let Some(called) = called {
            let key = SocketKey {
                cookie,
                address: V6::from(to.ip().to_canonical()),
                port: Port::new(to.port()),
                protocol: protocol::TCP,
                direction: Direction::Reverse as u8,
                pad: 0,
            };
            let value = SocketValue {
                tag: cookie as u32,
                backend: BackendId(1),
                generation: 1,
                port: called.port,
                pad: 0,
                address: called.address.into(),
            };
            tables.sockets.put(&key, &value).unwrap();
        }
        Connection { here, there }
    })
}

fn endpoint(connection: &Connection) -> SocketAddr {
    let peer = connection.here.peer_addr().unwrap();
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[test]
fn connections_to_gone_endpoints_are_reset_and_no_others() {
    for (to, [ours, theirs, node_port, other_node_port]) in [
        (
            "127.0.0.9:0",
            [
                "10.96.0.1:80",
                "10.96.0.2:80",
                "192.0.2.1:30080",
                "192.0.2.2:30080",
            ],
        ),
        (
            "[::1]:0",
            [
                "[fd00::1]:80",
                "[fd00::2]:80",
                "[2001:db8::1]:30080",
                "[2001:db8::2]:30080",
            ],
        ),
        // An IPv6 socket that talks IPv4.
        (
            "[::ffff:127.0.0.9]:0",
            [
                "10.96.0.1:80",
                "10.96.0.2:80",
                "192.0.2.1:30080",
                "192.0.2.2:30080",
            ],
        ),
    ] {
        let to: SocketAddr = to.parse().unwrap();
        let (node, place) = (Namespace::new(), Place::new());
        let mut datapath = place.start(&node).unwrap();
        let tables = datapath.tables.clone();
        let call = |called| connect(&node, &tables, to, called);
        let (mut gone, mut gone_too) = (call(Some(ours)), call(Some(node_port)));
        let mut lives = [
            call(Some(ours)),
            call(Some(theirs)),
            call(Some(other_node_port)),
            call(None),
        ];
        // Another Service has a frontend of its own where ours has a node port.
        let other = frontend(other_node_port);
        let value = FrontendValue::default();
        match other.address {
            IpAddr::V4(four) => {
                let key = FrontendKey::new(four.into(), other.port, other.protocol);
                tables.frontends4.put(&key, &value).unwrap();
            }
            IpAddr::V6(six) => {
                let key = FrontendKey::new(six.into(), other.port, other.protocol);
                tables.frontends6.put(&key, &value).unwrap();
            }
        }
        let wildcard = if other.address.is_ipv4() {
            "0.0.0.0:30080"
        } else {
            "[::]:30080"
        };
        let mut mortal = Mortal {
            frontends: vec![frontend(ours), frontend(wildcard)],
            endpoints: lives.iter().chain([&gone, &gone_too]).map(endpoint).collect(),
        };
        let end = |mortal: &Mortal| {
            let (tables, mortal) = (tables.clone(), mortal.clone());
            node.run(move || sockets::end_connections(&tables, &Living::new([&mortal].into_iter())).unwrap())
        };
        assert_eq!(end(&mortal), 0, "all are there");
        mortal.endpoints = [endpoint(&lives[0])].into();
        let web = ObjectName::new("default", "web");
        datapath.end_with_endpoints(&web, vec![mortal.clone()]);
        for connection in [&mut gone, &mut gone_too] {
            let error = connection.here.read(&mut [0]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECONNABORTED));
            let error = connection.there.read(&mut [0]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECONNRESET));
        }
        assert_eq!(end(&mortal), 0, "no other was to end");
        for connection in &mut lives {
            assert!(connection.is_whole());
        }
        // What is asked for no more is not done: of two errands the later is carried out last.
        mortal.endpoints.clear();
        datapath.end_with_endpoints(&web, Vec::new());
        let mut late = call(Some(theirs));
        let of_others = Mortal {
            frontends: vec![frontend(theirs)],
            ..Mortal::default()
        };
        datapath.end_with_endpoints(&ObjectName::new("default", "others"), vec![of_others]);
        eventually(false, || late.here.peer_addr().is_ok());
        assert!(late.here.read(&mut [0]).is_err() && lives[0].is_whole());
    }
}
