//! Publishers and subscribers of all kinds, on all shards, some of them coming and going.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_channel::{Receiver, Sender};
use fulmar_adapters::broker::{BrokerHandle, Publication, Subscription};
use fulmar_core::Qos;
use fulmar_core::codec::Publish;
use smol::{Executor, Task, future};

use super::book::{Book, Flow, parse, payload};
use super::client::{Client, Gone, Message};
use super::running::Running;
use super::{ended, in_time, options, play, qos, version};

/// Clients that publish; one more publisher is the program.
const CLIENTS: u8 = 9;
const PUBLISHERS: u8 = CLIENTS + 1;
/// Topics of each publisher.
const TOPICS: u8 = 2;
/// Messages of each flow.
const COUNT: u32 = 500;
/// Messages of a publisher that may be under way: with what is in it the windows of subscribers are
/// used up at times, and no queue is.
const WINDOW: u64 = 40;
/// Subscribers to everything, members of the shared group, and clients that are cut off.
const STEADY: usize = 4;
const MEMBERS: usize = 4;
const WANDERERS: usize = 3;
const VISITORS: usize = 3;
/// Messages between two cuts of a client, a little different for each.
const STAY: usize = 60;

/// It is cut off now and then, and goes on with its session.
fn wanders(publisher: u8) -> bool {
    publisher < CLIENTS && publisher / 3 == 1 && qos(publisher) > Qos::AtMostOnce
}

/// Publishers whose messages may come twice, whoever sees them.
fn repeating() -> impl Iterator<Item = u8> {
    (0..PUBLISHERS).filter(|publisher| wanders(*publisher) && qos(*publisher) == Qos::AtLeastOnce)
}

fn acknowledged() -> impl Iterator<Item = u8> {
    (0..PUBLISHERS).filter(|publisher| qos(*publisher) > Qos::AtMostOnce)
}

fn flows(publishers: impl Iterator<Item = u8>) -> impl Iterator<Item = Flow> {
    publishers.flat_map(|publisher| (0..TOPICS).map(move |topic| Flow { publisher, topic }))
}

fn topic(flow: Flow) -> String {
    format!("load/{}/{}", flow.publisher, flow.topic)
}

/// Copies of each message that are waited for.
fn fan(publisher: u8) -> u64 {
    let wanderers = if qos(publisher) > Qos::AtMostOnce { WANDERERS } else { 0 };
    // And one in the shared group, one for who asked for this topic, one for the program.
    (STEADY + wanderers + 3) as u64
}

/// Takes what a publisher hears of each copy that came.
struct Window {
    publisher: u8,
    credit: Receiver<()>,
    under_way: u64,
}

impl Window {
    /// Waits until there are at most so many under way.
    async fn at_most(&mut self, messages: u64) {
        while self.under_way > messages * fan(self.publisher) {
            let what = format!("publisher {}, {} under way", self.publisher, self.under_way);
            in_time(&what, self.credit.recv()).await.expect("subscribers hold the other end");
            self.under_way -= 1;
        }
    }

    /// The same, while a client is driven.
    async fn with(&mut self, messages: u64, client: &mut Client) -> Result<(), Gone> {
        let driven = async {
            loop {
                client.progress().await?;
            }
        };
        let waiting = async {
            self.at_most(messages).await;
            Ok(())
        };
        future::or(waiting, driven).await
    }
}

async fn publish(mut client: Client, mut window: Window) -> Result<(), Gone> {
    let publisher = window.publisher;
    let stay = STAY + usize::from(publisher);
    let all = (0..COUNT).flat_map(|number| (0..TOPICS).map(move |topic| (number, topic)));
    for (nth, (number, at)) in all.enumerate() {
        window.with(WINDOW - 1, &mut client).await?;
        let flow = Flow { publisher, topic: at };
        let (topic, payload) = (topic(flow), payload(flow, number));
        // With RETAIN it takes the other way, by the owner of the topic.
        let retain = number % 8 == 3;
        let (topic, payload, qos) = (&topic[..], &payload[..], qos(publisher));
        client.publish(&Publish { topic, payload, qos, retain, ..Publish::default() }).await?;
        window.under_way += fan(publisher);
        if wanders(publisher) && nth % stay == stay - 1 {
            // Some of what is in flight is on its way then.
            client.progress().await?;
            client.cut(|message| panic!("{message:?}")).await;
            assert!(client.connect().await?, "the session of a publisher is gone");
        }
    }
    client.acknowledged().await?;
    window.with(0, &mut client).await?;
    let (payload, qos) = ([publisher], Qos::AtLeastOnce);
    client.publish(&Publish { topic: "end", payload: &payload, qos, ..Publish::default() }).await?;
    client.acknowledged().await?;
    client.disconnect().await;
    Ok(())
}

