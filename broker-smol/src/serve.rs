//! From settings to a running broker, and its orderly end.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use async_signal::{Signal, Signals};
use fulmar_adapters::broker::{
    AuthRequest, BindError, BrokerHandle, Config, Options, ReasonCode, Record, Server, Verdict,
    raise_file_limit,
};
use smol::future;
use smol::stream::StreamExt;

use crate::{Listen, Log, Settings, memory, slice};

/// Bytes of a recording at most: a few minutes of a busy broker.
const RECORDING: u64 = 256 * 1024 * 1024;
/// Descriptors that are not connections: listeners, standard streams, poller, wakers.
const OWN_FILES: u64 = 32;

/// An address that others can reach was to be opened without a word about anonymous clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exposed(pub SocketAddr);

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} can be reached from other machines, and anybody could connect without a password; \
             allow that with --allow-anonymous (or allow_anonymous: true), or listen on 127.0.0.1",
            self.0
        )
    }
}

impl std::error::Error for Exposed {}

/// Why the broker did not start, or ended early.
#[derive(Debug)]
pub enum ServeError {
    /// See [`Exposed`].
    Exposed(Exposed),
    /// An address cannot be listened on.
    Bind(BindError),
    /// The system refused signals, a thread or a wait.
    System(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exposed(error) => error.fmt(f),
            Self::Bind(error) => error.fmt(f),
            Self::System(error) => write!(f, "the system refused what the broker needs: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

impl From<Exposed> for ServeError {
    fn from(error: Exposed) -> Self {
        Self::Exposed(error)
    }
}

impl From<BindError> for ServeError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Whether sockets of this machine can have an IPv6 address.
#[must_use]
pub fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// The addresses to listen on.
///
/// # Errors
/// One of them can be reached from other machines, and `allow_anonymous` was not set.
pub fn addresses(settings: &Settings, ipv6: bool) -> Result<Vec<SocketAddr>, Exposed> {
    let listeners = settings.listeners.iter();
    let addresses: Vec<_> = listeners.flat_map(|listen: &Listen| listen.addresses(ipv6)).collect();
    let open = addresses.iter().find(|address| !address.ip().is_loopback());
    match (open, settings.allow_anonymous) {
        (Some(address), None) => Err(Exposed(*address)),
        _ => Ok(addresses),
    }
}

/// Decides about a client without any authentication: all are let in, or none.
///
/// Enhanced authentication is refused always, since no method is known.
#[must_use]
pub fn authenticate(request: &AuthRequest, anonymous: bool) -> Verdict {
    if request.method.is_some() {
        Verdict::Refuse(ReasonCode::BadAuthenticationMethod)
    } else if anonymous {
        Verdict::Accept { data: None }
    } else {
        Verdict::Refuse(ReasonCode::NotAuthorized)
    }
}

/// What a [`Server`] needs for these settings, with its lines in `log`.
///
/// # Errors
/// As [`addresses`].
pub fn options(settings: Settings, log: &Log) -> Result<Options, Exposed> {
    let listeners = addresses(&settings, has_ipv6())?;
    let anonymous = settings.allow_anonymous.unwrap_or(true);
    Ok(Options {
        config: settings.core,
        shards: settings.shards,
        listeners,
        shutdown_timeout: settings.shutdown_timeout,
        authenticate: Box::new(move |_, request| authenticate(request, anonymous)),
        observe: log.observer(),
        prepare: Box::new(|_| slice::shorten()),
        record: None,
    })
}

/// Serves until SIGINT or SIGTERM, recording into a folder if one is given; then stops within
/// `shutdown_timeout`. A second signal ends the process at once, with status 130 or 143. The thread
/// that calls it is one of the shards' from then on: see [`slice::shorten`].
///
/// # Errors
/// The broker cannot be started, or the system fails it.
pub fn serve(settings: Settings, record: Option<PathBuf>) -> Result<(), ServeError> {
    check_files(settings.core.max_connections);
    let log = Log::default();
    // Before anything listens: from the first line on a signal means an orderly stop.
    let signals = Signals::new([Signal::Int, Signal::Term])?;
    let mut options = options(settings, &log)?;
    options.record = record.map(|dir| Record { dir, limit: RECORDING });
    let server = Server::bind(options)?;
    let broker = server.handle();
    std::thread::Builder::new().name("fulmar-signals".into()).spawn(move || {
        smol::block_on(future::or(obey(signals, broker.clone()), memory::tend(broker)));
    })?;
    server.run()?;
    log.flush();
    tracing::info!("stopped");
    Ok(())
}

/// Raises the file limit, and warns if it is lower than what was asked for; where nothing was, if
/// it is lower than anybody would expect.
fn check_files(max_connections: u32) {
    let asked = max_connections != Config::default().max_connections;
    match raise_file_limit() {
        Ok(limit) => {
            let room = limit.saturating_sub(OWN_FILES);
            if (asked || limit < 1024) && u64::from(max_connections) > room {
                tracing::warn!(
                    "the limit of {limit} open files leaves room for {room} connections, less \
                     than max_connections: {max_connections}; raise it (ulimit -n, LimitNOFILE) \
                     to serve more"
                );
            }
        }
        Err(error) => tracing::warn!("the limit of open files could not be raised: {error}"),
    }
}

async fn obey(mut signals: Signals, broker: BrokerHandle) {
    let Some(Ok(signal)) = signals.next().await else { return };
    let name = if signal == Signal::Int { "SIGINT" } else { "SIGTERM" };
    tracing::info!("{name} received; a second signal ends at once");
    let hurry = async {
        if let Some(Ok(signal)) = signals.next().await {
            std::process::exit(128 + signal as i32);
        }
    };
    future::zip(broker.stop(), hurry).await;
}

#[cfg(test)]
mod tests {
    use fulmar_adapters::broker::AuthStep;
    use fulmar_core::Version;

    use super::*;

    fn request(method: Option<&str>) -> AuthRequest {
        AuthRequest {
            client_id: "x".into(),
            username: Some("user".into()),
            password: Some(b"secret".to_vec()),
            method: method.map(Into::into),
            data: None,
            step: AuthStep::Connect,
            version: Version::V5,
        }
    }

    #[test]
    fn everybody_or_nobody_is_let_in_and_no_method_is_known() {
        assert_eq!(authenticate(&request(None), true), Verdict::Accept { data: None });
        let refused = Verdict::Refuse(ReasonCode::NotAuthorized);
        assert_eq!(authenticate(&request(None), false), refused);
        for anonymous in [true, false] {
            let refused = Verdict::Refuse(ReasonCode::BadAuthenticationMethod);
            assert_eq!(authenticate(&request(Some("SCRAM")), anonymous), refused);
        }
    }

    #[test]
    fn an_open_address_must_be_opened_knowingly() {
        let mut settings = Settings::default();
        let show = |settings: &Settings| {
            addresses(settings, true)
                .map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let local = vec!["127.0.0.1:1883".to_string(), "[::1]:1883".into()];
        assert_eq!(show(&settings), Ok(local));
        for open in [":1883", "0.0.0.0:1883", "10.0.0.1:1883", "[::]:1883", "[fe80::1]:1"] {
            settings.listeners = vec![Listen::Localhost(1883), open.parse().expect("an address")];
            settings.allow_anonymous = None;
            let exposed = show(&settings).expect_err("open to others");
            let text = exposed.to_string();
            assert!(text.contains(&exposed.0.to_string()) && text.contains("--allow-anonymous"));
            for said in [true, false] {
                settings.allow_anonymous = Some(said);
                assert!(show(&settings).is_ok());
            }
        }
        settings.listeners = vec!["127.9.9.9:1".parse().expect("an address")];
        settings.allow_anonymous = None;
        assert_eq!(show(&settings), Ok(vec!["127.9.9.9:1".to_string()]));
    }
}
