//! What waits for a client that is away, and never comes for it.

use std::time::Duration;

use crate::harness::{Broker, Connect, Publish, V311, shards, unique};
use crate::scene::{MIB, memory, memory_at_most};

/// Messages of the burst, and bytes of each: with the C library, all come from heaps that shrink
/// at their ends only, unless told to.
const MESSAGES: u32 = 12_000;
const PAYLOAD: usize = 4096;
/// One message of so many is retained, lives on, and keeps the heap from shrinking by itself.
const KEPT: u32 = 500;
/// How much of the burst may stay.
const REST: u64 = 8 * MIB;
const RETURN: Duration = Duration::from_secs(20);

#[test]
fn memory_of_a_burst_goes_back_to_the_system_though_something_small_lives_on() {
    let yaml = format!(
        "memory_budget: {}MiB\nmax_msg_queue: 20000\nmax_msg_queue_bytes: 100MiB",
        512 * shards()
    );
    let broker = Broker::with(&yaml);
    let (id, topic) = (unique("away"), unique("burst"));
    let (mut away, _) = broker.join(&Connect::resume(V311, &id));
    away.subscribe(&topic, 1);
    away.disconnect();
    let mut publisher = broker.connect(V311, &unique("publisher"));
    publisher.ping();
    let before = memory(&broker, "VmRSS:");
    for number in 0..MESSAGES {
        publisher.publish(&topic, [b'x'; PAYLOAD], 1);
        if number % KEPT == 0 {
            publisher.put(Publish::new(&format!("kept/{number}"), "small").retain());
        }
    }
    let full = memory(&broker, "VmRSS:");
    assert!(full >= before + 40 * MIB, "{} KiB more: no burst", full.saturating_sub(before) / 1024);
    broker.forget(V311, &id);
    let now = memory_at_most(&broker, before + REST, RETURN);
    let [before, full, now] = [before, full, now].map(|bytes| bytes / 1024);
    println!("memory in KiB: {before} before the burst, {full} after it, {now} at the end");
    assert!(now <= before + REST / 1024, "{before} KiB before, {full} at most, {now} at the end");
}
