//! Packets as one line of text, for logs, traces and tests. Secrets are masked.

use core::fmt::{self, Formatter};

use super::{
    Ack, Connack, Connect, Filters, Packet, Properties, Property, Publish, Qos, ReasonCode,
    ReasonCodes, RetainHandling, TopicFilters, Version,
};

/// A packet of a connection of a known version, as text. See [`Packet::display`].
#[derive(Clone, Copy, Debug)]
pub struct Display<'p, 'a> {
    packet: &'p Packet<'a>,
    version: Version,
}

impl<'a> Packet<'a> {
    /// The packet as one line, such as `<Puback ID=7>`.
    ///
    /// Strings are quoted, payloads and other binary values in hexadecimal. What only 5.0 has is
    /// shown where it says something: a reason code that is not Success, options and properties
    /// that are set. CONNACK has a return code before 5.0 and a reason code since. A password is
    /// shown as `***`, and Authentication Data too.
    #[must_use]
    pub const fn display(&self, version: Version) -> Display<'_, 'a> {
        Display { packet: self, version }
    }
}

impl fmt::Display for Packet<'_> {
    /// As [`Packet::display`], without knowing the version: CONNACK is shown as of 3.1.1, unless
    /// it says what only 5.0 can.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let version = match self {
            Packet::Connack(p) => {
                let code = p.reason.return_code();
                let old = ReasonCode::from_return_code(code) == Some(p.reason);
                if old && p.properties.is_empty() { Version::V311 } else { Version::V5 }
            }
            _ => Version::V5,
        };
        self.display(version).fmt(f)
    }
}

impl fmt::Display for Display<'_, '_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.packet {
            Packet::Connect(p) => connect(f, p),
            Packet::Connack(p) => connack(f, p, self.version),
            Packet::Publish(p) => publish(f, p),
            Packet::Puback(p) => ack(f, "Puback", p),
            Packet::Pubrec(p) => ack(f, "Pubrec", p),
            Packet::Pubrel(p) => ack(f, "Pubrel", p),
            Packet::Pubcomp(p) => ack(f, "Pubcomp", p),
            Packet::Subscribe(p) => {
                write!(f, "<Subscribe ID={} Subscriptions=[", p.packet_id)?;
                subscriptions(f, p.filters)?;
                f.write_str("]")?;
                end(f, p.properties)
            }
            Packet::Suback(p) => {
                write!(f, "<Suback ID={} ReturnCodes=[", p.packet_id)?;
                codes(f, p.reasons)?;
                f.write_str("]")?;
                end(f, p.properties)
            }
            Packet::Unsubscribe(p) => {
                f.write_str("<Unsubscribe Topics=[")?;
                topics(f, p.filters)?;
                f.write_str("]")?;
                end(f, p.properties)
            }
            Packet::Unsuback(p) => {
                write!(f, "<Unsuback ID={}", p.packet_id)?;
                if !p.reasons.is_empty() {
                    f.write_str(" ReasonCodes=[")?;
                    codes(f, p.reasons)?;
                    f.write_str("]")?;
                }
                end(f, p.properties)
            }
            Packet::Pingreq => f.write_str("<Pingreq>"),
            Packet::Pingresp => f.write_str("<Pingresp>"),
            Packet::Disconnect(p) => {
                f.write_str("<Disconnect")?;
                reason(f, p.reason)?;
                end(f, p.properties)
            }
            Packet::Auth(p) => {
                write!(f, "<Auth ReasonCode={}", p.reason as u8)?;
                end(f, p.properties)
            }
        }
    }
}

fn connect(f: &mut Formatter<'_>, p: &Connect<'_>) -> fmt::Result {
    write!(
        f,
        "<Connect ClientID={:?} KeepAlive={} Username={:?} Password={:?} CleanSession={} Will=",
        p.client_id,
        p.keep_alive,
        p.username.unwrap_or_default(),
        if p.password.is_some() { "***" } else { "" },
        p.clean_start,
    )?;
    match p.will {
        Some(will) => {
            message(f, will.topic, will.qos, will.retain, will.payload)?;
            end(f, will.properties)?;
        }
        None => f.write_str("nil")?,
    }
    write!(f, " Version={}", p.version as u8)?;
    if p.bridge {
        f.write_str(" Bridge=true")?;
    }
    end(f, p.properties)
}

