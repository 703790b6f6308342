//! A broker that does wrong on purpose, to show that the generator sees it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fulmar_core::codec::{
    Connack, Properties, Publish, ReasonCodes, Suback, Unsuback, decode, split,
};
use fulmar_core::{Packet, Qos, ReasonCode, Version};

use super::engine::Patience;
use super::list::ALL;
use super::measure::{Target, measure};
use super::row::Row;
use super::scenario::Load;
use super::wire::Stamp;

/// Messages of each subscriber, where they are few.
const MESSAGES: u32 = 20;
const LAST: u32 = MESSAGES - 1;

/// What happens to message 5 of each subscriber, or to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    Lost,
    Double,
    /// The last one comes again when everything has come.
    LastDouble,
    /// It comes after message 6.
    Late,
    /// A byte of its payload is missing.
    Short,
    /// The last byte of its payload is another one.
    Flipped,
    /// It comes with a longer topic.
    Renamed,
    /// It comes as one of a publisher that there is not.
    Astray,
    /// The connection ends instead.
    Closed,
    /// The client that subscribes and unsubscribes all the time is refused a subscription.
    Refused,
}

/// Subscribers by topic.
type Subscribers = Arc<Mutex<Vec<(String, TcpStream)>>>;

fn listen(fault: Fault) -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let Ok(SocketAddr::V4(addr)) = listener.local_addr() else { panic!("it is bound") };
    let subscribers = Subscribers::default();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let subscribers = Arc::clone(&subscribers);
            thread::spawn(move || serve(stream, &subscribers, fault));
        }
    });
    addr
}

/// Serves a client of 3.1.1 until it goes.
fn serve(mut stream: TcpStream, subscribers: &Subscribers, fault: Fault) {
    stream.set_nodelay(true).expect("it is a socket");
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let mut held = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
        let mut used = 0;
        while let Ok(Some((frame, len))) = split(&bytes[used..], 1 << 20) {
            let packet = decode(Version::V311, frame).expect("clients break no rules");
            match packet {
                Packet::Publish(publish) => {
                    let all = subscribers.lock().expect("no thread panics");
                    for (_, to) in all.iter().filter(|(topic, _)| topic == publish.topic) {
                        pass(&publish, to, fault, &mut held);
                    }
                }
                Packet::Disconnect(_) => return,
                packet => answer(&packet, &mut stream, subscribers, fault),
            }
            used += len;
        }
        bytes.drain(..used);
    }
}

fn answer(packet: &Packet<'_>, stream: &mut TcpStream, subscribers: &Subscribers, fault: Fault) {
    let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
    let answer = match packet {
        Packet::Connect(_) => {
            Packet::Connack(Connack { session_present: false, reason, properties })
        }
        Packet::Pingreq => Packet::Pingresp,
        Packet::Subscribe(subscribe) => {
            let mut all = subscribers.lock().expect("no thread panics");
            let mut refused = false;
            for (filter, _) in subscribe.filters.iter() {
                refused |= fault == Fault::Refused && filter.ends_with("churn/406");
                all.push((filter.to_owned(), stream.try_clone().expect("a file is free")));
            }
            let reason = if refused { ReasonCode::UnspecifiedError } else { reason };
            let reasons = &[reason];
            let reasons = ReasonCodes::list(reasons);
            let packet_id = subscribe.packet_id;
            send(stream, &Packet::Suback(Suback { packet_id, properties, reasons }));
            return;
        }
        Packet::Unsubscribe(unsubscribe) => {
            let mut all = subscribers.lock().expect("no thread panics");
            for filter in unsubscribe.filters.iter() {
                all.retain(|(other, _)| other != filter);
            }
            let (packet_id, reasons) = (unsubscribe.packet_id, ReasonCodes::list(&[]));
            Packet::Unsuback(Unsuback { packet_id, properties, reasons })
        }
        other => panic!("not expected here: {other:?}"),
    };
    send(stream, &answer);
}

/// Fails where the generator has gone already.
fn send(mut stream: &TcpStream, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.append(Version::V311, &mut bytes).expect("it can be sent");
    let _ = stream.write_all(&bytes);
}

fn pass(publish: &Publish<'_>, to: &TcpStream, fault: Fault, held: &mut Vec<u8>) {
    let send = |payload: &[u8]| {
        send(to, &Packet::Publish(Publish { payload, qos: Qos::AtMostOnce, ..*publish }));
    };
    let payload = publish.payload;
    let number = Stamp::read(payload).expect("a stamp").number;
    match (number, fault) {
        (5, Fault::Lost) => {}
        (5, Fault::Double) => [payload; 2].map(send).into_iter().collect(),
        (LAST, Fault::LastDouble) => {
            send(payload);
            let (topic, payload) = (publish.topic.to_owned(), payload.to_vec());
            let to = to.try_clone().expect("a file is free");
            // A broker that is slow with it, and goes on with the rest.
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(10));
                let publish = Publish { topic: &topic, payload: &payload, ..Publish::default() };
                self::send(&to, &Packet::Publish(publish));
            });
        }
        (5, Fault::Late) => *held = payload.to_vec(),
        (6, Fault::Late) => [payload, held].map(send).into_iter().collect(),
        (5, Fault::Short) => send(&payload[..payload.len() - 1]),
        (5, Fault::Flipped) => {
            let mut other = payload.to_vec();
            other[payload.len() - 1] ^= 1;
            send(&other);
        }
        (5, Fault::Renamed) => {
            let topic = &format!("{}/more", publish.topic);
            pass(&Publish { topic, ..*publish }, to, Fault::Nothing, held);
        }
        (5, Fault::Astray) => {
            let mut other = payload.to_vec();
            other[8] = 77;
            send(&other);
        }
        (5, Fault::Closed) => {
            // Fails where the generator has gone already.
            let _ = to.shutdown(std::net::Shutdown::Both);
        }
        _ => send(payload),
    }
}

