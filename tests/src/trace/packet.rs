//! Packets as trace files write them, to bytes.

use fulmar_core::codec::{
    Ack, Auth, Connect, Disconnect, Filters, Packet, Properties, Property, Publish, RetainHandling,
    Subscribe, SubscriptionOptions, TopicFilters, Unsubscribe, Will,
};
use fulmar_core::{PacketId, Qos, ReasonCode, Version};

use super::words::{Word, number};

/// Words of one packet, taken as they are used.
struct Fields<'w> {
    words: Vec<&'w Word>,
}

impl<'w> Fields<'w> {
    /// The value of a pair, the first of that name.
    fn pair(&mut self, name: &str) -> Option<&'w [u8]> {
        let at = self.words.iter().position(|w| matches!(w, Word::Pair(key, _) if key == name))?;
        match self.words.remove(at) {
            Word::Pair(_, value) => Some(value),
            _ => None,
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<&'w str>, String> {
        self.pair(name)
            .map(|value| core::str::from_utf8(value).map_err(|_| format!("{name}: no UTF-8")))
            .transpose()
    }

    fn number<T: TryFrom<u64>>(&mut self, name: &str) -> Result<Option<T>, String> {
        let text = self.text(name)?;
        text.map(|text| number(text).map_err(|e| format!("{name}: {e}"))).transpose()
    }

    fn flag(&mut self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.number::<u8>(name)?.map_or(default, |value| value != 0))
    }

    fn qos(&mut self, name: &str) -> Result<Qos, String> {
        let bits = self.number(name)?.unwrap_or(0);
        Qos::from_bits(bits).ok_or_else(|| format!("{name}: no such QoS"))
    }

    fn plain(&mut self) -> Option<&'w str> {
        let at = self.words.iter().position(|word| matches!(word, Word::Plain(_)))?;
        match self.words.remove(at) {
            Word::Plain(text) => Some(text),
            _ => None,
        }
    }

    fn quoted(&mut self) -> Option<&'w [u8]> {
        let at = self.words.iter().position(|word| matches!(word, Word::Quoted(_)))?;
        match self.words.remove(at) {
            Word::Quoted(text) => Some(text),
            _ => None,
        }
    }

    fn packet_id(&mut self) -> Result<PacketId, String> {
        let text = self.plain().ok_or("a Packet Identifier is missing")?;
        PacketId::new(number(text)?).ok_or_else(|| String::from("0 is no Packet Identifier"))
    }

    fn reason(&mut self) -> Result<ReasonCode, String> {
        let Some(text) = self.plain() else { return Ok(ReasonCode::Success) };
        ReasonCode::from_u8(number(text)?).ok_or_else(|| format!("{text} is no reason code"))
    }

    /// Properties: all pairs left whose names begin so, without that.
    fn properties(&mut self, prefix: &str) -> Result<Vec<Property<'w>>, String> {
        self.properties_where(|name| name.strip_prefix(prefix))
    }

    /// The properties of all pairs for which `property` gives a name.
    fn properties_where(
        &mut self,
        name: impl Fn(&'w str) -> Option<&'w str>,
    ) -> Result<Vec<Property<'w>>, String> {
        let mut list = Vec::new();
        for word in core::mem::take(&mut self.words) {
            match word {
                Word::Pair(key, value) if name(key).is_some() => {
                    list.push(property(name(key).unwrap_or_default(), value)?);
                }
                other => self.words.push(other),
            }
        }
        Ok(list)
    }

    fn end(&self) -> Result<(), String> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(format!("not understood: {word:?}")),
        }
    }
}

