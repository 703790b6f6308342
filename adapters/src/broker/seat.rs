//! Where the shards of a broker sit between their turns, and the threads that take these.
//!
//! Each shard has a thread, which waits for its sockets and takes its turns. What goes to a shard
//! whose thread sleeps needs no wake if it is little: the thread that sent it stands in, and takes
//! that turn before it waits itself. So at a low rate a message that crosses wakes no other thread,
//! and neither does its acknowledgement; where there is much to do each thread does its own.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use super::Prepare;
use super::mesh::{Mesh, bits};
use super::poller::Ready;
use super::shard::Shard;

/// How often a thread may stand in for others, and take what they answered, before it looks at its
/// sockets again.
const ROUNDS: usize = 4;

/// The shards of a broker, by number.
pub(super) struct Seats {
    seats: Vec<Seat>,
    mesh: Arc<Mesh>,
    prepare: Prepare,
}

/// Apart from the next one in a core's cache: two threads use them.
#[repr(align(128))]
struct Seat {
    /// None when it has ended, or panicked while another thread stood in.
    shard: Mutex<Option<Shard>>,
    /// Its thread has ended its wait, and takes a turn as soon as it can: nobody is to come first.
    awake: AtomicBool,
}

impl Seats {
    pub(super) fn new(shards: Vec<Shard>, mesh: &Arc<Mesh>, prepare: Prepare) -> Self {
        let seat = |shard| Seat { shard: Mutex::new(Some(shard)), awake: AtomicBool::new(false) };
        Self { seats: shards.into_iter().map(seat).collect(), mesh: Arc::clone(mesh), prepare }
    }

    /// Serves one shard on the present thread until it is told to stop. Fails when its poller does,
    /// or when it panicked while another thread stood in for it.
    pub(super) fn serve(&self, number: u16) -> io::Result<()> {
        let _left = Leave(self.seat(number));
        (self.prepare)(number);
        let alone = self.mesh.shards() == 1;
        let result = if alone { self.turns_alone(number) } else { self.turns(number) };
        if let Some(shard) = self.seat(number).shard.lock().map_err(|_| panicked(number))?.take() {
            shard.end();
        }
        result
    }

    /// The turns of the only shard: nobody else wants it, so that it is not locked for each turn,
    /// and nobody is told whether it sleeps.
    fn turns_alone(&self, number: u16) -> io::Result<()> {
        let mut seated = self.seat(number).shard.lock().map_err(|_| panicked(number))?;
        let shard = seated.as_mut().ok_or_else(|| panicked(number))?;
        let poller = Arc::clone(&shard.poller);
        let mut ready = Vec::new();
        while !shard.is_over() {
            let woken = poller.wait(shard.rest(), &mut ready)?;
            shard.turn(&mut ready, woken);
        }
        Ok(())
    }

    fn turns(&self, number: u16) -> io::Result<()> {
        let poller = self.with(number, |shard| Arc::clone(&shard.poller))?;
        let mut ready = Vec::new();
        loop {
            let Some(timeout) = self.rest(number)? else { return Ok(()) };
            let woken = poller.wait(timeout, &mut ready)?;
            self.seat(number).awake.store(true, Ordering::SeqCst);
            self.turn(number, &mut ready, woken)?;
        }
    }

    /// How long a shard's thread is to wait; `None` when it is over.
    fn rest(&self, number: u16) -> io::Result<Option<Option<Duration>>> {
        self.with(number, |shard| {
            // Before it is said to sleep: who sees that it does not has its message seen.
            self.seat(number).awake.store(false, Ordering::SeqCst);
            (!shard.is_over()).then(|| shard.rest())
        })
    }

    /// A turn of the shard, and of those that need only a short one for what this sent them.
    fn turn(&self, number: u16, ready: &mut Vec<Ready>, woken: bool) -> io::Result<()> {
        let mut others = self.with(number, |shard| shard.turn(ready, woken))?;
        for _ in 0..ROUNDS {
            if others == 0 {
                return Ok(());
            }
            others = bits(others).fold(0, |next, other| next | self.stand_in(other));
            if self.mesh.filled(number) {
                others |= self.with(number, |shard| shard.turn(ready, false))?;
            }
        }
        bits(others).for_each(|other| self.mesh.wake(other));
        Ok(())
    }

