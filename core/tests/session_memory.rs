//! Borrowed and heap memory give the same answers.
#![cfg(feature = "alloc")]

use fulmar_core::session::{Held, Inbound, Outbound, Slot};
use fulmar_core::{PacketId, Qos, Storage};
use quickcheck::QuickCheck;

type Steps = Vec<(u8, u8)>;

/// Does the steps and writes down the answers. Identifiers may differ between kinds of memory, so
/// a message is named by its place in the order of sending.
fn send(mut out: Outbound<'_, u8>, steps: &Steps) -> Vec<String> {
    let mut answers = Vec::new();
    for (kind, which) in steps {
        let flight: Vec<PacketId> = out.iter().map(|(id, ..)| id).collect();
        let place = |id: PacketId| flight.iter().position(|known| *known == id);
        let chosen = flight.get(usize::from(*which) % (flight.len() + 1)).copied();
        let id = chosen.unwrap_or(PacketId::MAX);
        let answer = match kind % 16 {
            0..6 => format!("{:?}", out.begin(Qos::AtLeastOnce, *which).map(|_| ())),
            6..9 => format!("{:?}", out.begin(Qos::ExactlyOnce, *which).map(|_| ())),
            9 => format!("{:?}", out.puback(id)),
            10 => format!("{:?}", out.pubrec(id, false)),
            11 => format!("{:?}", out.pubrec(id, which % 8 == 0)),
            12 => format!("{:?}", out.pubcomp(id)),
            13 => format!("{:?} {:?}", out.cancel(id), out.reserve().map(|id| out.release(id))),
            14 => {
                out.resume();
                out.limit(u16::from(*which));
                format!("{}", out.quota())
            }
            _ => match out.next_resend() {
                Some(fulmar_core::session::Resend::Publish { id, qos, what }) => {
                    format!("{:?} {qos:?} {what}", place(id))
                }
                Some(fulmar_core::session::Resend::Pubrel { id }) => format!("{:?}", place(id)),
                None => "nothing".into(),
            },
        };
        let left: Vec<_> = out.iter().map(|(_, state, what)| (state, what)).collect();
        answers.push(format!("{answer} {left:?} {} {}", out.room(), out.quota()));
    }
    answers.push(format!("{:?}", out.drain().map(|(_, state, what)| (state, what)).last()));
    answers
}

fn receive(mut half: Inbound<'_>, steps: &Steps) -> Vec<String> {
    let mut answers = Vec::new();
    for (kind, which) in steps {
        let id = PacketId::MIN.saturating_add(u16::from(which % 16));
        let answer = match kind % 8 {
            0..3 => format!("{:?}", half.publish(id, Qos::ExactlyOnce)),
            3 => format!("{:?}", half.publish(id, Qos::AtLeastOnce)),
            4 => format!("{:?}", half.pubrel(id)),
            5 => format!("{:?}", half.pubcomp_sent(id)),
            6 if which % 4 == 0 => format!("{:?}", half.reconnect()),
            6 => format!("{:?}", half.puback_sent()),
            _ => format!("{:?}", half.refuse(id)),
        };
        let held: Vec<_> = half.iter().collect();
        answers.push(format!("{answer} {held:?} {}", half.open()));
    }
    answers
}

#[test]
fn the_outbound_half_answers_alike_on_the_heap_and_in_borrowed_memory() {
    fn same(window: u8, spare: u8, steps: Steps) -> bool {
        let window = 1 + u16::from(window % 20);
        let mut exact = vec![Slot::EMPTY; window.into()];
        let mut larger = vec![Slot::EMPTY; usize::from(window) + usize::from(spare)];
        let heap = send(Outbound::new(Storage::default(), window), &steps);
        heap == send(Outbound::new(Storage::from(&mut exact[..]), window), &steps)
            && heap == send(Outbound::new(Storage::from(&mut exact[..]), u16::MAX), &steps)
            && heap == send(Outbound::new(Storage::from(&mut larger[..]), window), &steps)
    }
    QuickCheck::new().quickcheck(same as fn(u8, u8, Steps) -> bool);
}

#[test]
fn the_inbound_half_answers_alike_on_the_heap_and_in_borrowed_memory() {
    fn same(await_rel: u8, steps: Steps) -> bool {
        let await_rel = u16::from(await_rel % 12);
        let mut exact = vec![Held::default(); await_rel.into()];
        let heap = receive(Inbound::new(Storage::default(), 6, await_rel), &steps);
        heap == receive(Inbound::new(Storage::from(&mut exact[..]), 6, u16::MAX), &steps)
    }
    QuickCheck::new().quickcheck(same as fn(u8, Steps) -> bool);
}
