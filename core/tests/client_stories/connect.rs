use fulmar_core::client::{ConnectError, Options, SendError};
use fulmar_core::codec::{
    Auth, Connack, Connect, Disconnect, EncodeError, Packet, Properties, Property, Publish, Qos,
    ReasonCode, Version, Will,
};

use super::{Scene, Small, clean, keeping};

const V311: Version = Version::V311;
const V5: Version = Version::V5;

#[test]
fn connect_says_what_memory_allows() {
    let mut memory = Small::new();
    let mut scene = Scene::on(memory.storage(), V5, Options::default());
    let list = [Property::SessionExpiryInterval(7)];
    let connect = Connect { properties: Properties::list(&list), ..clean(V5) };
    scene.client.connect(scene.now, &connect).unwrap();
    let sent = scene.sent();
    let expected = "Properties=[SessionExpiryInterval=7, ReceiveMaximum=2, \
                    MaximumPacketSize=128, TopicAliasMaximum=0]>";
    assert!(sent[0].ends_with(expected), "{sent:?}");
}

#[test]
fn every_version_and_field_goes_into_connect() {
    let will = Will {
        qos: Qos::AtLeastOnce,
        retain: true,
        topic: "w",
        payload: b"x",
        properties: Properties::EMPTY,
    };
    for version in [Version::V31, V311, V5] {
        let mut scene = Scene::new(version, Options::default());
        let connect = Connect {
            will: Some(will),
            username: Some("u"),
            password: Some(b"p"),
            ..clean(version)
        };
        scene.client.connect(scene.now, &connect).unwrap();
        let sent = scene.sent();
        let expected = "<Connect ClientID=\"c\" KeepAlive=30 Username=\"u\" Password=\"***\" \
             CleanSession=true Will=<Message Topic=\"w\" QOS=1 Retain=true Payload=78> Version=";
        assert!(sent[0].starts_with(&format!("{expected}{}", version as u8)), "{sent:?}");
        scene.connack(false, &[]);
        assert_eq!(scene.events(), ["connected present=false keep_alive=30"]);
    }
}

#[test]
fn a_refusal_is_told_and_the_transport_is_to_be_closed() {
    for (version, reason) in [(V311, ReasonCode::NotAuthorized), (V5, ReasonCode::ServerBusy)] {
        let mut scene = Scene::new(version, Options::default());
        scene.client.connect(scene.now, &clean(version)).unwrap();
        scene.sent();
        let properties = Properties::EMPTY;
        scene.give(&Packet::Connack(Connack { session_present: false, reason, properties }));
        assert_eq!(scene.events(), [format!("refused: {reason}")]);
        assert!(scene.client.wants_close());
        assert_eq!(scene.cut(), ["closed"]);
        assert!(!scene.client.wants_close());
    }
}

#[test]
fn a_session_that_cannot_be_is_not_believed() {
    // [MQTT-3.2.2-4]
    let mut scene = Scene::connected(V5, Options::default(), &[]);
    scene.events();
    let mut scene = Scene::new(V5, Options::default());
    scene.connect(&keeping(V5), true, &[]);
    assert_eq!(scene.events(), ["failed: Protocol Error (MQTT-3.2.2-4)"]);
    assert_eq!(scene.sent(), ["<Disconnect ReasonCode=130>"]);
    let foreign = Options { foreign_session: true, ..Options::default() };
    for (version, options) in [(V5, foreign), (V311, Options::default())] {
        let mut scene = Scene::new(version, options);
        scene.connect(&keeping(version), true, &[]);
        assert_eq!(scene.events(), ["connected present=true keep_alive=30"]);
    }
    // [MQTT-3.2.2-2]
    for version in [V311, V5] {
        let mut scene = Scene::new(version, foreign);
        scene.connect(&clean(version), true, &[]);
        assert_eq!(scene.events(), ["failed: Protocol Error (MQTT-3.2.2-2)"]);
        assert_eq!(scene.sent().len(), usize::from(version == V5));
        assert!(scene.client.wants_close());
    }
}

#[test]
fn connack_comes_first_and_once() {
    let mut scene = Scene::new(V5, Options::default());
    scene.client.connect(scene.now, &clean(V5)).unwrap();
    scene.sent();
    scene.give(&Packet::Pingresp);
    assert_eq!(scene.events(), ["failed: Protocol Error (MQTT-3.2.0-1)"]);
    let mut scene = Scene::connected(V5, Options::default(), &[]);
    scene.connack(false, &[]);
    let expected =
        ["connected present=false keep_alive=30", "failed: Protocol Error (MQTT-3.2.0-2)"];
    assert_eq!(scene.events(), expected);
    assert_eq!(scene.sent(), ["<Disconnect ReasonCode=130>"]);
}

