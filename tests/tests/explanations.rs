//! Reason String and User Properties are left out where the client cannot take them, or did not ask
//! for them.

use fulmar_core::codec::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, PacketId, Properties, Property, Publish,
    ReasonCode, ReasonCodes, Suback, Unsuback,
};
use fulmar_core::connection::{Negotiated, SendError};
use fulmar_core::{Qos, Version};
use fulmar_tests::cites;

const METHOD: Property<'_> = Property::AuthenticationMethod("m");

/// What a server sends, each with these properties.
fn packets<'p>(properties: Properties<'p>, auth: Properties<'p>) -> Vec<Packet<'p>> {
    let ack = |reason| Ack { packet_id: PacketId::MIN, reason, properties };
    let (success, failure) = (ReasonCode::Success, ReasonCode::UnspecifiedError);
    let not_found = ReasonCode::PacketIdentifierNotFound;
    let packet_id = PacketId::MIN;
    let reasons = ReasonCodes::list(&[ReasonCode::UnspecifiedError]);
    vec![
        Packet::Connack(Connack { session_present: false, reason: failure, properties }),
        Packet::Puback(ack(failure)),
        Packet::Pubrec(ack(failure)),
        Packet::Pubrel(ack(not_found)),
        Packet::Pubcomp(ack(not_found)),
        Packet::Suback(Suback { packet_id, properties, reasons }),
        Packet::Unsuback(Unsuback { packet_id, properties, reasons }),
        Packet::Disconnect(Disconnect { reason: failure, properties }),
        Packet::Auth(Auth { reason: success, properties: auth }),
    ]
}

/// What a client that says these things in CONNECT has agreed on.
fn negotiated(list: &[Property<'_>]) -> Negotiated {
    Negotiated::of(&Connect {
        version: Version::V5,
        bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: Properties::list(list),
    })
}

fn sent(negotiated: &Negotiated, packet: &Packet<'_>) -> Result<Vec<u8>, SendError> {
    let mut out = Vec::new();
    negotiated.send(packet, &mut out).map(|()| out)
}

/// As no client at all would get it.
fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    packet.append(Version::V5, &mut out).expect("it can be sent");
    out
}

#[test]
fn explanations_are_left_out_where_they_would_make_a_packet_too_large() {
    cites!(
        "v5:MQTT-3.2.2-19 v5:MQTT-3.2.2-20 v5:MQTT-3.4.2-2 v5:MQTT-3.4.2-3 v5:MQTT-3.5.2-2
         v5:MQTT-3.5.2-3 v5:MQTT-3.6.2-2 v5:MQTT-3.6.2-3 v5:MQTT-3.7.2-2 v5:MQTT-3.7.2-3
         v5:MQTT-3.9.2-1 v5:MQTT-3.9.2-2 v5:MQTT-3.11.2-1 v5:MQTT-3.11.2-2 v5:MQTT-3.14.2-3
         v5:MQTT-3.14.2-4 v5:MQTT-3.15.2-2 v5:MQTT-3.15.2-3 v5:MQTT-3.1.2-24"
    );
    for explanation in [Property::ReasonString("because"), Property::UserProperty("n", "value")] {
        let (alone, with_method) = ([explanation], [METHOD, explanation]);
        let full = packets(Properties::list(&alone), Properties::list(&with_method));
        let bare = packets(Properties::EMPTY, Properties::list(&[METHOD]));
        for (full, bare) in full.iter().zip(&bare) {
            let (long, short) = (encoded(full), encoded(bare));
            let limited = |bytes: usize| {
                sent(&negotiated(&[Property::MaximumPacketSize(bytes as u32)]), full)
            };
            assert_eq!(limited(long.len()).as_ref(), Ok(&long), "{full:?}");
            for bytes in [long.len() - 1, short.len()] {
                assert_eq!(limited(bytes).as_ref(), Ok(&short), "{full:?} in {bytes} bytes");
            }
            assert_eq!(limited(short.len() - 1), Err(SendError::TooLarge), "{bare:?}");
        }
    }
}

#[test]
fn without_problem_information_only_connack_and_disconnect_and_publish_explain_themselves() {
    cites!("v5:MQTT-3.1.2-29 U5-018");
    let list = [Property::ReasonString("because"), Property::UserProperty("n", "value")];
    let with_method = [METHOD, list[0], list[1]];
    let full = packets(Properties::list(&list), Properties::list(&with_method));
    let bare = packets(Properties::EMPTY, Properties::list(&[METHOD]));
    let asked = negotiated(&[]);
    let quiet = negotiated(&[Property::RequestProblemInformation(false)]);
    for (full, bare) in full.iter().zip(&bare) {
        assert_eq!(sent(&asked, full), Ok(encoded(full)), "{full:?}");
        let allowed = matches!(full, Packet::Connack(_) | Packet::Disconnect(_));
        assert_eq!(sent(&quiet, full), Ok(encoded(if allowed { full } else { bare })), "{full:?}");
    }
    let properties = Properties::list(&list[1..]);
    let publish = Publish { qos: Qos::AtMostOnce, topic: "t", properties, ..Publish::default() };
    let publish = Packet::Publish(publish);
    assert_eq!(sent(&quiet, &publish), Ok(encoded(&publish)));
}
