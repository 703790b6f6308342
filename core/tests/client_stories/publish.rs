use fulmar_core::client::{Options, SendError};
use fulmar_core::codec::{
    EncodeError, Packet, PacketId, Properties, Property, Publish, Qos, ReasonCode, ReasonCodes,
    Suback, SubscriptionOptions, Unsuback, Version,
};
use fulmar_core::topic::TopicError;

use super::{Scene, Small, keeping};

const V311: Version = Version::V311;
const V5: Version = Version::V5;
const SUCCESS: ReasonCode = ReasonCode::Success;

fn connected(version: Version, properties: &[Property<'_>]) -> Scene<'static> {
    let mut scene = Scene::connected(version, Options::default(), properties);
    assert_eq!(scene.events().len(), 1);
    scene
}

fn publish(id: u16, topic: &str, qos: u8) -> String {
    format!(
        "<Publish ID={id} Message=<Message Topic={topic:?} QOS={qos} Retain=false Payload=> \
         Dup=false>"
    )
}

#[test]
fn qos_0_is_done_when_its_last_byte_is_transmitted() {
    let mut scene = connected(V311, &[]);
    scene.publish("a", Qos::AtMostOnce).unwrap();
    scene.publish("b", Qos::AtMostOnce).unwrap();
    assert_eq!(scene.sent_bytes(4), [0x30, 3, 0, 1]);
    assert_eq!(scene.events(), [""; 0]);
    assert_eq!(scene.sent_bytes(2), [b'a', 0x30]);
    assert_eq!(scene.events(), ["published #0: Success"]);
    assert_eq!(scene.cut(), ["lost #1", "closed"]);
}

#[test]
fn qos_1_is_done_with_puback() {
    let mut scene = connected(V5, &[]);
    scene.publish("a", Qos::AtLeastOnce).unwrap();
    scene.publish("b", Qos::AtLeastOnce).unwrap();
    assert_eq!(scene.sent(), [publish(1, "a", 1), publish(2, "b", 1)]);
    scene.give_ack(Packet::Puback, 2, ReasonCode::NotAuthorized);
    scene.give_ack(Packet::Puback, 2, SUCCESS);
    scene.give_ack(Packet::Puback, 1, ReasonCode::NoMatchingSubscribers);
    let told = ["published #1: Not authorized", "published #0: No matching subscribers"];
    assert_eq!(scene.events(), told);
    assert_eq!((scene.client.in_flight(), scene.sent().len()), (0, 0));
}

#[test]
fn qos_2_is_done_with_pubcomp_or_refused_with_pubrec() {
    let mut scene = connected(V5, &[]);
    for topic in ["a", "b"] {
        scene.publish(topic, Qos::ExactlyOnce).unwrap();
    }
    assert_eq!(scene.sent(), [publish(1, "a", 2), publish(2, "b", 2)]);
    scene.give_ack(Packet::Pubrec, 2, SUCCESS);
    scene.give_ack(Packet::Pubrec, 1, ReasonCode::QuotaExceeded);
    scene.give_ack(Packet::Pubrec, 2, SUCCESS);
    assert_eq!(scene.events(), ["published #0: Quota exceeded"]);
    // [MQTT-4.3.3-4]
    assert_eq!(scene.sent(), ["<Pubrel ID=2>", "<Pubrel ID=2>"]);
    scene.give_ack(Packet::Pubcomp, 2, SUCCESS);
    scene.give_ack(Packet::Pubcomp, 2, SUCCESS);
    assert_eq!(scene.events(), ["published #1: Success"]);
    // [MQTT-4.6.0-4]
    for topic in ["c", "d"] {
        scene.publish(topic, Qos::ExactlyOnce).unwrap();
    }
    scene.sent();
    scene.give_ack(Packet::Pubrec, 4, SUCCESS);
    scene.give_ack(Packet::Pubrec, 3, SUCCESS);
    scene.events();
    assert_eq!(scene.sent(), ["<Pubrel ID=4>", "<Pubrel ID=3>"]);
}

#[test]
fn a_pubrec_for_nothing_is_answered_all_the_same() {
    for (version, answer) in [(V311, "<Pubrel ID=9>"), (V5, "<Pubrel ID=9 ReasonCode=146>")] {
        let mut scene = connected(version, &[]);
        scene.give_ack(Packet::Pubrec, 9, SUCCESS);
        assert_eq!((scene.events().len(), scene.sent()), (0, vec![answer.to_string()]));
    }
    let mut scene = connected(V5, &[]);
    scene.give_ack(Packet::Pubrec, 9, ReasonCode::QuotaExceeded);
    scene.give_ack(Packet::Puback, 9, SUCCESS);
    scene.give_ack(Packet::Pubcomp, 9, SUCCESS);
    assert_eq!((scene.events().len(), scene.sent().len()), (0, 0));
}

#[test]
fn the_wrong_acknowledgement_ends_the_connection_and_not_the_message() {
    for (qos, kind) in [
        (Qos::ExactlyOnce, Packet::Puback as fn(_) -> _),
        (Qos::AtLeastOnce, Packet::Pubrec),
        (Qos::ExactlyOnce, Packet::Pubcomp),
    ] {
        let mut scene = connected(V5, &[]);
        scene.publish("t", qos).unwrap();
        scene.sent();
        scene.give_ack(kind, 1, SUCCESS);
        assert!(scene.events()[0].starts_with("failed: Protocol Error"));
        assert_eq!(scene.sent(), ["<Disconnect ReasonCode=130>"]);
        assert_eq!(scene.client.in_flight(), 1);
    }
}

#[test]
fn answers_wait_in_a_queue_of_fixed_size_and_none_is_lost() {
    let mut scene = connected(V311, &[]);
    for id in 1..=40 {
        scene.give_ack(Packet::Pubrel, id, SUCCESS);
    }
    let mut sent = Vec::new();
    for _ in 0..40 {
        assert_eq!(scene.events().len(), 0);
        sent.extend(scene.sent());
    }
    let expected: Vec<_> = (1..=40).map(|id| format!("<Pubcomp ID={id}>")).collect();
    assert_eq!(sent, expected);
}

#[test]
fn what_the_server_does_not_offer_is_refused() {
    let mut scene = connected(
        V5,
        &[
            Property::MaximumQos(1),
            Property::RetainAvailable(false),
            Property::MaximumPacketSize(30),
            Property::WildcardSubscriptionAvailable(false),
            Property::SharedSubscriptionAvailable(false),
            Property::SubscriptionIdentifierAvailable(false),
        ],
    );
    // [MQTT-3.2.2-11] [MQTT-3.2.2-14] [MQTT-3.2.2-15]
    assert_eq!(scene.publish("t", Qos::ExactlyOnce), Err(SendError::NotSupported));
    let retain = Publish { topic: "t", retain: true, ..Publish::default() };
    assert_eq!(scene.client.publish(&retain), Err(SendError::NotSupported));
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let room = if qos == Qos::AtMostOnce { 24 } else { 22 };
        for (len, result) in [(room, true), (room + 1, false)] {
            let payload = vec![0; len];
            let message =
                Publish { topic: "ab", qos, payload: &payload[1..], ..Publish::default() };
            let taken = scene.client.publish(&message);
            assert_eq!(taken.err(), if result { None } else { Some(SendError::TooLarge) });
        }
    }
    let options = SubscriptionOptions::default();
    let subscribe = |scene: &mut Scene<'_>, filter, list: &[Property<'_>]| {
        scene.client.subscribe(&[(filter, options)], Properties::list(list)).err()
    };
    for filter in ["a/+", "#", "$share/g/a"] {
        assert_eq!(subscribe(&mut scene, filter, &[]), Some(SendError::NotSupported));
    }
    let list = [Property::SubscriptionIdentifier(1)];
    assert_eq!(subscribe(&mut scene, "a", &list), Some(SendError::NotSupported));
    assert_eq!(subscribe(&mut scene, "a", &[]), None);
    let long = "x".repeat(30);
    assert_eq!(subscribe(&mut scene, &long, &[]), Some(SendError::TooLarge));
    let wrong = Some(SendError::Filter(TopicError::Wildcard));
    assert_eq!(subscribe(&mut scene, "a#", &[]), wrong);
    assert_eq!(scene.client.unsubscribe(&["#/a"], Properties::EMPTY).err(), wrong);
}

