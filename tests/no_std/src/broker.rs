//! A broker on a heap, and a client that is connected to it by hand.

use fulmar_core::broker::{Boot, Broker, Config, ConnId, ConnInfo, Effect, Input, Outbox, Verdict};
use fulmar_core::client::{Client, Event, Fixed, Options};
use fulmar_core::codec::{Properties, Publish, SubscriptionOptions};
use fulmar_core::{Instant, Qos, Version};

use crate::client::connect;

const NOW: Instant = Instant::ZERO;

/// Moves bytes in both directions once.
fn exchange(client: &mut Client<'_>, broker: &mut Broker, conn: ConnId) {
    let bytes = client.transmit();
    let len = bytes.len();
    broker.handle(NOW, Input::Received { conn, bytes });
    client.transmitted(NOW, len);
    let mut out = Outbox::new();
    while let Some(effect) = broker.poll_effect() {
        match effect {
            Effect::Authenticate { conn, .. } => {
                let verdict = Verdict::Accept { data: None };
                broker.handle(NOW, Input::Authenticated { conn, verdict });
            }
            Effect::Transmit(conn) => while broker.transmit(NOW, conn, &mut out, 1024) {},
            _ => {}
        }
    }
    for slice in out.slices() {
        assert_eq!(client.receive(NOW, slice), slice.len());
    }
}

/// A client of 5.0 subscribes, publishes with QoS 2 and gets its own message.
pub fn a_client_publishes_to_itself() {
    let mut memory = Fixed::<256, 256, 4, 4, 256>::new();
    let mut client = Client::new(memory.storage(), Options::default());
    let boot = Boot { now: NOW, unix_millis: 0, seed: 1, epoch: 1 };
    let mut broker = Broker::new(Config::default(), boot);
    let conn = broker.open(NOW, ConnInfo::default()).expect("room");
    client.connect(NOW, &connect(Version::V5)).expect("room");
    let (mut got, mut complete) = (0, 0);
    for _ in 0..12 {
        exchange(&mut client, &mut broker, conn);
        let mut connected = false;
        while let Some(event) = client.poll_event() {
            match event {
                Event::Connected { .. } => connected = true,
                Event::Message(message) => got += u32::from(message.payload == b"hi"),
                Event::Published { .. } => complete += 1,
                _ => {}
            }
        }
        if connected {
            let options = SubscriptionOptions { qos: Qos::ExactlyOnce, ..Default::default() };
            client.subscribe(&[("a/#", options)], Properties::EMPTY).expect("room");
            let publish =
                Publish { topic: "a", qos: Qos::ExactlyOnce, payload: b"hi", ..Publish::default() };
            client.publish(&publish).expect("room");
        }
    }
    assert_eq!((got, complete, client.in_flight()), (1, 1, 0));
    assert_eq!(broker.stats().queued, 0);
}
