//! The broker over real sockets, and through its handle.

mod credit;
mod running;
mod shards;
mod wire;

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use fulmar_adapters::broker::{
    BindError, Config, Event, HandleError, Notice, Options, Publication, Qos, ReasonCode, Server,
    Verdict,
};
use running::Running;
use smol::block_on;
use wire::{Wire, connect, packet, publish};

fn message(topic: &str, payload: &str) -> Publication {
    let (topic, payload) = (topic.into(), payload.to_owned().into());
    Publication { topic, payload, ..Publication::default() }
}

#[test]
fn clients_and_the_embedding_program_reach_each_other() {
    let broker = Running::start(Options::default());
    block_on(async {
        let mut news = broker.handle.subscribe(&[("news/#", Qos::AtLeastOnce)], 10).await?;
        let mut client = Wire::connect(broker.address, 4, "reader");
        client.subscribe("news/+");

        assert_eq!(broker.handle.publish(message("news/a", "from within")).await?, 2);
        assert_eq!(client.packet(), (0x30, b"\x00\x06news/afrom within".to_vec()));
        let delivery = news.next().await.expect("the broker runs");
        assert_eq!((&delivery.topic[..], &delivery.payload[..]), ("news/a", &b"from within"[..]));

        client.send(&publish("news/b", b"from outside"));
        assert_eq!(client.packet(), (0x30, b"\x00\x06news/bfrom outside".to_vec()));
        let delivery = news.next().await.expect("the broker runs");
        assert_eq!((&delivery.topic[..], &delivery.payload[..]), ("news/b", &b"from outside"[..]));

        drop(news);
        assert_eq!(broker.handle.publish(message("news/c", "")).await?, 1, "not unsubscribed");
        let refused = broker.handle.publish(message("news/+", "")).await;
        assert_eq!(refused, Err(HandleError::Refused(ReasonCode::TopicNameInvalid)));
        Ok::<(), HandleError>(())
    })
    .expect("the broker runs");
    broker.abort();
}

#[test]
fn what_a_slow_program_loses_is_counted() {
    let broker = Running::start(Options::default());
    block_on(async {
        let mut slow = broker.handle.subscribe(&[("t", Qos::AtMostOnce)], 10).await?;
        for n in 0..200 {
            broker.handle.publish(message("t", &n.to_string())).await?;
        }
        broker.handle.stats().await?;
        let lost = slow.overflow();
        assert!((1..=190).contains(&lost), "{lost} lost");

        // Nothing stands still: the rest arrives in order, and so does what comes later.
        let mut taken = 0;
        let mut last = None;
        while taken < 200 - lost {
            let delivery = slow.next().await.expect("the broker runs");
            let n: u64 = String::from_utf8_lossy(&delivery.payload).parse().expect("a number");
            assert!(last.is_none_or(|last| last < n), "{n} after {last:?}");
            last = Some(n);
            taken += 1;
        }
        broker.handle.publish(message("t", "later")).await?;
        assert_eq!(slow.next().await.expect("the broker runs").payload, "later");
        assert_eq!(slow.overflow(), lost);
        Ok::<(), HandleError>(())
    })
    .expect("the broker runs");
    broker.abort();
}

#[test]
fn a_program_that_takes_what_it_has_room_for_loses_nothing() {
    let broker = Running::start(Options::default());
    block_on(async {
        let mut messages = broker.handle.subscribe(&[("t", Qos::AtMostOnce)], 500).await?;
        for round in 0..20 {
            for n in 0..500 {
                let receivers =
                    broker.handle.publish(message("t", &format!("{round} {n}"))).await?;
                assert_eq!(receivers, 1);
            }
            for n in 0..500 {
                let delivery = messages.next().await.expect("the broker runs");
                assert_eq!(delivery.payload, format!("{round} {n}"));
            }
        }
        assert_eq!(messages.overflow(), 0);
        Ok::<(), HandleError>(())
    })
    .expect("the broker runs");
    broker.abort();
}

