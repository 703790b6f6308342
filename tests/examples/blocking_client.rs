//! A client on a blocking socket of std: subscribes, publishes a message, waits until it has come
//! back, and leaves. Run it as `blocking_client [HOST:PORT]`.

use std::error::Error;
use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant as Clock};

use fulmar_core::client::{Client, Event, Fixed, Options};
use fulmar_core::codec::{Connect, Disconnect, Properties, Publish, SubscriptionOptions};
use fulmar_core::{Instant, ReasonCode};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:1883".into());
    run(&address).map(|said| println!("hello, {said}"))
}

/// Answers what came back.
pub(crate) fn run(address: &str) -> Result<String, Box<dyn Error>> {
    let mut socket = TcpStream::connect(address)?;
    let start = Clock::now();
    let now = || Instant::from_micros(start.elapsed().as_micros() as u64);
    let mut memory = Fixed::<1024, 1024, 4, 4, 0>::new();
    let mut client = Client::new(memory.storage(), Options::default());
    client.connect(now(), &Connect { client_id: "std", keep_alive: 30, ..Connect::default() })?;
    let (mut begun, mut said) = (false, String::new());
    while !client.wants_close() {
        while let Some(event) = client.poll_event() {
            match event {
                Event::Message(message) => said = str::from_utf8(message.payload)?.into(),
                Event::Refused { .. } | Event::Failed(_) | Event::Closed => {
                    return Err(format!("{event:?}").into());
                }
                _ => {}
            }
        }
        if client.is_connected() && !said.is_empty() {
            let (reason, properties) = (ReasonCode::Success, Properties::EMPTY);
            client.disconnect(now(), &Disconnect { reason, properties })?;
        } else if client.is_connected() && !std::mem::replace(&mut begun, true) {
            client.subscribe(&[("hello", SubscriptionOptions::default())], Properties::EMPTY)?;
            client.publish(&Publish { topic: "hello", payload: b"world", ..Publish::default() })?;
        }
        if !client.transmit().is_empty() {
            let written = socket.write(client.transmit())?;
            client.transmitted(now(), written);
            continue;
        }
        // A timeout of zero would be none at all.
        let wait = client.poll_timeout().map(|at| at.since(now()).max(Duration::from_millis(1)));
        socket.set_read_timeout(wait)?;
        match socket.read(client.recv_buf()) {
            Ok(0) => client.closed(now()),
            Err(e) if matches!(e.kind(), WouldBlock | TimedOut) => client.handle_timeout(now()),
            read => client.received(now(), read?),
        }
    }
    Ok(said)
}
