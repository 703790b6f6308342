use fulmar_core::client::{Options, SendError};
use fulmar_core::codec::{
    Connect, Disconnect, Packet, Properties, Property, Publish, Qos, ReasonCode,
    SubscriptionOptions, Version,
};

use super::{Scene, Small, clean, keeping};

const V311: Version = Version::V311;
const V5: Version = Version::V5;
const SUCCESS: ReasonCode = ReasonCode::Success;

fn publish(id: u16, topic: &str, qos: u8, dup: bool) -> String {
    format!(
        "<Publish ID={id} Message=<Message Topic={topic:?} QOS={qos} Retain=false Payload=> \
         Dup={dup}>"
    )
}

/// Four messages: the first of QoS 2 released, the second sent, the third sent in part, the fourth
/// not sent; and two packets that are not kept.
fn interrupted(version: Version) -> Scene<'static> {
    let mut scene = Scene::connected(version, Options::default(), &[]);
    scene.events();
    scene.publish("a", Qos::ExactlyOnce).unwrap();
    scene.publish("a", Qos::ExactlyOnce).unwrap();
    scene.publish("b", Qos::AtLeastOnce).unwrap();
    scene.sent();
    scene.give_ack(Packet::Pubrec, 1, SUCCESS);
    scene.events();
    assert_eq!(scene.sent(), ["<Pubrel ID=1>"]);
    scene.publish("c", Qos::ExactlyOnce).unwrap();
    assert_eq!(scene.sent_bytes(3).len(), 3);
    scene.publish("x", Qos::AtMostOnce).unwrap();
    let filters = [("a", SubscriptionOptions::default())];
    scene.tickets.push(scene.client.subscribe(&filters, Properties::EMPTY).unwrap());
    scene.publish("d", Qos::AtLeastOnce).unwrap();
    assert_eq!(scene.cut(), ["lost #5", "lost #4", "closed"]);
    scene
}

#[test]
fn a_kept_session_goes_on_where_it_stopped() {
    // [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-3.3.1-1] [MQTT-4.3.3-6]
    for version in [Version::V31, V311, V5] {
        let mut scene = interrupted(version);
        scene.connect(&keeping(version), version > Version::V31, &[]);
        assert_eq!(scene.events(), ["connected present=true keep_alive=30"]);
        scene.publish("e", Qos::AtMostOnce).unwrap();
        assert_eq!(scene.publish("e", Qos::AtLeastOnce), Err(SendError::Full));
        let expected = [
            "<Pubrel ID=1>".to_string(),
            publish(2, "a", 2, true),
            publish(3, "b", 1, true),
            publish(4, "c", 2, true),
            publish(5, "d", 1, false),
            publish(0, "e", 0, false),
        ];
        assert_eq!(scene.sent(), expected);
        assert_eq!(scene.publish("f", Qos::AtLeastOnce), Ok(()));
        assert_eq!(scene.sent(), [publish(6, "f", 1, false)]);
        scene.give_ack(Packet::Pubcomp, 1, SUCCESS);
        scene.give_ack(Packet::Puback, 3, SUCCESS);
        let told = ["#7", "#0", "#2"].map(|ticket| format!("published {ticket}: Success"));
        assert_eq!(scene.events(), told);
        // A second interruption marks all of them.
        scene.cut();
        scene.connect(&keeping(version), version > Version::V31, &[]);
        scene.events();
        let expected = [
            publish(2, "a", 2, true),
            publish(4, "c", 2, true),
            publish(5, "d", 1, true),
            publish(6, "f", 1, true),
        ];
        assert_eq!(scene.sent(), expected);
    }
}

#[test]
fn a_session_that_the_server_lost_is_told_message_by_message() {
    // [MQTT-3.2.2-5]
    for version in [V311, V5] {
        let mut scene = interrupted(version);
        scene.connect(&keeping(version), false, &[]);
        let lost = ["lost #0", "lost #1", "lost #2", "lost #3", "lost #6"];
        let events = scene.events();
        assert_eq!(events[..5], lost);
        assert_eq!(events[5..], ["connected present=false keep_alive=30"]);
        assert_eq!(scene.client.in_flight(), 0);
        assert_eq!(scene.sent().len(), 0);
        scene.publish("n", Qos::AtLeastOnce).unwrap();
        assert_eq!(scene.sent().len(), 1);
    }
}

