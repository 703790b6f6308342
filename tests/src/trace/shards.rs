//! The broker of a trace: one shard, or several with links between them.

use fulmar_core::broker::{
    Boot, Broker, ClientInfo, Command, Config, ConnInfo, Input, OpenError, PeerMsg, Place, Reply,
    Verdict,
};
use fulmar_core::{ConnId, Instant};

/// A connection, and the shard that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) shard: usize,
    pub(super) conn: ConnId,
}

/// All shards.
pub(super) struct Shards {
    pub(super) all: Vec<Broker>,
    /// Replies that are missing to a command that all were given, and those that came.
    missing: usize,
    replies: Vec<Reply>,
    /// Connections that went to another shard.
    pub(super) handed_over: u64,
    /// Messages between shards.
    pub(super) carried: u64,
}

impl Shards {
    /// Each with its part of the limits, at [`Instant::ZERO`].
    pub(super) fn new(config: &Config, shards: u16) -> Self {
        let boot = Boot { now: Instant::ZERO, unix_millis: 0, seed: 1, epoch: 1 };
        let shard = |shard| {
            let place = Place { shard, shards, key: 1 };
            Broker::shard(config.clone().of_one(shards), boot, place)
        };
        let all = match shards {
            1 => vec![Broker::new(config.clone(), boot)],
            _ => (0..shards).map(shard).collect(),
        };
        Self { all, missing: 0, replies: Vec::new(), handed_over: 0, carried: 0 }
    }

    /// The connection of this number, on the shard whose turn it is.
    pub(super) fn open(&mut self, now: Instant, number: usize) -> Result<At, OpenError> {
        let shard = number % self.all.len();
        Ok(At { shard, conn: self.all[shard].open(now, ConnInfo::default())? })
    }

    pub(super) fn received(&mut self, now: Instant, at: At, bytes: &[u8]) {
        self.all[at.shard].handle(now, Input::Received { conn: at.conn, bytes });
    }

    pub(super) fn closed(&mut self, now: Instant, at: At) {
        self.all[at.shard].handle(now, Input::Closed { conn: at.conn });
    }

    pub(super) fn decided(&mut self, now: Instant, at: At, verdict: Verdict) {
        self.all[at.shard].handle(now, Input::Authenticated { conn: at.conn, verdict });
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.all.iter().filter_map(Broker::poll_timeout).min()
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        self.all.iter_mut().for_each(|shard| shard.handle(now, Input::Timeout));
    }

    /// Takes a connection to the shard it belongs to; answers what it brought along.
    pub(super) fn hand_over(
        &mut self,
        now: Instant,
        from: At,
        to: usize,
    ) -> Result<(At, Vec<u8>), OpenError> {
        let moved = self.all[from.shard].hand_over(now, from.conn).expect("it was asked for");
        self.handed_over += 1;
        let conn = self.all[to].open(moved.opened, ConnInfo::default())?;
        Ok((At { shard: to, conn }, moved.bytes))
    }

    /// Gives a command to the shard it is for, the first one where any will do, or to all.
    pub(super) fn order(&mut self, now: Instant, command: Command) {
        let home = match &command {
            Command::Disconnect { client_id, .. } => self.all[0].place().home(client_id).into(),
            _ => 0,
        };
        let all = matches!(command, Command::Clients { .. } | Command::Stats | Command::Shutdown);
        let range = if all { 0..self.all.len() } else { home..home + 1 };
        self.missing = range.len();
        for shard in range {
            self.all[shard].handle(now, Input::Command { token: 0, command: command.clone() });
        }
    }

    /// A shard has answered a command: what the broker answers, when all have.
    pub(super) fn reply(&mut self, reply: Reply) -> Option<Reply> {
        self.replies.push(reply);
        self.missing -= 1;
        let replies = if self.missing == 0 { self.replies.drain(..) } else { return None };
        replies.reduce(|sum, reply| match (sum, reply) {
            (Reply::Clients { clients: mut all, .. }, Reply::Clients { clients, next }) => {
                all.extend(clients);
                all.sort_by(|a: &ClientInfo, b| a.client_id.cmp(&b.client_id));
                Reply::Clients { clients: all, next }
            }
            (Reply::Stats(mut sum), Reply::Stats(stats)) => {
                sum.connections += stats.connections;
                sum.sessions += stats.sessions;
                sum.subscriptions += stats.subscriptions;
                sum.retained += stats.retained;
                sum.queued += stats.queued;
                for (sum, count) in sum.dropped_by_qos.iter_mut().zip(stats.dropped_by_qos) {
                    *sum += count;
                }
                Reply::Stats(sum)
            }
            (_, reply) => reply,
        })
    }

    /// Takes to each shard what the others have to say to it, as bytes; false if that is nothing.
    pub(super) fn carry(&mut self, now: Instant) -> bool {
        let mut moved = false;
        for from in 0..self.all.len() {
            let waiting = self.all[from].peers_waiting();
            for to in (0..self.all.len()).filter(|to| waiting & 1 << to != 0) {
                let mut batch = Vec::new();
                self.all[from].take_peer_messages(to as u16, &mut batch);
                for msg in batch {
                    let mut bytes = Vec::new();
                    msg.encode(&mut bytes);
                    let msg = PeerMsg::decode(&bytes).expect("what a shard says can be read");
                    self.all[to].peer_message(now, from as u16, msg);
                    self.carried += 1;
                }
                moved = true;
            }
        }
        moved
    }
}