#[test]
fn what_cannot_be_encoded_is_refused() {
    let mut scene = connected(V5, &[]);
    let mut refused = |message: &Publish<'_>| scene.client.publish(message).unwrap_err();
    let property = SendError::Encode(EncodeError::Property);
    // [MQTT-3.3.4-6]; aliases are set by the client.
    for own in [Property::SubscriptionIdentifier(1), Property::TopicAlias(1)] {
        let list = [own];
        let properties = Properties::list(&list);
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let message = Publish { topic: "t", qos, properties, ..Publish::default() };
            assert_eq!(refused(&message), property);
        }
    }
    for topic in ["", "a/+", "#", "a\0"] {
        let message = Publish { topic, ..Publish::default() };
        assert_eq!(refused(&message), SendError::Encode(EncodeError::Inconsistent));
    }
    assert_eq!(scene.sent().len(), 0);
    assert!(scene.client.subscribe(&[], Properties::EMPTY).is_err());
}

#[test]
fn flow_control_stops_new_messages_and_nothing_else() {
    // [MQTT-3.3.4-7] [MQTT-3.3.4-8] [MQTT-4.9.0-2]
    let mut scene = connected(V5, &[Property::ReceiveMaximum(2)]);
    scene.publish("a", Qos::AtLeastOnce).unwrap();
    scene.publish("b", Qos::ExactlyOnce).unwrap();
    assert_eq!(scene.publish("c", Qos::AtLeastOnce), Err(SendError::Full));
    assert_eq!(scene.sent(), [publish(1, "a", 1), publish(2, "b", 2)]);
    assert_eq!(scene.publish("d", Qos::AtMostOnce), Ok(()));
    scene.give_message("m", Qos::AtLeastOnce, 1);
    scene.events();
    scene.give_ack(Packet::Pubrec, 2, SUCCESS);
    scene.events();
    assert_eq!(scene.publish("c", Qos::AtLeastOnce), Err(SendError::Full));
    let sent = scene.sent();
    assert_eq!(sent[..2], ["<Puback ID=1>", "<Pubrel ID=2>"]);
    assert_eq!(sent[2..], [publish(0, "d", 0)]);
    scene.give_ack(Packet::Pubcomp, 2, SUCCESS);
    scene.events();
    assert_eq!(scene.publish("c", Qos::AtLeastOnce), Ok(()));
}