#[test]
fn a_session_that_ends_with_its_connection_is_lost_at_once() {
    let none = Disconnect { reason: SUCCESS, properties: Properties::EMPTY };
    let list = [Property::SessionExpiryInterval(0)];
    let ended = Disconnect { properties: Properties::list(&list), ..none };
    let cases: [(Connect<'_>, &[Property<'_>], Option<Disconnect<'_>>, bool); 6] = [
        (clean(V311), &[], None, true),
        (clean(V5), &[], None, true),
        (keeping(V311), &[], Some(none), false),
        (keeping(V5), &[], Some(none), false),
        (keeping(V5), &[Property::SessionExpiryInterval(0)], None, true),
        (keeping(V5), &[], Some(ended), true),
    ];
    for (connect, connack, last, lost) in cases {
        let mut scene = Scene::new(connect.version, Options::default());
        scene.connect(&connect, false, connack);
        scene.events();
        scene.publish("a", Qos::ExactlyOnce).unwrap();
        scene.sent();
        if let Some(last) = last {
            scene.client.disconnect(scene.now, &last).unwrap();
            scene.sent();
        }
        let expected: &[_] = if lost { &["lost #0", "closed"] } else { &["closed"] };
        assert_eq!(scene.cut(), expected);
        assert_eq!(scene.client.in_flight(), usize::from(!lost));
    }
}

#[test]
fn a_smaller_receive_maximum_holds_messages_back_and_nothing_else() {
    let mut scene = Scene::connected(V5, Options::default(), &[]);
    scene.events();
    for qos in [Qos::ExactlyOnce, Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::AtLeastOnce] {
        scene.publish("a", qos).unwrap();
    }
    scene.sent();
    scene.give_ack(Packet::Pubrec, 3, SUCCESS);
    scene.events();
    scene.sent();
    scene.cut();
    scene.connect(&keeping(V5), true, &[Property::ReceiveMaximum(2)]);
    scene.events();
    scene.publish("b", Qos::AtMostOnce).unwrap();
    let sent = scene.sent();
    let expected =
        [publish(1, "a", 2, true), "<Pubrel ID=3>".to_string(), publish(0, "b", 0, false)];
    assert_eq!(sent, expected);
    scene.give_ack(Packet::Pubcomp, 3, SUCCESS);
    scene.events();
    assert_eq!(scene.sent(), [publish(2, "a", 1, true)]);
    assert_eq!(scene.publish("c", Qos::AtLeastOnce), Err(SendError::Full));
    scene.give_ack(Packet::Puback, 2, SUCCESS);
    scene.events();
    assert_eq!(scene.sent(), [publish(4, "a", 1, true)]);
}

#[test]
fn what_the_server_does_not_take_any_more_is_lost() {
    for property in
        [Property::MaximumPacketSize(20), Property::MaximumQos(1), Property::RetainAvailable(false)]
    {
        let mut scene = Scene::connected(V5, Options::default(), &[]);
        scene.events();
        scene.publish("a", Qos::AtLeastOnce).unwrap();
        let message = Publish {
            topic: "b",
            qos: Qos::ExactlyOnce,
            retain: true,
            payload: &[0; 20],
            ..Publish::default()
        };
        scene.tickets.push(scene.client.publish(&message).unwrap());
        scene.publish("c", Qos::AtLeastOnce).unwrap();
        scene.sent();
        scene.cut();
        scene.connect(&keeping(V5), true, &[property]);
        assert_eq!(scene.events(), ["lost #1", "connected present=true keep_alive=30"]);
        assert_eq!(scene.sent(), [publish(1, "a", 1, true), publish(3, "c", 1, true)]);
    }
}

#[test]
fn what_arrived_before_the_end_is_still_told() {
    let mut scene = Scene::connected(V5, Options::default(), &[]);
    scene.events();
    scene.publish("a", Qos::AtLeastOnce).unwrap();
    scene.sent();
    scene.give_ack(Packet::Puback, 1, SUCCESS);
    scene.give_message("m", Qos::ExactlyOnce, 1);
    let reason = ReasonCode::SessionTakenOver;
    scene.give(&Packet::Disconnect(Disconnect { reason, properties: Properties::EMPTY }));
    let told =
        ["published #0: Success", "message m qos=2", "disconnected: Session taken over", "closed"];
    assert_eq!(scene.cut(), told);
    // It was handled, so it is not told again.
    scene.connect(&keeping(V5), true, &[]);
    scene.give_message("m", Qos::ExactlyOnce, 1);
    assert_eq!(scene.events(), ["connected present=true keep_alive=30"]);
    assert_eq!(scene.sent(), ["<Pubrec ID=1>"]);
}

