//! What one seed draws: limits of the broker, clients, and which faults are on and how strongly.

use std::time::Duration;

use fulmar_core::broker::{Config, DeliveryMode, QueueFull};
use fulmar_core::{Qos, Version};

use super::rng::Rng;

/// Chances in a thousand, for each time there is an occasion.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// Both directions of a connection vanish with what is in them.
    pub(super) reset: u32,
    /// A client closes its sending half and reads on.
    pub(super) half_close: u32,
    /// A client stops to read for some seconds.
    pub(super) stall: u32,
    /// A client connects while its connection before is still open.
    pub(super) takeover: u32,
    /// A client neither sends nor acknowledges for longer than its keep alive.
    pub(super) silence: u32,
    /// The driver is late with a deadline.
    pub(super) late: u32,
    /// Calls that the driver need not make: early timeouts, transmits nobody asked for.
    pub(super) spurious: u32,
    /// Time passes while nothing else happens.
    pub(super) jump: u32,
    /// A client keeps an acknowledgement back for now.
    pub(super) slow_acks: u32,
    /// The driver refuses a client.
    pub(super) refuse: u32,
    /// A rude client does something it must not.
    pub(super) rude: u32,
}

/// Parts of the protocol that the clients use.
#[derive(Clone, Debug, Default)]
pub(super) struct Uses {
    pub(super) retain: bool,
    pub(super) expiry: bool,
    pub(super) wills: bool,
    pub(super) will_delay: bool,
    pub(super) shared: bool,
    pub(super) aliases: bool,
    pub(super) no_local: bool,
    pub(super) identifiers: bool,
    pub(super) sessions: bool,
    pub(super) keep_alive: bool,
    pub(super) small_packets: bool,
    pub(super) small_windows: bool,
    pub(super) large_payloads: bool,
    pub(super) commands: bool,
    pub(super) properties: bool,
}

/// One run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// How many the broker has.
    pub(super) shards: u16,
    pub(super) config: Config,
    /// Room for messages and subscriptions is so small that packets are handed over one by one,
    /// to know what each of them meets.
    pub(super) tight: bool,
    pub(super) clients: usize,
    /// How many of the clients are rude while there are faults.
    pub(super) rude: usize,
    /// How many are the client machine: the last ones.
    pub(super) ours: usize,
    pub(super) versions: Vec<Version>,
    /// Steps of each phase with faults.
    pub(super) steps: u32,
    pub(super) rounds: u32,
    /// Bytes that move at once at most.
    pub(super) segment: u64,
    /// Bytes that a `transmit` is asked for at most.
    pub(super) budget: u64,
    pub(super) faults: Faults,
    pub(super) uses: Uses,
    /// Bytes of a large payload at most.
    pub(super) large: u64,
    pub(super) topics: Vec<&'static str>,
    pub(super) filters: Vec<&'static str>,
}

const TOPICS: [&str; 7] =
    ["room/1", "room/2", "room/1/light", "hall", "hall/door", "hall//x", "$own/room"];
const FILTERS: [&str; 12] = [
    "#",
    "room/#",
    "room/+",
    "room/1",
    "+/1/light",
    "hall",
    "hall/#",
    "+/+",
    "hall//x",
    "$own/#",
    "room/+/light",
    "nothing/here",
];
const SHARED: [&str; 4] =
    ["$share/g/room/#", "$share/g/room/1", "$share/h/#", "$share/other/hall/+"];

impl Plan {
    pub(super) fn draw(rng: &mut Rng, shards: u16) -> Self {
        let uses = Uses::draw(rng);
        let (mut config, tight) = config(rng, &uses);
        if shards > 1 {
            narrow(rng, &mut config, shards);
        }
        let versions = match rng.below(6) {
            0 => vec![Version::V311],
            1 => vec![Version::V31, Version::V311],
            2 | 3 => vec![Version::V5],
            _ => vec![Version::V31, Version::V311, Version::V5, Version::V5],
        };
        let clients = rng.range(2, 6) as usize;
        let mut topics: Vec<_> = TOPICS.to_vec();
        topics.truncate(rng.range(1, TOPICS.len() as u64) as usize);
        let mut filters = FILTERS.to_vec();
        if uses.shared {
            filters.extend(SHARED);
        }
        let rude = if rng.chance(500) { rng.index(clients) } else { 0 };
        // It gives nothing up for want of memory of the broker.
        let ours = if tight || rng.chance(300) { 0 } else { rng.index(clients - rude + 1) };
        Self {
            shards,
            config,
            tight,
            clients,
            rude,
            ours,
            versions,
            steps: rng.range(100, 500) as u32,
            rounds: rng.range(1, 3) as u32,
            segment: *rng.pick(&[1, 7, 64, 300, 5000]),
            budget: *rng.pick(&[1, 40, 300, 8192]),
            faults: Faults::draw(rng),
            uses,
            large: 6000,
            topics,
            filters,
        }
    }

