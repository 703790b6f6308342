//! Brokers in processes of their own: which there are, how they are started and stopped.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::serve::Counters;

/// How long a broker may take to listen, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time it has to settle before anything is measured.
const SETTLE: Duration = Duration::from_millis(300);

/// How long a port can be kept after its connection has closed, and some time more.
const PORTS_RETURN: Duration = Duration::from_secs(75);

/// A broker that can be started: a name and a command.
///
/// In a command `{port}` stands for a free port, `{dir}` for a folder with `fulmar.yaml`,
/// `mosquitto.conf` and `rumqttd.toml` for that port, `{shards}` for a number of shards.
#[derive(Clone, Debug)]
pub(super) struct Recipe {
    pub(super) name: String,
    command: Vec<String>,
    /// It is this program, which tells its counters, and where clients are.
    pub(super) counts: bool,
}

/// Names that need no command.
const KNOWN: [(&str, &str); 6] = [
    ("fulmar", "{self} serve --config {dir}/fulmar.yaml --shards {shards}"),
    ("fulmar-2", "{self} serve --config {dir}/fulmar.yaml --shards 2"),
    ("fulmar-4", "{self} serve --config {dir}/fulmar.yaml --shards 4"),
    ("relay", "{self} relay --listen 127.0.0.1:{port}"),
    ("mosquitto", "mosquitto -c {dir}/mosquitto.conf"),
    ("rumqttd", "rumqttd -q -c {dir}/rumqttd.toml"),
];

impl Recipe {
    /// Of `NAME=COMMAND`, or of a known name.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, command) = match text.split_once('=') {
            Some(parts) => parts,
            None => *KNOWN.iter().find(|(name, _)| *name == text).ok_or_else(|| {
                let names = KNOWN.map(|(name, _)| name).join(", ");
                format!("expected NAME=COMMAND or one of {names}")
            })?,
        };
        let command: Vec<_> = command.split_whitespace().map(Into::into).collect();
        if name.is_empty() || command.is_empty() {
            return Err("expected NAME=COMMAND".into());
        }
        let counts = command.first().is_some_and(|word| word == "{self}") && name != RELAY;
        Ok(Self { name: name.into(), command, counts })
    }

    /// Whether it can be told how many shards to have.
    pub(super) fn has_shards(&self) -> bool {
        self.command.iter().any(|word| word.contains("{shards}"))
    }

    /// How many shards it has when it is to have this number, where its command says so.
    pub(super) fn shards(&self, wanted: u64) -> Option<u64> {
        if self.has_shards() {
            return Some(wanted);
        }
        self.command.iter().skip_while(|word| *word != "--shards").nth(1)?.parse().ok()
    }

    /// Starts it on a free port and waits until it listens.
    pub(super) fn start(&self, limits: &Limits) -> io::Result<Running> {
        let port = free_port()?;
        let addr = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let scratch = Scratch::new()?;
        limits.write(&scratch.0, port)?;
        let own = std::env::current_exe()?;
        let word = |word: &String| {
            word.replace("{self}", &own.to_string_lossy())
                .replace("{port}", &port.to_string())
                .replace("{dir}", &scratch.0.to_string_lossy())
                .replace("{shards}", &limits.shards.to_string())
        };
        let pipe = || if self.counts { Stdio::piped() } else { Stdio::null() };
        let mut child = Command::new(word(&self.command[0]))
            .args(self.command[1..].iter().map(word))
            .stdin(pipe())
            .stdout(pipe())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", self.command[0])))?;
        let counters = child.stdin.take().zip(child.stdout.take().map(BufReader::new));
        let mut running = Running { child, addr, counters, _scratch: scratch };
        running.wait_until_it_listens()?;
        Ok(running)
    }
}