/// The program, as a publisher.
async fn publish_within(handle: BrokerHandle, mut window: Window) -> Result<(), Gone> {
    let publisher = window.publisher;
    let send = async |topic, payload: Vec<u8>, retain| {
        let (payload, qos) = (payload.into(), Qos::AtLeastOnce);
        let publication = Publication { topic, payload, qos, retain, ..Publication::default() };
        handle.publish(publication).await.expect("the broker takes it")
    };
    for number in 0..COUNT {
        for at in 0..TOPICS {
            window.at_most(WINDOW - 1).await;
            let flow = Flow { publisher, topic: at };
            send(topic(flow), payload(flow, number), number % 8 == 3).await;
            window.under_way += fan(publisher);
        }
    }
    window.at_most(0).await;
    send("end".into(), vec![publisher], false).await;
    Ok(())
}

/// Of the shared group: what its members have seen together.
type Seen = Arc<Mutex<BTreeSet<(Flow, u32)>>>;

/// What a subscriber does with a message.
struct Reader {
    book: Book,
    /// To tell publishers that a copy has come.
    credits: Vec<Sender<()>>,
    /// It is one of several that get each message once together.
    group: Option<Seen>,
    ends: BTreeSet<u8>,
}

impl Reader {
    /// Takes a message; says whether all publishers have ended.
    fn take(&mut self, topic: &str, payload: &[u8]) -> bool {
        if topic == "end" {
            self.ends.insert(payload[0]);
            return self.ends.len() == usize::from(PUBLISHERS);
        }
        let Some((flow, number)) = self.book.saw(payload) else { return false };
        if topic != self::topic(flow) {
            self.book.fault(format!("{flow:?} {number} as {topic}"));
        }
        if let Some(seen) = &self.group {
            let new = seen.lock().expect("no member failed").insert((flow, number));
            if !new {
                if !repeating().any(|publisher| publisher == flow.publisher) {
                    self.book.fault(format!("{flow:?} {number}: another member has it, too"));
                }
                return false;
            }
        }
        // All but the one that a publisher waits for may come after its end.
        let _ = self.credits[usize::from(flow.publisher)].try_send(());
        false
    }
}

/// Reads up to the end; cut off after so many messages, where that is asked for.
async fn read(mut client: Client, mut reader: Reader, stay: Option<usize>) -> Result<Book, Gone> {
    for nth in 1.. {
        let message = client.message().await?;
        let mut over = reader.take(&message.topic, &message.payload);
        if !over && stay.is_some_and(|stay| nth % stay == 0) {
            client.cut(|message| over |= reader.take(&message.topic, &message.payload)).await;
            assert!(client.connect().await?, "the session of a subscriber is gone");
        }
        if over {
            break;
        }
    }
    client.disconnect().await;
    Ok(reader.book)
}

async fn read_within(mut messages: Subscription, mut reader: Reader) -> Result<Book, Gone> {
    while let Some(delivery) = messages.next().await {
        if reader.take(&delivery.topic, &delivery.payload) {
            assert_eq!(messages.overflow(), 0);
            return Ok(reader.book);
        }
    }
    Err(Gone)
}

/// Comes, subscribes, takes some messages, and goes in one of three ways: again and again, each
/// time with another name, so on another shard. Counts what was taken.
async fn visit(
    broker: std::net::SocketAddr,
    number: usize,
    over: Receiver<()>,
) -> Result<u64, Gone> {
    let mut count = 0;
    for round in 0.. {
        let name = format!("visitor {number} {round}");
        let mut book = Book::new(&name[..]).repeats(repeating()).late();
        let mut take = |message: Message| {
            if !message.retain {
                book.saw(&message.payload);
            } else if parse(&message.payload).is_none() {
                book.fault("not what was retained".into());
            }
        };
        let mut client = Client::new(broker, &name[..], version(round), false);
        client.connect().await?;
        client.subscribe(&["load/+/+"], qos((round % 3) as u8)).await?;
        let mut goes_on = true;
        for _ in 0..STAY * (1 + round % 4) {
            let next = future::or(async { client.message().await.map(Some) }, async {
                ended(&over).await;
                Ok(None)
            });
            let Some(message) = next.await? else {
                goes_on = false;
                break;
            };
            take(message);
        }
        match round % 3 {
            0 => client.disconnect().await,
            1 => client.cut(take).await,
            _ => {
                client.unsubscribe("load/+/+", take).await?;
                client.disconnect().await;
            }
        }
        book.assert_faultless();
        count += book.count;
        if !goes_on {
            break;
        }
    }
    Ok(count)
}

/// All who take part, but publishers.
struct Crowd<'e> {
    executor: &'e Executor<'static>,
    broker: &'e Running,
    credits: Vec<Sender<()>>,
    readers: Vec<Task<Result<Book, Gone>>>,
    seen: Seen,
}