    /// Takes the turn of a shard that sleeps; gives those that need one in return. Its own thread
    /// is woken where it has more to do, or has come in between; or where it panics, which that
    /// thread tells then, and this one goes on to an end in order.
    fn stand_in(&self, number: u16) -> u64 {
        let seat = self.seat(number);
        if seat.awake.load(Ordering::SeqCst) {
            return 0;
        }
        let (sleeps_on, others) = match seat.shard.try_lock() {
            Ok(mut seated) => {
                let Some(shard) = seated.as_mut() else { return 0 };
                // What is half done is used by nobody: the shard goes.
                let turn = catch_unwind(AssertUnwindSafe(|| shard.stand_in()));
                turn.unwrap_or_else(|_| {
                    give_up(seated.take());
                    (false, 0)
                })
            }
            // Its thread may be about to wait, and has looked for messages already.
            Err(TryLockError::WouldBlock | TryLockError::Poisoned(_)) => (false, 0),
        };
        if !sleeps_on {
            self.mesh.wake(number);
        }
        others
    }

    fn seat(&self, number: u16) -> &Seat {
        &self.seats[usize::from(number)]
    }

    /// Does something with a shard on its own thread, which alone ends it.
    fn with<T>(&self, number: u16, act: impl FnOnce(&mut Shard) -> T) -> io::Result<T> {
        let mut shard = self.seat(number).shard.lock().map_err(|_| panicked(number))?;
        shard.as_mut().map(act).ok_or_else(|| panicked(number))
    }
}

/// Closes all that a shard holds when its thread goes, in whatever way: clients, subscriptions and
/// the thread that accepts wait for that.
struct Leave<'s>(&'s Seat);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        give_up(self.0.shard.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Closes what a shard holds that panicked, if it is still there. What it recorded is written, with
/// the call in which it did: recordings are for such a case.
fn give_up(shard: Option<Shard>) {
    // It may panic again.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if let Some(mut shard) = shard {
            shard.record(true);
        }
    }));
}

/// The last word of a broker of which a shard panicked.
pub(super) fn panicked(number: u16) -> io::Error {
    io::Error::other(format!("shard {number} panicked, so that the broker stops"))
}

// Where a poller cannot tell whether it was woken there is nothing to see.
#[cfg(all(test, target_os = "linux"))]
mod tests {
    use async_channel::bounded;
    use fulmar_core::Instant;
    use fulmar_core::broker::{Command, ConnInfo, Event, Outcome, Publication, Replay, Step};
    use fulmar_core::codec::Qos;
    use smol::future::{block_on, poll_once};

    use super::super::inbox::Item;
    use super::super::peers::LITTLE;
    use super::super::poller::Poller;
    use super::super::server::make_shards;
    use super::super::shard::{BUSY, LARGE};
    use super::super::subscription::Subscription;
    use super::super::{Delivery, Notice, Options, Record};
    use super::*;

    /// Two shards, whose turns are taken by hand, and a subscription on the second one.
    struct Two {
        seats: Seats,
        pollers: [Arc<Poller>; 2],
        subscription: Subscription,
    }

    impl Two {
        fn new() -> Self {
            Self::with(Options::default(), 1_000)
        }

        /// The same with other options, and so many places for what is subscribed to.
        fn with(options: Options, queue: u32) -> Self {
            let (first, second) = (Poller::new(), Poller::new());
            let (first, first_waker) = first.expect("files can be opened");
            let (second, second_waker) = second.expect("files can be opened");
            let mesh = Arc::new(Mesh::new(1, vec![first_waker, second_waker]));
            let (accepting, _) = bounded(1);
            let shards = make_shards(options, vec![first, second], &mesh, accepting);
            let shards = shards.expect("there are random numbers");
            let pollers = [Arc::clone(&shards[0].poller), Arc::clone(&shards[1].poller)];
            let seats = Seats::new(shards, &mesh, Box::new(|_| {}));
            let (answer, answers) = bounded(1);
            let filters = vec![("a".into(), Qos::AtLeastOnce)];
            let command = Command::Subscribe { filters, queue };
            let _ = mesh.inboxes[1].push(Item::Subscribe { command, answer });
            let mut two = None;
            // The shards agree on it with some messages in turn.
            for _ in 0..10 {
                for number in [1, 0] {
                    seats.turn(number, &mut Vec::new(), true).expect("it goes on");
                }
                two = two.or(answers.try_recv().ok());
            }
            let subscription = two.expect("an answer").expect("the limit is higher");
            let two = Self { seats, pollers, subscription };
            two.sleep(0);
            two.sleep(1);
            two
        }

