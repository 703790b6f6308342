use std::vec::Vec;

use super::super::slots::LAST_ID;
use super::*;

const ONE: Qos = Qos::AtLeastOnce;
const TWO: Qos = Qos::ExactlyOnce;

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn memory<H>(slots: usize) -> Vec<Slot<H>> {
    (0..slots).map(|_| Slot::EMPTY).collect()
}

/// What is sent again now: identifier and QoS, 0 for a PUBREL.
fn resent<H>(out: &mut Outbound<'_, H>) -> Vec<(u16, u8)> {
    core::iter::from_fn(|| {
        Some(match out.next_resend()? {
            Resend::Publish { id, qos, .. } => (id.get(), qos as u8),
            Resend::Pubrel { id } => (id.get(), 0),
        })
    })
    .collect()
}

#[test]
fn qos_1_ends_with_puback() {
    // [MQTT-4.3.2-1] [MQTT-4.3.2-3] [MQTT-4.4.0-2] [v4:MQTT-4.3.2-1]
    let mut memory = memory(2);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 9);
    assert_eq!(out.window(), 2, "borrowed memory bounds the window");
    assert_eq!(out.begin(ONE, "a"), Ok(id(1)));
    assert_eq!(out.begin(ONE, "b"), Ok(id(2)));
    assert_eq!(out.begin(ONE, "c"), Err((Full, "c")));
    assert_eq!(out.puback(id(2)), Acked::Done("b"));
    assert_eq!(out.puback(id(2)), Acked::Unknown);
    assert_eq!(out.begin(ONE, "c"), Ok(id(4)), "the slot of identifier 3 is in use");
    assert_eq!(out.puback(id(1)), Acked::Done("a"));
    assert_eq!(out.puback(id(4)), Acked::Done("c"));
    assert!(out.is_empty());
}

#[test]
fn qos_2_holds_its_place_until_pubcomp() {
    // [MQTT-4.3.3-1] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-4.9.0-2] [v4:MQTT-4.3.3-1]
    let mut memory = memory(1);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 1);
    assert_eq!(out.begin(TWO, "a"), Ok(id(1)));
    assert_eq!(out.pubcomp(id(1)), Acked::WrongType);
    assert_eq!(out.pubrec(id(1), false), Recd::Release("a"));
    assert_eq!(out.pubrec(id(1), false), Recd::Again);
    assert_eq!((out.quota(), out.room(), out.in_flight()), (0, false, 1));
    assert_eq!(out.begin(TWO, "b"), Err((Full, "b")));
    assert_eq!(out.pubcomp(id(1)), Acked::Done(()));
    assert_eq!(out.pubcomp(id(1)), Acked::Unknown);
    assert_eq!(out.pubrec(id(1), false), Recd::Unknown);
    assert_eq!(out.begin(TWO, "b"), Ok(id(2)));
}

#[test]
fn a_refused_message_is_free_at_once() {
    // [MQTT-4.4.0-2] [U5-006] [U5-073]
    let mut memory = memory(2);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 2);
    assert_eq!(out.begin(TWO, 'a'), Ok(id(1)));
    assert_eq!(out.begin(TWO, 'b'), Ok(id(2)));
    assert_eq!(out.pubrec(id(1), true), Recd::Failed(Some('a')));
    assert_eq!(out.pubrec(id(1), true), Recd::Unknown);
    assert_eq!(out.pubrec(id(2), false), Recd::Release('b'));
    assert_eq!(out.pubrec(id(2), true), Recd::Failed(None));
    assert_eq!((out.quota(), out.is_empty()), (2, true));
}

#[test]
fn the_wrong_packet_never_frees() {
    let mut memory = memory(2);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 2);
    assert_eq!(out.begin(ONE, 'a'), Ok(id(1)));
    assert_eq!(out.begin(TWO, 'b'), Ok(id(2)));
    assert_eq!(out.pubrec(id(1), false), Recd::WrongType);
    assert_eq!(out.pubrec(id(1), true), Recd::WrongType);
    assert_eq!(out.pubcomp(id(1)), Acked::WrongType);
    assert_eq!(out.puback(id(2)), Acked::WrongType);
    assert_eq!(out.pubrec(id(2), false), Recd::Release('b'));
    assert_eq!(out.puback(id(2)), Acked::WrongType);
    assert_eq!(out.in_flight(), 2);
}

