//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use fulmar::{Level, Listen, ListenError};

const EXAMPLES: &str = "\
Without options fulmar serves this machine only: 127.0.0.1:1883 and, where there is IPv6,
[::1]:1883, anonymous clients, default limits. No file is read unless --config names one.

Examples:
  fulmar                                      serve this machine
  fulmar --listen :1883 --allow-anonymous     serve everybody who can reach it
  fulmar --listen 127.0.0.1:1884              another port
  fulmar --config fulmar.yaml --check-config  is this file right?
  fulmar --config fulmar.yaml --log debug     serve, with more to read
  fulmar --record .                           serve, and record what happens
  fulmar replay fulmar-1.recording            what happened?

Ctrl-C or SIGTERM stops in good order, a second one at once.
Exit status: 0 stopped or file right, 1 error, 2 wrong options, 130 or 143 ended at once.";

/// Fulmar, an MQTT 3.1, 3.1.1 and 5.0 broker.
///
/// It stays in the foreground and writes its log to standard error.
#[derive(Debug, Parser)]
#[command(name = "fulmar", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// Listen here instead of the configured addresses; may be given several times.
    ///
    /// 127.0.0.1:1883, [::1]:1883, localhost:1883, or :1883 for all addresses.
    ///
    /// Port 0 takes a free one. [default: localhost:1883]
    #[arg(long, value_name = "ADDR", value_parser = listen)]
    pub(crate) listen: Vec<Listen>,

    /// Let clients in without credentials, also from other machines.
    #[arg(long)]
    pub(crate) allow_anonymous: bool,

    /// Serve with so many threads; 0 is one per core.
    ///
    /// Instead of the configured number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=64))]
    pub(crate) shards: Option<u16>,

    /// Read this YAML file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Say whether configuration and options are right, and exit.
    #[arg(long)]
    pub(crate) check_config: bool,

    /// How much to log.
    #[arg(long, value_name = "LEVEL", value_enum, default_value = "info")]
    pub(crate) log: LogLevel,

    /// Record every call of the broker into new files in this folder.
    ///
    /// One for each shard, 256 MiB at most. It holds all messages, but no passwords.
    ///
    /// Only its owner may read it.
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What else it can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a recording again, print what went in and out, and say whether it came out the same.
    Replay {
        /// A file made by --record.
        file: PathBuf,
    },
}

/// How much to log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    /// What ends the broker.
    Error,
    /// And what is lost or in short supply.
    Warn,
    /// And listeners, clients that come and go.
    Info,
    /// And sessions, wills, connections that never became clients.
    Debug,
    /// And each lost message.
    Trace,
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

fn listen(text: &str) -> Result<Listen, String> {
    text.parse().map_err(|error: ListenError| format!("it must be {error}"))
}