#[test]
fn a_full_client_refuses_and_goes_on_after_acknowledgements() {
    let mut memory = Small::new();
    let mut scene = Scene::on(memory.storage(), V311, Options::default());
    scene.connect(&keeping(V311), false, &[]);
    scene.events();
    for _ in 0..3 {
        scene.publish("t", Qos::AtLeastOnce).unwrap();
    }
    // The window of this memory, then its bytes.
    assert_eq!(scene.publish("t", Qos::AtLeastOnce), Err(SendError::Full));
    let message = |payload| Publish { topic: "t", payload, ..Publish::default() };
    assert_eq!(scene.client.publish(&message(&[0; 60])), Err(SendError::TooLarge));
    assert_eq!(scene.client.publish(&message(&[0; 59])), Err(SendError::Full));
    assert!(scene.client.publish(&message(&[0; 38])).is_ok());
    assert_eq!(scene.publish("t", Qos::AtMostOnce), Err(SendError::Full));
    assert_eq!(scene.sent().len(), 4);
    for id in 1..=3 {
        scene.give_ack(Packet::Puback, id, SUCCESS);
    }
    assert_eq!(scene.events().len(), 4);
    assert!(scene.client.publish(&message(&[0; 59])).is_ok());
}

#[test]
fn topic_aliases_are_set_for_qos_0_alone() {
    // [MQTT-3.2.2-17] [MQTT-3.2.2-18]
    let mut scene = connected(V5, &[Property::TopicAliasMaximum(2)]);
    for topic in ["long/1", "t", "long/1", "long/2", "long/3", "long/2"] {
        scene.publish(topic, Qos::AtMostOnce).unwrap();
    }
    scene.publish("long/1", Qos::AtLeastOnce).unwrap();
    let with = |topic: &str, alias: u16| {
        publish(0, topic, 0)
            .replace(">>", "")
            .replace("Dup=false>", &format!("Dup=false Properties=[TopicAlias={alias}]>"))
    };
    let expected = [
        with("long/1", 1),
        publish(0, "t", 0),
        with("", 1),
        with("long/2", 2),
        publish(0, "long/3", 0),
        with("", 2),
        publish(1, "long/1", 1),
    ];
    assert_eq!(scene.sent(), expected);
    // A packet that is too large with it goes without.
    let mut scene =
        connected(V5, &[Property::TopicAliasMaximum(2), Property::MaximumPacketSize(12)]);
    scene.publish("topic", Qos::AtMostOnce).unwrap();
    assert_eq!(scene.publish("topic/12", Qos::AtMostOnce), Err(SendError::TooLarge));
    scene.publish("topic/1", Qos::AtMostOnce).unwrap();
    scene.publish("topic/1", Qos::AtMostOnce).unwrap();
    scene.publish("topi", Qos::AtMostOnce).unwrap();
    let plain = publish(0, "topic/1", 0);
    let expected = [publish(0, "topic", 0), plain.clone(), plain, with("topi", 1)];
    assert_eq!(scene.sent()[1..3], expected[1..3]);
}