fn property<'w>(name: &str, value: &'w [u8]) -> Result<Property<'w>, String> {
    let text = || core::str::from_utf8(value).map_err(|_| format!("{name}: no UTF-8"));
    let flag = || Ok::<_, String>(number::<u8>(text()?)? != 0);
    Ok(match name {
        "format" => Property::PayloadFormatIndicator(number(text()?)?),
        "message_expiry" => Property::MessageExpiryInterval(number(text()?)?),
        "content_type" => Property::ContentType(text()?),
        "response_topic" => Property::ResponseTopic(text()?),
        "correlation" => Property::CorrelationData(value),
        "sub_id" => Property::SubscriptionIdentifier(number(text()?)?),
        "expiry" => Property::SessionExpiryInterval(number(text()?)?),
        "method" => Property::AuthenticationMethod(text()?),
        "data" => Property::AuthenticationData(value),
        "problem_information" => Property::RequestProblemInformation(flag()?),
        "delay" => Property::WillDelayInterval(number(text()?)?),
        "response_information" => Property::RequestResponseInformation(flag()?),
        "reason_string" => Property::ReasonString(text()?),
        "receive_maximum" => Property::ReceiveMaximum(number(text()?)?),
        "alias_maximum" => Property::TopicAliasMaximum(number(text()?)?),
        "alias" => Property::TopicAlias(number(text()?)?),
        "packet_maximum" => Property::MaximumPacketSize(number(text()?)?),
        "user" => {
            let (name, value) = text()?.split_once(':').ok_or("user wants name:value")?;
            Property::UserProperty(name, value)
        }
        _ => return Err(format!("unknown word: {name}=")),
    })
}

/// The version a CONNECT asks for; 5.0 where it says nothing.
///
/// # Errors
/// If there is no such version.
pub(super) fn version(words: &[Word]) -> Result<Version, String> {
    for word in words {
        if let Word::Pair(key, value) = word
            && key == "v"
        {
            return match &value[..] {
                b"31" => Ok(Version::V31),
                b"311" => Ok(Version::V311),
                b"5" => Ok(Version::V5),
                _ => Err(String::from("v is 31, 311 or 5")),
            };
        }
    }
    Ok(Version::V5)
}

/// Encodes the packet that the words describe.
///
/// # Errors
/// What is wrong with the words, or that the standard does not allow to send this: `hex` does.
pub(super) fn encode(version: Version, words: &[Word]) -> Result<Vec<u8>, String> {
    let Some((Word::Plain(name), rest)) = words.split_first() else {
        return Err(String::from("a packet begins with its name"));
    };
    if name == "hex" {
        return hex(rest);
    }
    let mut fields = Fields { words: rest.iter().collect() };
    match &**name {
        "CONNECT" => connect(version, &mut fields),
        "PUBLISH" => publish(version, &mut fields),
        "PUBACK" | "PUBREC" | "PUBREL" | "PUBCOMP" => ack(version, name, &mut fields),
        "SUBSCRIBE" => subscribe(version, &mut fields),
        "UNSUBSCRIBE" => unsubscribe(version, &mut fields),
        "PINGREQ" => bytes(version, &Packet::Pingreq, &fields),
        "DISCONNECT" => {
            let (reason, list) = (fields.reason()?, fields.properties("")?);
            let properties = Properties::list(&list);
            bytes(version, &Packet::Disconnect(Disconnect { reason, properties }), &fields)
        }
        "AUTH" => {
            let (reason, list) = (fields.reason()?, fields.properties("")?);
            let properties = Properties::list(&list);
            bytes(version, &Packet::Auth(Auth { reason, properties }), &fields)
        }
        _ => Err(format!("unknown packet {name}")),
    }
}

fn bytes(version: Version, packet: &Packet<'_>, rest: &Fields<'_>) -> Result<Vec<u8>, String> {
    rest.end()?;
    let mut out = Vec::new();
    match packet.append(version, &mut out) {
        Ok(()) => Ok(out),
        Err(error) => Err(format!("cannot be encoded ({error:?}); hex can say it")),
    }
}

/// Bytes in hexadecimal, mixed with quoted text.
fn hex(words: &[Word]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for word in words {
        match word {
            Word::Plain(digits) if digits.len() == 2 => {
                let byte = u8::from_str_radix(digits, 16);
                out.push(byte.map_err(|_| format!("{digits} is no byte"))?);
            }
            Word::Quoted(text) => out.extend(text),
            other => return Err(format!("{other:?} is no byte")),
        }
    }
    Ok(out)
}