impl Crowd<'_> {
    fn reader(&self, book: Book) -> Reader {
        let (credits, ends) = (self.credits.clone(), BTreeSet::new());
        Reader { book, credits, group: None, ends }
    }

    /// A subscriber with these filters, who is there when this returns.
    async fn add(&mut self, filters: &[&str], reader: Reader, stay: Option<usize>) {
        let (number, keeps) = (self.readers.len(), stay.is_some());
        let id = format!("subscriber {number}");
        let mut client = Client::new(self.broker.address, id, version(number), keeps);
        client.connect().await.expect("the broker runs");
        let all: Vec<&str> = filters.iter().copied().chain(["end"]).collect();
        client.subscribe(&all, Qos::ExactlyOnce).await.expect("the broker runs");
        self.readers.push(self.executor.spawn(read(client, reader, stay)));
    }

    async fn gather(&mut self) {
        for number in 0..STEADY {
            let book = Book::new(format!("steady {number}")).repeats(repeating());
            self.add(&["load/+/+"], self.reader(book), None).await;
        }
        for publisher in 0..PUBLISHERS {
            let book = Book::new(format!("of {publisher}")).repeats(repeating());
            let topics = [0, 1].map(|at| topic(Flow { publisher, topic: at }));
            self.add(&[&topics[0], &topics[1]], self.reader(book), None).await;
        }
        for number in 0..MEMBERS {
            let book = Book::new(format!("member {number}")).repeats(repeating()).part();
            let reader = Reader { group: Some(Arc::clone(&self.seen)), ..self.reader(book) };
            self.add(&["$share/group/load/+/+"], reader, None).await;
        }
        for number in 0..WANDERERS {
            // What it had not acknowledged when it was cut off comes again.
            let once = acknowledged().filter(|publisher| qos(*publisher) == Qos::AtLeastOnce);
            let book = Book::new(format!("wanderer {number}")).repeats(once);
            let filters: Vec<String> = acknowledged().map(|p| format!("load/{p}/+")).collect();
            let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
            let stay = STAY * 3 + number * 7;
            self.add(&filters, self.reader(book), Some(stay)).await;
        }
        let filters = [("load/#", Qos::ExactlyOnce), ("end", Qos::AtLeastOnce)];
        let messages = self.broker.handle.subscribe(&filters, 1_000_000).await;
        let reader = self.reader(Book::new("program").repeats(repeating()));
        let messages = messages.expect("the broker runs");
        self.readers.push(self.executor.spawn(read_within(messages, reader)));
    }

    /// What they have seen is what was sent.
    async fn compare(self) {
        let mut books = Vec::new();
        for reader in self.readers {
            books.push(in_time("a reader", reader).await.expect("the broker keeps the connection"));
        }
        books.iter().for_each(Book::assert_faultless);
        for (number, book) in books.iter().enumerate() {
            let all = || flows(0..PUBLISHERS);
            match number.checked_sub(STEADY) {
                None => book.assert_whole(all(), COUNT),
                Some(at) if at < usize::from(PUBLISHERS) => {
                    book.assert_whole(flows([at as u8].into_iter()), COUNT);
                }
                Some(at) if at < usize::from(PUBLISHERS) + MEMBERS => {
                    assert!(book.count > 0, "a member that never had its turn");
                }
                Some(at) if at < usize::from(PUBLISHERS) + MEMBERS + WANDERERS => {
                    book.assert_whole(flows(acknowledged()), COUNT);
                }
                Some(_) => book.assert_whole(all(), COUNT),
            }
        }
        let sent = usize::from(PUBLISHERS * TOPICS) * COUNT as usize;
        assert_eq!(self.seen.lock().expect("no member failed").len(), sent);
    }
}

fn everything_arrives(shards: u16) {
    let broker = Running::start(options(shards));
    play(async |executor| {
        let (credits, windows): (Vec<_>, Vec<_>) =
            (0..PUBLISHERS).map(|_| async_channel::unbounded()).unzip();
        let (readers, seen) = (Vec::new(), Seen::default());
        let mut crowd = Crowd { executor, broker: &broker, credits, readers, seen };
        crowd.gather().await;
        let (publishing, over) = async_channel::bounded::<()>(1);
        let visitors: Vec<_> = (0..VISITORS)
            .map(|number| executor.spawn(visit(broker.address, number, over.clone())))
            .collect();
        let mut publishers = Vec::new();
        for (publisher, credit) in (0..).zip(windows) {
            let window = Window { publisher, credit, under_way: 0 };
            if publisher == CLIENTS {
                publishers.push(executor.spawn(publish_within(broker.handle.clone(), window)));
                continue;
            }
            let (id, version) = (format!("publisher {publisher}"), version(publisher.into()));
            let mut client = Client::new(broker.address, id, version, wanders(publisher));
            client.connect().await.expect("the broker runs");
            publishers.push(executor.spawn(publish(client, window)));
        }
        for publisher in publishers {
            in_time("a publisher", publisher).await.expect("the broker keeps the connection");
        }
        crowd.compare().await;
        drop(publishing);
        for visitor in visitors {
            let count = in_time("a visitor", visitor).await;
            assert!(count.expect("the broker keeps the connection") > 0);
        }
    });
    broker.abort();
}

#[test]
fn everything_arrives_once_and_in_order_with_one_shard() {
    everything_arrives(1);
}

#[test]
fn everything_arrives_once_and_in_order_with_two_shards() {
    everything_arrives(2);
}

#[test]
fn everything_arrives_once_and_in_order_with_four_shards() {
    everything_arrives(4);
}