/// How subscribers take messages.
#[derive(Clone, Copy, Debug)]
enum Way {
    AsTheyCome,
    /// In pieces: they are larger than what is read at once.
    Large,
    /// When all are published.
    Hoard,
}

const WAYS: [Way; 3] = [Way::AsTheyCome, Way::Large, Way::Hoard];

/// What is measured with 3 publishers and 3 subscribers, 20 messages each.
fn run(fault: Fault, way: Way) -> Row {
    let (clients, messages) = (3, 3 * u64::from(MESSAGES));
    let (hoard, large) = (matches!(way, Way::Hoard), matches!(way, Way::Large));
    let payload = if large { 300_000 } else { ALL[0].load.payload };
    let load = Load { publishers: clients, subscribers: clients, topics: clients, ..ALL[0].load };
    let load = Load { window: 30, messages, hoard, payload, ..load };
    let stall = Duration::from_millis(300);
    let patience = Patience { stall, limit: Duration::from_secs(20), enough: None };
    measure(&load, &mut Target { addr: listen(fault), pid: 0, running: None }, patience)
}

#[test]
fn without_a_fault_none_is_seen() {
    for way in WAYS {
        let row = run(Fault::Nothing, way);
        assert!(row.is_clean(), "{row:?}");
        assert_eq!((row.published, row.delivered), (60, 60));
    }
}

#[test]
fn when_it_is_enough_what_was_sent_is_waited_for_and_counts() {
    let (clients, messages) = (3, 1_000_000_000);
    let load = Load { publishers: clients, subscribers: clients, topics: clients, ..ALL[0].load };
    let patience = Patience { enough: Some(Duration::from_millis(50)), ..Patience::default() };
    let target = &mut Target { addr: listen(Fault::Nothing), pid: 0, running: None };
    let row = measure(&Load { messages, ..load }, target, patience);
    assert!(row.is_clean() && row.published == row.delivered, "{row:?}");
    assert!((1..messages).contains(&row.published) && row.seconds < 60.0, "{row:?}");
}

#[test]
fn every_fault_is_seen_as_what_it_is() {
    // Lost, doubled, out of order, astray, altered; of each of three subscribers.
    for (fault, counts) in [
        (Fault::Lost, [3, 0, 0, 0, 0]),
        (Fault::Double, [0, 3, 0, 0, 0]),
        (Fault::LastDouble, [0, 3, 0, 0, 0]),
        (Fault::Late, [0, 0, 3, 0, 0]),
        (Fault::Short, [0, 0, 0, 0, 3]),
        (Fault::Flipped, [0, 0, 0, 0, 3]),
        (Fault::Renamed, [0, 0, 0, 0, 3]),
        (Fault::Astray, [3, 0, 0, 3, 0]),
    ] {
        for way in WAYS {
            let row = run(fault, way);
            let seen = [row.lost, row.duplicates, row.disordered, row.strays, row.altered];
            assert_eq!(seen, counts, "{fault:?}, {way:?}: {row:?}");
            assert!(!row.is_clean());
            assert_eq!(row.error.is_empty(), row.lost == 0, "{fault:?}: {}", row.error);
        }
    }
}

#[test]
fn a_connection_that_ends_is_an_error() {
    for way in WAYS {
        let row = run(Fault::Closed, way);
        assert!(row.error.contains("closed connection") || row.error.contains("reset"), "{row:?}");
    }
}

#[test]
fn what_is_churned_must_be_granted() {
    let load = Load { publishers: 3, subscribers: 3, topics: 3, messages: 60, ..ALL[0].load };
    for fault in [Fault::Nothing, Fault::Refused] {
        let target = &mut Target { addr: listen(fault), pid: 0, running: None };
        let row = measure(&Load { churn: true, ..load }, target, Patience::default());
        if fault == Fault::Refused {
            assert!(row.error.contains("refused: Suback"), "{row:?}");
        } else {
            assert!(row.is_clean() && row.churned >= 2, "{row:?}");
            assert!(row.calm_rate > 0.0 && row.rate > 0.0, "{row:?}");
            assert_eq!(row.churned_per_second, row.churned as f64 / row.seconds, "{row:?}");
        }
    }
}

#[test]
fn where_nobody_listens_there_is_an_error() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let Ok(SocketAddr::V4(addr)) = free.local_addr() else { panic!("it is bound") };
    drop(free);
    let target = &mut Target { addr, pid: 0, running: None };
    assert!(!measure(&ALL[0].load, target, Patience::default()).error.is_empty());
}
