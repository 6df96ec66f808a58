//! Many bytes there and back, each compared.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::{client, pattern};

const CHUNK: usize = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends and receives at the same time.
pub(super) fn run(to: SocketAddr, bytes: usize) -> Result<(), String> {
    let stream = client::open(to, (client::wildcard(to), 0).into(), TIMEOUT)
        .map_err(|error| format!("connecting: {error}"))?;
    let sender = stream.try_clone().map_err(|error| error.to_string())?;
    thread::scope(|scope| {
        let sending = scope.spawn(|| send(sender, bytes));
        let received = receive(stream, bytes);
        let sent = sending.join().map_err(|_| "the sender panicked".to_owned())?;
        received.and(sent.map_err(|error| format!("sending: {error}")))
    })
}

fn send(mut stream: TcpStream, bytes: usize) -> std::io::Result<()> {
    for start in (0..bytes).step_by(CHUNK) {
        let chunk: Vec<_> = (start..bytes.min(start + CHUNK)).map(pattern).collect();
        stream.write_all(&chunk)?;
    }
    Ok(())
}

fn receive(stream: TcpStream, bytes: usize) -> Result<(), String> {
    let mut reader = BufReader::with_capacity(CHUNK, stream);
    reader
        .read_line(&mut String::new())
        .map_err(|error| format!("receiving the line: {error}"))?;
    let mut buffer = vec![0; CHUNK];
    let mut position = 0;
    while position < bytes {
        let length = reader
            .read(&mut buffer)
            .map_err(|error| format!("receiving byte {position}: {error}"))?;
        if length == 0 {
            return Err(format!("the connection ended after {position} bytes"));
        }
        for &byte in &buffer[..length] {
            if byte != pattern(position) {
                return Err(format!(
                    "byte {position} is {byte:#04x} and was {:#04x}",
                    pattern(position)
                ));
            }
            position += 1;
        }
    }
    Ok(())
}
