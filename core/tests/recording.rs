//! A recording replays to the same effects and bytes, and holds no secrets.

#![cfg(feature = "alloc")]

use fulmar_core::broker::{
    AuthStep, Boot, Broker, Command, Config, ConnId, ConnInfo, Effect, Input, Outbox, Outcome,
    Publication, Recording, Replay, ReplayError, SubscriberId, Verdict,
};
use fulmar_core::codec::{
    Auth, Connect, Filters, Packet, Properties, Property, Publish, ReasonCode, Subscribe,
    SubscriptionOptions,
};
use fulmar_core::{Instant, PacketId, Qos, Version};

/// A broker that is recorded, and what it was asked to take.
struct Recorded {
    now: Instant,
    broker: Broker,
    subscriber: Option<SubscriberId>,
    bytes: Vec<u8>,
    state: Recording,
}

impl Recorded {
    fn new(limit: u64) -> Self {
        let now = Instant::from_micros(5);
        let config = Config { max_msg_queue: 4, max_inflight: 2, ..Config::default() };
        let boot = Boot { now, unix_millis: 9, seed: 77, epoch: 3 };
        let mut broker = Broker::new(config, boot);
        broker.record(limit);
        Self { now, broker, subscriber: None, bytes: Vec::new(), state: Recording::On }
    }

    fn open(&mut self) -> ConnId {
        let remote = Some("127.0.0.1:5".parse().expect("an address"));
        self.broker.open(self.now, ConnInfo { remote, local: None }).expect("room")
    }

    fn handle(&mut self, input: Input<'_>) {
        self.now = Instant::from_micros(self.now.as_micros() + 1000);
        self.broker.handle(self.now, input);
        let mut out = Outbox::new();
        while let Some(effect) = self.broker.poll_effect() {
            match effect {
                Effect::Authenticate { conn, request } => {
                    let verdict = match (request.method.is_some(), request.step) {
                        (true, AuthStep::Connect) => {
                            Verdict::Continue { data: Some("challenge".into()) }
                        }
                        (true, _) => Verdict::Accept { data: Some("final".into()) },
                        (false, _) => Verdict::Accept { data: None },
                    };
                    self.broker.handle(self.now, Input::Authenticated { conn, verdict });
                }
                Effect::Transmit(conn) => {
                    while self.broker.transmit(self.now, conn, &mut out, 64) {}
                }
                Effect::Available(subscriber) => {
                    while self.broker.take(self.now, subscriber).is_some() {}
                }
                Effect::Reply { reply, .. } => {
                    if let fulmar_core::broker::Reply::Subscribed(id) = *reply {
                        self.subscriber = Some(id);
                    }
                }
                _ => {}
            }
        }
        self.state = self.broker.recorded(&mut self.bytes);
    }

    /// In pieces, as a network may have it.
    fn send(&mut self, conn: ConnId, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.append(Version::V5, &mut bytes).expect("a legal packet");
        for piece in bytes.chunks(7) {
            self.handle(Input::Received { conn, bytes: piece });
        }
    }

