//! Connections whose input waits for other shards. Each waits for one thing at a time, and is
//! found by that: what another shard says costs nothing for those that it does not help.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use bytes::Bytes;

use super::super::Broker;
use super::super::conn::{Conn, Waiting};
use super::super::message::Body;
use super::super::receive::Step;
use super::super::session::Attached;
use super::super::slots::Key;
use super::Peers;
use super::link::Mark;
use crate::PacketId;
use crate::codec::Qos;
use crate::time::Instant;

/// Until when a connection's input waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::broker) enum Until {
    /// It need not any more, and is to be looked at.
    Turn,
    /// All links have credit, and who waited for it longer has gone on.
    Credit,
    /// What its client published before, the other way, is taken.
    Taken(Mark),
    /// The subscriptions of its client stand.
    Gates,
    /// The will of its client is published.
    Will,
    /// Fewer announcements or questions are open.
    Window,
    /// This connection, which its client had before, is at its end.
    Left(Key),
}

/// What a connection's input waits with.
#[derive(Debug)]
pub(in crate::broker) enum Held {
    /// A message that cannot be published yet.
    Publish(HeldPublish),
    /// An accepted client whose last connection is not at its end yet.
    Accept(Option<Bytes>),
}

/// A PUBLISH, checked, its identifier charged, and with nothing else done.
#[derive(Debug)]
pub(in crate::broker) struct HeldPublish {
    pub(in crate::broker) body: Body,
    pub(in crate::broker) qos: Qos,
    pub(in crate::broker) retain: bool,
    pub(in crate::broker) id: Option<PacketId>,
    pub(in crate::broker) expires: Instant,
}

/// All connections that wait for other shards: by what they wait for, in the order of coming, with
/// a number that each is given for its place.
#[derive(Debug, Default)]
pub(super) struct Paused {
    places: BTreeMap<(Until, u64), Key>,
    last: u64,
}

impl Paused {
    fn enter(&mut self, key: Key, conn: &mut Conn, until: Until) {
        self.last += 1;
        self.places.insert((until, self.last), key);
        (conn.waiting, conn.place) = (Waiting::Peers(until), self.last);
    }

    fn leave(&mut self, conn: &mut Conn) {
        if let Waiting::Peers(until) = conn.waiting {
            self.places.remove(&(until, conn.place));
            conn.waiting = Waiting::Nothing;
        }
    }

    /// Takes the first one out whose `until` is between these.
    pub(super) fn pop(&mut self, first: Until, last: Until) -> Option<Key> {
        let place = *self.places.range((first, 0)..=(last, u64::MAX)).next()?.0;
        self.places.remove(&place)
    }

