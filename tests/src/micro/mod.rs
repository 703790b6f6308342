//! Small pieces of work of the core, one list for three uses: how many instructions they take
//! (`fulmar-budget`), how long (`cargo bench`), and how often they allocate
//! (`tests/allocations.rs`).

mod budget;
mod client;
mod codec;
mod crossing;
mod matching;
mod shard;

pub use budget::main as budget;

/// A piece of work that can be done any number of times, each like the one before.
#[derive(Clone, Copy, Debug)]
pub struct Micro {
    /// Its name in tables and files.
    pub name: &'static str,
    /// Makes what it needs, and gives the work.
    pub prepare: fn() -> Work,
    /// Allocations of one round at most, in steady state.
    pub allocations: u64,
}

/// One round of a piece of work.
pub type Work = Box<dyn FnMut()>;

const fn micro(name: &'static str, prepare: fn() -> Work, allocations: u64) -> Micro {
    Micro { name, prepare, allocations }
}

/// All pieces of work.
pub const ALL: [Micro; 26] = [
    // A PUBLISH of 3.1.1 with 64 bytes, QoS 0.
    micro("decode_publish", codec::decode_publish, 0),
    // A PUBLISH of 5.0 with an alias, an expiry, two user properties and 64 bytes, QoS 1.
    micro("decode_publish_v5", codec::decode_publish_v5, 0),
    // The same, written into memory that is there.
    micro("encode_publish_v5", codec::encode_publish_v5, 0),
    // A CONNECT of 5.0 with properties, a will and credentials.
    micro("decode_connect_v5", codec::decode_connect_v5, 0),
    // One of 10,000 filters without wildcards.
    micro("match_exact", matching::exact, 0),
    // Four of 10,000 filters, most with wildcards.
    micro("match_wildcard", matching::wildcard, 0),
    // The same sixteen topics in turn, remembered; and topics of which each comes once.
    micro("match_again", matching::again, 0),
    micro("match_ever_new", matching::ever_new, 0),
    // The same sixteen topics, while each is matched by sixteen filters of one client besides.
    micro("match_overlapping", matching::overlapping, 0),
    // A filter comes and goes, with its text and that of a long level, while as many topics are
    // remembered as can be.
    micro("match_churn", matching::churn, 2),
    // One publisher, one subscriber, QoS 0, through the broker.
    micro("publish_qos0", shard::publish_qos0, 0),
    // One publisher, one hundred subscribers, QoS 0.
    micro("fan_out_100", shard::fan_out, 0),
    // From PUBLISH to both PUBACKs.
    micro("round_trip_qos1", shard::round_trip_qos1, 0),
    // From PUBLISH to both PUBCOMPs.
    micro("round_trip_qos2", shard::round_trip_qos2, 0),
    // A message with user properties, QoS 1, to a subscriber of 5.0.
    micro("round_trip_v5", shard::round_trip_v5, 0),
    // A retained message is replaced, then another client subscribes and gets it.
    micro("retained", shard::retained, 2),
    // Five messages wait for a session; its client returns, takes them and goes.
    micro("session_resume", shard::session_resume, 8),
    // A client subscribes to a filter with a wildcard among 1,000 others, and unsubscribes.
    micro("subscribe_unsubscribe", shard::subscribe_unsubscribe, 1),
    // Twenty-five messages of QoS 0 from one shard to another, and as many back.
    micro("crossing_qos0", crossing::qos0, 0),
    // Twenty-five messages of QoS 0 from one shard to another, and none back.
    micro("crossing_one_way", crossing::one_way, 0),
    // A message of QoS 1 from one shard to another and one back, with all acknowledgements.
    micro("crossing_qos1", crossing::qos1, 0),
    // The same with QoS 2.
    micro("crossing_qos2", crossing::qos2, 0),
    // Sixteen messages of QoS 0 to topics that thousands of filters of another shard could match.
    micro("crossing_shapes", crossing::shapes, 0),
    // A message of QoS 0 to a shared group whose member is on another shard.
    micro("crossing_group", crossing::group, 1),
    // The client machine sends a message of QoS 1 and gets its PUBACK.
    micro("client_publish", client::publish, 0),
    // It gets a message of QoS 1 and acknowledges it.
    micro("client_message", client::message, 0),
];