        /// Has a shard say that it waits, and forget who woke it.
        fn sleep(&self, number: u16) {
            let rest = self.seats.rest(number).expect("it goes on");
            assert!(rest.is_some_and(|rest| rest != Some(Duration::ZERO)), "nothing to do");
            self.is_woken(number);
        }

        fn is_woken(&self, number: u16) -> bool {
            let poller = &self.pollers[usize::from(number)];
            poller.wait(Some(Duration::ZERO), &mut Vec::new()).expect("waiting works")
        }

        /// Publishes so many messages on the first shard, and takes its turn.
        fn publish(&self, count: usize) {
            (0..count).for_each(|_| self.push(Vec::new()));
            self.seats.turn(0, &mut Vec::new(), true).expect("it goes on");
        }

        fn publish_payload(&self, payload: Vec<u8>) {
            self.push(payload);
            self.seats.turn(0, &mut Vec::new(), true).expect("it goes on");
        }

        fn push(&self, payload: Vec<u8>) {
            let (topic, qos, payload) = ("a".into(), Qos::AtLeastOnce, payload.into());
            let publication = Publication { topic, qos, payload, ..Publication::default() };
            let command = Command::Publish(Box::new(publication));
            let (answer, _) = bounded(1);
            let _ = self.seats.mesh.inboxes[0].push(Item::Command { command, answer });
        }

        fn next(&mut self) -> Option<Delivery> {
            block_on(poll_once(self.subscription.next())).flatten()
        }
    }

    #[test]
    fn little_is_done_for_a_sleeping_shard_and_for_much_it_is_woken() {
        let mut two = Two::new();
        let before = two.seats.mesh.wakes(1);
        for _ in 0..3 {
            two.publish(1);
            assert!(two.next().is_some(), "without its thread");
            assert!(!two.is_woken(1) && !two.seats.mesh.filled(1) && !two.seats.mesh.filled(0));
        }
        assert_eq!(two.seats.mesh.wakes(1), before);
        two.publish(LITTLE + 1);
        assert!(two.next().is_none() && two.is_woken(1), "its own thread does it");
        assert_eq!(two.seats.mesh.wakes(1), before + 1, "for the figures");
        two.seats.turn(1, &mut Vec::new(), false).expect("it goes on");
        for _ in 0..=LITTLE {
            assert!(two.next().is_some());
        }
    }

    #[test]
    fn a_shard_whose_thread_came_in_between_is_woken() {
        let mut two = Two::new();
        let shard = two.seats.seat(1).shard.lock().expect("nobody panicked");
        two.publish(1);
        drop(shard);
        assert!(two.next().is_none() && two.is_woken(1));
        two.seats.turn(1, &mut Vec::new(), true).expect("it goes on");
        assert!(two.next().is_some());
    }

    #[test]
    fn a_message_that_comes_in_the_middle_of_a_turn_is_not_older_than_the_turn() {
        let two = Two::new();
        let mut seat = two.seats.seat(1).shard.lock().expect("nobody panicked");
        let shard = seat.as_mut().expect("it has not ended");
        shard.now = Instant::ZERO;
        two.publish(1);
        let sender = two.seats.seat(0).shard.lock().expect("nobody panicked");
        let sent = sender.as_ref().expect("it has not ended").now;
        shard.take_peers();
        assert!(shard.now >= sent && sent > Instant::ZERO);
    }

