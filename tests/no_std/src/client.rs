//! The client machine in memory of a fixed size.

use fulmar_core::client::{Client, Event, Fixed, Options};
use fulmar_core::codec::{Connect, Properties, Publish};
use fulmar_core::{Instant, Qos, ReasonCode, Version};

/// A CONNECT for these tests.
pub fn connect(version: Version) -> Connect<'static> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive: 60,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

/// The client sends exactly these bytes.
fn sends(client: &mut Client<'_>, expected: &[u8]) {
    assert_eq!(client.transmit(), expected);
    client.transmitted(Instant::ZERO, expected.len());
}

fn receives(client: &mut Client<'_>, bytes: &[u8]) {
    client.recv_buf()[..bytes.len()].copy_from_slice(bytes);
    client.received(Instant::ZERO, bytes.len());
}

/// Connects, publishes with QoS 1, gets a message with QoS 2, and pings.
pub fn a_connection_from_end_to_end() {
    let now = Instant::ZERO;
    let mut memory = Fixed::<128, 64, 2, 2, 0>::new();
    let mut client = Client::new(memory.storage(), Options::default());
    client.connect(now, &connect(Version::V311)).expect("room");
    sends(&mut client, b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c");
    receives(&mut client, b"\x20\x02\0\0");
    assert!(matches!(client.poll_event(), Some(Event::Connected { .. })));

    let hello = Publish { topic: "t", qos: Qos::AtLeastOnce, payload: b"hi", ..Publish::default() };
    let sent = client.publish(&hello).expect("room");
    sends(&mut client, b"\x32\x07\0\x01t\0\x01hi");
    receives(&mut client, b"\x40\x02\0\x01");
    match client.poll_event() {
        Some(Event::Published { ticket, reason, .. }) => {
            assert_eq!((ticket, reason), (sent, ReasonCode::Success))
        }
        other => panic!("{other:?}"),
    }

    receives(&mut client, b"\x34\x06\0\x01u\0\x09x");
    match client.poll_event() {
        Some(Event::Message(message)) => {
            assert_eq!((message.topic, message.payload), ("u", &b"x"[..]))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(client.poll_event(), None);
    sends(&mut client, b"\x50\x02\0\x09");
    receives(&mut client, b"\x62\x02\0\x09");
    assert_eq!(client.poll_event(), None);
    sends(&mut client, b"\x70\x02\0\x09");

    let deadline = client.poll_timeout().expect("keep alive");
    client.handle_timeout(deadline);
    sends(&mut client, b"\xc0\0");
    client.closed(deadline);
    assert_eq!(client.poll_event(), Some(Event::Closed));
}
