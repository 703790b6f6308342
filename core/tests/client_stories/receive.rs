use fulmar_core::client::{Fixed, Options, Ticket};
use fulmar_core::codec::{
    Disconnect, Packet, PacketId, Properties, Property, Publish, Qos, ReasonCode, Version,
};

use super::{Scene, Small, clean, keeping};

const V311: Version = Version::V311;
const V5: Version = Version::V5;
const SUCCESS: ReasonCode = ReasonCode::Success;
const MANUAL: Options = Options {
    manual_ack: true,
    window: 8,
    receive_maximum: 2,
    max_await_rel: 8,
    topic_alias_maximum: 2,
    topic_alias_out: 0,
    foreign_session: false,
    connect_timeout: core::time::Duration::from_secs(1),
    ping_timeout: core::time::Duration::from_secs(1),
    close_timeout: core::time::Duration::from_secs(1),
};

fn connected(version: Version, options: Options) -> Scene<'static> {
    let mut scene = Scene::connected(version, options, &[]);
    assert_eq!(scene.events().len(), 1);
    scene
}

#[test]
fn a_message_is_acknowledged_when_the_next_event_is_asked_for() {
    for version in [Version::V31, V311, V5] {
        let mut scene = connected(version, Options::default());
        scene.give_message("a", Qos::AtLeastOnce, 5);
        scene.give_message("b", Qos::ExactlyOnce, 6);
        scene.give_message("c", Qos::AtMostOnce, 0);
        assert_eq!(scene.event().as_deref(), Some("message a qos=1"));
        assert_eq!(scene.sent().len(), 0);
        assert_eq!(scene.event().as_deref(), Some("message b qos=2"));
        assert_eq!(scene.sent(), ["<Puback ID=5>"]);
        assert_eq!(scene.events(), ["message c qos=0"]);
        assert_eq!(scene.sent(), ["<Pubrec ID=6>"]);
        scene.give_ack(Packet::Pubrel, 6, SUCCESS);
        assert_eq!(scene.event(), None);
        assert_eq!(scene.sent(), ["<Pubcomp ID=6>"]);
    }
}

#[test]
fn tickets_acknowledge_in_the_order_of_receipt() {
    // [MQTT-4.6.0-2] [MQTT-4.6.0-3]
    let mut scene = connected(V5, Options { receive_maximum: 4, ..MANUAL });
    for (id, qos) in [(3, 1), (2, 2), (1, 1)] {
        scene.give_message("m", Qos::from_bits(qos).unwrap(), id);
    }
    scene.events();
    let [first, second, third] = scene.inbox[..] else { panic!() };
    scene.client.ack(third);
    scene.client.ack(second);
    assert_eq!((scene.event(), scene.sent().len()), (None, 0));
    scene.client.ack(first);
    assert_eq!(scene.sent(), ["<Puback ID=3>", "<Pubrec ID=2>", "<Puback ID=1>"]);
    for stale in [first, second, third] {
        scene.client.ack(stale);
    }
    assert_eq!(scene.sent().len(), 0);
}

#[test]
fn a_stale_ticket_does_nothing() {
    let mut scene = connected(V5, MANUAL);
    scene.give_message("m", Qos::AtLeastOnce, 1);
    scene.give_message("n", Qos::AtMostOnce, 0);
    scene.events();
    scene.client.ack(scene.inbox[1]);
    assert_eq!(scene.sent().len(), 0);
    scene.cut();
    scene.connect(&keeping(V5), true, &[]);
    scene.give_message("m", Qos::AtLeastOnce, 1);
    scene.events();
    let stale: Ticket = scene.inbox[0];
    scene.client.ack(stale);
    assert_eq!(scene.sent().len(), 0);
    scene.client.ack(scene.inbox[2]);
    assert_eq!(scene.sent(), ["<Puback ID=1>"]);
}