    #[test]
    fn a_shard_whose_thread_is_about_to_take_its_turn_is_left_alone() {
        let mut two = Two::new();
        two.seats.seat(1).awake.store(true, Ordering::SeqCst);
        two.publish(1);
        assert!(two.next().is_none() && !two.is_woken(1), "its thread comes anyway");
        two.seats.turn(1, &mut Vec::new(), false).expect("it goes on");
        assert!(two.next().is_some());
        two.sleep(1);
        two.publish(1);
        assert!(two.next().is_some(), "it sleeps again");
    }

    #[test]
    fn who_has_to_do_something_earlier_than_it_wakes_is_woken() {
        let mut two = Two::new();
        // A client that has to say CONNECT in time.
        let open = |shard: &mut Shard| shard.broker.open(shard.now, ConnInfo::default()).is_ok();
        assert!(two.seats.with(1, open).expect("it goes on"));
        two.publish(1);
        assert!(two.next().is_some() && two.is_woken(1), "it sleeps for ever otherwise");
        two.sleep(1);
        two.publish(1);
        assert!(two.next().is_some() && !two.is_woken(1), "now it wakes in time");
    }

    #[test]
    fn a_shard_that_is_over_is_woken() {
        let mut two = Two::new();
        two.seats.with(1, |shard| shard.stop_by = Some(shard.now)).expect("it goes on");
        // So that its deadline is no reason.
        two.seats.with(1, |shard| shard.waits_until = Some(Instant::ZERO)).expect("it goes on");
        two.publish(1);
        assert!(two.next().is_some() && two.is_woken(1));
    }

    #[test]
    fn much_to_carry_wakes_however_few_messages_it_is() {
        let mut two = Two::new();
        two.publish_payload(vec![1; LARGE]);
        assert!(two.next().is_none() && two.is_woken(1));
    }

    #[test]
    fn who_has_many_sockets_to_look_at_stands_in_for_nobody() {
        let mut two = Two::new();
        let gone =
            Ready { index: 999, readable: true, writable: false, hangup: false, gone: false };
        two.push(Vec::new());
        two.seats.turn(0, &mut vec![gone; BUSY], true).expect("it goes on");
        assert!(two.next().is_none() && two.is_woken(1));
    }

    #[test]
    fn a_shard_that_ended_takes_no_turn() {
        let two = Two::new();
        drop(Leave(two.seats.seat(1)));
        two.publish(1);
        assert_eq!(two.seats.stand_in(1), 0);
        assert!(two.seats.turn(1, &mut Vec::new(), true).is_err());
    }

    #[test]
    fn a_panic_in_a_turn_by_another_thread_is_told_by_the_shards_own_and_is_recorded() {
        let name = format!("fulmar-stand-in-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("a folder");
        let observe = |notice: &Notice| {
            let lost = matches!(notice, Notice::Event { event: Event::Dropped { .. }, .. });
            assert!(!lost, "as the test wants");
        };
        let record = Some(Record { dir: dir.clone(), limit: u64::MAX });
        let options = Options { observe: Box::new(observe), record, ..Options::default() };
        let mut two = Two::with(options, 1);
        // Two are one too many for the subscription: that is told in the turn that is taken for it.
        two.publish(2);
        assert!(two.is_woken(1), "its own thread is to tell it");
        let told = two.seats.serve(1).map_err(|error| error.to_string());
        assert_eq!(told, Err("shard 1 panicked, so that the broker stops".into()));
        assert_eq!(block_on(poll_once(two.subscription.next())), Some(None), "it has ended");
        // The other one ends in order.
        two.publish(1);
        let _ = two.seats.mesh.inboxes[0].push(Item::Abort);
        assert!(two.seats.serve(0).is_ok());
        let mut carried = 0;
        for file in std::fs::read_dir(&dir).expect("a folder") {
            let recording = std::fs::read(file.expect("a file").path()).expect("it can be read");
            let mut replay = Replay::new(&recording).expect("a recording");
            let mut outcome = Outcome::More;
            while outcome == Outcome::More {
                outcome = replay.step(&mut |_, step| {
                    carried += match step {
                        Step::Peer { msg, .. } => msg.messages(),
                        _ => 0,
                    };
                });
            }
            assert_eq!(outcome, Outcome::Same);
        }
        let _ = std::fs::remove_dir_all(&dir);
        assert_eq!(carried, 2, "recorded with what it panicked at");
    }
}