#[test]
fn aliases_end_with_the_connection_and_where_there_is_no_memory() {
    let mut memory = Small::new();
    let mut scene = Scene::on(memory.storage(), V5, Options::default());
    for _ in 0..2 {
        scene.connect(
            &keeping(V5),
            scene.client.in_flight() > 0,
            &[Property::TopicAliasMaximum(9)],
        );
        scene.events();
        for topic in ["long/1", "long/2"] {
            scene.publish(topic, Qos::AtMostOnce).unwrap();
        }
        // 16 bytes hold one such topic.
        let sent = scene.sent();
        assert!(sent[0].contains("Topic=\"long/1\"") && sent[0].contains("TopicAlias=1"));
        assert_eq!(sent[1], publish(0, "long/2", 0));
        scene.cut();
    }
}

fn suback<'a>(id: u16, reasons: &'a [ReasonCode]) -> Packet<'a> {
    let (packet_id, properties) = (PacketId::new(id).unwrap(), Properties::EMPTY);
    Packet::Suback(Suback { packet_id, properties, reasons: ReasonCodes::list(reasons) })
}

#[test]
fn subscriptions_are_answered_by_ticket() {
    for version in [Version::V31, V311, V5] {
        let mut scene = connected(version, &[]);
        let options = SubscriptionOptions { qos: Qos::AtLeastOnce, ..Default::default() };
        let filters = [("a", options), ("b/#", options)];
        for _ in 0..2 {
            let ticket = scene.client.subscribe(&filters, Properties::EMPTY).unwrap();
            scene.tickets.push(ticket);
        }
        let ticket = scene.client.unsubscribe(&["a"], Properties::EMPTY).unwrap();
        scene.tickets.push(ticket);
        assert_eq!(
            scene.sent(),
            [
                r#"<Subscribe ID=65520 Subscriptions=["a"=>1, "b/#"=>1]>"#,
                r#"<Subscribe ID=65521 Subscriptions=["a"=>1, "b/#"=>1]>"#,
                r#"<Unsubscribe Topics=["a"]>"#,
            ]
        );
        let codes = [ReasonCode::GrantedQos1, ReasonCode::Success];
        scene.give(&suback(65521, &codes));
        scene.give(&suback(65520, &codes));
        let gone: &[_] = match version {
            V5 => &[ReasonCode::NoSubscriptionExisted],
            _ => &[],
        };
        let (packet_id, properties) = (PacketId::new(65522).unwrap(), Properties::EMPTY);
        let reasons = ReasonCodes::list(gone);
        scene.give(&Packet::Unsuback(Unsuback { packet_id, properties, reasons }));
        assert_eq!(
            scene.events(),
            [
                "subscribed #1: [GrantedQos1, Success]".to_string(),
                "subscribed #0: [GrantedQos1, Success]".to_string(),
                format!("unsubscribed #2: {gone:?}"),
            ]
        );
    }
}