#[test]
fn a_message_that_was_not_handled_is_told_again() {
    for handled in [false, true] {
        let mut scene = connected(V5, MANUAL);
        scene.give_message("m", Qos::ExactlyOnce, 1);
        scene.events();
        if handled {
            scene.client.ack(scene.inbox[0]);
        }
        scene.cut();
        scene.connect(&keeping(V5), true, &[]);
        scene.give_message("m", Qos::ExactlyOnce, 1);
        assert_eq!(scene.events().len(), if handled { 1 } else { 2 });
        assert_eq!(scene.sent().len(), usize::from(handled));
    }
}

#[test]
fn a_message_can_be_refused() {
    let code = ReasonCode::ImplementationSpecificError;
    let mut scene = connected(V5, MANUAL);
    scene.give_message("a", Qos::AtLeastOnce, 1);
    scene.give_message("b", Qos::ExactlyOnce, 2);
    scene.events();
    scene.client.refuse(scene.inbox[0], code);
    scene.client.refuse(scene.inbox[1], code);
    assert_eq!(scene.sent(), ["<Puback ID=1 ReasonCode=131>", "<Pubrec ID=2 ReasonCode=131>"]);
    // [MQTT-4.3.3-9]
    scene.give_message("c", Qos::ExactlyOnce, 2);
    assert_eq!(scene.events(), ["message c qos=2"]);
    scene.client.refuse(scene.inbox[2], ReasonCode::MalformedPacket);
    assert_eq!(scene.sent(), ["<Pubrec ID=2>"]);
    let mut scene = connected(V311, MANUAL);
    scene.give_message("a", Qos::AtLeastOnce, 1);
    scene.events();
    scene.client.refuse(scene.inbox[0], code);
    assert_eq!(scene.sent(), ["<Puback ID=1>"]);
}

#[test]
fn a_server_that_exceeds_the_receive_maximum_is_told_so() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut scene = connected(V5, MANUAL);
        for id in 1..=3 {
            scene.give_message("m", qos, id);
        }
        let events = scene.events();
        assert_eq!(events[2..], ["failed: Receive Maximum exceeded (MQTT-3.3.4-9)"]);
        assert_eq!(scene.sent(), ["<Disconnect ReasonCode=147>"]);
    }
}

#[test]
fn the_receive_maximum_is_free_again_after_each_message() {
    let mut scene = connected(V5, Options { manual_ack: false, ..MANUAL });
    for id in 1..20 {
        scene.give_message("m", Qos::ExactlyOnce, id);
        scene.give_message("m", Qos::AtLeastOnce, id);
        assert_eq!(scene.events(), ["message m qos=2", "message m qos=1"]);
        assert_eq!(scene.sent(), [format!("<Pubrec ID={id}>"), format!("<Puback ID={id}>")]);
        scene.give_ack(Packet::Pubrel, id, SUCCESS);
        assert_eq!(scene.events(), [""; 0]);
        assert_eq!(scene.sent(), [format!("<Pubcomp ID={id}>")]);
    }
}

#[test]
fn a_server_without_a_receive_maximum_has_to_wait() {
    let mut scene = connected(V311, MANUAL);
    for id in 1..=3 {
        scene.give_message("m", Qos::ExactlyOnce, id);
    }
    assert_eq!(scene.events().len(), 2);
    scene.client.ack(scene.inbox[0]);
    assert_eq!(scene.events().len(), 0);
    assert_eq!(scene.sent(), ["<Pubrec ID=1>"]);
    assert_eq!(scene.events().len(), 1);
}

#[test]
fn more_unreleased_messages_than_memory_end_the_connection() {
    let mut memory = Small::new();
    let mut scene = Scene::on(memory.storage(), V311, Options::default());
    scene.connect(&clean(V311), false, &[]);
    for id in 1..=3 {
        scene.events();
        scene.give_message("m", Qos::ExactlyOnce, id);
        scene.sent();
    }
    assert_eq!(scene.events(), ["failed: Quota exceeded (MQTT-4.3.3-8)"]);
}

