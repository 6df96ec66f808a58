//! A way to the API server that can be shut: the server goes on, but this client can't reach it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Context;
use lab::Namespace;
use lab::cluster::ControlPlane;
use proxy_agent::source::Master;

use super::plane;

/// Passes connections on while it is open.
pub(crate) struct Gate {
    address: SocketAddr,
    ways: Arc<Mutex<Ways>>,
}

#[derive(Default)]
struct Ways {
    is_open: bool,
    streams: Vec<TcpStream>,
}

impl Gate {
    /// Opens one on the loopback of the control plane's namespace.
    pub(crate) fn open(plane: &ControlPlane) -> Self {
        Self::open_from(plane, plane.place().namespace())
    }

    /// Opens one on the loopback of any namespace.
    pub(crate) fn open_from(plane: &ControlPlane, clients: &Namespace) -> Self {
        let listener = clients
            .run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listening"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let ways = Arc::new(Mutex::new(Ways {
            is_open: true,
            ..Ways::default()
        }));
        let (inside, kept) = (plane.place().namespace().clone(), ways.clone());
        thread::spawn(move || serve_ways(&inside, listener, &kept));
        Self { address, ways }
    }

    /// Its address, as a server of the API.
    pub(crate) fn master(&self) -> Master {
        format!("https://{}", self.address).parse().unwrap()
    }

    /// Cuts what goes through it, and lets nobody in.
    pub(crate) fn shut(&self) {
        let mut ways = self.ways.lock().unwrap();
        ways.is_open = false;
        for stream in ways.streams.drain(..) {
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Lets clients in again.
    pub(crate) fn reopen(&self) {
        self.ways.lock().unwrap().is_open = true;
    }
}

/// Passes on what a listener gets, until the process ends.
pub(crate) fn serve(namespace: &Namespace, listener: TcpListener) -> anyhow::Result<()> {
    let ways = Ways {
        is_open: true,
        ..Ways::default()
    };
    serve_ways(namespace, listener, &Arc::new(Mutex::new(ways)))
}

fn serve_ways(namespace: &Namespace, listener: TcpListener, ways: &Arc<Mutex<Ways>>) -> anyhow::Result<()> {
    namespace.run(|| {
        for client in listener.incoming() {
            pass(client?, ways)?;
        }
        Ok(())
    })
}

fn pass(client: TcpStream, ways: &Arc<Mutex<Ways>>) -> io::Result<()> {
    let mut kept = ways.lock().unwrap();
    if !kept.is_open {
        return client.shutdown(Shutdown::Both);
    }
    let Ok(server) = TcpStream::connect(plane::address()) else {
        return client.shutdown(Shutdown::Both);
    };
    kept.streams.extend([client.try_clone()?, server.try_clone()?]);
    copy(client.try_clone()?, server.try_clone()?);
    copy(server, client);
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        // However it ends, the other side is told.
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
}
