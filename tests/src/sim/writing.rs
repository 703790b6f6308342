//! How the driver writes, and what clients make of it.

use fulmar_core::Version;
use fulmar_core::broker::ConnId;

use super::oracle::Call;
use super::peer::{Stage, Took};
use super::show;
use super::world::{World, name};

/// Bytes that wait for a client before the driver's socket is full.
const SOCKET: usize = 3000;

impl World {
    /// Takes bytes from the broker into the driver's socket. True if it had any or was asked for.
    pub(super) fn pull(&mut self, conn: ConnId, budget: usize, unasked: bool) -> bool {
        let Some(link) = self.links.get(&conn) else { return false };
        if !link.want && !unasked || link.to_client.len() > SOCKET {
            return false;
        }
        self.begin(Call::Transmit);
        self.outbox.clear();
        let broker = self.shards.of(conn);
        let more = broker.transmit(self.now, conn, &mut self.outbox, budget);
        let bytes: Vec<u8> = self.outbox.slices().flatten().copied().collect();
        let version = self.links.get(&conn).map(|link| self.peers[link.peer].version);
        let version = version.unwrap_or(Version::V311);
        self.note(|| {
            let packets = show::packets(version, &bytes);
            format!("{} transmits{packets}, more {more}", name(conn))
        });
        self.effects();
        self.oracle.sent(conn, &bytes);
        self.end();
        self.link(conn, |link| {
            link.want = more;
            if !link.gone {
                link.to_client.extend(&bytes);
            }
        });
        self.greet(conn);
        true
    }

    /// Moves bytes to the client. True if there were any.
    pub(super) fn carry_out(&mut self, conn: ConnId, most: usize) -> bool {
        let Some(link) = self.links.get_mut(&conn) else { return false };
        let count = most.min(link.to_client.len());
        if count == 0 || self.peers[link.peer].stalled > self.now {
            return false;
        }
        let (peer, accepted) = (link.peer, link.accepted);
        let bytes: Vec<u8> = link.to_client.drain(..count).collect();
        self.deliver(peer, conn, accepted, &bytes);
        true
    }

    pub(super) fn deliver(&mut self, number: usize, conn: ConnId, accepted: u64, bytes: &[u8]) {
        let peer = &mut self.peers[number];
        if peer.link != Some(conn) {
            return;
        }
        if let Some(ours) = &mut peer.ours {
            let bytes = ours.read(self.now, bytes);
            self.hear(number, accepted);
            self.send(number, &bytes);
            self.let_go(number);
            return;
        }
        let mut send = Vec::new();
        for took in peer.read(&mut self.rng, &self.plan, accepted, bytes, &mut send) {
            self.took(number, took);
        }
        for bytes in send {
            self.send(number, &bytes);
        }
    }

    /// What a client machine has told its application.
    pub(super) fn hear(&mut self, number: usize, accepted: u64) {
        let Some(ours) = &mut self.peers[number].ours else { return };
        let (took, mut wrong) = (std::mem::take(&mut ours.took), ours.wrong.take());
        // It may have missed that it was accepted, on a connection of before.
        if std::mem::take(&mut ours.disbelieves) && self.peers[number].reborn.is_empty() {
            wrong = Some("was told of a session that it never had".to_string());
        }
        let mut void = false;
        for took in took {
            if matches!(took, Took::Accepted) {
                self.peers[number].ashamed = false;
                void |= self.peers[number].join(accepted);
            }
            self.took(number, took);
        }
        // The session that goes on is not the one it knows: CONNACK of that went down, as it spoke
        // already. What it makes of this one is worth nothing.
        if let Some(ours) = &mut self.peers[number].ours
            && void
            && ours.resumed
        {
            ours.anew = true;
            self.drop_link(number, false);
        }
        if let Some(wrong) = wrong {
            let what = format!("{} {wrong}", self.peers[number].id);
            self.oracle.complain("client machine", &what);
        }
    }

    fn took(&mut self, number: usize, took: Took) {
        match took {
            Took::Message(qos, key) => {
                let id = self.peers[number].id.clone();
                self.oracle.application(&id, qos, key);
            }
            Took::Refused if self.calm => self.peers[number].stage = Stage::GivenUp,
            Took::Refused | Took::Accepted | Took::Nothing => {}
        }
    }

    /// Time passes for a client machine. True if it had anything to send.
    pub(super) fn tick(&mut self, number: usize) -> bool {
        if self.peers[number].ours.is_none() || self.peers[number].link.is_none() {
            return false;
        }
        let bytes = self.peers[number].tick(self.now);
        self.hear(number, 0);
        self.send(number, &bytes);
        self.let_go(number);
        !bytes.is_empty()
    }

    /// A client machine has the transport closed when it is done with it.
    fn let_go(&mut self, number: usize) {
        let half = self.peers[number].link.and_then(|conn| self.links.get(&conn));
        let half = half.is_some_and(|link| link.half);
        if !half && self.peers[number].ours.as_mut().is_some_and(|ours| ours.wants_close()) {
            self.drop_link(number, false);
        }
    }
}
