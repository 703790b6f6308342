//! Retained messages under load: who comes late sees the newest, and then what follows it.

use async_channel::Receiver;
use fulmar_core::Qos;
use fulmar_core::codec::{Publish, Version};
use smol::{Task, future};

use super::book::{Book, Flow, payload};
use super::client::{Client, Gone};
use super::running::Running;
use super::{ended, in_time, options, play, qos, version};

const PUBLISHERS: u8 = 6;
/// Topics of each publisher: their owners are on all shards.
const TOPICS: u8 = 8;
/// Messages of each topic, all retained.
const COUNT: u32 = 60;
const WATCHERS: usize = 2;
/// Clients that come late, again and again, at the same time.
const LATE: usize = 4;
/// Messages that one of them takes at most.
const STAY: usize = 300;

fn topic(flow: Flow) -> String {
    format!("kept/{}/{}", flow.publisher, flow.topic)
}

fn flows() -> impl Iterator<Item = Flow> {
    (0..PUBLISHERS).flat_map(|publisher| (0..TOPICS).map(move |topic| Flow { publisher, topic }))
}

async fn retain(client: &mut Client, flow: Flow, payload: &[u8], qos: Qos) -> Result<(), Gone> {
    let topic = &topic(flow)[..];
    client.publish(&Publish { topic, payload, qos, retain: true, ..Publish::default() }).await
}

/// Publishes all versions of its topics.
async fn publish(mut client: Client, publisher: u8) -> Result<Client, Gone> {
    for number in 0..COUNT {
        for topic in 0..TOPICS {
            let flow = Flow { publisher, topic };
            retain(&mut client, flow, &payload(flow, number), qos(publisher)).await?;
        }
    }
    client.acknowledged().await?;
    Ok(client)
}

/// Takes the messages of a book until one comes under the topic `end`, or so many have come.
async fn read(client: &mut Client, book: &mut Book, most: usize) -> Result<(), Gone> {
    for _ in 0..most {
        let message = client.message().await?;
        if message.topic == "end" {
            return Ok(());
        }
        let saw = if message.retain {
            book.saw_retained(&message.payload)
        } else {
            book.saw(&message.payload)
        };
        if saw.is_none_or(|(flow, _)| topic(flow) != message.topic) {
            book.fault(format!("not what belongs to {}", message.topic));
        }
    }
    Ok(())
}

/// Comes late, and goes again, until all is over. Where it sees what is retained it sees this
/// first, and whatever is first, nothing is missing behind it.
async fn come_late(
    broker: std::net::SocketAddr,
    number: usize,
    over: Receiver<()>,
) -> Result<(), Gone> {
    for round in 0.. {
        let name = format!("late {number} {round}");
        let mut client = Client::new(broker, &name[..], version(number), false);
        let mut book = Book::new(name).late();
        client.connect().await?;
        client.subscribe(&["kept/#"], Qos::ExactlyOnce).await?;
        // Something is retained, or will be soon: to whom nothing comes waits for ever.
        read(&mut client, &mut book, 1).await?;
        let reading = read(&mut client, &mut book, STAY - 1);
        future::or(reading, async {
            ended(&over).await;
            Ok(())
        })
        .await?;
        book.assert_faultless();
        client.disconnect().await;
        if over.is_closed() {
            break;
        }
    }
    Ok(())
}

/// What a new client gets that asks for everything: each topic once, with its newest message.
async fn look(broker: std::net::SocketAddr, name: &str, expected: usize) -> Book {
    let mut client = Client::new(broker, name, Version::V5, false);
    client.connect().await.expect("the broker runs");
    let mut book = Book::new(name);
    client.subscribe(&["kept/+/+"], Qos::ExactlyOnce).await.expect("the broker runs");
    read(&mut client, &mut book, expected).await.expect("the broker runs");
    // Nothing is behind them.
    let qos = Qos::AtLeastOnce;
    client.subscribe(&["end"], qos).await.expect("the broker runs");
    let end = Publish { topic: "end", qos, ..Publish::default() };
    client.publish(&end).await.expect("the broker runs");
    let message = client.message().await.expect("the broker runs");
    assert_eq!(message.topic, "end", "{name}");
    client.disconnect().await;
    book
}