#[test]
fn a_pubrel_is_always_answered_unless_its_pubrec_is_due() {
    // [MQTT-4.3.3-11]
    for (version, answer) in [(V311, "<Pubcomp ID=9>"), (V5, "<Pubcomp ID=9 ReasonCode=146>")] {
        let mut scene = connected(version, MANUAL);
        scene.give_ack(Packet::Pubrel, 9, SUCCESS);
        assert_eq!((scene.events().len(), scene.sent()), (0, vec![answer.to_string()]));
        scene.give_message("m", Qos::ExactlyOnce, 9);
        scene.give_ack(Packet::Pubrel, 9, SUCCESS);
        let expected = ["message m qos=2", "failed: Protocol Error (MQTT-4.3.3-4)"];
        assert_eq!(scene.events(), expected);
    }
}

fn aliased<'a>(topic: &'a str, list: &'a [Property<'a>], id: u16) -> Packet<'a> {
    let qos = if id == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce };
    let (packet_id, properties) = (PacketId::new(id), Properties::list(list));
    Packet::Publish(Publish { topic, qos, packet_id, properties, ..Publish::default() })
}

#[test]
fn topics_come_back_for_their_aliases() {
    // [MQTT-3.3.2-10] [U5-046]
    let (one, two) = ([Property::TopicAlias(1)], [Property::TopicAlias(2)]);
    let mut scene = connected(V5, MANUAL);
    for (topic, alias) in
        [("a", &one), ("", &one), ("b", &two), ("longer", &one), ("", &one), ("", &two)]
    {
        scene.give(&aliased(topic, alias, 0));
    }
    let topics = ["a", "a", "b", "longer", "longer", "b"];
    assert_eq!(scene.events(), topics.map(|topic| format!("message {topic} qos=0")));
    // [MQTT-3.3.2-7]
    scene.cut();
    scene.connect(&keeping(V5), true, &[]);
    scene.give(&aliased("", &one, 1));
    assert_eq!(scene.events()[1..], ["failed: Protocol Error (U5-045)"]);
}

#[test]
fn an_alias_beyond_what_was_allowed_ends_the_connection() {
    let over = [Property::TopicAlias(3)];
    let mut scene = connected(V5, MANUAL);
    scene.give(&aliased("a", &over, 0));
    assert_eq!(scene.events(), ["failed: Topic Alias invalid (U5-044)"]);
    assert_eq!(scene.sent(), ["<Disconnect ReasonCode=148>"]);
    let mut memory = Fixed::<512, 64, 3, 2, 256>::new();
    let mut scene = Scene::on(memory.storage(), V5, Options::default());
    scene.connect(&clean(V5), false, &[]);
    let (long, first) = ("x".repeat(253), [Property::TopicAlias(1)]);
    scene.give(&aliased(&long[1..], &first, 0));
    assert_eq!(scene.events().len(), 2);
    scene.give(&aliased(&long, &first, 0));
    assert_eq!(scene.events(), ["failed: Quota exceeded (MQTT-3.3.2-10)"]);
    let mut scene = connected(V5, Options { topic_alias_maximum: 0, ..MANUAL });
    scene.give(&aliased("a", &over, 0));
    assert_eq!(scene.events(), ["failed: Topic Alias invalid (U5-044)"]);
}

#[test]
fn a_packet_larger_than_memory_is_refused_by_its_header() {
    let mut memory = Small::new();
    let mut scene = Scene::on(memory.storage(), V5, Options::default());
    scene.connect(&clean(V5), false, &[]);
    let header = [0x30, 127];
    scene.give_bytes(&header);
    assert_eq!(scene.events()[1..], ["failed: Packet too large (MQTT-3.2.2-15)"]);
    assert_eq!(scene.sent(), ["<Disconnect ReasonCode=149>"]);
}