#[test]
fn stop_tells_clients_and_ends_run_subscriptions_and_requests() {
    let broker = Running::start(Options::default());
    let handle = broker.handle.clone();
    let mut five = Wire::connect(broker.address, 5, "five");
    let mut four = Wire::connect(broker.address, 4, "four");
    let mut messages =
        block_on(handle.subscribe(&[("t", Qos::AtMostOnce)], 10)).expect("the broker runs");
    let told = thread::spawn(move || {
        let (packet, rest) = (five.packet(), five.rest());
        (packet, rest, four.rest())
    });
    let address = broker.address;
    broker.stop();
    let (disconnect, rest, nothing) = told.join().expect("both ended in order");
    // [MQTT-3.14.0-1] allows a server to send DISCONNECT after CONNACK; older versions have none.
    assert_eq!((disconnect.0, disconnect.1[0]), (0xE0, 0x8B));
    assert!(rest.is_empty() && nothing.is_empty());

    assert!(TcpStream::connect(address).is_err(), "still listening");
    assert_eq!(block_on(messages.next()), None);
    assert_eq!(block_on(handle.publish(message("t", ""))), Err(HandleError::Stopped));
    assert_eq!(block_on(handle.stats()).err(), Some(HandleError::Stopped));
    block_on(handle.stop());
    block_on(handle.abort());
}

#[test]
fn a_client_that_does_not_close_delays_the_stop_for_its_timeout_only() {
    let (notices, told) = mpsc::channel();
    let broker = Running::start(Options {
        shutdown_timeout: Duration::from_millis(200),
        observe: Box::new(move |notice| {
            if let Notice::Cut { connections } = notice {
                notices.send(*connections).expect("the test waits");
            }
        }),
        ..Options::default()
    });
    let client = Wire::connect(broker.address, 4, "stays");
    let before = Instant::now();
    broker.stop();
    assert!(before.elapsed() >= Duration::from_millis(200), "the client was not waited for");
    assert_eq!(told.recv(), Ok(1));
    drop(client);
}

#[test]
fn abort_does_not_wait_for_clients() {
    let broker = Running::start(Options {
        shutdown_timeout: Duration::from_secs(3_600),
        ..Options::default()
    });
    let client = Wire::connect(broker.address, 4, "stays");
    let handle = broker.handle.clone();
    let stopping = thread::spawn(move || block_on(handle.stop()));
    block_on(broker.handle.abort());
    stopping.join().expect("stop ends with the broker");
    broker.join();
    drop(client);
}

#[test]
fn a_server_that_never_runs_leaves_no_request_waiting() {
    let server = Server::bind(Options { listeners: vec![], ..Options::default() });
    let server = server.expect("nothing is listened on");
    let handle = server.handle();
    let waiting = thread::spawn(move || block_on(handle.stats()).err());
    let handle = server.handle();
    drop(server);
    assert_eq!(waiting.join().expect("it does not panic"), Some(HandleError::Stopped));
    assert_eq!(block_on(handle.clients(0, 10)), Err(HandleError::Stopped));
    block_on(handle.stop());
}

#[test]
fn a_shard_that_panics_leaves_no_request_waiting() {
    let broker = Running::start(Options {
        authenticate: Box::new(|_, request| match &request.client_id[..] {
            "bad" => panic!("as the test wants"),
            _ => Verdict::Accept { data: None },
        }),
        ..Options::default()
    });
    let mut messages =
        block_on(broker.handle.subscribe(&[("t", Qos::AtMostOnce)], 10)).expect("it runs");
    let mut client = Wire::open(broker.address);
    client.send(&connect(4, "bad"));
    assert_eq!(block_on(messages.next()), None);
    block_on(broker.handle.stop());
    assert_eq!(block_on(broker.handle.stats()).err(), Some(HandleError::Stopped));
    assert!(broker.thread.join().is_err(), "the panic is not passed on");
}