fn connack(f: &mut Formatter<'_>, p: &Connack<'_>, version: Version) -> fmt::Result {
    write!(f, "<Connack SessionPresent={}", p.session_present)?;
    match version {
        Version::V5 => write!(f, " ReasonCode={}", p.reason as u8)?,
        _ => write!(f, " ReturnCode={}", p.reason.return_code())?,
    }
    end(f, p.properties)
}

fn publish(f: &mut Formatter<'_>, p: &Publish<'_>) -> fmt::Result {
    write!(f, "<Publish ID={} Message=", p.packet_id.map_or(0, |id| id.get()))?;
    message(f, p.topic, p.qos, p.retain, p.payload)?;
    write!(f, "> Dup={}", p.dup)?;
    end(f, p.properties)
}

/// A message without its last bracket.
fn message(
    f: &mut Formatter<'_>,
    topic: &str,
    qos: Qos,
    retain: bool,
    payload: &[u8],
) -> fmt::Result {
    write!(f, "<Message Topic={topic:?} QOS={} Retain={retain} Payload=", qos as u8)?;
    hex(f, payload)
}

fn ack(f: &mut Formatter<'_>, name: &str, p: &Ack<'_>) -> fmt::Result {
    write!(f, "<{name} ID={}", p.packet_id)?;
    reason(f, p.reason)?;
    end(f, p.properties)
}

fn reason(f: &mut Formatter<'_>, reason: ReasonCode) -> fmt::Result {
    match reason {
        ReasonCode::Success => Ok(()),
        reason => write!(f, " ReasonCode={}", reason as u8),
    }
}

fn subscriptions(f: &mut Formatter<'_>, filters: Filters<'_>) -> fmt::Result {
    for (i, (filter, options)) in filters.iter().enumerate() {
        write!(f, "{}{filter:?}=>{}", comma(i), options.qos as u8)?;
        if options.no_local {
            f.write_str(" NoLocal")?;
        }
        if options.retain_as_published {
            f.write_str(" RetainAsPublished")?;
        }
        if options.retain_handling != RetainHandling::Send {
            write!(f, " RetainHandling={}", options.retain_handling as u8)?;
        }
    }
    Ok(())
}

fn topics(f: &mut Formatter<'_>, filters: TopicFilters<'_>) -> fmt::Result {
    filters.iter().enumerate().try_for_each(|(i, filter)| write!(f, "{}{filter:?}", comma(i)))
}

fn codes(f: &mut Formatter<'_>, reasons: ReasonCodes<'_>) -> fmt::Result {
    reasons.iter().enumerate().try_for_each(|(i, code)| write!(f, "{}{}", comma(i), code as u8))
}

/// The properties, if there are any, and the last bracket.
fn end(f: &mut Formatter<'_>, properties: Properties<'_>) -> fmt::Result {
    if !properties.is_empty() {
        f.write_str(" Properties=[")?;
        for (i, one) in properties.iter().enumerate() {
            f.write_str(comma(i))?;
            property(f, &one)?;
        }
        f.write_str("]")?;
    }
    f.write_str(">")
}

fn property(f: &mut Formatter<'_>, property: &Property<'_>) -> fmt::Result {
    use Property as P;
    write!(f, "{:?}=", property.id())?;
    match *property {
        P::AuthenticationData(_) => f.write_str("***"),
        P::CorrelationData(data) => hex(f, data),
        P::UserProperty(name, value) => write!(f, "{name:?}:{value:?}"),
        P::ContentType(text)
        | P::ResponseTopic(text)
        | P::AssignedClientIdentifier(text)
        | P::AuthenticationMethod(text)
        | P::ResponseInformation(text)
        | P::ServerReference(text)
        | P::ReasonString(text) => write!(f, "{text:?}"),
        P::PayloadFormatIndicator(number) | P::MaximumQos(number) => write!(f, "{number}"),
        P::ServerKeepAlive(number)
        | P::ReceiveMaximum(number)
        | P::TopicAliasMaximum(number)
        | P::TopicAlias(number) => write!(f, "{number}"),
        P::MessageExpiryInterval(number)
        | P::SubscriptionIdentifier(number)
        | P::SessionExpiryInterval(number)
        | P::WillDelayInterval(number)
        | P::MaximumPacketSize(number) => write!(f, "{number}"),
        P::RequestProblemInformation(on)
        | P::RequestResponseInformation(on)
        | P::RetainAvailable(on)
        | P::WildcardSubscriptionAvailable(on)
        | P::SubscriptionIdentifierAvailable(on)
        | P::SharedSubscriptionAvailable(on) => write!(f, "{on}"),
    }
}