#[test]
fn what_is_in_flight_is_resent_in_the_order_of_sending() {
    // [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT-4.3.3-6] [v4:MQTT-4.4.0-1] [v4:MQTT-4.6.0-1]
    let mut memory = memory(3);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 3);
    for (number, what) in [(1, 'a'), (2, 'b'), (3, 'c')] {
        assert_eq!(out.begin(TWO, what), Ok(id(number)));
    }
    assert_eq!(out.pubrec(id(1), true), Recd::Failed(Some('a')));
    assert_eq!(out.begin(ONE, 'd'), Ok(id(4)));
    assert_eq!(out.pubrec(id(3), false), Recd::Release('c'));
    assert_eq!(out.next_resend(), None, "nothing is resent on the same connection");
    out.resume();
    assert!(!out.room(), "what is resent goes first");
    assert_eq!(out.next_resend(), Some(Resend::Publish { id: id(2), qos: TWO, what: &'b' }));
    assert_eq!(resent(&mut out), [(3, 0), (4, 1)]);
    out.resume();
    assert_eq!(resent(&mut out), [(2, 2), (3, 0), (4, 1)], "once for each connection");
}

#[test]
fn a_smaller_receive_maximum_delays_publish_but_not_pubrel() {
    // [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1]
    let mut memory = memory(5);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 5);
    for (number, qos) in [(1, ONE), (2, ONE), (3, TWO), (4, ONE)] {
        assert_eq!(out.begin(qos, number), Ok(id(number)));
    }
    assert_eq!(out.pubrec(id(3), false), Recd::Release(3));
    out.resume();
    out.limit(2);
    assert_eq!(resent(&mut out), [(1, 1), (3, 0)], "the released message counts");
    assert_eq!(out.puback(id(1)), Acked::Done(1));
    assert_eq!(resent(&mut out), [(2, 1)]);
    assert_eq!(out.puback(id(2)), Acked::Done(2));
    assert_eq!(resent(&mut out), [(4, 1)]);
    assert_eq!((out.quota(), out.room()), (0, false));
    assert_eq!(out.pubcomp(id(3)), Acked::Done(()));
    assert_eq!((out.quota(), out.room()), (1, true));
    out.limit(u16::MAX);
    assert_eq!(out.quota(), 4, "never more than the window");
    out.limit(0);
    assert_eq!(out.quota(), 0);
}

#[test]
fn quota_never_exceeds_the_limit_after_a_pubcomp_of_the_last_connection() {
    // [U5-073]
    let mut memory = memory(4);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 4);
    for number in 1..=4 {
        assert_eq!(out.begin(TWO, ()), Ok(id(number)));
        assert_eq!(out.pubrec(id(number), false), Recd::Release(()));
    }
    out.resume();
    out.limit(1);
    assert_eq!(resent(&mut out), [(1, 0), (2, 0), (3, 0), (4, 0)]);
    for number in 1..=3 {
        assert_eq!(out.pubcomp(id(number)), Acked::Done(()));
        assert!(!out.room());
    }
    assert_eq!(out.pubcomp(id(4)), Acked::Done(()));
    assert_eq!(out.quota(), 1);
}

#[test]
fn acknowledgements_that_come_before_the_resend_count() {
    let mut memory = memory(3);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 3);
    for (number, qos) in [(1, ONE), (2, TWO), (3, TWO)] {
        assert_eq!(out.begin(qos, number), Ok(id(number)));
    }
    assert_eq!(out.pubrec(id(3), false), Recd::Release(3));
    out.resume();
    assert_eq!(out.puback(id(1)), Acked::Done(1));
    assert_eq!(out.pubrec(id(2), false), Recd::Release(2));
    assert_eq!(out.pubrec(id(3), false), Recd::Again);
    assert_eq!(out.next_resend(), None, "both PUBRELs are answers already");
    assert_eq!((out.quota(), out.room()), (1, true));
}

#[test]
fn a_cancelled_publish_leaves_no_trace() {
    // [MQTT-3.1.2-25]
    let mut memory = memory(2);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 2);
    assert_eq!(out.begin(ONE, 'a'), Ok(id(1)));
    assert_eq!(out.begin(TWO, 'b'), Ok(id(2)));
    assert_eq!(out.cancel(id(3)), None);
    assert_eq!(out.cancel(id(1)), Some('a'));
    assert_eq!((out.quota(), out.in_flight()), (1, 1));
    assert_eq!(out.pubrec(id(2), false), Recd::Release('b'));
    assert_eq!(out.cancel(id(2)), None, "a released message is the peer's");
    assert_eq!(out.pubcomp(id(2)), Acked::Done(()));
}

#[test]
fn subscribe_takes_identifiers_no_publish_has() {
    // [MQTT-2.2.1-3] [U5-005]
    let mut memory = memory(1);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 1);
    let mut taken: Vec<_> = (0..RESERVED).map(|_| out.reserve().unwrap()).collect();
    assert_eq!(out.reserve(), Err(Full));
    taken.push(out.begin(ONE, ()).unwrap());
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 17);
    assert_eq!(out.puback(id(65_535)), Acked::Unknown);
    assert!(out.release(id(65_535)));
    assert!(!out.release(id(65_535)));
    assert!(!out.release(id(1)));
    assert_eq!(out.reserve(), Ok(id(65_535)));
    out.resume();
    assert!(!out.release(id(65_520)), "not session state");
    assert_eq!(out.in_flight(), 1);
}

