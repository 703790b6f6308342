//! The examples, run against a broker.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fulmar::broker::{Options, Server};

#[allow(dead_code, reason = "main is for those who run it")]
#[path = "../examples/blocking_client.rs"]
mod blocking_client;
#[allow(dead_code, reason = "main is for those who run it")]
#[path = "../examples/tokio_client.rs"]
mod tokio_client;

/// More than enough for a few packets.
const WAIT: Duration = Duration::from_secs(30);

type Error = Box<dyn std::error::Error>;

/// Runs an example to its end, with a broker of its own.
#[track_caller]
fn comes_back(example: fn(&str) -> Result<String, Error>) {
    let listeners = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    let server = Server::bind(Options { listeners, ..Options::default() }).expect("a free port");
    let address = server.addresses()[0].to_string();
    let _handle = server.handle();
    server.spawn().expect("a thread");
    let (done, result) = mpsc::channel();
    thread::spawn(move || done.send(example(&address).map_err(|error| error.to_string())));
    assert_eq!(result.recv_timeout(WAIT), Ok(Ok("world".to_owned())));
}

#[test]
fn a_blocking_client_gets_its_message_back() {
    comes_back(blocking_client::run);
}

#[test]
fn a_client_on_tokio_gets_its_message_back() {
    comes_back(tokio_client::run);
}

#[test]
fn examples_have_at_most_60_lines() {
    for text in [
        include_str!("../examples/blocking_client.rs"),
        include_str!("../examples/tokio_client.rs"),
    ] {
        assert!(text.lines().count() <= 60, "{} lines", text.lines().count());
    }
}