#[test]
fn what_a_server_must_not_send_ends_the_connection() {
    let properties = Properties::EMPTY;
    let expiry = [Property::SessionExpiryInterval(1)];
    let will = ReasonCode::DisconnectWithWill;
    let packets = [
        (V5, Packet::Pingreq, "U5-001"),
        (V5, Packet::Connect(clean(V5)), "U5-001"),
        (V5, Packet::Disconnect(Disconnect { reason: will, properties }), "MQTT-3.14.2-1"),
        (
            V5,
            Packet::Disconnect(Disconnect {
                reason: SUCCESS,
                properties: Properties::list(&expiry),
            }),
            "MQTT-3.14.2-1",
        ),
        (V311, Packet::Disconnect(Disconnect { reason: SUCCESS, properties }), "MQTT-3.14.2-1"),
    ];
    for (version, packet, rule) in packets {
        let mut scene = connected(version, MANUAL);
        scene.give(&packet);
        scene.give_message("m", Qos::AtMostOnce, 0);
        assert_eq!(scene.events(), [format!("failed: Protocol Error ({rule})")]);
        assert_eq!(scene.sent().len(), usize::from(version == V5));
        assert!(scene.client.wants_close());
        assert!(!scene.client.recv_buf().is_empty());
    }
    let mut scene = connected(V5, MANUAL);
    scene.give_bytes(&[0x36, 0]);
    assert_eq!(scene.events(), ["failed: Malformed Packet (MQTT-3.3.1-4)"]);
    assert_eq!(scene.sent(), ["<Disconnect ReasonCode=129>"]);
}

#[test]
fn a_packet_under_way_is_finished_before_disconnect() {
    let mut scene = connected(V5, MANUAL);
    scene.publish("topic", Qos::AtLeastOnce).unwrap();
    scene.publish("not sent", Qos::AtLeastOnce).unwrap();
    let mut bytes = scene.sent_bytes(4);
    scene.give_bytes(&[0, 0]);
    assert_eq!(scene.events(), ["failed: Malformed Packet (U5-004)"]);
    while !scene.client.wants_close() {
        bytes.extend(scene.sent_bytes(usize::MAX));
    }
    let sent = super::texts(V5, &bytes);
    assert!(sent[0].starts_with("<Publish ID=1"), "{sent:?}");
    assert_eq!(sent[1..], ["<Disconnect ReasonCode=129>"]);
}

#[test]
fn the_last_word_of_the_server_is_told_and_nothing_is_sent_after_it() {
    let mut scene = connected(V5, MANUAL);
    scene.publish("t", Qos::AtLeastOnce).unwrap();
    let reason = ReasonCode::ServerShuttingDown;
    scene.give(&Packet::Disconnect(Disconnect { reason, properties: Properties::EMPTY }));
    scene.give_message("m", Qos::AtMostOnce, 0);
    assert_eq!(scene.events(), ["disconnected: Server shutting down"]);
    assert!(scene.client.wants_close());
    assert_eq!(scene.client.poll_timeout(), None);
}

#[test]
fn a_late_acknowledgement_does_not_meet_the_next_message_of_its_identifier() {
    let mut scene = connected(V311, MANUAL);
    scene.give_message("m", Qos::AtLeastOnce, 1);
    scene.events();
    scene.client.ack(scene.inbox[0]);
    assert_eq!(scene.sent(), ["<Puback ID=1>"]);
    scene.give_message("n", Qos::AtLeastOnce, 1);
    scene.events();
    scene.client.ack(scene.inbox[0]);
    assert_eq!(scene.sent().len(), 0);
    // Nor does the ticket of something else.
    scene.publish("t", Qos::AtLeastOnce).unwrap();
    scene.publish("t", Qos::AtMostOnce).unwrap();
    scene.sent();
    for ticket in scene.tickets.clone() {
        scene.client.ack(ticket);
    }
    assert_eq!(scene.sent().len(), 0);
    scene.client.ack(scene.inbox[1]);
    assert_eq!(scene.sent(), ["<Puback ID=1>"]);
}

#[test]
fn a_refusal_that_was_not_sent_is_asked_for_again() {
    let mut scene = connected(V5, MANUAL);
    scene.give_message("m", Qos::ExactlyOnce, 1);
    scene.events();
    scene.client.refuse(scene.inbox[0], ReasonCode::NotAuthorized);
    scene.cut();
    scene.connect(&keeping(V5), true, &[]);
    scene.give_message("m", Qos::ExactlyOnce, 1);
    assert_eq!(scene.events()[1..], ["message m qos=2"]);
    scene.client.refuse(scene.inbox[1], ReasonCode::NotAuthorized);
    assert_eq!(scene.sent(), ["<Pubrec ID=1 ReasonCode=135>"]);
}

