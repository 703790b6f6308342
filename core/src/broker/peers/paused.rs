//! Connections whose input waits for other shards. Each waits for one thing at a time, and is
//! found by that: what another shard says costs nothing for those that it does not help.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::Broker;
use super::super::conn::{Conn, Waiting};
use super::super::message::Body;
use super::super::receive::Step;
use super::super::session::Attached;
use super::super::slots::{Key, Slots};
use super::Peers;
use super::credit::Lack;
use super::link::Waiter;
use crate::PacketId;
use crate::codec::Qos;
use crate::time::Instant;

/// Until when a connection's input waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Until {
    /// It need not any more, and is to be looked at.
    Turn,
    /// All links have credit.
    Credit,
    /// What its client published before, the other way, is taken.
    Taken,
    /// The subscriptions of its client stand.
    Gates,
    /// The will of its client is published.
    Will,
    /// Fewer announcements or questions are open.
    Window,
    /// The connection that its client had before is at its end.
    Left,
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

/// Connections that wait, in order. Those that wait for a message to be taken stand in the books
/// of its link; those that wait for their own client's gates or will are found by its session.
/// One that was closed meanwhile may stand here still.
#[derive(Debug, Default)]
pub(super) struct Paused {
    turn: VecDeque<Key>,
    credit: VecDeque<Key>,
    window: VecDeque<Key>,
    /// By the connection that is to end first.
    left: BTreeMap<Key, VecDeque<Key>>,
    /// Connections noted in the books of links since closed ones were looked for there.
    noted: usize,
}

impl Paused {
    /// What connections wait for in a queue, since it is for whoever comes first.
    fn queue(&self, until: Until) -> Option<&VecDeque<Key>> {
        match until {
            Until::Turn => Some(&self.turn),
            Until::Credit => Some(&self.credit),
            Until::Window => Some(&self.window),
            _ => None,
        }
    }

    fn next(&mut self, until: Until) -> Option<Key> {
        match until {
            Until::Turn => self.turn.pop_front(),
            Until::Credit => self.credit.pop_front(),
            Until::Window => self.window.pop_front(),
            _ => None,
        }
    }

    pub(super) fn await_credit(&self) -> bool {
        !self.credit.is_empty()
    }

    #[cfg(feature = "fuzzing")]
    pub(super) fn is_empty(&self) -> bool {
        let queues = [&self.turn, &self.credit, &self.window];
        queues.iter().all(|queue| queue.is_empty()) && self.left.is_empty()
    }
}

/// Has a connection wait in a queue, and forgets those that were closed meanwhile before they are
/// more than those that are open.
fn join<T>(queue: &mut VecDeque<Key>, key: Key, conns: &Slots<T>) {
    if queue.len() > 2 * conns.len() {
        queue.retain(|key| conns.get(*key).is_some());
    }
    queue.push_back(key);
}

impl Peers {
    /// A connection's next message lacks something; gives until when it waits.
    #[cold]
    pub(in crate::broker) fn pause(
        &mut self,
        conn: Key,
        lack: &Lack,
        conns: &Slots<Conn>,
    ) -> Until {
        match lack {
            Lack::Credit => {
                join(&mut self.paused.credit, conn, conns);
                Until::Credit
            }
            Lack::Taken(need) => {
                self.paused.noted += 1;
                if self.paused.noted > 2 * conns.len() {
                    self.paused.noted = 0;
                    let is_open = |key| conns.get(key).is_some();
                    self.links.iter_mut().for_each(|link| link.forget_closed(is_open));
                }
                self.wait_first(need, Waiter::Conn(conn));
                Until::Taken
            }
        }
    }

    /// Whether connections that wait for this may go on.
    pub(super) fn has_paused_to_go(&self, until: Until) -> bool {
        let come = match until {
            Until::Turn => true,
            Until::Credit => self.has_all_credit(),
            Until::Window => !self.window_is_full(),
            _ => false,
        };
        come && self.paused.queue(until).is_some_and(|queue| !queue.is_empty())
    }
}

impl Broker {
    /// The connection's next packet is about subscriptions, and too many of these are open.
    pub(in crate::broker) fn pause_at_window(&mut self, key: Key, conn: &mut Conn) {
        conn.waiting = Waiting::Peers(Until::Window);
        if let Some(peers) = &mut self.peers {
            join(&mut peers.paused.window, key, &self.conns);
        }
    }

    /// The connection's client had another one, which is to end before.
    pub(in crate::broker) fn pause_behind(
        &mut self,
        before: Key,
        key: Key,
        conn: &mut Conn,
        data: Option<Bytes>,
    ) {
        conn.waiting = Waiting::Peers(Until::Left);
        conn.held = Some(Box::new(Held::Accept(data)));
        if let Some(peers) = &mut self.peers {
            join(peers.paused.left.entry(before).or_default(), key, &self.conns);
        }
    }

    /// A connection is gone for good: its client may wait for that on others.
    pub(in crate::broker) fn has_left(&mut self, key: Key) {
        let behind = self.peers.as_mut().and_then(|peers| peers.paused.left.remove(&key));
        for key in behind.into_iter().flatten() {
            self.has_come(key, Until::Left);
        }
    }

    /// The same of what a session's client waits for on its connection.
    pub(super) fn has_come_for(&mut self, session: Key, until: Until) {
        if let Some(Attached::Conn(key)) = self.sessions.get(session).map(|s| s.attached) {
            self.has_come(key, until);
        }
    }

    /// What a connection's input waits for has come, if it is this.
    pub(super) fn has_come(&mut self, key: Key, until: Until) {
        if let Some(conn) = self.conns.get_mut(key)
            && conn.waiting == Waiting::Peers(until)
            && let Some(peers) = &mut self.peers
        {
            conn.waiting = Waiting::Peers(Until::Turn);
            peers.paused.turn.push_back(key);
            self.go_on_later();
        }
    }

    /// Goes on with the first connection that waits for this.
    pub(super) fn retry_paused(&mut self, now: Instant, until: Until) {
        let peers = self.peers.as_mut();
        if let Some(key) = peers.and_then(|peers| peers.paused.next(until)) {
            self.retry(now, key, until);
        }
    }

    /// Goes on with a connection that waited.
    fn retry(&mut self, now: Instant, key: Key, until: Until) {
        let Some(mut conn) = self.conns.take(key) else { return };
        if conn.waiting != Waiting::Peers(until) || conn.closing {
            self.put_back(key, conn);
            return;
        }
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
    use super::*;

    #[test]
    fn connections_that_were_closed_while_they_waited_are_forgotten() {
        let (mut conns, mut queue) = (Slots::default(), VecDeque::new());
        let stays = conns.insert(());
        join(&mut queue, stays, &conns);
        for _ in 0..100 {
            let goes = conns.insert(());
            join(&mut queue, goes, &conns);
            conns.remove(goes);
            assert!(queue.len() <= 5, "{} wait", queue.len());
        }
        assert_eq!(queue.front(), Some(&stays), "in order");
    }
}
