//! A recording of the broker, written to a file as it runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fulmar_core::broker::{Broker, Place, Recording};

use super::notice::Notice;
use super::{Observe, Record};

/// Bytes gathered before they are written.
const GATHER: usize = 64 * 1024;

/// A recording under way.
pub(super) struct Writer {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
    written: u64,
}

impl Writer {
    /// Makes a new file that nobody else may read, and has the broker recorded.
    pub(super) fn start(
        record: &Record,
        unix_millis: u64,
        place: Place,
        broker: &mut Broker,
    ) -> io::Result<Self> {
        // One file for each shard: each replays alone.
        let shard = if place.shards > 1 { format!("-{}", place.shard) } else { String::new() };
        let path = record.dir.join(format!("fulmar-{unix_millis}{shard}.recording"));
        let file = create(&path).map_err(|error| {
            let text = format!("cannot record into {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        broker.record(record.limit);
        Ok(Self { path, file, bytes: Vec::new(), written: 0 })
    }

    /// Takes what was recorded, and writes it when it is worth a call. False when it is over.
    pub(super) fn turn(&mut self, broker: &mut Broker, last: bool, observe: &mut Observe) -> bool {
        let state = broker.recorded(&mut self.bytes);
        let over = last || state != Recording::On;
        if self.bytes.len() >= GATHER || over {
            if let Err(error) = self.file.write_all(&self.bytes) {
                observe(&Notice::RecordingFailed { path: self.path.clone(), error });
                return false;
            }
            self.written += self.bytes.len() as u64;
            self.bytes.clear();
        }
        if state == Recording::Full {
            let (path, bytes) = (self.path.clone(), self.written);
            observe(&Notice::RecordingFull { path, bytes });
        }
        !over
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