fn connect(version: Version, fields: &mut Fields<'_>) -> Result<Vec<u8>, String> {
    fields.pair("v");
    let topic = fields.text("will")?;
    let payload = fields.pair("will_payload").unwrap_or_default();
    let qos = fields.qos("will_qos")?;
    let retain = fields.flag("will_retain", false)?;
    let will_properties = fields.properties("will_")?;
    let properties = Properties::list(&will_properties);
    let client_id = fields.text("id")?.unwrap_or_default();
    let clean_start = fields.flag("clean", true)?;
    let keep_alive = fields.number("keep_alive")?.unwrap_or(0);
    let bridge = fields.flag("bridge", false)?;
    let username = fields.text("username")?;
    let password = fields.pair("password");
    let list = fields.properties("")?;
    let connect = Connect {
        version,
        bridge,
        clean_start,
        keep_alive,
        client_id,
        will: topic.map(|topic| Will { qos, retain, topic, payload, properties }),
        username,
        password,
        properties: Properties::list(&list),
    };
    bytes(version, &Packet::Connect(connect), fields)
}

/// `PUBLISH [id] topic ["payload"]`; without a topic where an alias stands for it.
fn publish(version: Version, fields: &mut Fields<'_>) -> Result<Vec<u8>, String> {
    let qos = fields.qos("qos")?;
    let packet_id = if qos == Qos::AtMostOnce { None } else { Some(fields.packet_id()?) };
    let (dup, retain) = (fields.flag("dup", false)?, fields.flag("retain", false)?);
    let filler = fields.number::<u16>("size")?.map(|size| vec![b'x'; usize::from(size)]);
    let payload = fields.quoted().or(filler.as_deref()).unwrap_or_default();
    let topic = fields.plain().unwrap_or_default();
    let list = fields.properties("")?;
    let properties = Properties::list(&list);
    let publish = Publish { dup, qos, retain, topic, packet_id, properties, payload };
    bytes(version, &Packet::Publish(publish), fields)
}

fn ack(version: Version, name: &str, fields: &mut Fields<'_>) -> Result<Vec<u8>, String> {
    let packet_id = fields.packet_id()?;
    let reason = fields.reason()?;
    let list = fields.properties("")?;
    let ack = Ack { packet_id, reason, properties: Properties::list(&list) };
    let packet = match name {
        "PUBACK" => Packet::Puback(ack),
        "PUBREC" => Packet::Pubrec(ack),
        "PUBREL" => Packet::Pubrel(ack),
        _ => Packet::Pubcomp(ack),
    };
    bytes(version, &packet, fields)
}

/// `SUBSCRIBE id filter [qos= no_local= as_published= handling=], filter ..`.
fn subscribe(version: Version, fields: &mut Fields<'_>) -> Result<Vec<u8>, String> {
    let packet_id = fields.packet_id()?;
    let list = fields.properties_where(|name| matches!(name, "sub_id" | "user").then_some(name))?;
    let mut filters = Vec::new();
    for words in fields.words.split(|word| **word == Word::Comma) {
        let mut one = Fields { words: words.to_vec() };
        let retain_handling = match one.number::<u8>("handling")? {
            None | Some(0) => RetainHandling::Send,
            Some(1) => RetainHandling::SendIfNew,
            Some(2) => RetainHandling::DoNotSend,
            Some(_) => return Err(String::from("handling is 0, 1 or 2")),
        };
        let options = SubscriptionOptions {
            qos: one.qos("qos")?,
            no_local: one.flag("no_local", false)?,
            retain_as_published: one.flag("as_published", false)?,
            retain_handling,
        };
        filters.push((one.plain().ok_or("a filter is missing")?, options));
        one.end()?;
    }
    fields.words.clear();
    let subscribe = Subscribe {
        packet_id,
        properties: Properties::list(&list),
        filters: Filters::list(&filters),
    };
    bytes(version, &Packet::Subscribe(subscribe), fields)
}

fn unsubscribe(version: Version, fields: &mut Fields<'_>) -> Result<Vec<u8>, String> {
    let packet_id = fields.packet_id()?;
    let list = fields.properties("")?;
    let filters: Vec<&str> = core::iter::from_fn(|| fields.plain()).collect();
    let unsubscribe = Unsubscribe {
        packet_id,
        properties: Properties::list(&list),
        filters: TopicFilters::list(&filters),
    };
    bytes(version, &Packet::Unsubscribe(unsubscribe), fields)
}
