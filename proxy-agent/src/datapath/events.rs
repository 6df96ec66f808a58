//! Events of interfaces, addresses and routes, and the wish to stop.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr};

use super::error::{CallError, Context};
use super::netlink::messages;
use super::observe::Stale;
use super::sys;

/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
const GROUPS: [u32; 5] = [1, 5, 7, 9, 11];
/// Room for a storm of events; what overflows costs a whole reading.
const BUFFER: usize = 1 << 20;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Something has to be read again; possibly nothing, when the time was over.
    Stale(Stale),
    /// The operator chose otherwise.
    Chosen,
    /// The other end is gone.
    Stop,
}

/// The events of the network namespace of the thread that opened it.
pub(super) struct Events {
    socket: Socket,
    stop: UnixStream,
}

fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(netlink_sys::protocols::NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    socket.set_rx_buf_sz(BUFFER as libc::c_int)?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

impl Events {
    /// Subscribes. Ends when the other end of `stop` is dropped; a byte from there says that the operator chose otherwise.
    pub(super) fn open(stop: UnixStream) -> Result<Self, CallError> {
        Ok(Self {
            socket: subscribe().call("subscribe", "rtnetlink events")?,
            stop,
        })
    }

    /// Subscribes anew, after an error.
    pub(super) fn reopen(&mut self) -> Result<(), CallError> {
        self.socket = subscribe().call("subscribe", "rtnetlink events")?;
        Ok(())
    }

    /// Waits for events, and takes all that are there as one.
    pub(super) fn next(&self, timeout: Option<Duration>) -> Result<Event, CallError> {
        let fds = [sys::borrow_netlink(&self.socket), self.stop.as_fd()];
        let [events, stop] = sys::wait_readable(fds, timeout).call("poll", "rtnetlink events")?;
        if stop {
            let read = (&self.stop).read(&mut [0; 64]).call("read", "the wish to stop")?;
            return Ok(if read == 0 { Event::Stop } else { Event::Chosen });
        }
        Ok(Event::Stale(if events {
            self.drain()?
        } else {
            Stale::default()
        }))
    }

    fn drain(&self) -> Result<Stale, CallError> {
        let mut stale = Stale::default();
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => {
                    messages(&bytes).for_each(|message| stale.note(message.kind, &message.body))
                }
                // Events were lost: only a whole reading tells what happened.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => stale = Stale::ALL,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(stale),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).call("recv", "rtnetlink events"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::datapath::testing::Namespace;

    #[test]
    fn lost_events_cost_a_whole_reading() {
        let node = Namespace::new();
        node.ip("link add name br0 type bridge");
        let (stop, stopped) = UnixStream::pair().unwrap();
        let events = node.run(move || Events::open(stopped).unwrap());
        node.ip("addr add 192.0.2.1/24 dev br0");
        let stale = Stale {
            addresses: true,
            routes: true,
            ..Stale::default()
        };
        assert_eq!(events.next(None).unwrap(), Event::Stale(stale));
        // Far more than the buffer holds.
        let batch: String = (0..20_000)
            .map(|n| format!("addr {} 10.0.0.1/32 dev br0\n", ["add", "del"][n % 2]))
            .collect();
        let path = std::env::temp_dir().join(format!("shunt-flood-{}", std::process::id()));
        std::fs::write(&path, batch).unwrap();
        node.ip(&format!("-batch {}", path.display()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(events.next(None).unwrap(), Event::Stale(Stale::ALL));
        // And it goes on.
        node.ip("addr add 192.0.2.2/24 dev br0");
        assert_eq!(events.next(None).unwrap(), Event::Stale(stale));
        (&stop).write_all(&[0]).unwrap();
        assert_eq!(events.next(None).unwrap(), Event::Chosen);
        drop(stop);
        assert_eq!(events.next(None).unwrap(), Event::Stop);
    }
}
