//! Packets in the forms of gomqtt.

use fulmar_core::codec::{Ack, Packet, Properties, Property};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn message(topic: &str, qos: u8, retain: bool, payload: &[u8]) -> String {
    format!("<Message Topic={topic:?} QOS={qos} Retain={retain} Payload={}>", hex(payload))
}

fn properties(properties: Properties<'_>) -> String {
    let one = |property: Property<'_>| match property {
        Property::AuthenticationData(data) => format!(" AuthenticationData={}", hex(data)),
        Property::CorrelationData(data) => format!(" CorrelationData={}", hex(data)),
        Property::UserProperty(name, value) => format!(" UserProperty={name:?}:{value:?}"),
        other => {
            let text = format!("{other:?}");
            let text = text.trim_end_matches(')');
            match text.split_once('(') {
                Some((name, value)) => format!(" {name}={value}"),
                None => format!(" {text}"),
            }
        }
    };
    properties.iter().map(one).collect()
}

fn ack(name: &str, ack: &Ack<'_>) -> String {
    let reason = match ack.reason as u8 {
        0 => String::new(),
        code => format!(" ReasonCode=0x{code:02x}"),
    };
    format!("<{name} ID={}{reason}{}>", ack.packet_id, properties(ack.properties))
}

pub(super) fn packet(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Connect(p) => {
            let will = p.will.map_or(String::from("nil"), |w| {
                message(w.topic, w.qos as u8, w.retain, w.payload) + &properties(w.properties)
            });
            format!(
                "<Connect ClientID={:?} KeepAlive={} Username={:?} Password={} CleanSession={} \
                 Will={will} Version={}{}{}>",
                p.client_id,
                p.keep_alive,
                p.username.unwrap_or_default(),
                if p.password.is_some() { "***" } else { "\"\"" },
                p.clean_start,
                p.version as u8,
                if p.bridge { " Bridge" } else { "" },
                properties(p.properties)
            )
        }
        Packet::Connack(p) => format!(
            "<Connack SessionPresent={} ReturnCode={}{}>",
            p.session_present,
            p.reason as u8,
            properties(p.properties)
        ),
        Packet::Publish(p) => format!(
            "<Publish ID={} Message={} Dup={}{}>",
            p.packet_id.map_or(0, |id| id.get()),
            message(p.topic, p.qos as u8, p.retain, p.payload),
            p.dup,
            properties(p.properties)
        ),
        Packet::Puback(p) => ack("Puback", p),
        Packet::Pubrec(p) => ack("Pubrec", p),
        Packet::Pubrel(p) => ack("Pubrel", p),
        Packet::Pubcomp(p) => ack("Pubcomp", p),
        Packet::Subscribe(p) => {
            let filters: Vec<String> = p
                .filters
                .iter()
                .map(|(f, o)| {
                    let mut text = format!("{f:?}=>{}", o.qos as u8);
                    if o.no_local {
                        text += " NoLocal";
                    }
                    if o.retain_as_published {
                        text += " RetainAsPublished";
                    }
                    if o.retain_handling as u8 > 0 {
                        text += &format!(" RetainHandling={}", o.retain_handling as u8);
                    }
                    text
                })
                .collect();
            format!(
                "<Subscribe ID={} Subscriptions=[{}]{}>",
                p.packet_id,
                filters.join(", "),
                properties(p.properties)
            )
        }
        Packet::Suback(p) => {
            let codes: Vec<String> = p.reasons.iter().map(|r| (r as u8).to_string()).collect();
            let codes = codes.join(", ");
            format!("<Suback ID={} ReturnCodes=[{codes}]{}>", p.packet_id, properties(p.properties))
        }
        Packet::Unsubscribe(p) => {
            let filters: Vec<String> = p.filters.iter().map(|f| format!("{f:?}")).collect();
            let filters = filters.join(", ");
            format!(
                "<Unsubscribe ID={} Topics=[{filters}]{}>",
                p.packet_id,
                properties(p.properties)
            )
        }
        Packet::Unsuback(p) => {
            let codes: Vec<String> = p.reasons.iter().map(|r| (r as u8).to_string()).collect();
            let codes = codes.join(", ");
            format!(
                "<Unsuback ID={} ReasonCodes=[{codes}]{}>",
                p.packet_id,
                properties(p.properties)
            )
        }
        Packet::Pingreq => "<Pingreq>".into(),
        Packet::Pingresp => "<Pingresp>".into(),
        Packet::Disconnect(p) => match p.reason as u8 {
            0 => format!("<Disconnect{}>", properties(p.properties)),
            code => format!("<Disconnect ReasonCode=0x{code:02x}{}>", properties(p.properties)),
        },
        Packet::Auth(p) => {
            format!("<Auth ReasonCode=0x{:02x}{}>", p.reason as u8, properties(p.properties))
        }
    }
}