/// Whoever comes now sees the newest, wherever his shard is, since all was stored before it was
/// forwarded; then half of it is cleared, and only the rest is seen.
async fn look_and_clear(to: std::net::SocketAddr, clients: &mut [Client]) {
    let count = flows().count();
    for number in 0..8 {
        let book = in_time("a look", look(to, &format!("after {number}"), count)).await;
        book.assert_whole(flows(), COUNT);
    }
    for (publisher, client) in (0..).zip(clients) {
        for topic in 0..TOPICS / 2 {
            let flow = Flow { publisher, topic };
            retain(client, flow, &[], Qos::AtLeastOnce).await.expect("the broker runs");
        }
        client.acknowledged().await.expect("the broker runs");
    }
    for number in 0..8 {
        let book = in_time("a look", look(to, &format!("at last {number}"), count / 2)).await;
        book.assert_whole(flows().filter(|flow| flow.topic >= TOPICS / 2), COUNT);
    }
}

fn the_newest_is_kept(shards: u16) {
    let broker = Running::start(options(shards));
    play(async |executor| {
        let to = broker.address;
        let client = async |name: String, number| {
            let mut client = Client::new(to, name, version(number), false);
            client.connect().await.expect("the broker runs");
            client
        };
        let mut watchers: Vec<Task<Result<Book, Gone>>> = Vec::new();
        // Closed when all of them have seen all.
        let (whole, all_seen) = async_channel::bounded::<()>(1);
        for number in 0..WATCHERS {
            let mut client = client(format!("watcher {number}"), number).await;
            client.subscribe(&["kept/#", "end"], Qos::ExactlyOnce).await.expect("it runs");
            let whole = whole.clone();
            watchers.push(executor.spawn(async move {
                let mut book = Book::new(format!("watcher {number}"));
                read(&mut client, &mut book, flows().count() * COUNT as usize).await?;
                drop(whole);
                // Nothing is behind them but the messages that clear.
                let mut message = client.message().await?;
                while message.topic != "end" {
                    assert!(message.payload.is_empty(), "{} again", message.topic);
                    message = client.message().await?;
                }
                Ok(book)
            }));
        }
        let (publishing, over) = async_channel::bounded::<()>(1);
        let late: Vec<_> =
            (0..LATE).map(|number| executor.spawn(come_late(to, number, over.clone()))).collect();
        let mut publishers = Vec::new();
        for publisher in 0..PUBLISHERS {
            let client = client(format!("publisher {publisher}"), publisher.into()).await;
            publishers.push(executor.spawn(publish(client, publisher)));
        }
        let mut clients = Vec::new();
        for publisher in publishers {
            clients.push(in_time("a publisher", publisher).await.expect("the broker runs"));
        }
        drop(whole);
        in_time("the last message", ended(&all_seen)).await;
        drop(publishing);
        for late in late {
            in_time("a late client", late).await.expect("the broker keeps the connection");
        }
        look_and_clear(to, &mut clients).await;
        let end = Publish { topic: "end", qos: Qos::AtLeastOnce, ..Publish::default() };
        clients[0].publish(&end).await.expect("the broker runs");
        clients[0].acknowledged().await.expect("the broker runs");
        for watcher in watchers {
            let book = in_time("a watcher", watcher).await.expect("the broker runs");
            book.assert_whole(flows(), COUNT);
        }
        for client in clients {
            client.disconnect().await;
        }
    });
    broker.stop();
}

#[test]
fn the_newest_is_kept_with_one_shard() {
    the_newest_is_kept(1);
}

#[test]
fn the_newest_is_kept_with_two_shards() {
    the_newest_is_kept(2);
}

#[test]
fn the_newest_is_kept_with_four_shards() {
    the_newest_is_kept(4);
}
