//! What other threads ask for, and the answers.

use std::sync::Arc;

use async_channel::Sender;
use fulmar_core::ConnId;
use fulmar_core::broker::{Command, ConnInfo, HandedOver, Input, Reply, SubscriberId};
use fulmar_core::codec::ReasonCode;

use super::handle::Statistics;
use super::inbox::{Accepted, Item};
use super::notice::Notice;
use super::shard::Shard;
use super::socket::Socket;
use super::subscription::{Feed, Subscription};

/// Who gets the answer to a command. An answer nobody waits for any more is thrown away.
pub(super) enum Waiting {
    Command(Sender<Reply>),
    Subscribe(Sender<Result<Subscription, ReasonCode>>),
}

impl Shard {
    pub(super) fn item(&mut self, item: Item) {
        match item {
            Item::Accepted(accepted) => self.open(accepted),
            Item::Command { command, answer } => {
                self.command(command, Some(Waiting::Command(answer)));
            }
            Item::Subscribe { command, answer } => {
                self.command(command, Some(Waiting::Subscribe(answer)));
            }
            Item::Statistics(answer) => {
                let _ = answer.try_send(Statistics {
                    core: self.broker.stats(),
                    reads: self.reads,
                    writes: self.writes,
                    waits: self.waits,
                    wakes: self.mesh.wakes(self.shard),
                    handed_over: self.handed_over,
                    crossed: self.crossed,
                });
            }
            Item::Unsubscribe(subscriber) => {
                self.feeds.remove(&subscriber);
                self.stalled.retain(|stalled| *stalled != subscriber);
                self.command(Command::Unsubscribe(subscriber), None);
            }
            Item::Room(subscriber) => {
                self.stalled.retain(|stalled| *stalled != subscriber);
                self.available.push(subscriber);
            }
            Item::Notice(notice) => (self.observe)(&notice),
            Item::Stop if self.stop_by.is_none() => self.stop(),
            Item::Stop => {}
            Item::Abort => self.stop_by = Some(self.now),
        }
    }

    /// Takes a new connection.
    fn open(&mut self, accepted: Accepted) {
        let Accepted { stream, remote, local, since, bytes } = accepted;
        let info = ConnInfo { remote: Some(remote), local };
        if since.is_some() {
            self.mesh.arrive();
        }
        let id = match self.broker.open(since.unwrap_or(self.now), info) {
            Ok(id) => id,
            Err(why) => {
                self.mesh.closed();
                return (self.observe)(&Notice::Refused { remote, why });
            }
        };
        let added = self.poller.add(&stream, id.index());
        self.sockets.insert(Socket::new(id, stream, remote));
        if let Err(error) = added {
            (self.observe)(&Notice::Failed { remote, error });
            self.close(id);
        } else if !bytes.is_empty() {
            self.receive(id, &bytes);
        }
    }

    /// Gives a connection to the shard it belongs to.
    pub(super) fn hand_over(&mut self, id: ConnId, to: u16) {
        let Some(HandedOver { opened, bytes }) = self.broker.hand_over(self.now, id) else {
            return;
        };
        let Some(socket) = self.sockets.remove(id) else { return };
        self.poller.release(&socket.stream);
        let local = socket.stream.local_addr().ok();
        let (stream, remote) = (socket.stream, socket.remote);
        let accepted = Accepted { stream, remote, local, since: Some(opened), bytes };
        self.mesh.leave();
        self.handed_over += 1;
        // Refused only when the other shard has ended, and with it the broker.
        if self.mesh.inboxes[usize::from(to)].push(Item::Accepted(accepted)).is_err() {
            self.mesh.arrive();
            self.mesh.closed();
        }
    }

    fn command(&mut self, command: Command, waiting: Option<Waiting>) {
        // A publication counts as its PUBLISH would, since it may lead to as much.
        let payload = match &command {
            Command::Publish(publication) => publication.payload.len(),
            _ => 0,
        };
        self.count_messages(1, payload);
        self.last_token += 1;
        let token = self.last_token;
        if let Some(waiting) = waiting {
            self.waiting.insert(token, waiting);
        }
        self.broker.handle(self.now, Input::Command { token, command });
        self.effects();
    }

    /// Passes the broker's answer on.
    pub(super) fn answer(&mut self, token: u64, reply: Reply) {
        match self.waiting.remove(&token) {
            None => {}
            Some(Waiting::Command(answer)) => {
                let _ = answer.try_send(reply);
            }
            Some(Waiting::Subscribe(answer)) => {
                let _ = answer.try_send(match reply {
                    Reply::Subscribed(id) => Ok(self.subscribed(id)),
                    Reply::Refused(reason) => Err(reason),
                    _ => Err(ReasonCode::ImplementationSpecificError),
                });
            }
        }
    }

    fn subscribed(&mut self, id: SubscriberId) -> Subscription {
        let (feed, subscription) = Feed::new(id, Arc::clone(&self.inbox));
        self.feeds.insert(id, feed);
        // Messages may have been told of before it was known.
        self.available.push(id);
        subscription
    }

    /// Gives local subscribers what they have room for.
    pub(super) fn feed(&mut self) {
        while let Some(id) = self.available.pop() {
            let Some(feed) = self.feeds.get(&id) else { continue };
            let full = feed.fill(|| self.broker.take(self.now, id));
            feed.set_overflow(self.broker.overflow(id));
            if full && !self.stalled.contains(&id) {
                self.stalled.push(id);
            }
        }
        // These do not come back by themselves while the program sleeps, but the loss grows.
        for id in &self.stalled {
            if let Some(feed) = self.feeds.get(id) {
                feed.set_overflow(self.broker.overflow(*id));
            }
        }
    }

    /// Begins the shutdown: the broker tells every client and closes it.
    fn stop(&mut self) {
        if self.shard == 0 {
            (self.observe)(&Notice::Stopping);
        }
        self.accepting = None;
        self.stop_by = Some(self.now + self.shutdown_timeout);
        self.command(Command::Shutdown, None);
    }
}
