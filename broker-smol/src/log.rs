//! What happens, as lines on standard error.
//!
//! Passwords, payloads and seeds never get here. Names chosen by clients are written in quotes
//! with everything unusual escaped, so that no client can forge a line.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fulmar_adapters::broker::{Event, Notice, Observe, OpenError};
use fulmar_core::broker::{DisconnectReason, DropReason, SessionEnd};
use fulmar_core::{ReasonCode, Version};
pub use tracing::Level;

/// Time between two lines about losses.
const PAUSE: Duration = Duration::from_secs(1);

/// Counts of what would be too many lines otherwise.
#[derive(Debug, Default)]
struct Counts {
    dropped: [u64; DropReason::ALL.len()],
    refused: [u64; OPEN_ERRORS.len()],
    /// The thread that writes the lines knows already.
    told: bool,
}

const OPEN_ERRORS: [(OpenError, &str); 4] = [
    (OpenError::TooManyConnections, "max_connections are open"),
    (OpenError::TooManyUnauthenticated, "max_unauthenticated are open"),
    (OpenError::TooManyFromAddress, "max_unauthenticated_per_address are open"),
    (OpenError::ShuttingDown, "stopping"),
];

/// The log of one broker. Losses are counted and told at most once a second.
#[derive(Clone, Debug, Default)]
pub struct Log {
    counts: Arc<Mutex<Counts>>,
}

impl Log {
    /// Sends the log lines of this process to standard error. Harmless if something else of the
    /// process does so already; then it decides.
    pub fn init(level: Level) {
        let lines = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            // Without standard error there is nobody to tell, which is no reason to panic.
            .log_internal_errors(false)
            .with_max_level(level);
        // Fails only if a subscriber is there.
        let _ = lines.try_init();
    }

    /// An observer that logs what a server tells.
    ///
    /// It runs a thread of its own, which ends with the observer.
    #[must_use]
    pub fn observer(&self) -> Observe {
        let (wake, woken) = channel();
        let log = self.clone();
        // Without the thread nothing is lost but the promptness of a line.
        let _ = std::thread::Builder::new()
            .name("fulmar-log".into())
            .spawn(move || log.tell_losses(&woken));
        let log = self.clone();
        Box::new(move |notice| log.notice(notice, &wake))
    }

    /// Tells the losses that have not been told.
    pub fn flush(&self) {
        self.tell();
    }

    fn notice(&self, notice: &Notice, wake: &Sender<()>) {
        match notice {
            Notice::Event { event: Event::Dropped { client_id, qos, why, count }, .. } => {
                tracing::trace!(
                    "{count} lost for client {client_id:?} at QoS {}: {}",
                    *qos as u8,
                    drop_reason(*why)
                );
                let mut counts = self.counts();
                counts.dropped[*why as usize] += u64::from(*count);
                Self::wake(counts, wake);
            }
            Notice::Refused { remote, why } => {
                tracing::debug!("refused a connection from {remote}: {why:?}");
                let mut counts = self.counts();
                if let Some(at) = OPEN_ERRORS.iter().position(|(known, _)| known == why) {
                    counts.refused[at] += 1;
                }
                Self::wake(counts, wake);
            }
            other => {
                if let Some((level, line)) = describe(other) {
                    write_line(level, &line);
                }
            }
        }
    }

    fn wake(mut counts: MutexGuard<'_, Counts>, wake: &Sender<()>) {
        if !counts.told {
            counts.told = true;
            // Fails only if the thread could not be started.
            let _ = wake.send(());
        }
    }

    fn tell_losses(&self, woken: &Receiver<()>) {
        while woken.recv().is_ok() {
            while self.tell() {
                // Nothing is sent meanwhile: `told` is still set.
                if woken.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
                    self.tell();
                    return;
                }
            }
        }
    }

    /// Writes the lines about what was counted, and says whether there was anything. If not, the
    /// next loss wakes the thread again.
    fn tell(&self) -> bool {
        let (dropped, refused) = {
            let mut counts = self.counts();
            let taken = (counts.dropped, counts.refused);
            *counts = Counts::default();
            counts.told = taken.0.iter().chain(&taken.1).any(|count| *count > 0);
            taken
        };
        let dropped = list(DropReason::ALL.map(drop_reason), dropped);
        let refused = list(OPEN_ERRORS.map(|(_, text)| text), refused);
        if !dropped.is_empty() {
            tracing::warn!("messages dropped: {dropped}");
        }
        if !refused.is_empty() {
            tracing::warn!("connections refused: {refused}");
        }
        !dropped.is_empty() || !refused.is_empty()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `3 queue full, 1 expired`; empty if all counts are zero.
fn list<const N: usize>(names: [&str; N], counts: [u64; N]) -> String {
    let some = names.iter().zip(counts).filter(|(_, count)| *count > 0);
    some.map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
}

fn drop_reason(why: DropReason) -> &'static str {
    match why {
        DropReason::QueueFull => "queue full",
        DropReason::Expired => "expired",
        DropReason::TooLarge => "larger than the client accepts",
        DropReason::SessionEnded => "session ended",
        DropReason::Offline => "QoS 0 while offline",
        DropReason::OutOfBudget => "memory budget used up",
        DropReason::RetainedFull => "not retained, store full",
        DropReason::Refused => "topic not to be published to",
    }
}

