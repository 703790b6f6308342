//! How a value of the file becomes a setting.

use std::ops::RangeInclusive;
use std::time::Duration;

use fulmar_core::broker::{DeliveryMode, QueueFull};
use fulmar_core::codec::Qos;
use serde_saphyr::Spanned;

use super::units::{parse_duration, parse_size, show_duration, show_size};
use super::value::Value;
use super::{ConfigError, Settings, at, unknown};
use crate::{Listen, ListenError};

/// Where a setting is kept.
pub(super) enum Slot<'a> {
    U16(&'a mut u16),
    U32(&'a mut u32),
    U64(&'a mut u64),
    Time(&'a mut Duration),
    Flag(&'a mut bool),
    Anonymous(&'a mut Option<bool>),
    Qos(&'a mut Qos),
    Full(&'a mut QueueFull),
    Mode(&'a mut DeliveryMode),
    Prefix(&'a mut String),
    Listeners(&'a mut Vec<Listen>),
}

/// What a number means, and how it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Not a number.
    Choice,
    /// A plain number.
    Count,
    /// A size.
    Bytes,
    /// A duration kept as whole seconds.
    Seconds,
    /// The same, or `never`, kept as the greatest number.
    SecondsOrNever,
    /// A duration kept as such; its range is in milliseconds.
    Millis,
}

/// One row of the table.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) why: &'static str,
    pub(super) slot: fn(&mut Settings) -> Slot<'_>,
    pub(super) unit: Unit,
    pub(super) range: RangeInclusive<u64>,
}

/// Bytes of the longest prefix of assigned identifiers.
const MAX_PREFIX: usize = 200;

const QUEUE_FULL: [(&str, QueueFull); 3] = [
    ("drop_oldest", QueueFull::DropOldest),
    ("drop_new", QueueFull::DropNew),
    ("disconnect", QueueFull::Disconnect),
];

const DELIVERY_MODE: [(&str, DeliveryMode); 2] =
    [("onlyonce", DeliveryMode::OnlyOnce), ("overlap", DeliveryMode::Overlap)];

impl Key {
    /// Takes a value, or says where and why not.
    pub(super) fn set(
        &self,
        settings: &mut Settings,
        name: &Spanned<String>,
        value: &Spanned<Value>,
    ) -> Result<(), ConfigError> {
        let slot = (self.slot)(settings);
        if let Slot::Listeners(listeners) = slot {
            *listeners = read_listeners(value)?;
            return Ok(());
        }
        let unlimited = Value::Number(u32::MAX.into());
        let given = match &value.value {
            // The predecessors' word for no limit; that of bytes stays.
            Value::Number(0) if name.value == "max_msgqueue_messages" => &unlimited,
            given => given,
        };
        let stored = self.store(slot, given);
        stored.ok_or_else(|| {
            let allowed = self.allowed(settings);
            at(value, format!("{} is {}, but must be {allowed}", name.value, value.value))
        })
    }

    fn store(&self, slot: Slot<'_>, value: &Value) -> Option<()> {
        match (slot, value) {
            (Slot::U16(slot), _) => *slot = u16::try_from(self.number(value)?).ok()?,
            (Slot::U32(slot), _) => *slot = u32::try_from(self.number(value)?).ok()?,
            (Slot::U64(slot), _) => *slot = self.number(value)?,
            (Slot::Time(slot), _) => *slot = Duration::from_millis(self.number(value)?),
            (Slot::Flag(slot), Value::Flag(on)) => *slot = *on,
            (Slot::Anonymous(slot), Value::Flag(on)) => *slot = Some(*on),
            (Slot::Qos(slot), Value::Number(n)) => *slot = Qos::from_bits(u8::try_from(*n).ok()?)?,
            (Slot::Full(slot), Value::Text(text)) => *slot = pick(&QUEUE_FULL, text)?,
            (Slot::Mode(slot), Value::Text(text)) => *slot = pick(&DELIVERY_MODE, text)?,
            (Slot::Prefix(slot), Value::Text(text)) => {
                if text.len() > MAX_PREFIX || text.chars().any(char::is_control) {
                    return None;
                }
                slot.clone_from(text);
            }
            _ => return None,
        }
        Some(())
    }

    fn number(&self, value: &Value) -> Option<u64> {
        let number = match (self.unit, value) {
            (Unit::Millis, Value::Number(n)) => u64::try_from(*n).ok()?.checked_mul(1_000)?,
            (_, Value::Number(n)) => u64::try_from(*n).ok()?,
            (Unit::Bytes, Value::Text(text)) => parse_size(text)?,
            (Unit::Millis, Value::Text(text)) => {
                u64::try_from(parse_duration(text)?.as_millis()).ok()?
            }
            (Unit::SecondsOrNever, Value::Text(text)) if text == "never" => {
                return Some(u32::MAX.into());
            }
            (Unit::Seconds | Unit::SecondsOrNever, Value::Text(text)) => {
                let duration = parse_duration(text)?;
                if duration.subsec_nanos() != 0 {
                    return None;
                }
                duration.as_secs()
            }
            _ => return None,
        };
        self.range.contains(&number).then_some(number)
    }

    /// What may be written for this key, to follow "must be".
    fn allowed(&self, settings: &mut Settings) -> String {
        let (min, max) = (*self.range.start(), *self.range.end());
        match (self.unit, (self.slot)(settings)) {
            (Unit::Choice, Slot::Qos(_)) => "0, 1 or 2".into(),
            (Unit::Choice, Slot::Full(_)) => choices(&QUEUE_FULL),
            (Unit::Choice, Slot::Mode(_)) => choices(&DELIVERY_MODE),
            (Unit::Choice, Slot::Prefix(_)) => {
                format!("a text of at most {MAX_PREFIX} bytes without control characters")
            }
            (Unit::Choice, _) => "true or false".into(),
            (Unit::Count, _) => format!("a whole number from {min} to {max}"),
            (Unit::Bytes, _) => format!(
                "a size such as 64KiB or 1MiB, or a number of bytes, from {} to {max} bytes",
                show_size(min)
            ),
            (Unit::Millis, _) => {
                let show = |millis| show_duration(Duration::from_millis(millis));
                format!("a duration such as 500ms, 10s or 2m, from {} to {}", show(min), show(max))
            }
            (Unit::Seconds, _) => {
                format!("a duration in whole seconds such as 90s or 2m, from {min}s to {max}s")
            }
            (Unit::SecondsOrNever, _) => format!(
                "a duration in whole seconds such as 1h or 7d, from {min}s to {max}s, or never"
            ),
        }
    }

    /// The setting as it is written in the file.
    pub(super) fn show(&self, settings: &mut Settings) -> String {
        let number = |number: u64| match self.unit {
            Unit::Bytes => show_size(number),
            Unit::SecondsOrNever if number == u32::MAX.into() => "never".into(),
            Unit::Seconds | Unit::SecondsOrNever if number != 0 => {
                show_duration(Duration::from_secs(number))
            }
            _ => number.to_string(),
        };
        match (self.slot)(settings) {
            Slot::U16(slot) => number((*slot).into()),
            Slot::U32(slot) => number((*slot).into()),
            Slot::U64(slot) => number(*slot),
            Slot::Time(slot) => show_duration(*slot),
            Slot::Flag(slot) => slot.to_string(),
            Slot::Anonymous(slot) => slot.map_or_else(
                || "true on 127.0.0.1 and [::1], else it must be set".into(),
                |on| on.to_string(),
            ),
            Slot::Qos(slot) => (*slot as u8).to_string(),
            Slot::Full(slot) => name_of(&QUEUE_FULL, *slot),
            Slot::Mode(slot) => name_of(&DELIVERY_MODE, *slot),
            Slot::Prefix(slot) => slot.clone(),
            Slot::Listeners(slot) => {
                slot.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
        }
    }
}

fn pick<T: Copy>(choices: &[(&str, T)], text: &str) -> Option<T> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

fn name_of<T: PartialEq>(choices: &[(&str, T)], value: T) -> String {
    choices.iter().find(|(_, known)| *known == value).map_or_else(String::new, |(n, _)| (*n).into())
}

fn choices<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ")
}

/// Reads the list of listeners.
fn read_listeners(value: &Spanned<Value>) -> Result<Vec<Listen>, ConfigError> {
    let wanted = "must be a list such as [{protocol: mqtt, addr: \":1883\"}]";
    match &value.value {
        Value::List(items) if !items.is_empty() => items.iter().map(read_listener).collect(),
        Value::List(_) => Err(at(value, format!("listeners is empty, but {wanted}"))),
        other => Err(at(value, format!("listeners is {other}, but {wanted}"))),
    }
}

fn read_listener(item: &Spanned<Value>) -> Result<Listen, ConfigError> {
    let Value::Map(entries) = &item.value else {
        let text = "but must have the keys protocol and addr";
        return Err(at(item, format!("this listener is {}, {text}", item.value)));
    };
    let mut listen = None;
    for (name, value) in entries {
        match name.value.as_str() {
            "protocol" => match &value.value {
                Value::Text(text) if text == "mqtt" => {}
                Value::Text(text) if matches!(&**text, "websocket" | "ws" | "wss" | "mqtts") => {
                    let why = "is not available: this version listens with protocol mqtt only";
                    return Err(at(value, format!("protocol {text} {why}")));
                }
                other => {
                    return Err(at(value, format!("protocol is {other}, but must be mqtt")));
                }
            },
            "addr" => listen = Some(read_addr(value)?),
            "certfile" | "keyfile" => {
                let why = "is not available: this version has no TLS";
                return Err(at(name, format!("{} {why}", name.value)));
            }
            _ => return Err(unknown(name, ["protocol", "addr"].into_iter())),
        }
    }
    listen.ok_or_else(|| at(item, format!("addr is missing; it must be {ListenError}")))
}

fn read_addr(value: &Spanned<Value>) -> Result<Listen, ConfigError> {
    let listen = match &value.value {
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    listen.ok_or_else(|| at(value, format!("addr is {}, but must be {ListenError}", value.value)))
}