    /// In some runs packets are so large, and come so fast, that a driver reads them into memory
    /// of their own; the client machines have room for as much. All else is drawn as if nothing
    /// had been drawn for this.
    pub(super) fn enlarge(&mut self, seed: u64) {
        let mut rng = Rng::new(seed ^ 0xb19);
        if self.uses.large_payloads && !self.tight && rng.chance(400) {
            (self.large, self.segment) = (12_000, 12_000);
        }
    }
}

impl Faults {
    fn draw(rng: &mut Rng) -> Self {
        let mut on = |most: u64| if rng.chance(500) { rng.range(1, most) as u32 } else { 0 };
        Self {
            reset: on(20),
            half_close: on(20),
            stall: on(20),
            takeover: on(60),
            silence: on(20),
            late: on(700),
            spurious: on(200),
            jump: on(100),
            slow_acks: on(900),
            refuse: on(100),
            rude: on(60),
        }
    }
}

impl Uses {
    fn draw(rng: &mut Rng) -> Self {
        let mut on = || rng.chance(550);
        Self {
            retain: on(),
            expiry: on(),
            wills: on(),
            will_delay: on(),
            shared: on(),
            aliases: on(),
            no_local: on(),
            identifiers: on(),
            sessions: on() || on(),
            keep_alive: on(),
            small_packets: on() && on(),
            small_windows: on(),
            large_payloads: on() && on(),
            commands: on(),
            properties: on(),
        }
    }
}

fn config(rng: &mut Rng, uses: &Uses) -> (Config, bool) {
    let mut config = Config {
        connect_timeout: Duration::from_secs(rng.range(1, 5)),
        delivery_mode: *rng.pick(&[DeliveryMode::OnlyOnce, DeliveryMode::Overlap]),
        queue_full: *rng.pick(&[QueueFull::DropOldest, QueueFull::DropNew, QueueFull::Disconnect]),
        queue_qos0_messages: rng.chance(600),
        ..Config::default()
    };
    if rng.chance(400) {
        config.max_msg_queue = rng.range(1, 12) as u32;
    }
    if rng.chance(150) {
        config.max_msg_queue_bytes = rng.range(500, 3000);
    }
    if uses.small_windows {
        config.max_inflight = rng.range(1, 6) as u16;
        config.receive_maximum = rng.range(1, 6) as u16;
        config.max_await_rel = rng.range(1, 6) as u16;
    }
    if rng.chance(200) {
        config.max_session_expiry = rng.range(1, 8) as u32;
    }
    if rng.chance(300) {
        config.max_keepalive = rng.range(1, 5) as u16;
    }
    if rng.chance(150) {
        config.max_qos = *rng.pick(&[Qos::AtMostOnce, Qos::AtLeastOnce]);
    }
    if rng.chance(500) {
        config.max_topic_alias = rng.below(4) as u16;
        config.max_topic_alias_out = rng.below(4) as u16;
    }
    if rng.chance(200) {
        config.max_subscriptions = rng.range(1, 3) as u32;
    }
    if rng.chance(100) {
        config.max_sessions = rng.range(2, 4) as u32;
    }
    if rng.chance(100) {
        config.max_unauthenticated = rng.range(1, 3) as u32;
        config.max_unauthenticated_per_address = rng.range(1, 2) as u32;
    }
    if rng.chance(100) {
        config.max_connections = rng.range(3, 8) as u32;
    }
    if rng.chance(60) {
        config.max_outbound_bytes = rng.range(100, 400) as u32;
    }
    if rng.chance(200) {
        config.max_packet_size = rng.range(200, 2000) as u32;
    }
    let mut tight = false;
    if rng.chance(150) {
        config.max_retained = rng.below(3) as u32;
        tight = true;
    }
    if rng.chance(120) {
        config.shard_budget = rng.range(10_000, 40_000);
        tight = true;
    }
    (config, tight)
}

/// How many shards a run has: as many as `SIM_SHARDS` says, or one for half of the seeds, of which
/// every figure is known at every moment, and 2, 3 or 8 for the others. All else is drawn as if
/// nothing had been drawn for this.
pub(super) fn shards(seed: u64) -> u16 {
    let said = std::env::var("SIM_SHARDS").ok().and_then(|text| text.parse().ok());
    said.unwrap_or_else(|| *Rng::new(!seed).pick(&[1, 1, 1, 2, 3, 8]))
}

/// Of several shards there is sometimes hardly any credit; and connections are limited so that
/// each of them can be full.
fn narrow(rng: &mut Rng, config: &mut Config, shards: u16) {
    config.max_connections = config.max_connections.div_ceil(shards.into());
    if rng.chance(400) {
        config.shard_budget = config.shard_budget.min(1 << 20);
    }
}
