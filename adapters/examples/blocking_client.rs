//! A client on a blocking socket of std: subscribes, publishes one message, waits until it has
//! come back and leaves. Run it as `blocking_client [HOST:PORT]`.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant as Clock};

use fulmar_core::client::{Client, Event, Fixed, Options};
use fulmar_core::codec::{Connect, Disconnect, Properties, Publish, SubscriptionOptions};
use fulmar_core::{Instant, ReasonCode};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut socket =
        TcpStream::connect(std::env::args().nth(1).as_deref().unwrap_or("localhost:1883"))?;
    let start = Clock::now();
    let now = || Instant::from_micros(start.elapsed().as_micros() as u64);
    let mut memory = Fixed::<1024, 1024, 4, 0>::new();
    let mut client = Client::new(memory.storage(), Options::default());
    let connect = Connect { client_id: "blocking", keep_alive: 30, ..Connect::default() };
    client.connect(now(), &connect)?;
    loop {
        let (mut connected, mut got) = (false, false);
        while let Some(event) = client.poll_event(now()) {
            println!("{event:?}");
            connected |= matches!(event, Event::Connected { reason: ReasonCode::Success, .. });
            got |= matches!(event, Event::Message(_));
        }
        if connected {
            client.subscribe(&[("hello", SubscriptionOptions::default())], Properties::EMPTY)?;
            client.publish(&Publish { topic: "hello", payload: b"world", ..Publish::default() })?;
        }
        if got {
            let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
            client.disconnect(&Disconnect { reason, properties })?;
        }
        while !client.transmit().is_empty() {
            let written = socket.write(client.transmit())?;
            client.transmitted(now(), written);
        }
        if client.is_closing() {
            return Ok(());
        }
        // A timeout of zero would be none at all.
        let wait = client.poll_timeout().map(|at| at.since(now()).max(Duration::from_millis(1)));
        socket.set_read_timeout(wait)?;
        match socket.read(client.recv_buf()) {
            Ok(0) => return Err("closed by the server".into()),
            Ok(len) => client.received(len),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                client.handle_timeout(now());
            }
            Err(error) => return Err(error.into()),
        }
    }
}
