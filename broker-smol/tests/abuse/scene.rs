//! A broker with clients that behave, watched while others do not.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::harness::{Broker, Client, V5, V311, WAIT, shards, unique};

const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;
/// What a broker may hold beside its budget.
const BESIDE_BUDGET: u64 = 64 * MIB;
/// How long memory may take to be given back.
const RETURN: Duration = Duration::from_secs(10);
/// The longest exchange of a client that behaves.
const PATIENCE: Duration = Duration::from_secs(5);

/// A broker, two clients that go on exchanging messages, and the memory used at the start.
pub(crate) struct Scene {
    pub(crate) broker: Arc<Broker>,
    budget: u64,
    start: u64,
    stop: Arc<AtomicBool>,
    service: Option<JoinHandle<Duration>>,
}

impl Scene {
    /// A broker with a budget of so many MiB for each shard and these lines of configuration. A
    /// shard that is short of memory reads from each client 64 KiB in a tenth of a second, and
    /// refuses at last: how long that takes hangs on its own budget.
    pub(crate) fn new(budget: u64, yaml: &str) -> Self {
        let budget = budget * shards();
        let broker = Broker::with(&format!("memory_budget: {budget}MiB\n{yaml}"));
        Self::around(broker, budget)
    }

    /// The same around a broker that runs already.
    pub(crate) fn around(broker: Broker, budget: u64) -> Self {
        let broker = Arc::new(broker);
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, started) = mpsc::channel();
        let (theirs, until) = (Arc::clone(&broker), Arc::clone(&stop));
        let service = Some(thread::spawn(move || serve(&theirs, &until, &ready)));
        started.recv_timeout(WAIT).expect("the first exchange of messages");
        let start = memory(&broker, "VmRSS:");
        Self { broker, budget: budget * MIB, start, stop, service }
    }

    /// A client that misbehaves after it was accepted.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        self.broker.connect(V5, &unique("rude"))
    }

    /// Checks what must hold during and after any abuse.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        assert!(self.broker.is_running(), "the broker ended: {:#?}", self.broker.log());
        self.stop.store(true, Ordering::Relaxed);
        let service = self.service.take().expect("runs until now");
        let slowest = service.join().expect("service for clients that behave");
        assert!(slowest <= PATIENCE, "an exchange took {slowest:?}");
        let peak = memory(&self.broker, "VmHWM:");
        let allowed = self.budget + BESIDE_BUDGET;
        assert!(peak <= allowed, "{} KiB used, {} KiB allowed", peak / KIB, allowed / KIB);
        let now = memory_at_most(&self.broker, self.start * 3 / 2, RETURN);
        let (now, start, peak) = (now / KIB, self.start / KIB, peak / KIB);
        println!("memory in KiB: {start} at the start, {peak} at most, {now} at the end");
        assert!(now <= start * 3 / 2, "memory in KiB: {now} after the abuse, {start} before");
        // Whatever was left behind, a newcomer is served.
        let mut client = self.broker.connect(V311, &unique("newcomer"));
        client.subscribe("newcomer", 1);
        client.publish("newcomer", "hello", 1);
        assert_eq!(client.take().text(), "hello");
    }
}

impl Drop for Scene {
    /// Where a check has failed, lets go of the broker, so that its process ends.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(service) = self.service.take() {
            let _ = service.join();
        }
    }
}

/// Exchanges messages until told to stop. Gives the longest time an exchange took.
fn serve(broker: &Broker, stop: &AtomicBool, ready: &mpsc::Sender<()>) -> Duration {
    let topic = unique("service");
    let mut subscriber = broker.connect(V5, &unique("subscriber"));
    subscriber.subscribe(&topic, 1);
    let mut publisher = broker.connect(V311, &unique("publisher"));
    let mut slowest = Duration::ZERO;
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let text = format!("round {round}");
        publisher.publish(&topic, &text, 1);
        assert_eq!(subscriber.take().text(), text);
        slowest = slowest.max(start.elapsed());
        round += 1;
        if round == 100 {
            // Nobody waits any more if the test has failed.
            let _ = ready.send(());
        }
        // Leaves time to the others of this machine.
        thread::sleep(Duration::from_millis(1));
    }
    slowest
}

/// Bytes of memory the broker uses, by a line of its status.
pub(crate) fn memory(broker: &Broker, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * KIB
}

/// Waits until the broker uses no more than so many bytes of memory; says how many it uses then, or
/// when the time is over.
pub(crate) fn memory_at_most(broker: &Broker, bytes: u64, within: Duration) -> u64 {
    let end = Instant::now() + within;
    let mut now = memory(broker, "VmRSS:");
    while now > bytes && Instant::now() < end {
        // The condition cannot be waited for, only looked at again.
        thread::sleep(Duration::from_millis(50));
        now = memory(broker, "VmRSS:");
    }
    now
}

/// Processor time the broker has used.
pub(crate) fn processor_time(broker: &Broker) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", broker.pid())).expect("stat");
    let (_, fields) = stat.rsplit_once(')').expect("the name of the program");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("user and system time"))
        .sum();
    Duration::from_millis(ticks * 10)
}

/// A broker that may have so many files open.
pub(crate) fn broker_with_files(files: u32, yaml: &str) -> Broker {
    let dir = std::env::temp_dir().join(unique(&format!("fulmar-files-{}", std::process::id())));
    fs::create_dir_all(&dir).expect("temporary folder");
    let config = dir.join("fulmar.yaml");
    let listener = "listeners: [{protocol: mqtt, addr: \"127.0.0.1:0\"}]\n";
    fs::write(&config, format!("{listener}{yaml}\n")).expect("configuration file");
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {files} && exec \"$0\" --config \"$1\"");
    command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_fulmar")).arg(&config);
    Broker::spawn(command, Some(dir))
}