#[test]
fn a_connection_begins_only_after_the_end_of_the_one_before() {
    let mut scene = Scene::connected(V311, Options::default(), &[]);
    let connect = clean(V311);
    assert_eq!(scene.client.connect(scene.now, &connect), Err(ConnectError::Busy));
    scene.client.closed(scene.now);
    assert_eq!(scene.client.connect(scene.now, &connect), Err(ConnectError::Busy));
    assert_eq!(scene.events(), ["connected present=false keep_alive=30", "closed"]);
    assert_eq!(scene.client.connect(scene.now, &connect), Ok(()));
    scene.client.closed(scene.now);
    scene.client.closed(scene.now);
    assert_eq!(scene.events(), ["closed"]);
    scene.client.closed(scene.now);
    assert_eq!(scene.events(), [""; 0]);
}

#[test]
fn connect_needs_no_room_among_the_messages_in_flight() {
    let mut memory = Small::new();
    let mut scene = Scene::on(memory.storage(), V311, Options::default());
    scene.connect(&keeping(V311), false, &[]);
    scene.events();
    let message =
        Publish { topic: "t", qos: Qos::AtLeastOnce, payload: &[0; 50], ..Publish::default() };
    scene.client.publish(&message).unwrap();
    assert_eq!(scene.client.publish(&message), Err(SendError::Full));
    assert_eq!(scene.cut(), ["closed"]);
    scene.connect(&keeping(V311), true, &[]);
    assert_eq!(scene.events(), ["connected present=true keep_alive=30"]);
    assert_eq!(scene.sent().len(), 1);
}

#[test]
fn a_connect_that_cannot_be_is_refused() {
    let mut memory = Small::new();
    let mut scene = Scene::on(memory.storage(), V311, Options::default());
    let long = "x".repeat(200);
    let mut refused = |connect: &Connect<'_>| scene.client.connect(scene.now, connect).unwrap_err();
    assert_eq!(refused(&Connect { client_id: &long, ..clean(V311) }), ConnectError::TooLarge);
    let inconsistent = ConnectError::Encode(EncodeError::Inconsistent);
    assert_eq!(refused(&Connect { client_id: "", ..keeping(V311) }), inconsistent);
    assert_eq!(refused(&Connect { client_id: "", ..clean(Version::V31) }), inconsistent);
    for own in [
        Property::ReceiveMaximum(1),
        Property::MaximumPacketSize(1),
        Property::TopicAliasMaximum(1),
        Property::TopicAlias(1),
    ] {
        let list = [own];
        let connect = Connect { properties: Properties::list(&list), ..clean(V5) };
        assert_eq!(refused(&connect), ConnectError::Encode(EncodeError::Property));
    }
    scene.connect(&Connect { client_id: "", ..clean(V311) }, false, &[]);
    assert_eq!(scene.events(), ["connected present=false keep_alive=30"]);
}

#[test]
fn messages_in_flight_do_not_change_their_version() {
    let mut scene = Scene::connected(V311, Options::default(), &[]);
    scene.events();
    scene.publish("t", Qos::AtLeastOnce).unwrap();
    scene.cut();
    assert_eq!(scene.client.connect(scene.now, &keeping(V5)), Err(ConnectError::Version));
    scene.connect(&Connect { clean_start: true, ..keeping(V5) }, false, &[]);
    assert_eq!(scene.events(), ["lost #0", "connected present=false keep_alive=30"]);
}

#[test]
fn disconnect_goes_last_and_says_what_there_is_room_for() {
    let mut scene = Scene::connected(V5, Options::default(), &[Property::MaximumPacketSize(20)]);
    scene.events();
    scene.publish("t", Qos::AtMostOnce).unwrap();
    let list =
        [Property::ReasonString("a reason that is too long"), Property::SessionExpiryInterval(9)];
    let last =
        Disconnect { reason: ReasonCode::DisconnectWithWill, properties: Properties::list(&list) };
    assert_eq!(scene.client.disconnect(scene.now, &last), Ok(()));
    assert_eq!(scene.client.disconnect(scene.now, &last), Err(SendError::NotConnected));
    assert_eq!(scene.publish("t", Qos::AtMostOnce), Err(SendError::NotConnected));
    assert!(!scene.client.wants_close());
    let sent = scene.sent();
    assert!(sent[0].starts_with("<Publish"), "{sent:?}");
    assert_eq!(sent[1..], ["<Disconnect ReasonCode=4 Properties=[SessionExpiryInterval=9]>"]);
    assert!(scene.client.wants_close());
    // [MQTT-3.14.4-1]
    scene.give(&Packet::Pingresp);
    assert_eq!(scene.events(), ["published #0: Success"]);
    assert_eq!(scene.cut(), ["closed"]);
}

#[test]
fn disconnect_of_older_versions_says_nothing() {
    let mut scene = Scene::connected(V311, Options::default(), &[]);
    let list = [Property::ReasonString("x")];
    let last = Disconnect { reason: ReasonCode::Success, properties: Properties::list(&list) };
    scene.client.disconnect(scene.now, &last).unwrap();
    assert_eq!(scene.sent(), ["<Disconnect>"]);
}