#[test]
fn the_last_packet_reaches_a_client_with_bytes_still_unread() {
    let broker = Running::start(Options::default());
    let mut client = Wire::connect(broker.address, 5, "rude");
    // Reserved bits of SUBSCRIBE must be 0010 [MQTT-3.8.1-1]; then more than the broker reads.
    client.send(&packet(0x80, &[0, 1, 0, 0, 1, b't', 0]));
    client.send(&vec![0; 1024 * 1024]);
    let (first, body) = client.packet();
    assert_eq!((first, body[0]), (0xE0, 0x81), "DISCONNECT with Malformed Packet");
    client.rest();
    broker.abort();
}

#[test]
fn a_client_that_sends_and_closes_its_sending_half_gets_its_answers() {
    let broker = Running::start(Options::default());
    let mut client = Wire::open(broker.address);
    client.send(&[connect(4, "brief"), vec![0xC0, 0]].concat());
    client.0.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(client.rest(), [0x20, 2, 0, 0, 0xD0, 0]);
    broker.abort();
}

#[test]
fn one_read_of_tiny_messages_does_not_overflow_the_queue_of_a_client() {
    let broker = Running::start(Options::default());
    let mut reader = Wire::connect(broker.address, 4, "reader");
    reader.subscribe("t");
    let mut writer = Wire::connect(broker.address, 4, "writer");
    // Five times what the queue holds, and less than any socket does.
    let count = 5 * Config::default().max_msg_queue;
    let all: Vec<u8> = (0..count).flat_map(|n| publish("t", &n.to_be_bytes())).collect();
    writer.send(&all);
    writer.ping();
    for n in 0..count {
        assert_eq!(reader.packet(), (0x30, [&b"\x00\x01t"[..], &n.to_be_bytes()].concat()));
    }
    broker.abort();
}

#[test]
fn large_messages_reach_a_client_that_reads_late() {
    let broker = Running::start(Options::default());
    let mut reader = Wire::connect(broker.address, 4, "late");
    reader.subscribe("t");
    let payload: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut writer = Wire::connect(broker.address, 4, "writer");
    for n in 0..10 {
        writer.send(&publish("t", &[&[n], &payload[..]].concat()));
    }
    // The broker has all of it, more than the sockets of the reader hold.
    writer.ping();
    for n in 0..10 {
        let (first, body) = reader.packet();
        assert!(first == 0x30 && body[3] == n && body[4..] == payload, "message {n}");
    }
    broker.abort();
}

#[test]
fn large_and_small_messages_in_turn_arrive_as_they_were_sent() {
    let broker = Running::start(Options::default());
    let mut reader = Wire::connect(broker.address, 4, "reader");
    reader.subscribe("t");
    let mut writer = Wire::connect(broker.address, 4, "writer");
    let mixed = [70_000, 3, 8_190, 8_195, 0, 500_000, 20_000, 1, 1, 70_000, 5_000, 65_536];
    for sizes in [&mixed[..], &[65_536; 30], &[100_000; 20], &[5_000; 60]] {
        let payload =
            |n: usize| -> Vec<u8> { (n..n + sizes[n]).map(|at| (at % 251) as u8).collect() };
        let messages: Vec<u8> = (0..sizes.len()).flat_map(|n| publish("t", &payload(n))).collect();
        // As fast as it is taken, then in pieces that fit nothing.
        for piece in [messages.len(), 9_973] {
            for bytes in messages.chunks(piece) {
                writer.send(bytes);
            }
            for (n, size) in sizes.iter().enumerate() {
                let (first, body) = reader.packet();
                let right = first == 0x30 && body[3..] == payload(n);
                assert!(right, "message {n} of {size} bytes in pieces of {piece}");
            }
        }
    }
    broker.abort();
}

#[test]
fn a_message_that_comes_alone_costs_one_read_one_write_and_one_wait() {
    let broker = Running::start(Options::default());
    let mut client = Wire::connect(broker.address, 4, "alone");
    client.ping();
    let before = block_on(broker.handle.stats()).expect("the broker runs");
    for _ in 0..1_000 {
        client.ping();
    }
    let after = block_on(broker.handle.stats()).expect("the broker runs");
    assert_eq!(after.reads - before.reads, 1_000);
    assert_eq!(after.writes - before.writes, 1_000);
    // One more for the request; the waits of both requests fall between the two answers.
    let waits = after.waits - before.waits;
    assert!((1_000..=1_010).contains(&waits), "{waits} waits");
    assert!((1..=2).contains(&(after.wakes - before.wakes)), "for a request, and for no message");
    broker.abort();
}

