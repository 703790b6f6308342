//! The client machine, with a server that answers by hand.

use std::hint::black_box;

use fulmar_core::client::{Client, Event, Options, Sizes, Storage};
use fulmar_core::codec::{Connect, Properties, Publish};
use fulmar_core::{Instant, Qos, Version};

use super::Work;
use crate::packet;

const NOW: Instant = Instant::ZERO;
const TOPIC: &str = "house/door";
const PAYLOAD: [u8; 64] = [7; 64];
/// Where the Packet Identifier of a message to [`TOPIC`] stands: after fixed header and topic.
const ID_AT: usize = 2 + 2 + TOPIC.len();

/// A client of 3.1.1 on the heap, connected.
fn connected() -> Client<'static> {
    let sizes = Sizes { rx: 1024, tx: 4096, aliases: 256 };
    let mut client = Client::new(Storage::heap(sizes), Options::default());
    let connect = Connect {
        version: Version::V311,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    };
    client.connect(NOW, &connect).expect("it has no connection");
    let sent = client.transmit().len();
    client.transmitted(NOW, sent);
    receive(&mut client, &[0x20, 2, 0, 0]);
    assert!(matches!(client.poll_event(), Some(Event::Connected { .. })));
    assert!(client.poll_event().is_none());
    client
}

fn receive(client: &mut Client<'_>, bytes: &[u8]) {
    assert_eq!(client.receive(NOW, bytes), bytes.len(), "there is room");
}

/// A message of QoS 1 is sent and acknowledged.
pub(super) fn publish() -> Work {
    let mut client = connected();
    Box::new(move || {
        let (qos, topic, payload) = (Qos::AtLeastOnce, TOPIC, &PAYLOAD[..]);
        let publish = Publish { qos, topic, payload, ..Publish::default() };
        client.publish(black_box(&publish)).expect("there is room");
        let bytes = client.transmit();
        let (id, sent) = (u16::from_be_bytes([bytes[ID_AT], bytes[ID_AT + 1]]), bytes.len());
        client.transmitted(NOW, sent);
        receive(&mut client, &packet::puback(id));
        assert!(matches!(client.poll_event(), Some(Event::Published { .. })));
        assert!(client.poll_event().is_none());
    })
}

/// A message of QoS 1 comes and is acknowledged.
pub(super) fn message() -> Work {
    let mut client = connected();
    let message = packet::publish(Version::V311, TOPIC, &PAYLOAD, Qos::AtLeastOnce, 9);
    Box::new(move || {
        receive(&mut client, &message);
        assert!(matches!(client.poll_event(), Some(Event::Message(_))));
        assert!(client.poll_event().is_none());
        let answer = client.transmit();
        assert_eq!(answer, packet::puback(9));
        let sent = answer.len();
        client.transmitted(NOW, sent);
    })
}