/// After many thousands of connections none is free for a minute: the kernel keeps those of the
/// closed ones.
fn free_port() -> io::Result<u16> {
    let end = Instant::now() + PORTS_RETURN;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
            Ok(listener) => return Ok(listener.local_addr()?.port()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                sleep(SETTLE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// The name of the floor.
pub(super) const RELAY: &str = "relay";

/// What a broker is configured with: nobody drops anything, logs, or writes to disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) connections: usize,
    /// Of one session.
    pub(super) subscriptions: usize,
    pub(super) shards: u64,
}

impl Limits {
    fn write(&self, dir: &Path, port: u16) -> io::Result<()> {
        let Self { connections, subscriptions, shards } = self;
        let fulmar = format!(
            "listeners: [{{protocol: mqtt, addr: \"127.0.0.1:{port}\"}}]\n\
             allow_anonymous: true\nmax_msg_queue: 100000\nmax_msg_queue_bytes: 64MiB\n\
             max_inflight: 1000\nreceive_maximum: 1000\nmemory_budget: 4GiB\nshards: {shards}\n\
             max_subscriptions: {subscriptions}\nmax_connections: {connections}\n"
        );
        let mosquitto = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             log_type none\nmax_queued_messages 0\nmax_inflight_messages 1000\n"
        );
        let rumqttd = format!(
            "id = 0\n[router]\nmax_connections = {connections}\n\
             max_outgoing_packet_count = 200\nmax_segment_size = 104857600\n\
             max_segment_count = 10\n[v4.1]\nname = \"v4-1\"\nlisten = \"127.0.0.1:{port}\"\n\
             next_connection_delay_ms = 0\n[v4.1.connections]\nconnection_timeout_ms = 60000\n\
             max_payload_size = 1048576\nmax_inflight_count = 1000\n"
        );
        fs::write(dir.join("fulmar.yaml"), fulmar)?;
        fs::write(dir.join("mosquitto.conf"), mosquitto)?;
        fs::write(dir.join("rumqttd.toml"), rumqttd)
    }
}

/// A folder that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fulmar-load-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left for the system's own cleaning.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A broker that runs; stopped when dropped.
pub(super) struct Running {
    child: Child,
    pub(super) addr: SocketAddrV4,
    counters: Option<(ChildStdin, BufReader<ChildStdout>)>,
    _scratch: Scratch,
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The counters of a broker that tells them.
    pub(super) fn counters(&mut self) -> Option<Counters> {
        let (ask, answer) = self.counters.as_mut()?;
        ask.write_all(b"\n").ok()?;
        let mut line = String::new();
        answer.read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }

    /// The shard that has the session of this Client Identifier.
    ///
    /// # Errors
    /// The broker is none that tells it.
    pub(super) fn home(&mut self, client_id: &str) -> io::Result<u16> {
        let (ask, answer) = self.counters.as_mut().ok_or(io::ErrorKind::Unsupported)?;
        writeln!(ask, "{client_id}")?;
        let mut line = String::new();
        answer.read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }

    fn wait_until_it_listens(&mut self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if TcpStream::connect(self.addr).is_ok() {
                sleep(SETTLE);
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the broker ended early: {status}")));
            }
            sleep(Duration::from_millis(20));
        }
        Err(io::Error::other("the broker does not listen"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Harmless where it has ended: its number is not given away before it is waited for.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_names_or_commands() {
        for (name, _) in KNOWN {
            let recipe = Recipe::parse(name).expect("a known name");
            assert_eq!((recipe.name.as_str(), recipe.has_shards()), (name, name == "fulmar"));
            assert_eq!(recipe.counts, name.starts_with("fulmar"));
            let shards = [("fulmar", 3), ("fulmar-2", 2), ("fulmar-4", 4)];
            let shards = shards.iter().find(|(known, _)| *known == name).map(|(_, count)| *count);
            assert_eq!(recipe.shards(3), shards, "{name}");
        }
        let recipe = Recipe::parse("a=b --shards {shards} c=d").expect("a command");
        assert_eq!(recipe.command, ["b", "--shards", "{shards}", "c=d"]);
        assert!(recipe.has_shards() && !recipe.counts);
        assert!(["", "x", "=y", "x="].iter().all(|text| Recipe::parse(text).is_err()));
    }

    #[test]
    fn what_ends_at_once_or_is_not_there_is_an_error() {
        let limits = Limits { connections: 10, subscriptions: 10, shards: 1 };
        for command in ["a=false", "a=no-such-program-anywhere"] {
            assert!(Recipe::parse(command).expect("a command").start(&limits).is_err());
        }
    }
}