fn write_line(level: Level, line: &str) {
    match level {
        Level::ERROR => tracing::error!("{line}"),
        Level::WARN => tracing::warn!("{line}"),
        Level::INFO => tracing::info!("{line}"),
        Level::DEBUG => tracing::debug!("{line}"),
        Level::TRACE => tracing::trace!("{line}"),
    }
}

/// The line for a notice, if it is worth one.
fn describe(notice: &Notice) -> Option<(Level, String)> {
    Some(match notice {
        Notice::Listening(address) => (Level::INFO, format!("listening on {address}")),
        Notice::Event { event, remote } => return describe_event(event, *remote),
        Notice::Failed { remote, error } => {
            (Level::WARN, format!("connection from {remote} could not be prepared: {error}"))
        }
        Notice::AcceptPaused { listener, error } => {
            let text = "accepting paused, waiting connections are tried again";
            (Level::WARN, format!("{listener}: {text}: {error}"))
        }
        Notice::AcceptResumed { listener } => {
            (Level::INFO, format!("{listener}: accepting connections again"))
        }
        Notice::RecordingFull { path, bytes } => {
            (Level::WARN, format!("recording ended at its bound: {bytes} bytes in {path:?}"))
        }
        Notice::RecordingFailed { path, error } => {
            (Level::WARN, format!("recording into {path:?} ended: {error}"))
        }
        Notice::Stopping => (Level::INFO, "stopping".into()),
        Notice::Cut { connections } => {
            (Level::WARN, format!("connections cut at the end: {connections}"))
        }
        _ => return None,
    })
}

fn describe_event(event: &Event, remote: Option<SocketAddr>) -> Option<(Level, String)> {
    Some(match event {
        Event::Connected(client) => {
            let mut line = format!("client {:?} connected", client.client_id);
            from(&mut line, remote);
            let version = version_name(client.version);
            let session = if client.session_present { "resumed" } else { "new" };
            // Writing to a String cannot fail.
            let _ = write!(line, ", MQTT {version}, session {session}");
            (Level::INFO, line)
        }
        Event::Disconnected(ended) => describe_end(ended.client_id.as_deref(), ended.why, remote),
        Event::SessionEnded { client_id, why } => {
            let why = match why {
                SessionEnd::Closed => "its connection closed",
                SessionEnd::Expired => "expired",
                SessionEnd::CleanStart => "clean start",
                _ => "other",
            };
            (Level::DEBUG, format!("session of {client_id:?} ended: {why}"))
        }
        Event::WillPublished { client_id } => {
            (Level::DEBUG, format!("will of {client_id:?} published"))
        }
        Event::Pressure { used, budget, on: true } => {
            let text = "memory is short, publishers are slowed down";
            (Level::WARN, format!("{text}: {used} of {budget} bytes of memory_budget are used"))
        }
        Event::Pressure { used, budget, on: false } => {
            let text = "memory is no longer short";
            (Level::INFO, format!("{text}: {used} of {budget} bytes of memory_budget are used"))
        }
        _ => return None,
    })
}

/// The end of a connection. What never was a client is common on open ports, and mostly noise.
fn describe_end(
    client_id: Option<&str>,
    why: DisconnectReason,
    remote: Option<SocketAddr>,
) -> (Level, String) {
    let reason = disconnect_reason(why);
    match client_id {
        Some(client_id) => {
            let mut line = format!("client {client_id:?}");
            from(&mut line, remote);
            (Level::INFO, line + " disconnected: " + &reason)
        }
        None => {
            let mut line = String::from("connection");
            from(&mut line, remote);
            let quiet = matches!(why, DisconnectReason::Transport);
            let level = if quiet { Level::DEBUG } else { Level::INFO };
            (level, line + " not accepted: " + &reason)
        }
    }
}