/// A server of 3.1.1 knows no Receive Maximum: more messages than there is memory for end the
/// connection, but each time it gets on.
#[test]
fn too_many_messages_come_in_turns_over_several_connections() {
    let mut memory = Small::new();
    let mut scene = Scene::on(memory.storage(), V311, Options::default());
    let (mut todo, mut released) = (vec![1, 2, 3, 4, 5], Vec::new());
    let mut told = 0;
    for _ in 0..5 {
        scene.connect(&keeping(V311), told > 0, &[]);
        released.iter().for_each(|id| scene.give_ack(Packet::Pubrel, *id, SUCCESS));
        todo.iter().for_each(|id| scene.give_message("m", Qos::ExactlyOnce, *id));
        loop {
            let events = scene.events();
            told += events.iter().filter(|event| event.starts_with("message")).count();
            let sent = scene.sent();
            if sent.is_empty() && events.is_empty() {
                break;
            }
            todo.retain(|id| {
                let acknowledged = sent.contains(&format!("<Pubrec ID={id}>"));
                released.extend(acknowledged.then_some(*id));
                !acknowledged
            });
            released.retain(|id| !sent.contains(&format!("<Pubcomp ID={id}>")));
        }
        scene.cut();
    }
    assert_eq!((told, todo.len(), released.len()), (5, 0, 0));
}

#[test]
fn a_server_gives_no_reasons_to_a_client_that_wants_none() {
    // [MQTT-3.1.2-29]
    let reason = [Property::ReasonString("r")];
    let user = [Property::UserProperty("k", "v")];
    for wanted in [false, true] {
        for list in [&reason, &user] {
            let mut scene = Scene::new(V5, MANUAL);
            let asked = [Property::RequestProblemInformation(wanted)];
            let connect =
                fulmar_core::codec::Connect { properties: Properties::list(&asked), ..clean(V5) };
            // They may be in these two always.
            scene.connect(&connect, false, list);
            let properties = Properties::list(list);
            let message = Publish { topic: "m", properties, ..Publish::default() };
            if list == &user {
                scene.give(&Packet::Publish(message));
            }
            let ack = fulmar_core::codec::Ack {
                packet_id: PacketId::MIN,
                reason: ReasonCode::PacketIdentifierNotFound,
                properties,
            };
            scene.give(&Packet::Pubcomp(ack));
            let events = scene.events();
            let failed = events.iter().any(|e| e == "failed: Protocol Error (MQTT-3.1.2-29)");
            assert_eq!(failed, !wanted, "{events:?}");
            assert_eq!(events.len(), 1 + usize::from(list == &user) + usize::from(failed));
        }
    }
}

#[test]
fn a_server_that_takes_no_acknowledgement_is_of_no_use() {
    let mut scene = Scene::new(V5, MANUAL);
    scene.connect(&clean(V5), false, &[Property::MaximumPacketSize(4)]);
    let failed = ["failed: Implementation specific error (MQTT-3.2.2-15)"];
    assert_eq!(scene.events(), failed);
    assert_eq!(scene.sent(), ["<Disconnect ReasonCode=131>"]);
    scene.cut();
    scene.connect(&clean(V5), false, &[Property::MaximumPacketSize(5)]);
    assert_eq!(scene.events().len(), 1);
}

#[test]
fn a_topic_with_a_wildcard_ends_the_connection() {
    // [MQTT-3.3.2-2]
    for version in [V311, V5] {
        let mut scene = connected(version, MANUAL);
        let five: &[u8] = if version == V5 { &[0] } else { &[] };
        let body = [&[0, 3][..], b"a/+", five].concat();
        scene.give_bytes(&[&[0x30, body.len() as u8][..], &body].concat());
        let events = scene.events();
        assert!(events.len() == 1 && events[0].starts_with("failed"), "{events:?}");
        assert!(events[0].contains("MQTT-3.3.2-2"), "{events:?}");
    }
}