#[test]
fn clients_are_listed_and_disconnected() {
    let broker = Running::start(Options::default());
    let mut first = Wire::connect(broker.address, 5, "first");
    let _second = Wire::connect(broker.address, 4, "second");
    block_on(async {
        let page = broker.handle.clients(0, 1).await?;
        assert_eq!(&*page.clients[0].client_id, "first");
        let page = broker.handle.clients(page.next.expect("a second page"), 10).await?;
        assert_eq!(&*page.clients[0].client_id, "second");
        assert_eq!((page.clients.len(), page.next), (1, None));

        let reason = ReasonCode::AdministrativeAction;
        broker.handle.disconnect("first", reason, true).await?;
        let nobody = broker.handle.disconnect("nobody", reason, true).await;
        assert!(matches!(nobody, Err(HandleError::Refused(_))), "{nobody:?}");
        Ok::<(), HandleError>(())
    })
    .expect("the broker runs");
    assert_eq!(first.packet().1[0], 0x98);
    first.rest();
    broker.abort();
}

#[test]
fn the_observer_is_told_of_listeners_clients_and_refusals() {
    let (notices, told) = mpsc::channel();
    let broker = Running::start(Options {
        config: Config { max_connections: 1, ..Config::default() },
        observe: Box::new(move |notice| {
            // The test may have ended.
            let _ = notices.send(match notice {
                Notice::Listening(address) => format!("listening {address}"),
                Notice::Event { event: Event::Connected(connected), remote } => {
                    format!("connected {} {remote:?}", connected.client_id)
                }
                Notice::Event { event: Event::Disconnected(_), remote } => {
                    format!("disconnected {remote:?}")
                }
                Notice::Event { .. } => return,
                Notice::Refused { remote, why } => format!("refused {remote} {why:?}"),
                other => format!("{other:?}"),
            });
        }),
        ..Options::default()
    });
    let next = || told.recv_timeout(Duration::from_secs(10)).expect("something is told");
    assert_eq!(next(), format!("listening {}", broker.address));
    let client = Wire::connect(broker.address, 4, "watched");
    let remote = client.0.local_addr().expect("it is connected");
    assert_eq!(next(), format!("connected watched {:?}", Some(remote)));
    let mut second = Wire::open(broker.address);
    assert_eq!(second.rest(), b"");
    let second = second.0.local_addr().expect("it was connected");
    assert_eq!(next(), format!("refused {second} TooManyConnections"));
    drop(client);
    assert_eq!(next(), format!("disconnected {:?}", Some(remote)));
    broker.stop();
    assert_eq!(next(), "Stopping");
}

#[test]
fn many_clients_come_and_go_and_leave_nothing() {
    let broker = Running::start(Options::default());
    for round in 0..20 {
        let mut clients: Vec<Wire> = (0..50).map(|_| Wire::open(broker.address)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(&connect(4, &format!("c{n}")));
        }
        for (n, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.packet(), (0x20, vec![0, 0]), "client {n} in round {round}");
            match n % 3 {
                // In order, broken, and half a packet.
                0 => client.send(&[0xE0, 0]),
                1 => {}
                _ => client.0.write_all(&[0x30, 100]).expect("the broker reads"),
            }
        }
    }
    // The ends are seen in their order, so this is soon over.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let open = block_on(broker.handle.stats()).expect("the broker runs").core.connections;
        if open == 0 {
            break;
        }
        assert!(Instant::now() < until, "{open} connections are still open");
    }
    broker.abort();
}

#[test]
fn an_address_in_use_is_named_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it is bound");
    let error = Server::bind(Options { listeners: vec![address], ..Options::default() })
        .expect_err("the port is taken");
    assert!(matches!(&error, BindError::Listen { address: named, .. } if *named == address));
    let text = error.to_string();
    assert!(text.contains(&address.to_string()) && text.contains("another port"), "{text}");
}