fn from(line: &mut String, remote: Option<SocketAddr>) {
    if let Some(remote) = remote {
        // Writing to a String cannot fail.
        let _ = write!(line, " from {remote}");
    }
}

fn version_name(version: Version) -> &'static str {
    match version {
        Version::V31 => "3.1",
        Version::V311 => "3.1.1",
        Version::V5 => "5.0",
    }
}

fn disconnect_reason(why: DisconnectReason) -> String {
    match why {
        DisconnectReason::Client(ReasonCode::Success) => "by the client".into(),
        DisconnectReason::Client(reason) => format!("by the client ({reason})"),
        DisconnectReason::Transport => "the network connection broke or was closed".into(),
        DisconnectReason::Protocol(error) => format!("broke a rule of MQTT: {error}"),
        DisconnectReason::ConnectTimeout => "no CONNECT within connect_timeout".into(),
        DisconnectReason::KeepAliveTimeout => "silent for one and a half keep alives".into(),
        DisconnectReason::Refused(reason) => format!("refused ({reason})"),
        DisconnectReason::TakenOver => "a new connection took over".into(),
        DisconnectReason::Administrative => "on request".into(),
        DisconnectReason::ShuttingDown => "the broker stops".into(),
        DisconnectReason::SlowConsumer => "does not read what it is sent".into(),
        DisconnectReason::QueueFull => "its queue is full".into(),
        DisconnectReason::OutOfBudget => "no memory for what it sends".into(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn event(event: Event) -> Option<(Level, String)> {
        let remote = Some("10.1.2.3:4567".parse().expect("an address"));
        describe(&Notice::Event { event, remote })
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let name = "a\"\n2026 INFO\u{1b}[31m\u{202e}";
        let line = event(Event::WillPublished { client_id: name.into() }).expect("a line").1;
        assert_eq!(line, r#"will of "a\"\n2026 INFO\u{1b}[31m\u{202e}" published"#);
    }

    #[test]
    fn an_end_says_who_whence_and_why() {
        let remote = Some("10.1.2.3:4567".parse().expect("an address"));
        let line = |client, why| describe_end(client, why, remote);
        assert_eq!(
            line(Some("a"), DisconnectReason::KeepAliveTimeout),
            (
                Level::INFO,
                "client \"a\" from 10.1.2.3:4567 disconnected: \
                 silent for one and a half keep alives"
                    .into()
            )
        );
        assert_eq!(
            line(None, DisconnectReason::ConnectTimeout),
            (
                Level::INFO,
                "connection from 10.1.2.3:4567 not accepted: no CONNECT within connect_timeout"
                    .into()
            )
        );
        assert_eq!(line(None, DisconnectReason::Transport).0, Level::DEBUG);
    }

    #[test]
    fn a_listener_is_told_in_the_words_that_scripts_look_for() {
        let line = describe(&Notice::Listening("127.0.0.1:1883".parse().expect("an address")));
        assert_eq!(line, Some((Level::INFO, "listening on 127.0.0.1:1883".into())));
    }

    #[test]
    fn losses_are_counted_by_reason_and_told_once() {
        let log = Log::default();
        let (wake, woken) = channel();
        let lost = |why, count| Notice::Event {
            event: Event::Dropped { client_id: "x".into(), qos: Default::default(), why, count },
            remote: None,
        };
        log.notice(&lost(DropReason::QueueFull, 3), &wake);
        log.notice(&lost(DropReason::Expired, 1), &wake);
        log.notice(&lost(DropReason::QueueFull, 2), &wake);
        let remote = "10.1.2.3:4567".parse().expect("an address");
        log.notice(&Notice::Refused { remote, why: OpenError::TooManyConnections }, &wake);
        assert_eq!(woken.try_iter().count(), 1);
        let counts = log.counts().dropped;
        assert_eq!(list(DropReason::ALL.map(drop_reason), counts), "5 queue full, 1 expired");
        assert_eq!(log.counts().refused, [1, 0, 0, 0]);
        assert!(log.tell());
        assert_eq!(log.counts().dropped, [0; DropReason::ALL.len()]);
        assert!(log.counts().told);
        assert!(!log.tell());
        assert!(!log.counts().told);
        log.notice(&lost(DropReason::Offline, 1), &wake);
        assert_eq!(woken.try_iter().count(), 1);
    }
}