fn hex(f: &mut Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

const fn comma(index: usize) -> &'static str {
    if index == 0 { "" } else { ", " }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Auth, Disconnect, PacketId, Suback, Subscribe, SubscriptionOptions};
    use crate::codec::{Unsuback, Unsubscribe, Will};
    use std::string::ToString;

    const ID: PacketId = PacketId::MIN;

    fn shown(packet: &Packet<'_>, expected: &str) {
        assert_eq!(packet.to_string(), expected);
    }

    fn connect() -> Connect<'static> {
        Connect {
            version: Version::V311,
            bridge: false,
            clean_start: true,
            keep_alive: 30,
            client_id: "a\"b",
            will: None,
            username: None,
            password: None,
            properties: Properties::EMPTY,
        }
    }

    #[test]
    fn packets_of_3_1_1_are_shown_as_by_gomqtt() {
        let none = Properties::EMPTY;
        shown(
            &Packet::Connect(connect()),
            concat!(
                r#"<Connect ClientID="a\"b" KeepAlive=30 Username="" Password="" "#,
                r#"CleanSession=true Will=nil Version=4>"#,
            ),
        );
        let connack =
            Connack { session_present: true, reason: ReasonCode::Success, properties: none };
        shown(&Packet::Connack(connack), "<Connack SessionPresent=true ReturnCode=0>");
        let refused =
            Connack { session_present: false, reason: ReasonCode::NotAuthorized, ..connack };
        shown(&Packet::Connack(refused), "<Connack SessionPresent=false ReturnCode=5>");
        let message = Publish { topic: "t/1", payload: b"test", ..Publish::default() };
        shown(
            &Packet::Publish(message),
            concat!(
                r#"<Publish ID=0 Message=<Message Topic="t/1" QOS=0 Retain=false "#,
                r#"Payload=74657374> Dup=false>"#,
            ),
        );
        let ack = Ack { packet_id: ID, reason: ReasonCode::Success, properties: none };
        shown(&Packet::Puback(ack), "<Puback ID=1>");
        shown(&Packet::Pubrec(ack), "<Pubrec ID=1>");
        shown(&Packet::Pubrel(ack), "<Pubrel ID=1>");
        shown(&Packet::Pubcomp(ack), "<Pubcomp ID=1>");
        let options = SubscriptionOptions { qos: Qos::AtLeastOnce, ..Default::default() };
        let list = [("a", SubscriptionOptions::default()), ("b/+", options)];
        let filters = Filters::list(&list);
        shown(
            &Packet::Subscribe(Subscribe { packet_id: ID, properties: none, filters }),
            r#"<Subscribe ID=1 Subscriptions=["a"=>0, "b/+"=>1]>"#,
        );
        let reasons = ReasonCodes::list(&[ReasonCode::GrantedQos1, ReasonCode::UnspecifiedError]);
        shown(
            &Packet::Suback(Suback { packet_id: ID, properties: none, reasons }),
            "<Suback ID=1 ReturnCodes=[1, 128]>",
        );
        let filters = TopicFilters::list(&["a", "b"]);
        shown(
            &Packet::Unsubscribe(Unsubscribe { packet_id: ID, properties: none, filters }),
            r#"<Unsubscribe Topics=["a", "b"]>"#,
        );
        let reasons = ReasonCodes::list(&[]);
        let unsuback = Unsuback { packet_id: ID, properties: none, reasons };
        shown(&Packet::Unsuback(unsuback), "<Unsuback ID=1>");
        shown(&Packet::Pingreq, "<Pingreq>");
        shown(&Packet::Pingresp, "<Pingresp>");
        let disconnect = Disconnect { reason: ReasonCode::Success, properties: none };
        shown(&Packet::Disconnect(disconnect), "<Disconnect>");
    }

    #[test]
    fn packets_of_5_0_show_what_is_set() {
        let properties = [
            Property::UserProperty("k", "v"),
            Property::CorrelationData(&[1, 0xab]),
            Property::MessageExpiryInterval(9),
            Property::ContentType("x"),
            Property::PayloadFormatIndicator(1),
            Property::TopicAlias(2),
        ];
        let properties = Properties::list(&properties);
        shown(
            &Packet::Publish(Publish {
                dup: true,
                qos: Qos::ExactlyOnce,
                retain: true,
                topic: "",
                packet_id: Some(ID),
                properties,
                payload: b"",
            }),
            concat!(
                r#"<Publish ID=1 Message=<Message Topic="" QOS=2 Retain=true Payload=> Dup=true "#,
                r#"Properties=[UserProperty="k":"v", CorrelationData=01ab, "#,
                r#"MessageExpiryInterval=9, ContentType="x", PayloadFormatIndicator=1, "#,
                r#"TopicAlias=2]>"#,
            ),
        );
        let none = Properties::EMPTY;
        let reason = ReasonCode::QuotaExceeded;
        shown(
            &Packet::Puback(Ack { packet_id: ID, reason, properties: none }),
            "<Puback ID=1 ReasonCode=151>",
        );
        let options = SubscriptionOptions {
            qos: Qos::AtMostOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        };
        let list = [("a", options)];
        let filters = Filters::list(&list);
        shown(
            &Packet::Subscribe(Subscribe { packet_id: ID, properties: none, filters }),
            r#"<Subscribe ID=1 Subscriptions=["a"=>0 NoLocal RetainAsPublished RetainHandling=2]>"#,
        );
        let reasons = ReasonCodes::list(&[ReasonCode::NoSubscriptionExisted]);
        let unsuback = Unsuback { packet_id: ID, properties: none, reasons };
        shown(&Packet::Unsuback(unsuback), "<Unsuback ID=1 ReasonCodes=[17]>");
        let list = [Property::RetainAvailable(false)];
        let properties = Properties::list(&list);
        let connack = Connack { session_present: false, reason: ReasonCode::Success, properties };
        shown(
            &Packet::Connack(connack),
            "<Connack SessionPresent=false ReasonCode=0 Properties=[RetainAvailable=false]>",
        );
        let refused = Connack { properties: none, reason: ReasonCode::NotAuthorized, ..connack };
        assert_eq!(
            Packet::Connack(refused).display(Version::V5).to_string(),
            "<Connack SessionPresent=false ReasonCode=135>"
        );
        let disconnect = Disconnect { reason: ReasonCode::SessionTakenOver, properties: none };
        shown(&Packet::Disconnect(disconnect), "<Disconnect ReasonCode=142>");
    }

    #[test]
    fn secrets_are_masked_and_the_will_is_a_message() {
        let list = [Property::AuthenticationMethod("M"), Property::AuthenticationData(b"secret")];
        let delay = [Property::WillDelayInterval(5)];
        let packet = Packet::Connect(Connect {
            version: Version::V5,
            username: Some("u"),
            password: Some(b"secret"),
            will: Some(Will {
                qos: Qos::AtLeastOnce,
                retain: true,
                topic: "w",
                payload: b"x",
                properties: Properties::list(&delay),
            }),
            properties: Properties::list(&list),
            ..connect()
        });
        shown(
            &packet,
            concat!(
                r#"<Connect ClientID="a\"b" KeepAlive=30 Username="u" Password="***" "#,
                r#"CleanSession=true Will=<Message Topic="w" QOS=1 Retain=true Payload=78 "#,
                r#"Properties=[WillDelayInterval=5]> Version=5 "#,
                r#"Properties=[AuthenticationMethod="M", AuthenticationData=***]>"#,
            ),
        );
        let auth = Auth { reason: ReasonCode::Reauthenticate, properties: Properties::list(&list) };
        shown(
            &Packet::Auth(auth),
            r#"<Auth ReasonCode=25 Properties=[AuthenticationMethod="M", AuthenticationData=***]>"#,
        );
    }
}
