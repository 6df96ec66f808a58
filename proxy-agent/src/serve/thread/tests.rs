use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::*;
use crate::serve::{BindAddress, Reply};

fn server(address: SocketAddr) -> Server {
    Server {
        name: "test",
        address: BindAddress::At(address),
        handler: Arc::new(|path| match path {
            "/there" => Reply::text(StatusCode::OK, "here\n"),
            _ => Reply::not_found(),
        }),
        failed: None,
    }
}

/// A port that nobody had a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn ask(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: node\r\n\r\n"))
}

#[test]
fn pages_are_answered_and_each_connection_is_closed() {
    let address = free();
    let _serving = Serving::start(vec![server(address)], true).unwrap();
    let answer = get(address, "/there?verbose").unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhere\n"),
        "{answer}"
    );
    assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
    assert!(get(address, "/elsewhere").unwrap().starts_with("HTTP/1.1 404 "));
    let answer = ask(address, "HEAD /there HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n"),
        "{answer}"
    );
    let answer = ask(address, "DELETE /there HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 405 ") && answer.contains("allow: GET, HEAD"),
        "{answer}"
    );
}

#[test]
fn silent_clients_keep_nobody_out() {
    let address = free();
    let _serving = Serving::start(vec![server(address)], true).unwrap();
    let mut silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    let start = Instant::now();
    assert!(get(address, "/there").unwrap().starts_with("HTTP/1.1 200 "));
    assert!(start.elapsed() < Duration::from_secs(5), "it waited for others");
    // The oldest were ended for the newest; those that are left, for their silence.
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => assert_eq!(String::from_utf8_lossy(&answer), ""),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

#[test]
fn a_taken_port_is_bound_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let other = free();
    let _serving = Serving::start(vec![server(address), server(other)], false).unwrap();
    assert!(
        get(other, "/there").unwrap().starts_with("HTTP/1.1 200 "),
        "the other server serves"
    );
    drop(taken);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !get(address, "/there").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
        assert!(Instant::now() < deadline, "it was not tried again");
        std::thread::yield_now();
    }
}

#[test]
fn a_taken_port_is_an_error_where_it_must_be_bound() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Serving::start(vec![server(address)], true)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("test server") && error.contains(&address.to_string()),
        "{error}"
    );
}

#[test]
fn servers_end_with_their_owner() {
    let address = free();
    drop(Serving::start(vec![server(address)], true).unwrap());
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_changed_server_moves_and_the_others_go_on() {
    let (first, second, elsewhere) = (free(), free(), free());
    let named = |name, address| Server {
        name,
        ..server(address)
    };
    let serving = Serving::start(vec![named("a", first), named("b", second)], true).unwrap();
    let mut open = TcpStream::connect(first).unwrap();
    serving.replace(vec![named("a", first), named("b", elsewhere)]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !get(elsewhere, "/there").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
        assert!(Instant::now() < deadline, "it did not move");
        std::thread::yield_now();
    }
    assert!(TcpStream::connect(second).is_err(), "the old address is left");
    open.write_all(b"GET /there HTTP/1.1\r\nHost: node\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    open.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 "),
        "a connection of the other server lives on: {answer}"
    );
    serving.replace(Vec::new());
    while TcpStream::connect(first).is_ok() {
        assert!(Instant::now() < deadline, "it did not end");
        std::thread::yield_now();
    }
}
