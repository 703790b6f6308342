//! `fulmar replay`: a recording as lines that a person can read, and whether it came out the same.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use fulmar_core::broker::{Effect, Input, Outcome, Replay, Step};
use fulmar_core::codec::{Level, decode, level, split};
use fulmar_core::{ConnId, Instant, Version};

/// Why a replay came to nothing.
#[derive(Debug)]
pub enum ReplayError {
    /// The file cannot be read, or the lines not be written.
    File(PathBuf, io::Error),
    /// It is not a recording.
    Format(PathBuf),
    /// The call of this number found another result than when it was recorded.
    Diverged(u64),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "cannot replay {}: {error}", path.display()),
            Self::Format(path) => write!(
                f,
                "{} is not a recording of this version of fulmar; replay it with the version \
                 that made it",
                path.display()
            ),
            Self::Diverged(call) => write!(
                f,
                "the replay diverged before call {call}: this build does not do what the \
                 recorded one did"
            ),
        }
    }
}

impl std::error::Error for ReplayError {}

/// Prints a recording line by line, and at the end whether it came out the same.
///
/// # Errors
/// The file is missing or no recording, `out` cannot be written to, or the replay diverged.
pub fn replay(path: &Path, out: &mut dyn Write) -> Result<(), ReplayError> {
    let file = |error| ReplayError::File(path.into(), error);
    let bytes = fs::read(path).map_err(file)?;
    let mut replay = Replay::new(&bytes).map_err(|_| ReplayError::Format(path.into()))?;
    let mut printer = Printer::default();
    loop {
        let mut lines = String::new();
        let outcome = replay.step(&mut |now, step| printer.step(now, step, &mut lines));
        out.write_all(lines.as_bytes()).map_err(file)?;
        match outcome {
            Outcome::More => {}
            Outcome::Same => {
                let calls = replay.calls();
                return writeln!(out, "same: {calls} calls gave what they gave").map_err(file);
            }
            Outcome::Diverged(call) => return Err(ReplayError::Diverged(call)),
        }
    }
}

/// What is known of each connection's two streams.
#[derive(Default)]
struct Printer {
    streams: HashMap<ConnId, Streams>,
}

#[derive(Default)]
struct Streams {
    version: Option<Version>,
    received: Vec<u8>,
    sent: Vec<u8>,
}

impl Printer {
    fn step(&mut self, now: Instant, step: &Step<'_>, lines: &mut String) {
        use fmt::Write;
        let micros = now.as_micros();
        let time = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
        let mut line = |text: &str| {
            let _ = writeln!(lines, "{time} {text}");
        };
        match step {
            Step::Open { conn: Some(conn), info } => {
                let remote = info.remote.map_or("unknown".into(), |remote| remote.to_string());
                line(&format!("{} open from {remote}", name(*conn)));
            }
            Step::Open { conn: None, .. } => line("a connection was refused"),
            Step::Handle(Input::Received { conn, bytes }) => {
                let streams = self.streams.entry(*conn).or_default();
                streams.received.extend_from_slice(bytes);
                for packet in packets(&mut streams.received, &mut streams.version) {
                    line(&format!("{}> {packet}", name(*conn)));
                }
            }
            Step::Handle(Input::Closed { conn }) => {
                self.streams.remove(conn);
                line(&format!("{} closed", name(*conn)));
            }
            Step::Handle(Input::Timeout) => line("timeout"),
            Step::Handle(input) => line(&format!("{input:?}")),
            Step::Transmit { conn, bytes } => {
                let streams = self.streams.entry(*conn).or_default();
                streams.sent.extend_from_slice(bytes);
                for packet in packets(&mut streams.sent, &mut streams.version) {
                    line(&format!("{}< {packet}", name(*conn)));
                }
            }
            Step::Take(subscriber) => line(&format!("take {subscriber:?}")),
            Step::Effects(effects) => {
                for effect in effects {
                    if let Effect::Event(event) = effect {
                        line(&format!("* {event:?}"));
                    }
                }
            }
            Step::HandOver(conn) => line(&format!("{} goes to another shard", name(*conn))),
            Step::Peer { from, msg } => line(&format!("shard {from}> {msg:?}")),
            Step::TakePeer { to, messages } => {
                messages.iter().for_each(|msg| line(&format!("shard {to}< {msg:?}")));
            }
            _ => {}
        }
    }
}

fn name(conn: ConnId) -> String {
    format!("c{}", conn.index())
}

/// Takes whole packets off a stream, as text.
fn packets(stream: &mut Vec<u8>, version: &mut Option<Version>) -> Vec<String> {
    let mut texts = Vec::new();
    let mut at = 0;
    while let Ok(Some((frame, used))) = split(&stream[at..], u32::MAX) {
        at += used;
        if frame.packet_type() == 1
            && let Ok(Level::Supported { version: asked, .. }) = level(frame.body)
        {
            *version = Some(asked);
        }
        let version = version.unwrap_or(Version::V311);
        texts.push(match decode(version, frame) {
            Ok(packet) => packet.display(version).to_string(),
            Err(error) => format!("<unreadable: {error}>"),
        });
    }
    stream.drain(..at);
    texts
}