#[test]
fn sixteen_subscriptions_wait_at_once_and_are_lost_with_the_connection() {
    let mut scene = connected(V311, &[]);
    for _ in 0..16 {
        let filters = [("a", SubscriptionOptions::default())];
        let ticket = scene.client.subscribe(&filters, Properties::EMPTY).unwrap();
        scene.tickets.push(ticket);
    }
    let more = scene.client.unsubscribe(&["a"], Properties::EMPTY);
    assert_eq!(more, Err(SendError::Full));
    scene.sent();
    scene.give(&suback(65530, &[SUCCESS]));
    assert_eq!(scene.events(), ["subscribed #10: [Success]"]);
    let mut lost: Vec<_> =
        (0..16).filter(|index| *index != 10).map(|index| format!("lost #{index}")).collect();
    lost.push("closed".to_string());
    assert_eq!(scene.cut(), lost);
}

#[test]
fn a_wrong_answer_to_a_subscription_ends_the_connection() {
    let two = [SUCCESS, SUCCESS];
    let properties = Properties::EMPTY;
    let reasons = ReasonCodes::list(&[SUCCESS]);
    let packet_id = PacketId::new(65520).unwrap();
    let unsuback = Packet::Unsuback(Unsuback { packet_id, properties, reasons });
    let wrong = [
        (suback(65520, &two), "MQTT-3.8.4-6"),
        (suback(65521, &[SUCCESS]), "MQTT-2.2.1-6"),
        (suback(1, &[SUCCESS]), "MQTT-2.2.1-6"),
        (unsuback, "MQTT-2.2.1-6"),
    ];
    for (packet, rule) in wrong {
        let mut scene = connected(V5, &[]);
        let filters = [("a", SubscriptionOptions::default())];
        scene.client.subscribe(&filters, properties).unwrap();
        scene.sent();
        scene.give(&packet);
        assert_eq!(scene.events(), [format!("failed: Protocol Error ({rule})")]);
    }
}

#[test]
fn an_answer_to_what_was_not_sent_ends_the_connection() {
    let cases = [
        (Qos::AtLeastOnce, Packet::Puback as fn(_) -> _, "MQTT-4.3.2-4"),
        (Qos::ExactlyOnce, Packet::Pubrec, "MQTT-4.3.3-8"),
    ];
    for (qos, kind, rule) in cases {
        let mut scene = connected(V5, &[]);
        scene.publish("a", qos).unwrap();
        scene.give_ack(kind, 1, SUCCESS);
        assert_eq!(scene.events(), [format!("failed: Protocol Error ({rule})")]);
        assert_eq!(scene.sent(), ["<Disconnect ReasonCode=130>"]);
        // It is not taken to be delivered.
        assert_eq!(scene.client.in_flight(), 1);
    }
    let mut scene = connected(V5, &[]);
    let filters = [("a", SubscriptionOptions::default())];
    scene.client.subscribe(&filters, Properties::EMPTY).unwrap();
    scene.give(&suback(65520, &[SUCCESS]));
    assert_eq!(scene.events(), ["failed: Protocol Error (MQTT-2.2.1-6)"]);
    // The first byte makes the difference, since the rest may be on its way too.
    let mut scene = connected(V5, &[]);
    scene.publish("a", Qos::AtLeastOnce).unwrap();
    scene.sent_bytes(1);
    scene.give_ack(Packet::Puback, 1, SUCCESS);
    assert_eq!(scene.events(), ["published #0: Success"]);
}

#[test]
fn subscriptions_have_tickets_of_their_own_though_identifiers_return() {
    let mut scene = connected(V311, &[]);
    for count in 0..40 {
        let filters = [("a", SubscriptionOptions::default())];
        let ticket = scene.client.subscribe(&filters, Properties::EMPTY).unwrap();
        assert!(!scene.tickets.contains(&ticket));
        scene.tickets.push(ticket);
        scene.sent();
        scene.give(&suback(65520 + count % 16, &[SUCCESS]));
        assert_eq!(scene.events(), [format!("subscribed #{count}: [Success]")]);
    }
}
