//! Peers that send too slowly, and peers that do not read.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::{
    ALL, Client, Connect, Packet, Publish, V5, WAIT, parse, split, subscribe, unique, vbi,
};
use crate::scene::Scene;

const MESSAGE: usize = 64 * 1024;

#[test]
fn clients_that_send_byte_by_byte_are_served() {
    let scene = Scene::new(64, "");
    let mut clients: Vec<(Client, Vec<u8>, String)> = (0..30)
        .map(|number| {
            let (version, topic) = (ALL[number % 3], unique("slow"));
            let bytes = [
                Connect::new(version, &topic).bytes(),
                subscribe(version, 5, &[], &[(&topic, 0)]),
                Publish::new(&topic, "a payload").qos(1, 6).bytes(version),
            ];
            (scene.broker.open(version), bytes.concat(), topic)
        })
        .collect();
    let longest = clients.iter().map(|(_, bytes, _)| bytes.len()).max().unwrap_or(0);
    for at in 0..longest {
        for (client, bytes, _) in &mut clients {
            if let Some(byte) = bytes.get(at) {
                client.socket().write_all(&[*byte]).expect("the broker reads");
            }
        }
    }
    for (client, _, topic) in &mut clients {
        assert_eq!(client.connack().code, 0);
        assert_eq!(client.suback(5).codes, [0]);
        assert_eq!(client.ack(0x40, 6), 0);
        assert_eq!(client.take(), Publish::new(topic, "a payload"));
        client.expect_nothing();
    }
    drop(clients);
    scene.finish();
}

#[test]
fn packets_announced_and_not_sent_take_no_memory() {
    let scene = Scene::new(64, "connect_timeout: 2s");
    // A packet of the largest size allowed, of which a little comes.
    let clients: Vec<Client> = (0..300)
        .map(|_| {
            let mut client = scene.client();
            let size = vbi((1 << 20) - 10);
            client.send(&[&[0x30][..], &size, &[0, 1, b'a'], &[0; 100]].concat());
            client
        })
        .collect();
    // The same before CONNECT is complete: these are closed when their time is over.
    let start = Instant::now();
    let strangers: Vec<Client> = (0..300)
        .map(|_| {
            let mut stranger = scene.broker.open(V5);
            stranger.send(&[&[0x10][..], &vbi(250 << 10), &[0, 4, b'M', b'Q']].concat());
            stranger
        })
        .collect();
    for mut stranger in strangers {
        stranger.expect_closed();
    }
    assert!(start.elapsed() >= Duration::from_millis(1_900), "closed too early");
    drop(clients);
    scene.finish();
}

/// A client that subscribes and then reads nothing.
fn stalled(scene: &Scene, topic: &str, qos: u8) -> Client {
    let mut client = scene.client();
    assert_eq!(client.subscribe(topic, qos), qos);
    client
}

/// A payload that begins with its number.
fn numbered(number: u32) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(MESSAGE, b'.');
    payload
}

/// Everything the broker still sends to a client, up to its end of the stream.
fn read_all(client: &Client) -> Vec<u8> {
    let mut socket: &TcpStream = client.socket();
    socket.set_read_timeout(Some(WAIT)).expect("read timeout");
    socket.shutdown(Shutdown::Write).expect("half close");
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).expect("the broker closes");
    bytes
}

#[test]
fn clients_that_never_read_slow_nobody() {
    let scene = Scene::new(64, "max_msg_queue_bytes: 1MiB");
    let topic = unique("stalled");
    let clients: Vec<Client> = (0..10).map(|number| stalled(&scene, &topic, number % 2)).collect();
    // Far more than the socket buffers of a connection and its queue take.
    let count = 1_200;
    let mut publisher = scene.client();
    for number in 0..count {
        publisher.publish(&topic, numbered(number), 1);
    }
    // What one of them reads at last is in order and whole, and something was left out.
    let bytes = read_all(&clients[0]);
    let mut rest = &bytes[..];
    let mut numbers = Vec::new();
    while let Some((header, total)) = split(rest).expect("a packet") {
        match parse(V5, rest[0], &rest[header..total]).expect("a packet of a broker") {
            Packet::Publish(message) => {
                assert_eq!(message.payload.len(), MESSAGE);
                let start = message.payload[..4].try_into().expect("four bytes");
                numbers.push(u32::from_be_bytes(start));
            }
            other => panic!("unexpected {other:?}"),
        }
        rest = &rest[total..];
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(numbers.len() > 10 && numbers.len() < count as usize, "{} read", numbers.len());
    drop((clients, publisher));
    scene.finish();
}

#[test]
fn clients_that_never_read_cannot_exceed_the_budget() {
    let scene = Scene::new(16, "");
    let topic = unique("stalled");
    let clients: Vec<Client> = (0..40).map(|_| stalled(&scene, &topic, 0)).collect();
    let publisher = scene.client();
    let mut socket = publisher.socket();
    socket.set_write_timeout(Some(Duration::from_millis(200))).expect("write timeout");
    // As much as the broker takes in three seconds: it may slow this publisher down.
    let end = Instant::now() + Duration::from_secs(3);
    let mut number = 0;
    while Instant::now() < end {
        let message = Publish::new(&topic, numbered(number)).bytes(V5);
        let mut rest = &message[..];
        while !rest.is_empty() && Instant::now() < end {
            if let Ok(written) = socket.write(rest) {
                rest = &rest[written..];
            }
        }
        number += 1;
    }
    assert!(number > 10, "{number} messages taken");
    drop((clients, publisher));
    scene.finish();
}