    pub(super) fn has(&self, until: Until) -> bool {
        self.places.range((until, 0)..=(until, u64::MAX)).next().is_some()
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl Peers {
    /// Connections whose input waits for other shards.
    pub(in crate::broker) fn waiting(&self) -> u64 {
        self.paused.places.len() as u64
    }

    /// Whether connections that wait for this may go on.
    pub(super) fn has_paused_to_go(&self, until: Until) -> bool {
        let come = match until {
            Until::Turn => true,
            Until::Credit => self.has_all_credit(),
            Until::Window => !self.window_is_full(),
            _ => false,
        };
        come && self.paused.has(until)
    }

    /// A connection that waits and has no place, or the other way round.
    #[cfg(feature = "fuzzing")]
    pub(in crate::broker) fn mistaken_wait(&self, conns: &[(Key, &Conn)]) -> Option<Key> {
        let mut places = self.paused.places.clone();
        let mut waiting = conns.iter().filter_map(|(key, conn)| match conn.waiting {
            Waiting::Peers(until) => Some((*key, (until, conn.place))),
            _ => None,
        });
        let missing = waiting.find(|(key, place)| places.remove(place) != Some(*key));
        missing.map(|(key, _)| key).or_else(|| places.into_values().next())
    }
}

impl Broker {
    /// Has a connection that is being handled wait for other shards, with what it goes on with. It
    /// is told when it may, unless it is closed before.
    pub(in crate::broker) fn wait_until(
        &mut self,
        key: Key,
        conn: &mut Conn,
        until: Until,
        held: Option<Box<Held>>,
    ) {
        conn.held = held;
        if let Some(peers) = &mut self.peers {
            peers.paused.enter(key, conn, until);
        }
    }

    /// A connection is closed, or to be: it waits for other shards no more.
    pub(in crate::broker) fn wait_no_more(&mut self, conn: &mut Conn) {
        if let Some(peers) = &mut self.peers {
            peers.paused.leave(conn);
        }
    }

    /// A connection is gone for good: its client may wait for that on others, which are not more
    /// than those that may be unaccepted.
    pub(in crate::broker) fn has_left(&mut self, key: Key) {
        let until = Until::Left(key);
        if defect!("end_not_told") {
            return;
        }
        while let Some(behind) = self.peers.as_mut().and_then(|p| p.paused.pop(until, until)) {
            self.let_go_on(behind);
        }
    }

    /// The same of what a session's client waits for on its connection.
    pub(super) fn has_come_for(&mut self, session: Key, until: Until) {
        if let Some(Attached::Conn(key)) = self.sessions.get(session).map(|s| s.attached) {
            self.has_come(key, until);
        }
    }

    /// What a connection's input waits for has come, if it is this.
    fn has_come(&mut self, key: Key, until: Until) {
        if self.conns.get(key).is_some_and(|conn| conn.waiting == Waiting::Peers(until)) {
            self.let_go_on(key);
        }
    }

    /// A connection that waits for other shards need not any more.
    pub(super) fn let_go_on(&mut self, key: Key) {
        if let Some((peers, conn)) = self.peers.as_mut().zip(self.conns.get_mut(key)) {
            peers.paused.leave(conn);
            peers.paused.enter(key, conn, Until::Turn);
            self.go_on_later();
        }
    }

    /// Goes on with the first connection that waits for this.
    pub(super) fn retry_paused(&mut self, now: Instant, until: Until) {
        let Some(key) = self.peers.as_mut().and_then(|p| p.paused.pop(until, until)) else {
            return;
        };
        let Some(mut conn) = self.conns.take(key) else { return };
        conn.waiting = Waiting::Nothing;
        let step = match conn.held.take().map(|held| *held) {
            None => Step::Next,
            Some(Held::Publish(held)) => {
                self.publish_held(now, key, &mut conn, held, until == Until::Credit)
            }
            Some(Held::Accept(data)) => {
                self.accept_or_refuse(now, key, &mut conn, data);
                Step::Next
            }
        };
        let unread = core::mem::take(&mut conn.unread);
        self.go_on(now, key, &mut conn, step, &unread);
        self.after_wait(now, key, conn);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::DELIVER;
    use super::*;
    use crate::broker::{Boot, Config, ConnInfo};

    #[test]
    fn connections_that_are_closed_while_they_wait_leave_nothing_behind() {
        const COUNT: u32 = 1000;
        let boot = Boot { now: Instant::ZERO, unix_millis: 0, seed: 1, epoch: 1 };
        let settings = Broker::new(Config::default(), boot).settings;
        let mut paused = Paused::default();
        let taken = |number| Until::Taken(Mark { shard: 1, lane: DELIVER, number });
        let mut conns = Vec::new();
        for index in 0..COUNT {
            let key = Key { index, generation: 0 };
            let mut conn = Conn::new(settings.clone(), ConnInfo::default(), Instant::ZERO);
            let until = [Until::Credit, Until::Left(key), taken(index.into()), Until::Will];
            paused.enter(key, &mut conn, until[index as usize % 4]);
            conns.push((key, conn));
        }
        let mut closed = conns.extract_if(.., |(key, _)| key.index % 8 < 4).collect::<Vec<_>>();
        closed.iter_mut().rev().for_each(|(_, conn)| paused.leave(conn));
        assert_eq!(paused.places.len(), conns.len());
        let all = |paused: &mut Paused, first, last| {
            core::iter::from_fn(|| paused.pop(first, last).map(|key| key.index)).collect::<Vec<_>>()
        };
        let every = |first: u32| (first..COUNT).step_by(8).collect::<Vec<_>>();
        assert_eq!(all(&mut paused, Until::Credit, Until::Credit), every(4));
        assert_eq!(all(&mut paused, taken(0), taken(500)), every(6)[..62]);
        assert_eq!(all(&mut paused, taken(0), taken(u64::MAX)), every(6)[62..]);
        conns.iter_mut().for_each(|(_, conn)| paused.leave(conn));
        assert!(paused.places.is_empty());
    }
}