#[test]
fn identifiers_of_qos_2_are_kept_until_released() {
    // [MQTT-4.3.3-10] [U5-069]
    for version in [V311, V5] {
        let mut scene = Scene::connected(version, Options::default(), &[]);
        scene.give_message("m", Qos::ExactlyOnce, 7);
        scene.events();
        assert_eq!(scene.sent(), ["<Pubrec ID=7>"]);
        scene.cut();
        scene.connect(&keeping(version), true, &[]);
        for _ in 0..3 {
            scene.give_message("m", Qos::ExactlyOnce, 7);
        }
        assert_eq!(scene.events(), ["connected present=true keep_alive=30"]);
        // A repeat whose answer waits needs no answer of its own.
        assert_eq!(scene.sent(), ["<Pubrec ID=7>"]);
        scene.give_ack(Packet::Pubrel, 7, SUCCESS);
        scene.give_message("n", Qos::ExactlyOnce, 7);
        assert_eq!(scene.events(), ["message n qos=2"]);
        // A session that the server lost is forgotten here too.
        scene.cut();
        scene.connect(&keeping(version), false, &[]);
        scene.give_message("o", Qos::ExactlyOnce, 7);
        assert_eq!(scene.events()[1..], ["message o qos=2"]);
    }
}

#[test]
fn answers_of_one_connection_are_not_sent_on_the_next() {
    let mut scene = Scene::connected(V5, Options::default(), &[]);
    scene.events();
    scene.publish("a", Qos::ExactlyOnce).unwrap();
    scene.sent();
    scene.give_ack(Packet::Pubrec, 1, SUCCESS);
    scene.give_ack(Packet::Pubrel, 9, SUCCESS);
    scene.give_message("m", Qos::AtLeastOnce, 3);
    scene.events();
    // Made, and not taken by the transport.
    assert!(!scene.client.transmit().is_empty());
    scene.give_ack(Packet::Pubrel, 9, SUCCESS);
    scene.events();
    // A failure after the end leaves nothing either.
    scene.give_bytes(&[0, 0]);
    let failed = ["failed: Malformed Packet (U5-004)", "closed"];
    assert_eq!(scene.cut(), failed);
    scene.connect(&keeping(V5), true, &[]);
    scene.events();
    assert_eq!(scene.sent(), ["<Pubrel ID=1>"]);
    assert!(!scene.client.wants_close());
}

#[test]
fn an_acknowledgement_that_comes_too_early_breaks_no_packet() {
    let mut memory = Small::new();
    let mut scene = Scene::on(memory.storage(), V311, Options::default());
    scene.connect(&keeping(V311), false, &[]);
    scene.events();
    scene.publish("a", Qos::AtLeastOnce).unwrap();
    scene.publish("b", Qos::AtLeastOnce).unwrap();
    scene.sent();
    // Sent in part, and acknowledged all the same.
    scene.publish("c", Qos::AtLeastOnce).unwrap();
    scene.sent_bytes(1);
    scene.give_ack(Packet::Puback, 3, SUCCESS);
    assert_eq!(scene.events(), ["published #2: Success"]);
    scene.cut();
    scene.connect(&keeping(V311), true, &[]);
    scene.events();
    // Acknowledged while it is being sent again.
    let mut bytes = scene.sent_bytes(3);
    scene.give_ack(Packet::Puback, 1, SUCCESS);
    assert_eq!(scene.events(), ["published #0: Success"]);
    while !scene.client.transmit().is_empty() {
        bytes.extend(scene.sent_bytes(1));
    }
    let expected = [publish(1, "a", 1, true), publish(2, "b", 1, true)];
    assert_eq!(super::texts(V311, &bytes), expected);
    // All of the memory is free again.
    scene.give_ack(Packet::Puback, 2, SUCCESS);
    assert_eq!(scene.events(), ["published #1: Success"]);
    let message = Publish { topic: "t", payload: &[0; 59], ..Publish::default() };
    assert!(scene.client.publish(&message).is_ok());
}

