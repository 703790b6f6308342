//! What the broker tells, as lines of a snapshot.

use fulmar_core::broker::{
    AuthRequest, AuthStep, Delivery, DisconnectReason, DropReason, Event, Reply, SessionEnd,
    Verdict,
};
use fulmar_core::{ReasonCode, Version};

/// The name of a version in traces.
pub(super) fn version(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

/// An event, with the connection named by `name`.
pub(super) fn event(event: &Event, name: impl Fn(fulmar_core::ConnId) -> String) -> String {
    match event {
        Event::Connected(c) => format!(
            "connected {} id={:?} version={} clean={} present={} keep_alive={}",
            name(c.conn),
            c.client_id,
            version(c.version),
            u8::from(c.clean_start),
            u8::from(c.session_present),
            c.keep_alive
        ),
        Event::Disconnected(d) => {
            let id = d.client_id.as_ref().map_or(String::new(), |id| format!(" id={id:?}"));
            format!("disconnected {}{id}: {}", name(d.conn), disconnect_reason(d.why))
        }
        Event::SessionEnded { client_id, why } => {
            let why = match why {
                SessionEnd::Closed => "with its connection",
                SessionEnd::Expired => "expired",
                SessionEnd::CleanStart => "clean start",
                _ => return format!("{event:?}"),
            };
            format!("session ended {client_id:?}: {why}")
        }
        Event::WillPublished { client_id } => format!("will published {client_id:?}"),
        Event::Dropped { client_id, qos, why, count } => {
            format!("dropped {client_id:?} qos={} count={count}: {}", *qos as u8, lost(*why))
        }
        Event::Pressure { on: true, .. } => String::from("memory pressure begins"),
        Event::Pressure { .. } => String::from("memory pressure ends"),
        _ => format!("{event:?}"),
    }
}

fn disconnect_reason(why: DisconnectReason) -> String {
    match why {
        DisconnectReason::Client(reason) => format!("client said {}", code(reason)),
        DisconnectReason::Transport => "transport gone".into(),
        DisconnectReason::Protocol(error) => format!("{} [{}]", code(error.reason), error.rule),
        DisconnectReason::ConnectTimeout => "no CONNECT in time".into(),
        DisconnectReason::KeepAliveTimeout => "keep alive".into(),
        DisconnectReason::Refused(reason) => format!("refused with {}", code(reason)),
        DisconnectReason::TakenOver => "taken over".into(),
        DisconnectReason::Administrative => "administrative action".into(),
        DisconnectReason::ShuttingDown => "shutting down".into(),
        DisconnectReason::SlowConsumer => "slow consumer".into(),
        DisconnectReason::QueueFull => "queue full".into(),
        DisconnectReason::OutOfBudget => "out of memory".into(),
        _ => format!("{why:?}"),
    }
}

fn lost(why: DropReason) -> &'static str {
    match why {
        DropReason::QueueFull => "queue full",
        DropReason::Expired => "expired",
        DropReason::TooLarge => "too large",
        DropReason::SessionEnded => "session ended",
        DropReason::Offline => "offline",
        DropReason::OutOfBudget => "out of memory",
        DropReason::RetainedFull => "retained store full",
        DropReason::Refused => "refused",
    }
}

fn code(reason: ReasonCode) -> String {
    format!("0x{:02x} {reason}", reason as u8)
}

/// What a client presents; no secrets.
pub(super) fn request(request: &AuthRequest) -> String {
    let step = match request.step {
        AuthStep::Connect => "CONNECT",
        AuthStep::Continue => "AUTH",
        AuthStep::Reauthenticate => "AUTH again",
    };
    let mut text = format!("{step} id={:?}", request.client_id);
    if let Some(username) = &request.username {
        text += &format!(" username={username:?}");
    }
    if let Some(method) = &request.method {
        text += &format!(" method={method:?}");
    }
    if let Some(data) = &request.data {
        text += &format!(" data={}", data.escape_ascii());
    }
    text
}

/// The decision about a client.
pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept { .. } => "accept".into(),
        Verdict::Continue { .. } => "continue".into(),
        Verdict::Refuse(reason) => format!("refuse with {}", code(*reason)),
    }
}

/// An answer to a command.
pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Published { receivers } => format!("published receivers={receivers}"),
        Reply::Subscribed(_) => "subscribed".into(),
        Reply::Done => "done".into(),
        Reply::Refused(reason) => format!("refused with {}", code(*reason)),
        Reply::Clients { clients, .. } => {
            let one = |c: &fulmar_core::broker::ClientInfo| {
                format!(
                    "\n*   {:?} connected={} subscriptions={} queued={} in_flight={} await_rel={} \
                     delivered={:?} dropped={:?}",
                    c.client_id,
                    u8::from(c.connected),
                    c.subscriptions,
                    c.queued,
                    c.in_flight,
                    c.await_rel,
                    c.delivered,
                    c.dropped
                )
            };
            format!("clients{}", clients.iter().map(one).collect::<String>())
        }
        Reply::Stats(stats) => format!(
            "stats connections={} sessions={} subscriptions={} retained={} queued={} dropped={:?}",
            stats.connections,
            stats.sessions,
            stats.subscriptions,
            stats.retained,
            stats.queued,
            stats.dropped_by_qos
        ),
    }
}

/// A message taken by the program itself.
pub(super) fn delivery(delivery: &Delivery) -> String {
    let publisher = delivery.publisher.as_ref().map_or("", |id| id);
    format!(
        "<Message Topic={:?} QOS={} Retain={} Payload={}> from {publisher:?}",
        delivery.topic,
        delivery.qos as u8,
        delivery.retain,
        delivery.payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    )
}
