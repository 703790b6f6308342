//! A broker in a process of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use super::shards;
use super::{Client, Connack, Connect, MAXIMUM_PACKET, Version, WAIT, number, unique};

/// A running broker; killed when dropped.
pub(crate) struct Broker {
    process: Option<Mutex<Child>>,
    addr: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    dir: Option<PathBuf>,
}

impl Broker {
    /// With the default configuration on a free port.
    pub(crate) fn start() -> Self {
        match std::env::var("FULMAR_TEST_ADDR") {
            Ok(addr) => {
                let addr = addr.parse().expect("FULMAR_TEST_ADDR: address and port");
                Self { process: None, addr, log: Arc::default(), dir: None }
            }
            Err(_) => Self::with(""),
        }
    }

    /// With these lines of YAML in its configuration file, and as many shards as they or else
    /// `FULMAR_TEST_SHARDS` say; otherwise one.
    pub(crate) fn with(yaml: &str) -> Self {
        let dir = std::env::temp_dir().join(unique(&format!("fulmar-{}", std::process::id())));
        fs::create_dir_all(&dir).expect("temporary folder");
        let config = dir.join("fulmar.yaml");
        let listener = "listeners:\n  - protocol: mqtt\n    addr: \"127.0.0.1:0\"\n";
        let shards = shards();
        let said = yaml.lines().any(|line| line.starts_with("shards:"));
        let shards = if said { String::new() } else { format!("shards: {shards}\n") };
        fs::write(&config, format!("{listener}{shards}{yaml}\n")).expect("configuration file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar"));
        command.arg("--config").arg(&config);
        Self::spawn(command, Some(dir))
    }

    /// Runs a command that says `listening on 127.0.0.1:PORT` on standard error.
    pub(crate) fn spawn(mut command: Command, dir: Option<PathBuf>) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("the broker starts");
        let stderr = process.stderr.take().expect("standard error is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (told, port) = mpsc::channel();
        let lines = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(port) = listening_port(&line) {
                    let _ = told.send(port);
                }
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut broker = Self { process: Some(Mutex::new(process)), addr, log, dir };
        match port.recv_timeout(WAIT) {
            Ok(port) => broker.addr.set_port(port),
            Err(_) => panic!("the broker does not listen; it said {:#?}", broker.log()),
        }
        broker
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has written to standard error.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn process(&self) -> MutexGuard<'_, Child> {
        let process = self.process.as_ref().expect("a broker started by this test");
        process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process().id()
    }

    /// Whether the process has not ended.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.process().try_wait(), Ok(None))
    }

    /// Sends a signal by its name: `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").arg("-c").arg(command).status().expect("sh");
        assert!(status.success(), "kill -{name}");
    }

    /// Waits until the process ends by itself.
    pub(crate) fn wait_exit(&self) -> ExitStatus {
        let end = Instant::now() + 2 * WAIT;
        while Instant::now() < end {
            if let Some(status) = self.process().try_wait().expect("wait for the broker") {
                return status;
            }
            thread::yield_now();
        }
        panic!("the broker does not end; it said {:#?}", self.log());
    }

    /// A socket on which nothing has been sent.
    pub(crate) fn open(&self, version: Version) -> Client {
        Client::open(self.addr, version)
    }

    /// A connection on which these bytes have been sent.
    #[track_caller]
    pub(crate) fn send(&self, version: Version, bytes: &[u8]) -> Client {
        let mut client = self.open(version);
        client.send(bytes);
        client
    }

    /// A connected client that starts clean.
    #[track_caller]
    pub(crate) fn connect(&self, version: Version, id: &str) -> Client {
        self.join(&Connect::new(version, id)).0
    }

    /// A connected client and the CONNACK it got, which must accept it.
    #[track_caller]
    pub(crate) fn join(&self, connect: &Connect) -> (Client, Connack) {
        let (client, connack) = self.ask(connect);
        assert_eq!(connack.code, 0, "CONNACK for {connect:?}");
        (client, connack)
    }

    /// Sends CONNECT and reads CONNACK, whatever it says.
    #[track_caller]
    pub(crate) fn ask(&self, connect: &Connect) -> (Client, Connack) {
        let mut client = self.send(connect.version, &connect.bytes());
        if let Some(bytes) = number(&connect.props, MAXIMUM_PACKET) {
            client.set_max_packet(bytes);
        }
        let connack = client.connack();
        (client, connack)
    }

    /// Sends CONNECT, which must be refused with this code and the connection closed.
    #[track_caller]
    pub(crate) fn refuses(&self, connect: &Connect, code: u8) {
        let (mut client, connack) = self.ask(connect);
        assert_eq!(connack.code, code, "CONNACK for {connect:?}");
        client.expect_closed();
    }

    /// Takes the session over and throws it away, so that nothing is left of the client.
    #[track_caller]
    pub(crate) fn forget(&self, version: Version, id: &str) {
        self.connect(version, id).disconnect();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let process = process.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = process.kill();
            let _ = process.wait();
        }
        if let Some(dir) = &self.dir {
            let _ = fs::remove_dir_all(dir);
        }
        if thread::panicking() {
            let log = self.log();
            for line in &log[log.len().saturating_sub(20)..] {
                eprintln!("broker: {line}");
            }
        }
    }
}

fn listening_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("listening on ")?;
    let (_, port) = rest.split_once(':')?;
    let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
    port[..digits].parse().ok()
}