#[test]
fn resending_goes_on_though_other_packets_wait_when_the_acknowledgement_comes() {
    let mut scene = Scene::connected(V5, Options::default(), &[]);
    scene.events();
    for topic in ["a", "b"] {
        scene.publish(topic, Qos::AtLeastOnce).unwrap();
    }
    scene.sent();
    scene.cut();
    scene.connect(&keeping(V5), true, &[Property::ReceiveMaximum(1)]);
    scene.events();
    assert_eq!(scene.sent(), [publish(1, "a", 1, true)]);
    for (again, id) in [("b", 2), ("c", 3)] {
        scene.publish("zero", Qos::AtMostOnce).unwrap();
        // Not sent yet, or in part.
        scene.sent_bytes(usize::from(id) - 2);
        scene.give_ack(Packet::Puback, id - 1, SUCCESS);
        assert!(scene.events()[0].starts_with("published"));
        if id == 2 {
            assert_eq!(scene.sent(), [publish(2, again, 1, true), publish(0, "zero", 0, false)]);
        } else {
            assert_eq!(scene.publish(again, Qos::AtLeastOnce), Ok(()));
        }
    }
}

#[test]
fn a_clean_start_ends_the_session_whether_the_server_answers_or_not() {
    // [MQTT-3.1.2-4]
    for version in [V311, V5] {
        let mut scene = interrupted(version);
        scene.give_and_cut_qos_2(&keeping(version));
        scene.client.connect(scene.now, &clean(version)).unwrap();
        let lost = ["lost #0", "lost #1", "lost #2", "lost #3", "lost #6"];
        assert_eq!(scene.events(), lost);
        assert_eq!(scene.client.in_flight(), 0);
        scene.sent_bytes(5);
        assert_eq!(scene.cut(), ["closed"]);
        // The server may have got CONNECT and have a session, but not one that is known here.
        scene.connect(&keeping(version), true, &[]);
        if version == V5 {
            assert_eq!(scene.events(), ["failed: Protocol Error (MQTT-3.2.2-4)"]);
            continue;
        }
        scene.give_message("n", Qos::ExactlyOnce, 9);
        let told = ["connected present=true keep_alive=30", "message n qos=2"];
        assert_eq!(scene.events(), told);
    }
    // What is lost is told after the end of the connection, too.
    let mut scene = interrupted(V5);
    scene.client.connect(scene.now, &clean(V311)).unwrap();
    assert_eq!(scene.cut().len(), 6);
}

#[test]
fn another_version_goes_on_with_a_session_of_released_messages_alone() {
    let mut scene = Scene::connected(V311, Options::default(), &[]);
    scene.events();
    scene.publish("a", Qos::ExactlyOnce).unwrap();
    scene.sent();
    scene.give_ack(Packet::Pubrec, 1, SUCCESS);
    scene.events();
    scene.cut();
    scene.connect(&keeping(V5), true, &[]);
    assert_eq!(scene.events(), ["connected present=true keep_alive=30"]);
    assert_eq!(scene.sent(), ["<Pubrel ID=1>"]);
    scene.give_ack(Packet::Pubcomp, 1, SUCCESS);
    assert_eq!(scene.events(), ["published #0: Success"]);
}

#[test]
fn disconnect_before_connack_takes_nothing_of_the_session_with_it() {
    // [MQTT-3.1.2-30]
    for version in [V311, V5] {
        let mut scene = interrupted(version);
        scene.connect(&keeping(version), true, &[]);
        scene.events();
        // Begun to send again, so that the rest is due.
        scene.sent_bytes(1);
        scene.cut();
        scene.client.connect(scene.now, &keeping(version)).unwrap();
        let last = Disconnect { reason: SUCCESS, properties: Properties::EMPTY };
        scene.client.disconnect(scene.now, &last).unwrap();
        let sent = scene.sent();
        assert!(sent.len() == 2 && sent[0].starts_with("<Connect"), "{sent:?}");
        assert_eq!(sent[1], "<Disconnect>");
        assert!(scene.client.wants_close());
        assert_eq!(scene.cut(), ["closed"]);
        assert_eq!(scene.client.in_flight(), 5);
    }
}
