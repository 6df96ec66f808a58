//! Where a server listens.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::str::FromStr;

use socket2::{Domain, Socket, Type};

/// How many connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 128;

/// An address and a port, or every address of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindAddress {
    /// Every address of both families, or of the one that the node has.
    Everywhere(u16),
    /// This address; `[::]` is every address of both families, as it is to kube-proxy.
    At(SocketAddr),
}

/// A text that is no address and port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address and port; write it as 127.0.0.1:10249 or [::]:10249, or as an empty text to turn it off"
)]
pub struct AddressError(String);

impl BindAddress {
    /// Reads an address and port, or an address alone, which gets the usual port; an empty text turns the server off.
    pub fn parse(text: &str, usual_port: u16) -> Result<Option<Self>, AddressError> {
        if text.is_empty() {
            return Ok(None);
        }
        let alone = || Some(SocketAddr::new(IpAddr::from_str(text).ok()?, usual_port));
        let address = SocketAddr::from_str(text).ok().or_else(alone);
        match address {
            Some(address) => Ok(Some(Self::At(address))),
            None => Err(AddressError(text.to_owned())),
        }
    }

    /// Listens there.
    pub(super) fn listen(self) -> io::Result<TcpListener> {
        match self {
            Self::At(address) => listen(address),
            Self::Everywhere(port) => {
                listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)).or_else(|error| {
                    // A kernel without IPv6, or with it switched off.
                    let has_no_ipv6 = matches!(
                        error.raw_os_error(),
                        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                    );
                    if has_no_ipv6 {
                        listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
                    } else {
                        Err(error)
                    }
                })
            }
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everywhere(port) => write!(f, "[::]:{port}"),
            Self::At(address) => address.fmt(f),
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // Whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    // A port whose last connections are still in TIME_WAIT is free.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn texts_are_read_as_kube_proxy_reads_them() {
        let read =
            |text| BindAddress::parse(text, 10256).map(|address| address.map(|address| address.to_string()));
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("127.0.0.1:80"), Ok(Some("127.0.0.1:80".to_owned())));
        assert_eq!(read("[::1]:80"), Ok(Some("[::1]:80".to_owned())));
        assert_eq!(read("0.0.0.0"), Ok(Some("0.0.0.0:10256".to_owned())));
        assert_eq!(read("::"), Ok(Some("[::]:10256".to_owned())));
        for wrong in ["localhost:80", ":80", "80", "127.0.0.1:70000", "::1:80:x"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(
                error.contains(wrong) && error.contains("127.0.0.1:10249"),
                "{error}"
            );
        }
    }

    #[test]
    fn everywhere_is_both_families() {
        let listener = BindAddress::Everywhere(0).listen().unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            TcpStream::connect((address, port)).unwrap_or_else(|error| panic!("{address}: {error}"));
        }
    }
}
