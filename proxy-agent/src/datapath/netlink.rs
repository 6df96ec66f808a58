//! Netlink: requests and their answers, attributes in and out. Unknown attributes are passed over, so that a newer
//! kernel's messages are read as well as an older one's.

use std::io;

use netlink_sys::{Socket, SocketAddr};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// How often a dump that the kernel calls inconsistent is asked for again.
const DUMP_TRIES: usize = 16;

/// A message of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Message type.
    pub(super) kind: u16,
    flags: u16,
    sequence: u32,
    /// What follows the header.
    pub(super) body: Vec<u8>,
}

/// A socket for requests.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// To rtnetlink (interfaces, addresses, routes, filters) of the calling thread's network namespace.
    pub(super) fn route() -> io::Result<Self> {
        Self::open(netlink_sys::protocols::NETLINK_ROUTE)
    }

    /// To sock_diag (sockets) of the calling thread's network namespace.
    pub(super) fn diagnosis() -> io::Result<Self> {
        Self::open(netlink_sys::protocols::NETLINK_SOCK_DIAG)
    }

    /// To generic netlink.
    pub(super) fn generic() -> io::Result<Self> {
        Self::open(netlink_sys::protocols::NETLINK_GENERIC)
    }

    /// To netfilter of the calling thread's network namespace.
    pub(super) fn netfilter() -> io::Result<Self> {
        Self::open(netlink_sys::protocols::NETLINK_NETFILTER)
    }

    /// The bits of `xdp-features` of an interface (Linux 6.3: the family `netdev`).
    pub(super) fn xdp_features(&mut self, interface: u32) -> io::Result<u64> {
        const CONTROLLER: u16 = 16;
        const GET_FAMILY: u8 = 3;
        const FAMILY_ID: u16 = 1;
        const FAMILY_NAME: u16 = 2;
        const DEV_GET: u8 = 1;
        const INTERFACE: u16 = 1;
        const FEATURES: u16 = 3;
        let absent = || io::Error::from_raw_os_error(libc::ENOENT);
        let found = |answers: &[Message], wanted: u16| {
            let attribute = answers.iter().find_map(|message| {
                let mut inside = attributes(message.body.get(4..)?);
                let found = inside.find(|(kind, _)| *kind == wanted);
                found.map(|(_, value)| value.to_vec())
            });
            attribute.ok_or_else(absent)
        };
        let name = Body::new(&[GET_FAMILY, 1, 0, 0]).attribute(FAMILY_NAME, b"netdev\0");
        let family = found(&self.get(CONTROLLER, &name)?, FAMILY_ID)?;
        let family = integer::<2>(&family, 0)
            .map(u16::from_ne_bytes)
            .ok_or_else(absent)?;
        let device = Body::new(&[DEV_GET, 1, 0, 0]).attribute(INTERFACE, &interface.to_ne_bytes());
        let features = found(&self.get(family, &device)?, FEATURES)?;
        integer::<8>(&features, 0)
            .map(u64::from_ne_bytes)
            .ok_or_else(absent)
    }

    fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a change and waits until the kernel has made it.
    pub(super) fn change(&mut self, kind: u16, flags: i32, body: &Body) -> io::Result<()> {
        self.exchange(kind, libc::NLM_F_ACK | flags, body).map(|_| ())
    }

    /// Asks for one object.
    pub(super) fn get(&mut self, kind: u16, body: &Body) -> io::Result<Vec<Message>> {
        self.exchange(kind, libc::NLM_F_ACK, body)
    }

    /// Asks for all objects of a kind. A dump that the kernel found changed under its hands is asked for again.
    pub(super) fn dump(&mut self, kind: u16, body: &Body) -> io::Result<Vec<Message>> {
        for _ in 0..DUMP_TRIES {
            let messages = self.exchange(kind, libc::NLM_F_DUMP, body)?;
            if messages
                .iter()
                .all(|message| i32::from(message.flags) & libc::NLM_F_DUMP_INTR == 0)
            {
                return Ok(messages);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINTR))
    }

    fn exchange(&mut self, kind: u16, flags: i32, body: &Body) -> io::Result<Vec<Message>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(
            &frame(kind, (libc::NLM_F_REQUEST | flags) as u16, self.sequence, body),
            0,
        )?;
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            for message in messages(&bytes).filter(|message| message.sequence == self.sequence) {
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => {
                        answers.push(message);
                        return finished(answers);
                    }
                    libc::NLMSG_ERROR => return error_of(&message).map(|()| answers),
                    _ => answers.push(message),
                }
            }
        }
    }
}