    fn story(&mut self) {
        let method = [
            Property::AuthenticationMethod("m"),
            Property::AuthenticationData(b"first-proof"),
            Property::SessionExpiryInterval(60),
        ];
        let connect = |client_id, properties| {
            Packet::Connect(Connect {
                version: Version::V5,
                bridge: false,
                clean_start: true,
                keep_alive: 10,
                client_id,
                will: None,
                username: Some("user"),
                password: Some(b"password"),
                properties,
            })
        };
        let a = self.open();
        self.send(a, &connect("a", Properties::list(&method)));
        let proof =
            [Property::AuthenticationMethod("m"), Property::AuthenticationData(b"last-proof")];
        let reason = ReasonCode::ContinueAuthentication;
        self.send(a, &Packet::Auth(Auth { reason, properties: Properties::list(&proof) }));
        let options = SubscriptionOptions { qos: Qos::ExactlyOnce, ..Default::default() };
        let filters = [("t/#", options)];
        let filters = Filters::list(&filters);
        let (packet_id, properties) = (PacketId::MIN, Properties::EMPTY);
        self.send(a, &Packet::Subscribe(Subscribe { packet_id, properties, filters }));
        let filters = vec![("t/#".into(), Qos::AtMostOnce)];
        let command = Command::Subscribe { filters, queue: 3 };
        self.handle(Input::Command { token: 1, command });
        let b = self.open();
        self.send(b, &connect("", Properties::EMPTY));
        for (number, qos) in (1..).zip([Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]) {
            let packet_id = (qos > Qos::AtMostOnce).then(|| PacketId::new(number)).flatten();
            let publish = Publish {
                qos,
                retain: true,
                topic: "t/x",
                packet_id,
                payload: b"hello",
                ..Publish::default()
            };
            self.send(b, &Packet::Publish(publish));
        }
        for command in [
            Command::Publish(Box::new(Publication {
                topic: "t/y".into(),
                payload: vec![7; 3000].into(),
                expiry: Some(9),
                user_properties: vec![("k".into(), "v".into())],
                ..Publication::default()
            })),
            Command::Clients { after: 0, limit: 10 },
            Command::Stats,
        ] {
            self.handle(Input::Command { token: 2, command });
        }
        self.handle(Input::Closed { conn: a });
        self.now = self.now.after_secs(100);
        self.handle(Input::Timeout);
        let subscriber = self.subscriber.expect("subscribed");
        self.handle(Input::Command { token: 3, command: Command::Unsubscribe(subscriber) });
        self.handle(Input::Command { token: 4, command: Command::Shutdown });
        self.handle(Input::Closed { conn: b });
    }
}

fn replay(bytes: &[u8]) -> (Outcome, u64) {
    let mut replay = Replay::new(bytes).expect("a recording");
    loop {
        match replay.step(&mut |_, _| {}) {
            Outcome::More => {}
            end => return (end, replay.calls()),
        }
    }
}

#[test]
fn a_recording_replays_to_the_same_effects_and_bytes() {
    let mut recorded = Recorded::new(u64::MAX);
    recorded.story();
    assert_eq!(recorded.state, Recording::On);
    let (outcome, calls) = replay(&recorded.bytes);
    assert_eq!(outcome, Outcome::Same);
    assert!(calls > 50, "{calls} calls");
    // Broken off in the middle of a call, as after a crash.
    let (outcome, fewer) = replay(&recorded.bytes[..recorded.bytes.len() - 3]);
    assert_eq!((outcome, fewer), (Outcome::Same, calls - 1));
}

#[test]
fn a_replay_that_comes_out_differently_says_where() {
    let mut recorded = Recorded::new(u64::MAX);
    recorded.story();
    let at = recorded.bytes.windows(3).position(|w| w == b"t/#").expect("the subscription");
    recorded.bytes[at] = b's';
    let (outcome, _) = replay(&recorded.bytes);
    assert!(matches!(outcome, Outcome::Diverged(call) if call > 1), "{outcome:?}");
    assert_eq!(Replay::new(b"nothing").err(), Some(ReplayError::Format));
}

/// It might come out differently without anything being wrong.
#[test]
fn a_recording_of_another_version_is_refused() {
    let mut recorded = Recorded::new(u64::MAX);
    recorded.story();
    recorded.bytes[7] -= 1;
    let error = Replay::new(&recorded.bytes).expect_err("of an older version");
    assert_eq!(error.to_string(), "not a recording of this version of fulmar");
}

#[test]
fn secrets_are_not_in_a_recording() {
    let mut recorded = Recorded::new(u64::MAX);
    recorded.story();
    // Pieces of seven bytes: look for what one piece can hold.
    for secret in [&b"passw"[..], b"ssword", b"first-", b"t-proof", b"last-p"] {
        assert!(!recorded.bytes.windows(secret.len()).any(|w| w == secret), "{secret:?}");
    }
    assert!(recorded.bytes.windows(4).any(|w| w == b"user"), "the rest is there");
}

#[test]
fn a_recording_ends_at_its_bound_with_a_whole_call() {
    let mut recorded = Recorded::new(1500);
    recorded.story();
    assert_eq!(recorded.state, Recording::Full);
    assert!(recorded.bytes.len() <= 1500);
    assert_eq!(replay(&recorded.bytes).0, Outcome::Same);
}
