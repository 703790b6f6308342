//! The binary from outside: options, configuration files, messages, signals.
#![cfg(unix)]

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

const FULMAR: &str = env!("CARGO_BIN_EXE_fulmar");
/// No wait is longer; none should come near.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running process; killed when dropped.
struct Running {
    child: Child,
    lines: Receiver<String>,
    /// All that was read from standard error.
    seen: Vec<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (send, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)).ok()
        });
        Self { child, lines, seen: Vec::new() }
    }

    fn serve(args: &[&str]) -> Self {
        Self::start(Command::new(FULMAR).args(args))
    }

    /// The next line of standard error that contains `words`.
    fn line(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|e| panic!("{e}: no {words:?} in {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// The address of the next listener.
    fn address(&mut self) -> SocketAddr {
        let words = "listening on ";
        let line = self.line(words);
        let (_, address) = line.split_once(words).expect("the words");
        address.parse().unwrap_or_else(|_| panic!("no address: {line}"))
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the process is there");
    }

    /// Waits for the end; all lines of standard error are in `seen` then.
    fn end(&mut self) -> ExitStatus {
        // Standard error closes when the process ends.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("{error}: still running after {:#?}", self.seen),
            }
        }
        self.child.wait().expect("the process can be waited for")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status, standard output and standard error of a process that ends by itself.
fn run<S: AsRef<OsStr>>(args: &[S]) -> (Option<i32>, String, String) {
    let mut running = Running::start(Command::new(FULMAR).args(args));
    let status = running.end();
    let mut stdout = String::new();
    let pipe = running.child.stdout.as_mut().expect("a pipe");
    pipe.read_to_string(&mut stdout).expect("text");
    (status.code(), stdout, running.seen.join("\n"))
}

/// A configuration file of its own for each test.
struct File(PathBuf);

impl File {
    fn new(yaml: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("fulmar-cli-{}-{number}.yaml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, yaml).expect("a temporary file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // A file that stays behind does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A CONNECT of this version, with user name and password.
fn connect(address: SocketAddr, version: u8, client_id: &str) -> TcpStream {
    let text = |text: &str| [&[0, text.len() as u8], text.as_bytes()].concat();
    let mut body = [text("MQTT"), vec![version, 0xc2, 0, 60]].concat();
    if version == 5 {
        body.push(0);
    }
    body.extend([text(client_id), text("user"), text("hunter2")].concat());
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.write_all(&[&[0x10, body.len() as u8], &body[..]].concat()).expect("it is read");
    stream
}

/// DISCONNECT with Server shutting down.
const SHUTTING_DOWN: [u8; 3] = [0xe0, 1, 0x8b];

/// The next packet, which is shorter than 128 bytes.
fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut header = [0; 2];
    stream.read_exact(&mut header).expect("a packet");
    let mut body = vec![0; header[1].into()];
    stream.read_exact(&mut body).expect("the whole packet");
    [&header[..], &body].concat()
}

#[test]
fn help_shows_options_defaults_and_examples() {
    let (status, help, _) = run(&["--help"]);
    assert_eq!(status, Some(0));
    for words in [
        "--listen <ADDR>",
        "--allow-anonymous",
        "--config <FILE>",
        "--shards <N>",
        "--check-config",
        "--log <LEVEL>",
        "[default: info]",
        "127.0.0.1:1883",
        "Examples:",
        "Exit status:",
    ] {
        assert!(help.contains(words), "{words} is not in\n{help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}

#[test]
fn version_is_that_of_the_package() {
    let (status, text, _) = run(&["--version"]);
    assert_eq!((status, text), (Some(0), format!("fulmar {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_wrong_option_exits_with_2() {
    for args in [
        &["--lisen", ":1883"][..],
        &["--listen", "1883"],
        &["--listen", "host:1883"],
        &["--log", "loud"],
        &["--shards", "65"],
        &["serve"],
    ] {
        let (status, _, text) = run(args);
        assert_eq!(status, Some(2), "{args:?}: {text}");
        assert!(text.contains(args[0]) && text.contains("--help"), "{text}");
    }
    assert!(run(&["--listen", "host:1883"]).2.contains("such as 127.0.0.1:1883"));
}

#[test]
fn more_shards_than_memory_is_enough_for_are_refused() {
    let file = File::new("memory_budget: 3MiB\nshards: 0\n");
    let with = |more: &[&str]| run(&[&["--config", file.path()], more].concat());
    for shards in ["0", "3"] {
        assert_eq!(with(&["--check-config", "--shards", shards]).0, Some(0), "{shards}");
    }
    for args in [&["--shards", "4"][..], &["--shards", "4", "--check-config"]] {
        let (status, _, text) = with(args);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("memory_budget is enough for 3 of 4 shards"), "{text}");
    }
}

#[test]
fn check_config_says_ok_and_starts_nothing() {
    assert_eq!(run(&["--check-config"]), (Some(0), "ok\n".into(), String::new()));
    let file = File::new("max_connections: 10\nlisteners: [{protocol: mqtt, addr: ':1883'}]\n");
    let (status, _, text) = run(&["--check-config", "--config", file.path()]);
    assert_eq!(status, Some(1));
    assert!(text.contains("0.0.0.0:1883") && text.contains("--allow-anonymous"), "{text}");
    let args = ["--check-config", "--config", file.path(), "--allow-anonymous"];
    assert_eq!(run(&args), (Some(0), "ok\n".into(), String::new()));
}

#[test]
fn the_example_file_is_right_and_says_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fulmar.example.yaml");
    let args = ["--check-config", "--config", path];
    assert_eq!(run(&args), (Some(0), "ok\n".into(), String::new()));
    let text = std::fs::read_to_string(path).expect("the example");
    let mut settings = fulmar::Settings::parse(&text).expect("the example is right");
    assert_eq!(settings.allow_anonymous, Some(true));
    settings.allow_anonymous = None;
    assert_eq!(settings.listeners, ["127.0.0.1:1883".parse().expect("an address")]);
    settings.listeners = fulmar::Settings::default().listeners;
    assert_eq!(settings, fulmar::Settings::default());
    for key in fulmar::config::key_names() {
        assert!(text.lines().any(|line| line.starts_with(&format!("{key}:"))), "{key} is missing");
    }
}

#[test]
fn a_wrong_file_is_told_with_line_column_and_remedy() {
    for (yaml, words) in [
        ("max_qos: 1\nmax_conections: 3\n", "line 2, column 1: unknown key \"max_conections\""),
        ("max_conections: 3\n", "the nearest known key is \"max_connections\""),
        ("max_qos: 3\n", "line 1, column 10: max_qos is 3, but must be 0, 1 or 2"),
        ("max_packet_size: big\n", "line 1, column 18: max_packet_size is \"big\", but must be"),
        ("connect_timeout: 2h\n", "from 100ms to 1h"),
        ("http_server: {}\n", "http_server is not available: this version has no management"),
        ("max_qos: [1\n", "line 1, column 10"),
    ] {
        let file = File::new(yaml);
        for check in [&["--check-config"][..], &[]] {
            let args = [&["--config", file.path()], check].concat();
            let (status, _, text) = run(&args);
            assert_eq!(status, Some(1), "{text}");
            assert!(text.starts_with("fulmar: ") && text.contains(file.path()), "{text}");
            assert!(text.contains(words), "{words} is not in {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}

#[test]
fn a_missing_file_is_named() {
    let (status, _, text) = run(&["--config", "/nowhere/fulmar.yaml"]);
    assert_eq!(status, Some(1));
    assert!(text.contains("there is no file /nowhere/fulmar.yaml"), "{text}");
}

#[test]
fn no_file_is_read_unasked() {
    let directory = std::env::temp_dir().join(format!("fulmar-cli-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a temporary directory");
    for name in ["fulmar.yaml", "config.yaml", ".fulmar.yaml", "fulmar.yml"] {
        std::fs::write(directory.join(name), "not a key: 1\n").expect("a temporary file");
    }
    let mut command = Command::new(FULMAR);
    command.args(["--check-config"]).current_dir(&directory).env("HOME", &directory);
    let status = Running::start(&mut command).end();
    std::fs::remove_dir_all(&directory).expect("it was made above");
    assert!(status.success());
}

#[test]
fn an_address_that_others_reach_needs_a_word() {
    for listen in [":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:1883"] {
        let (status, _, text) = run(&["--listen", listen]);
        assert_eq!(status, Some(1), "{text}");
        let address = if listen == ":0" { "0.0.0.0:0" } else { listen };
        assert!(text.contains(address) && text.contains("--allow-anonymous"), "{text}");
    }
    let mut broker = Running::serve(&["--listen", "0.0.0.0:0", "--allow-anonymous"]);
    assert!(broker.address().ip().is_unspecified());
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let (status, _, text) = run(&["--listen", &address]);
    assert_eq!(status, Some(1));
    let words = format!("fulmar: cannot listen on {address}: another program uses this address");
    assert!(text.contains(&words), "{text}");
}

#[test]
fn an_address_of_another_machine_is_named() {
    let (status, _, text) = run(&["--listen", "192.0.2.1:1883", "--allow-anonymous"]);
    assert_eq!(status, Some(1));
    assert!(text.contains("cannot listen on 192.0.2.1:1883: no network interface"), "{text}");
}

#[test]
fn listen_replaces_the_configured_listeners() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let file = File::new(&format!("listeners: [{{protocol: mqtt, addr: '{address}'}}]"));
    let listen = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"];
    let args = [&["--config", file.path()], &listen[..]].concat();
    let mut broker = Running::serve(&args);
    let (first, second) = (broker.address(), broker.address());
    assert_eq!(first.ip().to_string(), "127.0.0.1");
    assert_eq!(second.ip().to_string(), "127.0.0.2");
    assert_eq!(packet(&mut connect(second, 4, "a")), [0x20, 2, 0, 0]);
}

#[test]
fn without_anonymous_clients_everybody_is_refused() {
    let file = File::new("allow_anonymous: false\n");
    let mut broker = Running::serve(&["--config", file.path(), "--listen", "127.0.0.1:0"]);
    let address = broker.address();
    assert_eq!(packet(&mut connect(address, 4, "a")), [0x20, 2, 0, 5]);
    assert_eq!(packet(&mut connect(address, 5, "a"))[..4], [0x20, 3, 0, 0x87]);
    broker.line("refused");
}

#[test]
fn the_log_names_clients_and_keeps_secrets() {
    let mut broker = Running::serve(&["--listen", "127.0.0.1:0", "--log", "trace"]);
    let address = broker.address();
    let mut client = connect(address, 4, "a\nINFO b");
    assert_eq!(packet(&mut client), [0x20, 2, 0, 0]);
    let line = broker.line("connected from");
    let remote = client.local_addr().expect("an address");
    let words = format!("client \"a\\nINFO b\" connected from {remote}, MQTT 3.1.1, session new");
    assert!(line.contains(&words), "{line}");
    client.write_all(&[0xe0, 0]).expect("it is read");
    assert!(broker.line("disconnected").ends_with("disconnected: by the client"));
    let mut client = connect(address, 5, "");
    packet(&mut client);
    // SUBSCRIBE without a filter.
    client.write_all(&[0x82, 3, 0, 1, 0]).expect("it is read");
    assert!(broker.line("disconnected").contains("broke a rule of MQTT"));
    broker.signal(Signal::TERM);
    assert!(broker.end().success());
    let log = broker.seen.join("\n");
    assert!(log.contains("SIGTERM received") && log.contains("stopped"), "{log}");
    assert!(!log.contains("hunter2") && !log.contains('\u{1b}'), "{log}");
}

#[test]
fn a_signal_stops_in_good_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = Running::serve(&["--listen", "127.0.0.1:0"]);
        let mut client = connect(broker.address(), 5, "a");
        assert_eq!(packet(&mut client)[0], 0x20);
        broker.signal(signal);
        assert_eq!(packet(&mut client), SHUTTING_DOWN);
        assert_eq!(client.read(&mut [0; 1]).expect("an orderly end"), 0);
        drop(client);
        let status = broker.end();
        assert_eq!(status.code(), Some(0), "{:#?}", broker.seen);
    }
}

#[test]
fn a_client_that_stays_does_not_hold_up_the_end() {
    let file = File::new("shutdown_timeout: 300ms\n");
    let mut broker = Running::serve(&["--config", file.path(), "--listen", "127.0.0.1:0"]);
    let mut client = connect(broker.address(), 5, "a");
    assert_eq!(packet(&mut client)[0], 0x20);
    broker.signal(Signal::TERM);
    assert_eq!(broker.end().code(), Some(0), "{:#?}", broker.seen);
    assert!(broker.seen.iter().any(|line| line.contains("connections cut at the end: 1")));
}

#[test]
fn a_second_signal_ends_at_once() {
    for (signal, status) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let file = File::new("shutdown_timeout: 1h\n");
        let mut broker = Running::serve(&["--config", file.path(), "--listen", "127.0.0.1:0"]);
        let mut client = connect(broker.address(), 5, "a");
        assert_eq!(packet(&mut client)[0], 0x20);
        broker.signal(signal);
        // The broker waits for the client now, which does not close.
        assert_eq!(packet(&mut client), SHUTTING_DOWN);
        broker.signal(signal);
        assert_eq!(broker.end().code(), Some(status), "{:#?}", broker.seen);
    }
}

#[test]
fn a_low_file_limit_is_told() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64 && exec \"$0\" --listen 127.0.0.1:0", FULMAR]);
    let mut broker = Running::start(&mut command);
    let line = broker.line("open files");
    assert!(line.contains("limit of 64 open files") && line.contains("max_connections"), "{line}");
    let mut client = connect(broker.address(), 4, "a");
    assert_eq!(packet(&mut client), [0x20, 2, 0, 0]);
}
