//! Peers that take connections and descriptors away from others.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{Broker, V5, WAIT, unique};
use crate::scene::{Scene, broker_with_files, processor_time};

/// Enough to see that it is not the number that saves us.
const MANY: u64 = 8_000;
/// Files the test itself and its neighbours in this process need.
const SPARE: u64 = 500;

/// Lets this process open as many files as it may, and tells how many.
fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let highest = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, highest).expect("the soft limit can be raised");
    limit.maximum.unwrap_or(u64::MAX)
}

/// A connection from another address of this machine than other tests use.
fn stranger(broker: &Broker) -> TcpStream {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), 0));
    bind(&fd, &from).expect("an address of this machine");
    connect(&fd, &broker.addr()).expect("a connection");
    let stream = TcpStream::from(fd);
    stream.set_read_timeout(Some(WAIT)).expect("read timeout");
    stream
}

/// Whether the broker has neither sent anything nor closed.
fn is_open(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("non-blocking");
    let result = stream.peek(&mut [0]);
    stream.set_nonblocking(false).expect("blocking");
    matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// The broker closes without a word.
#[track_caller]
fn expect_end(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the broker closes");
    assert_eq!(bytes, b"", "sent by the broker");
}

#[test]
fn connections_that_never_send_connect_are_closed_in_time() {
    let count = raise_file_limit().saturating_sub(SPARE).min(MANY);
    let timeout = Duration::from_secs(4);
    let scene = Scene::new(
        64,
        "max_connections: 20000\nmax_unauthenticated: 10000\n\
         max_unauthenticated_per_address: 10000\nconnect_timeout: 4s",
    );
    let start = Instant::now();
    let mut strangers: Vec<TcpStream> = (0..count).map(|_| stranger(&scene.broker)).collect();
    let opened = start.elapsed();
    println!("{count} connections opened in {opened:?}");
    let open = strangers.iter().filter(|stream| is_open(stream)).count();
    if start.elapsed() < timeout {
        assert_eq!(open as u64, count, "open before their time was over");
    }
    // Those who come meanwhile are served.
    let mut client = scene.client();
    client.ping();
    for stream in &mut strangers {
        expect_end(stream);
    }
    assert!(start.elapsed() >= timeout, "closed after {:?}", start.elapsed());
    let late = start.elapsed().saturating_sub(opened + timeout);
    assert!(late <= Duration::from_secs(3), "closed {late:?} too late");
    client.ping();
    drop((strangers, client));
    scene.finish();
}

#[test]
fn one_address_cannot_lock_out_another() {
    let scene = Scene::new(64, "max_unauthenticated_per_address: 20\nconnect_timeout: 30s");
    let strangers: Vec<TcpStream> = (0..20).map(|_| stranger(&scene.broker)).collect();
    for _ in 0..5 {
        expect_end(&mut stranger(&scene.broker));
    }
    assert!(strangers.iter().all(is_open), "the first ones are left alone");
    scene.client().ping();
    drop(strangers);
    scene.finish();
}

#[test]
fn broker_without_descriptors_serves_its_clients_and_recovers() {
    let yaml = "memory_budget: 64MiB\nconnect_timeout: 60s";
    let scene = Scene::around(broker_with_files(64, yaml), 64);
    let strangers: Vec<TcpStream> = (0..200).map(|_| stranger(&scene.broker)).collect();
    // The clients that were there go on; the broker does not spin over what it cannot accept.
    let before = processor_time(&scene.broker);
    thread::sleep(Duration::from_secs(2));
    let used = processor_time(&scene.broker) - before;
    assert!(used < Duration::from_millis(1_200), "{used:?} of processor time in two seconds");
    drop(strangers);
    let end = Instant::now() + WAIT;
    let mut client = scene.broker.connect(V5, &unique("later"));
    client.ping();
    assert!(Instant::now() < end, "a newcomer waited too long");
    drop(client);
    scene.finish();
}
