//! Out of file descriptors. Alone in its file, since the limit is that of the whole process.
#![cfg(unix)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use fulmar_adapters::broker::{Notice, Options, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A client of MQTT 3.1.1 that was accepted.
fn client(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it is a socket");
    stream.write_all(b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x3C\x00\x01c").expect("it is connected");
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("CONNACK comes");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    stream
}

#[test]
fn without_descriptors_the_open_connections_are_served_and_the_others_wait() {
    let (notices, told) = mpsc::channel();
    let server = Server::bind(Options {
        listeners: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        observe: Box::new(move |notice| {
            let accepts = match notice {
                Notice::AcceptPaused { .. } => false,
                Notice::AcceptResumed { .. } => true,
                _ => return,
            };
            // The test may have ended.
            let _ = notices.send(accepts);
        }),
        ..Options::default()
    })
    .expect("a port is free");
    let (address, handle) = (server.addresses()[0], server.handle());
    let thread = server.spawn().expect("a thread can be had");
    let mut served = client(address);

    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).expect("it is lower");
    let mut taken = Vec::new();
    while let Ok(file) = served.try_clone() {
        taken.push(file);
    }
    // One for the client's end of a connection, none for the broker's.
    taken.pop();
    let waiting = TcpStream::connect(address).expect("the system accepts it for the broker");

    let told_in_time = || told.recv_timeout(Duration::from_secs(10)).expect("it is told");
    assert!(!told_in_time(), "paused first");
    for _ in 0..100 {
        let mut pong = [0; 2];
        served.write_all(&[0xC0, 0]).expect("the broker reads");
        served.read_exact(&mut pong).expect("PINGRESP comes");
        assert_eq!(pong, [0xD0, 0]);
    }

    drop(taken);
    assert!(told_in_time(), "then resumed");
    drop(waiting);
    client(address);

    smol::block_on(handle.abort());
    thread.join().expect("the broker does not panic").expect("nothing failed");
}