#[test]
fn a_session_ends_with_what_was_in_flight() {
    let mut memory = memory(3);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 3);
    for (number, qos) in [(1, TWO), (2, ONE), (3, TWO)] {
        assert_eq!(out.begin(qos, number), Ok(id(number)));
    }
    assert_eq!(out.pubrec(id(1), false), Recd::Release(1));
    let left = [
        (id(1), State::AwaitsPubcomp, None),
        (id(2), State::AwaitsPuback, Some(2)),
        (id(3), State::AwaitsPubrec, Some(3)),
    ];
    let seen: Vec<_> = out.iter().map(|(id, state, what)| (id, state, what.copied())).collect();
    assert_eq!(seen, left);
    assert_eq!(out.drain().take(2).collect::<Vec<_>>(), left[..2]);
    assert_eq!(out.drain().collect::<Vec<_>>(), left[2..]);
    assert!(out.is_empty() && out.room());
}

#[test]
fn identifiers_wrap_around_those_in_flight() {
    // [MQTT-2.2.1-4] [v4:MQTT-2.3.1-3]
    let mut memory = memory(3);
    let mut out = Outbound::new(Storage::from(&mut memory[..]), 3);
    let stuck = out.begin(TWO, 0).unwrap();
    assert_eq!(out.pubrec(stuck, false), Recd::Release(0));
    let mut previous = out.begin(ONE, 0).unwrap();
    let mut wrapped = 0;
    for number in 1..=200_000 {
        let new = out.begin(ONE, number).unwrap();
        assert!(new != stuck && new != previous && new.get() <= LAST_ID);
        wrapped += u32::from(new < previous);
        assert_eq!(out.puback(previous), Acked::Done(number - 1));
        previous = new;
    }
    assert!(wrapped >= 3);
    assert_eq!(out.pubcomp(stuck), Acked::Done(()));
}

#[cfg(feature = "alloc")]
#[test]
fn the_largest_window_uses_each_identifier_once() {
    let mut out = Outbound::new(Storage::default(), u16::MAX);
    assert_eq!(out.window(), LAST_ID);
    for number in 1..=LAST_ID {
        assert_eq!(out.begin(ONE, number), Ok(id(number)));
    }
    assert_eq!(out.begin(ONE, 0), Err((Full, 0)));
    // From the back, then every third, then a new round of those.
    for number in (60_000..=LAST_ID).rev().chain((1..60_000).step_by(3)) {
        assert_eq!(out.puback(id(number)), Acked::Done(number));
    }
    let free = usize::from(LAST_ID) - out.in_flight();
    for _ in 0..free {
        let given = out.begin(TWO, 0).unwrap();
        assert!(given.get() >= 60_000 || given.get() % 3 == 1);
    }
    assert!(!out.room());
    assert_eq!(out.drain().count(), LAST_ID.into());
}

#[cfg(feature = "alloc")]
#[test]
fn slots_are_added_while_messages_are_in_flight() {
    let mut out = Outbound::new(Storage::default(), 100);
    for number in 0..1_001 {
        let given = out.begin(ONE, number).unwrap();
        assert_eq!(out.puback(given), Acked::Done(number));
    }
    assert_eq!(out.slots.len(), 4, "one at a time needs no more");
    for number in 0..100 {
        assert_eq!(out.begin(ONE, number), Ok(id(1_002 + number)));
    }
    assert_eq!(out.slots.len(), 128);
    out.resume();
    assert_eq!(resent(&mut out), (1_002..1_102).map(|id| (id, 1)).collect::<Vec<_>>());
    for number in (0..100).rev() {
        assert_eq!(out.puback(id(1_002 + number)), Acked::Done(number));
    }
}

#[cfg(feature = "alloc")]
#[test]
fn an_idle_session_owns_no_memory() {
    let mut out = Outbound::new(Storage::default(), 8);
    assert!(!out.has_memory());
    assert!(out.release_memory().is_none());
    let first = out.begin(ONE, 'a').unwrap();
    assert!(out.release_memory().is_none(), "something is in flight");
    assert_eq!(out.puback(first), Acked::Done('a'));
    let memory = out.release_memory().unwrap();
    assert!(memory.is_empty() && !out.has_memory());
    let second = out.begin(ONE, 'b').unwrap();
    assert_ne!(second, first, "identifiers go on");
    assert_eq!(out.puback(second), Acked::Done('b'));
    assert!(out.release_memory().is_some());
    let (room, place) = (memory.capacity(), memory.as_ptr());
    out.lend_memory(memory);
    assert!(out.has_memory());
    assert!(out.begin(ONE, 'c').is_ok());
    assert_eq!((out.slots.len() <= room, out.slots.as_ptr()), (true, place));
}
