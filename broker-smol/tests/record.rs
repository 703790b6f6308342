//! A recording of the binary, and its replay.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const FULMAR: &str = env!("CARGO_BIN_EXE_fulmar");

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fulmar-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fulmar(args: &[&str]) -> (bool, String) {
    let output = Command::new(FULMAR).args(args).output().expect("the binary runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}

/// Has a broker with so many shards record a conversation; gives the files.
fn record(folder: &Folder, shards: &str) -> Vec<PathBuf> {
    let dir = folder.0.to_str().expect("a path of text");
    let mut broker = Command::new(FULMAR)
        .args(["--listen", "127.0.0.1:0", "--record", dir, "--shards", shards])
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stderr = BufReader::new(broker.stderr.take().expect("a pipe"));
    // Nobody reads standard error any more, which does not disturb the broker.
    let line = stderr
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("listening on "))
        .expect("it listens");
    let address = line.rsplit(' ').next().expect("an address");
    let mut client = TcpStream::connect(address).expect("it accepts");
    client
        .write_all(b"\x10\x1c\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01a\x00\x04user\x00\x07xsecret")
        .expect("sent");
    client.write_all(b"\x82\x06\x00\x01\x00\x01t\x00\x30\x05\x00\x01thi").expect("sent");
    let mut answers = [0; 4 + 5 + 7];
    client.read_exact(&mut answers).expect("answers");
    drop(client);
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&broker),
        rustix::process::Signal::TERM,
    )
    .expect("a signal");
    assert!(broker.wait().expect("it ends").success());
    std::fs::read_dir(dir).expect("the folder").map(|e| e.expect("a file").path()).collect()
}

#[test]
fn what_is_recorded_is_replayed_the_same_without_secrets() {
    let folder = Folder::new("record");
    let files = record(&folder, "1");
    assert_eq!(files.len(), 1, "{files:?}");
    #[cfg(unix)]
    {
        let mode = std::fs::metadata(&files[0]).expect("the file").permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    }
    let bytes = std::fs::read(&files[0]).expect("the file");
    assert!(!bytes.windows(6).any(|w| w == b"secret"), "the password is in the file");
    let path = files[0].to_str().expect("a path of text");
    let (success, text) = fulmar(&["replay", path]);
    assert!(success, "{text}");
    let expected = [
        "> <Connect ClientID=\"a\"",
        "< <Connack SessionPresent=false ReturnCode=0>",
        "> <Subscribe ID=1 Subscriptions=[\"t\"=>0]>",
        "< <Suback ID=1 ReturnCodes=[0]>",
        "Topic=\"t\" QOS=0 Retain=false Payload=6869",
        "same: ",
    ];
    for words in expected {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
    // Another payload is another story.
    let mut changed = bytes;
    let at = changed.windows(4).position(|w| w == b"\x01thi").expect("the message");
    changed[at + 3] = b'o';
    std::fs::write(&files[0], changed).expect("written");
    let (success, text) = fulmar(&["replay", path]);
    assert!(!success && text.contains("diverged"), "{text}");
}

#[test]
fn each_shard_is_recorded_and_replays_alone() {
    let folder = Folder::new("shards");
    let files = record(&folder, "3");
    assert_eq!(files.len(), 3, "{files:?}");
    let mut all = String::new();
    for file in &files {
        let bytes = std::fs::read(file).expect("the file");
        assert!(!bytes.windows(6).any(|w| w == b"secret"), "the password is in {file:?}");
        let (success, text) = fulmar(&["replay", file.to_str().expect("a path of text")]);
        assert!(success && text.contains("same: "), "{text}");
        all += &text;
    }
    for words in ["<Suback ID=1", "Payload=6869", "shard 1> ", "shard 0< "] {
        assert!(all.contains(words), "no {words:?} in {all}");
    }
}

#[test]
fn what_cannot_be_recorded_or_replayed_is_said() {
    let (success, text) = fulmar(&["replay", "/nonexistent/file"]);
    assert!(!success && text.contains("cannot replay /nonexistent/file"), "{text}");
    let folder = Folder::new("replay");
    let file = folder.0.join("text");
    std::fs::write(&file, "hello").expect("written");
    let (success, text) = fulmar(&["replay", file.to_str().expect("a path of text")]);
    assert!(!success && text.contains("is not a recording"), "{text}");
    let (success, text) = fulmar(&["--listen", "127.0.0.1:0", "--record", "/nonexistent/folder"]);
    assert!(!success && text.contains("cannot record into /nonexistent/folder"), "{text}");
}
