//! A client over a socket: the machine of the core, driven by a task.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant as Clock;

use fulmar_core::client::{Client as Machine, Event, Options, SendError, Sizes, Storage};
use fulmar_core::codec::{
    Connect, Disconnect, Properties, Property, Publish, SubscriptionOptions, Version,
};
use fulmar_core::{Instant, Qos, ReasonCode};
use smol::{Async, future};

/// Seconds that a session which is to be kept outlives its connection.
const EXPIRY: u32 = 600;

/// The connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// A message that came.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retain: bool,
}

/// What came; the end of the connection is [`Gone`].
#[derive(Debug)]
enum Told {
    Message(Message),
    /// It has the session, or not.
    Connected(bool),
    /// SUBSCRIBE or UNSUBSCRIBE is answered.
    Answered,
    Published,
}

pub(crate) struct Client {
    machine: Machine<'static>,
    socket: Option<Async<TcpStream>>,
    start: Clock,
    to: SocketAddr,
    id: String,
    version: Version,
    keeps: bool,
    /// Why the server ended the connection, if it said so.
    pub(crate) said: Option<ReasonCode>,
}

impl Client {
    /// A client without connection, of any name; its session is kept, or not.
    pub(crate) fn new(
        to: SocketAddr,
        id: impl Into<String>,
        version: Version,
        keeps: bool,
    ) -> Self {
        let machine = Machine::new(Storage::heap(Sizes::default()), Options::default());
        let (socket, start, id) = (None, Clock::now(), id.into());
        Self { machine, socket, start, to, id, version, keeps, said: None }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.start.elapsed().as_micros() as u64)
    }

    /// Connects; says whether the server has its session.
    pub(crate) async fn connect(&mut self) -> Result<bool, Gone> {
        let socket = Async::<TcpStream>::connect(self.to).await.map_err(|_| Gone)?;
        socket.get_ref().set_nodelay(true).map_err(|_| Gone)?;
        self.socket = Some(socket);
        let expiry = [Property::SessionExpiryInterval(EXPIRY)];
        let keeps = self.keeps && self.version == Version::V5;
        let connect = Connect {
            version: self.version,
            clean_start: !self.keeps,
            client_id: &self.id,
            properties: Properties::list(if keeps { &expiry } else { &[] }),
            ..Connect::default()
        };
        self.machine.connect(self.now(), &connect).expect("the one before is over");
        loop {
            if let Told::Connected(present) = self.told().await? {
                return Ok(present);
            }
        }
    }

    /// Subscribes to all of these; messages that come meanwhile are lost to the caller, so that
    /// there must be none that he wants.
    pub(crate) async fn subscribe(&mut self, filters: &[&str], qos: Qos) -> Result<(), Gone> {
        let options = SubscriptionOptions { qos, ..SubscriptionOptions::default() };
        let filters: Vec<_> = filters.iter().map(|filter| (*filter, options)).collect();
        self.machine.subscribe(&filters, Properties::EMPTY).expect("there is room");
        loop {
            match self.told().await? {
                Told::Answered => return Ok(()),
                Told::Message(message) => panic!("{} got {message:?} before SUBACK", self.id),
                _ => {}
            }
        }
    }

    /// Unsubscribes, and hands over what comes before the answer.
    pub(crate) async fn unsubscribe(
        &mut self,
        filter: &str,
        mut take: impl FnMut(Message),
    ) -> Result<(), Gone> {
        self.machine.unsubscribe(&[filter], Properties::EMPTY).expect("there is room");
        loop {
            match self.told().await? {
                Told::Answered => return Ok(()),
                Told::Message(message) => take(message),
                _ => {}
            }
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Result<Message, Gone> {
        loop {
            if let Told::Message(message) = self.told().await? {
                return Ok(message);
            }
        }
    }

    /// Has a message sent, as soon as there is room for it.
    pub(crate) async fn publish(&mut self, publish: &Publish<'_>) -> Result<(), Gone> {
        loop {
            match self.machine.publish(publish) {
                Ok(_) => return Ok(()),
                Err(SendError::Full) => self.progress().await?,
                Err(SendError::NotConnected) => return Err(Gone),
                Err(error) => panic!("{}: {error}", self.id),
            }
        }
    }

    /// Waits until something happens that is no message.
    pub(crate) async fn progress(&mut self) -> Result<(), Gone> {
        match self.told().await? {
            Told::Message(message) => panic!("{} did not ask for {message:?}", self.id),
            _ => Ok(()),
        }
    }

    /// Waits until all is sent, and acknowledged where it is to be.
    pub(crate) async fn acknowledged(&mut self) -> Result<(), Gone> {
        while self.machine.in_flight() > 0 || !self.machine.transmit().is_empty() {
            self.progress().await?;
        }
        Ok(())
    }

    /// Breaks the connection, whatever is under way, and hands over what had come before.
    pub(crate) async fn cut(&mut self, mut take: impl FnMut(Message)) {
        self.end();
        loop {
            match self.told().await {
                Ok(Told::Message(message)) => take(message),
                Ok(_) => {}
                Err(Gone) => return,
            }
        }
    }

    /// Says goodbye and waits for the end; what still comes is not looked at.
    pub(crate) async fn disconnect(mut self) {
        let last = Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY };
        let asked = self.machine.disconnect(self.now(), &last);
        while asked.is_ok() && self.told().await.is_ok() {}
    }

    fn end(&mut self) {
        self.socket = None;
        self.machine.closed(self.now());
    }

    /// Goes on until something is to be told. May be dropped while it waits: nothing is lost.
    async fn told(&mut self) -> Result<Told, Gone> {
        loop {
            let said = match self.machine.poll_event() {
                Some(Event::Message(message)) => {
                    return Ok(Told::Message(Message {
                        topic: message.topic.into(),
                        payload: message.payload.into(),
                        retain: message.retain,
                    }));
                }
                Some(Event::Connected { session_present, .. }) => {
                    return Ok(Told::Connected(session_present));
                }
                Some(Event::Subscribed { reasons, .. }) => {
                    assert!(reasons.iter().all(|reason| !reason.is_error()), "refused");
                    return Ok(Told::Answered);
                }
                Some(Event::Unsubscribed { .. }) => return Ok(Told::Answered),
                Some(Event::Published { reason, .. }) => {
                    assert!(!reason.is_error(), "{}: {reason:?}", self.id);
                    return Ok(Told::Published);
                }
                Some(Event::Closed) => return Err(Gone),
                Some(Event::Disconnected { reason, .. } | Event::Refused { reason, .. }) => {
                    Some(reason)
                }
                Some(Event::Failed(failure)) => panic!("{}: {failure}", self.id),
                Some(_) => None,
                None => {
                    self.exchange().await;
                    None
                }
            };
            self.said = said.or(self.said);
        }
    }

    /// Moves bytes, one way or the other.
    async fn exchange(&mut self) {
        if self.machine.wants_close() {
            return self.end();
        }
        let Some(socket) = &self.socket else { return };
        let (machine, start) = (&mut self.machine, self.start);
        let now = || Instant::from_micros(start.elapsed().as_micros() as u64);
        // What has come goes first: who always has something to send hears all the same.
        let buffer = machine.recv_buf();
        let read =
            if buffer.is_empty() { None } else { unless_blocked(socket.get_ref().read(buffer)) };
        let ended = match read {
            Some(Ok(0) | Err(_)) => true,
            Some(Ok(count)) => {
                machine.received(now(), count);
                false
            }
            None if machine.transmit().is_empty() => socket.readable().await.is_err(),
            None => {
                let bytes = machine.transmit();
                let written = socket.write_with(|mut stream| stream.write(bytes)).await;
                written.inspect(|count| machine.transmitted(now(), *count)).is_err()
            }
        };
        if ended {
            self.end();
        }
        // Who never has to wait leaves the others their time.
        future::yield_now().await;
    }
}

fn unless_blocked(read: io::Result<usize>) -> Option<io::Result<usize>> {
    match read {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        read => Some(read),
    }
}
