//! The broker of this repository inside this program: the same code as its binary, and it answers
//! each line on standard input with a line of JSON: an empty one with its counters, a Client
//! Identifier with the number of the shard that has its session.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::Path;

use fulmar::broker::{BrokerHandle, Server, Statistics};
use fulmar::{Log, Settings};
use serde::{Deserialize, Serialize};

/// System calls of the broker's shards since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) waits: u64,
    pub(super) wakes: u64,
}

impl Counters {
    pub(super) const fn all(&self) -> u64 {
        self.reads + self.writes + self.waits + self.wakes
    }
}

/// Serves until it is killed, or standard input ends. With `shards` instead of the configured ones
/// if they are given.
pub(super) fn serve(config: &Path, shards: Option<u16>) -> Result<(), Box<dyn Error>> {
    let mut settings = Settings::load(config)?;
    settings.shards = shards.unwrap_or(settings.shards);
    fulmar::broker::raise_file_limit()?;
    let server = Server::bind(fulmar::options(settings, &Log::default())?)?;
    let broker = server.handle();
    let tended = broker.clone();
    std::thread::spawn(move || smol::block_on(fulmar::memory::tend(tended)));
    std::thread::spawn(move || tell(&broker));
    server.run()?;
    Ok(())
}

fn tell(broker: &BrokerHandle) {
    for asked in std::io::stdin().lock().lines().map_while(Result::ok) {
        let line = if asked.is_empty() {
            let Ok(told) = smol::block_on(broker.stats()) else { return };
            let Statistics { reads, writes, waits, wakes, .. } = told;
            let counters = Counters { reads, writes, waits, wakes };
            serde_json::to_string(&counters).expect("numbers can be written")
        } else {
            broker.home(&asked).to_string()
        };
        let mut out = std::io::stdout().lock();
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
    smol::block_on(broker.abort());
}