/// A dump ends with a message that can carry an error of its own, and the mark of an inconsistent dump.
fn finished(mut answers: Vec<Message>) -> io::Result<Vec<Message>> {
    let Some(done) = answers.pop() else {
        return Ok(answers);
    };
    error_of(&done)?;
    if let Some(last) = answers.last_mut() {
        last.flags |= done.flags;
    }
    Ok(answers)
}

fn error_of(message: &Message) -> io::Result<()> {
    match integer::<4>(&message.body, 0).map(i32::from_ne_bytes) {
        Some(code) if code < 0 => Err(io::Error::from_raw_os_error(-code)),
        _ => Ok(()),
    }
}

fn frame(kind: u16, flags: u16, sequence: u32, body: &Body) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.0.len());
    bytes.extend(((HEADER + body.0.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&body.0);
    bytes
}

/// The messages of a datagram; what is cut off is left out.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message> {
    std::iter::from_fn(move || {
        let length = integer::<4>(bytes, 0).map(u32::from_ne_bytes)? as usize;
        let body = bytes.get(HEADER..length)?.to_vec();
        let message = Message {
            kind: integer::<2>(bytes, 4).map(u16::from_ne_bytes)?,
            flags: integer::<2>(bytes, 6).map(u16::from_ne_bytes)?,
            sequence: integer::<4>(bytes, 8).map(u32::from_ne_bytes)?,
            body,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// `N` bytes at an offset.
pub(super) fn integer<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

/// The attributes after a message's fixed header; what is cut off is left out.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(integer::<2>(bytes, 0)?));
        let kind = u16::from_ne_bytes(integer::<2>(bytes, 2)?) & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// A number in an attribute.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// A text in an attribute, up to its final zero.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// The body of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    /// With a fixed header.
    pub(super) fn new(header: &[u8]) -> Self {
        Self(header.to_vec())
    }

    /// Adds an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(((4 + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds attributes inside an attribute.
    pub(super) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.attribute(kind | libc::NLA_F_NESTED as u16, &inner.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_what_is_read() {
        let inner = Body::default().attribute(1, b"veth\0");
        let body = Body::new(&[7; 16]).attribute(3, b"eth0\0").nested(18, &inner);
        let bytes = [frame(16, 5, 9, &body), frame(17, 0, 10, &Body::default())].concat();
        let read: Vec<Message> = messages(&bytes).collect();
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (16, 5, 9));
        assert_eq!((read[1].kind, read[1].sequence, read[1].body.len()), (17, 10, 0));
        let found: Vec<_> = attributes(&read[0].body[16..]).collect();
        assert_eq!((found[0].0, text(found[0].1)), (3, "eth0".to_owned()));
        let inside: Vec<_> = attributes(found[1].1).collect();
        assert_eq!(
            (found[1].0, inside[0].0, text(inside[0].1)),
            (18, 1, "veth".to_owned())
        );
    }

    #[test]
    fn cut_messages_end_the_reading_and_nothing_else() {
        let body = Body::new(&[0; 16])
            .attribute(3, b"eth0\0")
            .attribute(4, &[1, 2, 3, 4]);
        let bytes = frame(16, 0, 1, &body);
        for length in 0..bytes.len() {
            assert_eq!(messages(&bytes[..length]).count(), 0);
        }
        for length in 0..body.0.len() - 16 {
            assert!(attributes(&body.0[16..16 + length]).count() < 2);
        }
        assert_eq!(attributes(&[0; 8]).count(), 0, "a length of 0 does not hang");
    }

    #[test]
    fn the_kernel_answers_and_its_errors_come_back() {
        let mut netlink = Netlink::route().unwrap();
        let links = netlink.dump(libc::RTM_GETLINK, &Body::new(&[0; 16])).unwrap();
        assert!(!links.is_empty());
        let nowhere = Body::new(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0]);
        let error = netlink.change(libc::RTM_DELLINK, 0, &nowhere).unwrap_err();
        assert!(
            matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL)),
            "{error}"
        );
    }
}
