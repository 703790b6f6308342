//! Which reply to which error, and enhanced authentication (NOTES 65 to 68).

use crate::harness::*;

#[test]
fn reason_codes_that_do_not_belong_there_are_refused() {
    cites!(
        "v5:MQTT-4.13.1-1 v5:MQTT-3.4.2-1 v5:MQTT-3.5.2-1 v5:MQTT-3.6.2-1 v5:MQTT-3.7.2-1
         v5:MQTT-3.14.2-1 U5-001"
    );
    let b = shared();
    for (first, code) in [
        (PUBACK, 0x01),
        (PUBACK, 0x92),
        (PUBACK, 0xFF),
        (PUBREC, 0x92),
        (PUBREC, 0x04),
        (PUBREL, 0x10),
        (PUBREL, 0x80),
        (PUBCOMP, 0x80),
        (PUBCOMP, 0x01),
    ] {
        let mut c = b.connect(V5, &unique("c"));
        c.send(&ack_with(first, 1, code));
        c.expect_refused_any(&[0x81, 0x82]);
    }
    for code in [0x01, 0x02, 0x10, 0x18, 0x84, 0x92, 0xFF] {
        let mut c = b.connect(V5, &unique("c"));
        c.send(&raw(0xE0, [code]));
        c.expect_refused_any(&[0x81, 0x82]);
    }
}

/// The last answer must reach a client that is still sending.
#[test]
fn the_reason_reaches_a_client_that_has_sent_more_and_nothing_follows_it() {
    cites!(
        "v5:MQTT-4.13.1-1 v5:MQTT-4.13.2-1 v5:MQTT-3.14.4-1 v5:MQTT-3.14.4-2 U5-074 v4:MQTT-4.8.0-1"
    );
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let mut watcher = b.connect(v, &unique("w"));
        watcher.subscribe(&topic, 0);
        let mut c = b.connect(v, &unique("c"));
        c.subscribe(&topic, 0);
        let more = [
            hex("00 00"),
            Publish::new(&topic, "after the error").qos(1, 1).bytes(v),
            subscribe(v, 2, &[], &[("t", 0)]),
            hex("c0 00"),
            vec![0; 100_000],
        ];
        c.send(&more.concat());
        c.expect_refused(0x81);
        watcher.expect_nothing();
    }
}

#[test]
fn the_refusal_reaches_a_client_that_has_sent_more() {
    cites!("v5:MQTT-4.13.2-1 v5:MQTT-3.2.2-7 v4:MQTT-3.2.2-5 U311-003");
    let b = shared();
    let connect = Connect { clean: false, ..Connect::new(V311, "") };
    let mut c = b.send(V311, &[connect.bytes(), vec![0x30; 100_000]].concat());
    assert_eq!(c.connack().code, 2);
    c.expect_closed();
    let connect = Connect::new(V5, "c").with(text(AUTH_METHOD, "unknown"));
    let mut c = b.send(V5, &[connect.bytes(), vec![0x30; 100_000]].concat());
    assert_eq!(c.connack().code, 0x8C);
    c.expect_closed();
}

#[test]
fn an_unknown_authentication_method_is_refused() {
    cites!("v5:MQTT-4.12.0-1 v5:MQTT-4.12.0-4 v5:MQTT-3.2.2-7 v5:MQTT-3.2.2-6");
    let b = shared();
    let connect = Connect::new(V5, "c").with(text(AUTH_METHOD, "unknown"));
    b.refuses(&connect, 0x8C);
    b.refuses(&connect.with(Data(AUTH_DATA, b"x".to_vec())), 0x8C);
}

#[test]
fn authentication_data_without_method_is_a_protocol_error() {
    cites!("U5-020");
    let b = shared();
    let connect = Connect::new(V5, "c").with(Data(AUTH_DATA, b"x".to_vec()));
    b.send(V5, &connect.bytes()).expect_rejected(&[0x82]);
}

#[test]
fn auth_without_method_in_connect_is_a_protocol_error() {
    cites!("v5:MQTT-4.12.0-6 v5:MQTT-4.12.0-7 v5:MQTT-3.15.2-1 U5-067 U5-068");
    let b = shared();
    let method = props(&[text(AUTH_METHOD, "m")]);
    for body in [
        vec![],
        vec![0x18, 0],
        [vec![0x18], method.clone()].concat(),
        [vec![0x19], method].concat(),
    ] {
        let (mut c, connack) = b.join(&Connect::new(V5, &unique("c")));
        assert_eq!(string_of(&connack.props, AUTH_METHOD), None);
        c.send(&raw(0xF0, body));
        c.expect_refused(0x82);
    }
}

#[test]
fn auth_with_a_reason_of_its_own_is_refused() {
    cites!("v5:MQTT-3.15.2-1 v5:MQTT-4.13.1-1");
    let b = shared();
    let mut c = b.connect(V5, &unique("c"));
    c.send(&raw(0xF0, [vec![0x80], props(&[text(AUTH_METHOD, "m")])].concat()));
    c.expect_refused_any(&[0x81, 0x82]);
}

#[test]
fn an_error_of_one_client_harms_no_other() {
    cites!("v5:MQTT-3.14.2-2 v5:MQTT-4.13.1-1 v4:MQTT-4.8.0-1");
    let b = shared();
    for v in ALL {
        let topic = unique("t");
        let mut s = b.connect(v, &unique("s"));
        s.subscribe(&topic, 1);
        for error in ["00 00", "d0 00", "36 05 0001 61 0001", "ff ff ff ff ff"] {
            let mut c = b.connect(v, &unique("c"));
            c.send_hex(error);
            c.until_closed();
            b.connect(v, &unique("p")).publish(&topic, error, 1);
            assert_eq!(s.take().text(), error);
        }
    }
}