#[test]
fn disconnect_that_a_client_must_not_say_is_refused() {
    let mut scene = Scene::new(V5, Options::default());
    let none = Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY };
    assert_eq!(scene.client.disconnect(scene.now, &none), Err(SendError::NotConnected));
    scene.connect(&clean(V5), false, &[]);
    scene.events();
    let inconsistent = Err(SendError::Encode(EncodeError::Inconsistent));
    let server = Disconnect { reason: ReasonCode::SessionTakenOver, ..none };
    assert_eq!(scene.client.disconnect(scene.now, &server), inconsistent);
    // [U5-066]
    let list = [Property::SessionExpiryInterval(1)];
    let later = Disconnect { properties: Properties::list(&list), ..none };
    assert_eq!(scene.client.disconnect(scene.now, &later), inconsistent);
    let list = [Property::TopicAlias(1)];
    let wrong = Disconnect { properties: Properties::list(&list), ..none };
    let property = Err(SendError::Encode(EncodeError::Property));
    assert_eq!(scene.client.disconnect(scene.now, &wrong), property);
    assert!(scene.client.is_connected());
}

fn auth<'a>(reason: ReasonCode, list: &'a [Property<'a>]) -> Auth<'a> {
    Auth { reason, properties: Properties::list(list) }
}

#[test]
fn authentication_goes_to_and_fro_before_and_after_connack() {
    use ReasonCode::{ContinueAuthentication as Continue, Reauthenticate, Success};
    let method = [Property::AuthenticationMethod("M")];
    let mut scene = Scene::new(V5, Options::default());
    let connect = Connect { properties: Properties::list(&method), ..clean(V5) };
    scene.client.connect(scene.now, &connect).unwrap();
    assert_eq!(scene.client.auth(&auth(Continue, &method)), Err(SendError::NotSupported));
    scene.sent();
    for _ in 0..2 {
        scene.give(&Packet::Auth(auth(Continue, &method)));
        assert_eq!(scene.events(), ["auth: Continue authentication"]);
        assert_eq!(scene.client.auth(&auth(Continue, &method)), Ok(()));
        assert_eq!(scene.client.auth(&auth(Continue, &method)), Err(SendError::NotSupported));
        assert_eq!(scene.sent(), [r#"<Auth ReasonCode=24 Properties=[AuthenticationMethod="M"]>"#]);
    }
    scene.connack(false, &method);
    assert_eq!(scene.events(), ["connected present=false keep_alive=30"]);
    assert_eq!(scene.client.auth(&auth(Continue, &method)), Err(SendError::NotSupported));
    let other = [Property::AuthenticationMethod("N")];
    assert_eq!(scene.client.auth(&auth(Reauthenticate, &other)), Err(SendError::NotSupported));
    assert_eq!(scene.client.auth(&auth(Reauthenticate, &method)), Ok(()));
    assert_eq!(scene.sent(), [r#"<Auth ReasonCode=25 Properties=[AuthenticationMethod="M"]>"#]);
    scene.give(&Packet::Auth(auth(Continue, &method)));
    scene.give(&Packet::Auth(auth(Success, &method)));
    assert_eq!(scene.events(), ["auth: Continue authentication", "auth: Success"]);
    // Nobody asked for it.
    scene.give(&Packet::Auth(auth(Success, &method)));
    assert_eq!(scene.events(), ["failed: Protocol Error (MQTT-3.15.2-1)"]);
}

#[test]
fn a_server_keeps_to_the_authentication_method() {
    let method = [Property::AuthenticationMethod("M")];
    let other = [Property::AuthenticationMethod("N")];
    let fails = ["failed: Protocol Error (MQTT-4.12.0-5)"];
    for (asked, answered) in [(&method[..], &other[..]), (&method, &[]), (&[], &method)] {
        let mut scene = Scene::new(V5, Options::default());
        let connect = Connect { properties: Properties::list(asked), ..clean(V5) };
        scene.connect(&connect, false, answered);
        assert_eq!(scene.events(), fails);
        if !answered.is_empty() {
            scene = Scene::new(V5, Options::default());
            scene.client.connect(scene.now, &connect).unwrap();
            scene.sent();
            let reason = ReasonCode::ContinueAuthentication;
            scene.give(&Packet::Auth(auth(reason, answered)));
            assert_eq!(scene.events(), fails);
        }
    }
    let mut scene = Scene::connected(V5, Options::default(), &[]);
    let reauthenticate = auth(ReasonCode::Reauthenticate, &method);
    // [MQTT-4.12.0-7]
    scene.events();
    assert_eq!(scene.client.auth(&reauthenticate), Err(SendError::NotSupported));
    scene.cut();
    assert_eq!(scene.client.auth(&reauthenticate), Err(SendError::NotConnected));
}
