//! `config:` lines.

use core::time::Duration;

use fulmar_core::Qos;
use fulmar_core::broker::{Config, DeliveryMode, QueueFull};

use super::words::{Word, number};

/// Sets what the words say.
///
/// # Errors
/// A key that is unknown or may not be set here, or a value that does not fit.
pub(super) fn apply(config: &mut Config, words: &[Word]) -> Result<(), String> {
    for word in words {
        let Word::Pair(key, value) = word else {
            return Err(format!("key=value, not {word:?}"));
        };
        let text = core::str::from_utf8(value).map_err(|_| format!("{key}: no UTF-8"))?;
        set(config, key, text).map_err(|error| format!("{key}: {error}"))?;
    }
    Ok(())
}

fn set(config: &mut Config, key: &str, text: &str) -> Result<(), String> {
    let flag = || number::<u8>(text).map(|value| value != 0);
    match key {
        "max_connections" => config.max_connections = number(text)?,
        "max_unauthenticated" => config.max_unauthenticated = number(text)?,
        "connect_timeout" => config.connect_timeout = Duration::from_secs(number(text)?),
        "max_connect_size" => config.max_connect_size = number(text)?,
        "max_keepalive" => config.max_keepalive = number(text)?,
        "max_packet_size" => config.max_packet_size = number(text)?,
        "max_qos" => config.max_qos = Qos::from_bits(number(text)?).ok_or("no such QoS")?,
        "retain_available" => config.retain_available = flag()?,
        "receive_maximum" => config.receive_maximum = number(text)?,
        "max_inflight" => config.max_inflight = number(text)?,
        "max_await_rel" => config.max_await_rel = number(text)?,
        "max_msg_queue" => config.max_msg_queue = number(text)?,
        "max_msg_queue_bytes" => config.max_msg_queue_bytes = number(text)?,
        "queue_full" => {
            config.queue_full = match text {
                "drop_oldest" => QueueFull::DropOldest,
                "drop_new" => QueueFull::DropNew,
                "disconnect" => QueueFull::Disconnect,
                _ => return Err(format!("unknown: {text}")),
            }
        }
        "queue_qos0_messages" => config.queue_qos0_messages = flag()?,
        "max_sessions" => config.max_sessions = number(text)?,
        "max_session_expiry" => config.max_session_expiry = number(text)?,
        "max_topic_alias" => config.max_topic_alias = number(text)?,
        "max_topic_alias_out" => config.max_topic_alias_out = number(text)?,
        "max_topic_levels" => config.max_topic_levels = number(text)?,
        "max_subscriptions" => config.max_subscriptions = number(text)?,
        "max_retained" => config.max_retained = number(text)?,
        "max_retained_bytes" => config.max_retained_bytes = number(text)?,
        "max_outbound_bytes" => config.max_outbound_bytes = number(text)?,
        "shard_budget" => config.shard_budget = number(text)?,
        "allow_zero_length_clientid" => config.allow_zero_length_clientid = flag()?,
        "delivery_mode" => {
            config.delivery_mode = match text {
                "once" => DeliveryMode::OnlyOnce,
                "overlap" => DeliveryMode::Overlap,
                _ => return Err(format!("unknown: {text}")),
            }
        }
        _ => return Err(String::from("unknown key")),
    }
    Ok(())
}
