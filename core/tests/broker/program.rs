//! The program around the broker: what it publishes, takes and is refused.

use bytes::Bytes;
use fulmar_core::Instant;
use fulmar_core::broker::{Boot, Command, Config, Delivery, Input, Publication, Reply};
use fulmar_core::codec::{Packet, Properties, Property, Publish, Qos, ReasonCode};

use crate::harness::*;

fn asks(rig: &mut Rig, command: Command) -> Reply {
    rig.handle(Input::Command { token: 1, command });
    rig.replies.pop().expect("a reply at once")
}

fn publishes(rig: &mut Rig, publication: Publication) -> Reply {
    asks(rig, Command::Publish(Box::new(publication)))
}

fn refused(reply: &Reply, reason: ReasonCode) -> bool {
    matches!(reply, Reply::Refused(refused) if *refused == reason)
}

/// Subscribes to everything, and answers what came of it.
fn taken(rig: &mut Rig, send: impl FnOnce(&mut Rig)) -> Vec<Delivery> {
    let command = Command::Subscribe { filters: vec![("#".into(), Qos::AtLeastOnce)], queue: 9 };
    let Reply::Subscribed(subscriber) = asks(rig, command) else { panic!("not subscribed") };
    send(rig);
    std::iter::from_fn(|| rig.broker.take(rig.now, subscriber)).collect()
}

const PROPERTIES: [Property<'static>; 5] = [
    Property::ContentType("text"),
    Property::ResponseTopic("back"),
    Property::CorrelationData(b"17"),
    Property::UserProperty("k", "v"),
    Property::UserProperty("k", "w"),
];

#[test]
fn what_a_client_says_of_its_message_reaches_the_program() {
    let mut rig = Rig::new(Config::default());
    let taken = taken(&mut rig, |rig| {
        let a = rig.connect(V5, "a", true);
        let properties = Properties::list(&PROPERTIES);
        let publish = Publish { topic: "t", payload: b"hi", properties, ..Publish::default() };
        rig.send(a, V5, &[Packet::Publish(publish)]);
    });
    let [delivery] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!(delivery.publisher.as_deref(), Some("a"));
    assert_eq!((delivery.topic.as_str(), &delivery.payload[..]), ("t", &b"hi"[..]));
    assert_eq!(delivery.content_type.as_deref(), Some("text"));
    assert_eq!(delivery.response_topic.as_deref(), Some("back"));
    assert_eq!(delivery.correlation_data.as_deref(), Some(&b"17"[..]));
    let pairs = [("k", "v"), ("k", "w")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(delivery.user_properties, pairs);
}

#[test]
fn what_the_program_says_of_its_message_reaches_a_client() {
    let mut rig = Rig::new(Config::default());
    let b = rig.connect(V5, "b", true);
    rig.send(b, V5, &[subscribe(&filter("t", Q0))]);
    rig.take(b);
    let reply = publishes(
        &mut rig,
        Publication {
            topic: "t".into(),
            content_type: Some("text".into()),
            response_topic: Some("back".into()),
            correlation_data: Some(Bytes::from_static(b"17")),
            user_properties: vec![("k".into(), "v".into()), ("k".into(), "w".into())],
            ..Publication::default()
        },
    );
    assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
    let sent = rig.take(b);
    let [Packet::Publish(publish)] = &packets(V5, &sent)[..] else { panic!("{sent:?}") };
    // [MQTT-3.3.2-18] keeps the order of User Properties.
    assert_eq!(publish.properties.iter().collect::<Vec<_>>(), PROPERTIES);
}

#[test]
fn what_no_client_could_say_the_program_cannot_either() {
    let mut rig = Rig::new(Config { max_sessions: 1, ..Config::default() });
    let to = |topic: &str| Publication { topic: topic.into(), ..Publication::default() };
    let reply = publishes(&mut rig, to("a/#"));
    assert!(refused(&reply, ReasonCode::TopicNameInvalid), "{reply:?}");
    let long = Publication { content_type: Some("x".repeat(65_536)), ..to("t") };
    let reply = publishes(&mut rig, long);
    assert!(refused(&reply, ReasonCode::ImplementationSpecificError), "{reply:?}");

    let subscribe = |filter: &str| Command::Subscribe {
        filters: vec![(filter.into(), Qos::AtMostOnce)],
        queue: 1,
    };
    let reply = asks(&mut rig, subscribe("a#"));
    assert!(refused(&reply, ReasonCode::TopicFilterInvalid), "{reply:?}");
    assert_eq!(rig.broker.stats().sessions, 0, "nothing is left of it");
    assert!(matches!(asks(&mut rig, subscribe("a")), Reply::Subscribed(_)));
    let reply = asks(&mut rig, subscribe("b"));
    assert!(refused(&reply, ReasonCode::QuotaExceeded), "{reply:?}");
}

#[test]
fn the_seed_is_not_shown() {
    let boot = Boot { now: Instant::ZERO, unix_millis: 1, seed: 0x5eed_5eed, epoch: 2 };
    let shown = format!("{boot:?} {boot:x?}");
    assert!(shown.contains("unix_millis: 1") && shown.contains("epoch: 2"), "{shown}");
    assert!(!shown.contains("5eed") && !shown.contains(&boot.seed.to_string()), "{shown}");
    let broker = format!("{:?}", Rig::new(Config::default()).broker);
    assert!(broker.contains("sessions: 0"), "{broker}");
}

#[test]
fn what_was_queued_too_long_is_not_delivered_to_the_program() {
    let mut rig = Rig::new(Config::default());
    let taken = taken(&mut rig, |rig| {
        for (topic, expiry) in [("gone", Some(1)), ("kept", Some(9)), ("always", None)] {
            publishes(rig, Publication { topic: topic.into(), expiry, ..Publication::default() });
        }
        rig.advance(2_000_000);
    });
    // [MQTT-3.3.2-5]
    let taken: Vec<_> = taken.iter().map(|d| (d.topic.as_str(), d.expiry)).collect();
    // [MQTT-3.3.2-6]
    assert_eq!(taken, [("kept", Some(7)), ("always", None)]);
}
