//! Memory goes back to the system after a burst.

use std::time::Duration;

use fulmar_adapters::broker::BrokerHandle;
use smol::Timer;

/// How often the figures are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Bytes that a burst must have taken, or moved, for its end to be worth the work.
const BURST: u64 = 1024 * 1024;
/// Bytes that a connection takes beside what the broker accounts for, at least: its socket and its
/// place, or the task of one that no shard has yet.
const CONNECTION: u64 = 512;
/// Bytes moved between two looks by a broker that has nothing to do.
const QUIET: u64 = 64 * 1024;

/// Has the allocator give back what it does not use, each time the broker has let go of half of
/// what it held, and when it is quiet again after it was not: a burst may fall between two looks.
/// Goes on after the broker has ended, and does nothing then: it is for a task that is dropped.
pub async fn tend(broker: BrokerHandle) {
    let (mut peak, mut moved, mut given_back) = (0, 0, 0);
    while let Ok(statistics) = broker.stats().await {
        let used = statistics.core.used_bytes + statistics.core.connections * CONNECTION;
        let before = moved;
        moved = statistics.core.bytes_received_total + statistics.core.bytes_sent_total;
        peak = peak.max(used);
        let shrunk = peak - used >= BURST && used <= peak / 2;
        let calm = moved - given_back >= BURST && moved - before <= QUIET;
        if shrunk || calm {
            peak = used;
            given_back = moved;
            give_back();
        }
        Timer::after(LOOK).await;
    }
    // The one who waits for signals says when it is over.
    std::future::pending::<()>().await;
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    // SAFETY: takes no memory of ours; the allocator locks its own.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators do it unasked, or not at all.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}
