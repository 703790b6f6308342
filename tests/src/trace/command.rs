//! `api:` lines.

use bytes::Bytes;
use fulmar_core::broker::{Command, Publication};
use fulmar_core::{Qos, ReasonCode};

use super::words::{Word, number};

/// What the program around the broker wants.
pub(super) enum Wish {
    /// A subscriber of this name.
    Subscribe {
        name: String,
        command: Command,
    },
    /// The end of the one of this name.
    Unsubscribe {
        name: String,
    },
    Other(Command),
}

/// Reads the words.
///
/// # Errors
/// What is not understood.
pub(super) fn of(words: &[Word]) -> Result<Wish, String> {
    let Some((Word::Plain(what), rest)) = words.split_first() else {
        return Err("what?".into());
    };
    let names: Vec<&str> = rest
        .iter()
        .filter_map(|word| match word {
            Word::Plain(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let value = |name: &str| {
        rest.iter().find_map(|word| match word {
            Word::Pair(key, value) if key == name => core::str::from_utf8(value).ok(),
            _ => None,
        })
    };
    let qos = match value("qos") {
        Some(text) => Qos::from_bits(number(text)?).ok_or("no such QoS")?,
        None => Qos::AtMostOnce,
    };
    Ok(Wish::Other(match (&**what, &names[..]) {
        ("PUBLISH", [topic]) => {
            let payload = rest.iter().find_map(|word| match word {
                Word::Quoted(text) => Some(Bytes::copy_from_slice(text)),
                _ => None,
            });
            Command::Publish(Box::new(Publication {
                topic: String::from(*topic),
                payload: payload.unwrap_or_default(),
                qos,
                retain: value("retain") == Some("1"),
                expiry: value("message_expiry").map(number).transpose()?,
                content_type: value("content_type").map(String::from),
                ..Publication::default()
            }))
        }
        ("SUBSCRIBE", [name, filter]) => {
            let filters = vec![(String::from(*filter), qos)];
            let queue = value("queue").map(number).transpose()?.unwrap_or(100);
            let command = Command::Subscribe { filters, queue };
            return Ok(Wish::Subscribe { name: String::from(*name), command });
        }
        ("UNSUBSCRIBE", [name]) => return Ok(Wish::Unsubscribe { name: String::from(*name) }),
        ("DISCONNECT", [client_id, reason]) => Command::Disconnect {
            client_id: String::from(*client_id),
            reason: ReasonCode::from_u8(number(reason)?).ok_or("no such reason")?,
            end_session: value("end") == Some("1"),
        },
        ("CLIENTS", []) => Command::Clients { after: 0, limit: 1_000 },
        ("STATS", []) => Command::Stats,
        ("SHUTDOWN", []) => Command::Shutdown,
        _ => return Err("unknown command".into()),
    }))
}
