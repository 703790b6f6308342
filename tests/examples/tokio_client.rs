//! The same client on tokio: the machine does not care what runs it. Run it as
//! `tokio_client [HOST:PORT]`.

use std::error::Error;
use std::time::{Duration, Instant as Clock};

use fulmar_core::client::{Client, Event, Options, Sizes, Storage};
use fulmar_core::codec::{Connect, Disconnect, Properties, Publish, SubscriptionOptions};
use fulmar_core::{Instant, ReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:1883".into());
    run(&address).map(|said| println!("hello, {said}"))
}

/// Answers what came back.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(address: &str) -> Result<String, Box<dyn Error>> {
    let mut socket = TcpStream::connect(address).await?;
    let start = Clock::now();
    let now = || Instant::from_micros(start.elapsed().as_micros() as u64);
    let mut client = Client::new(Storage::heap(Sizes::default()), Options::default());
    client.connect(now(), &Connect { client_id: "tokio", keep_alive: 30, ..Connect::default() })?;
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
            let written = socket.write(client.transmit()).await?;
            client.transmitted(now(), written);
            continue;
        }
        let wait = client.poll_timeout().map_or(FOR_EVER, |at| at.since(now()));
        match timeout(wait, socket.read(client.recv_buf())).await.ok().transpose()? {
            Some(0) => client.closed(now()),
            Some(len) => client.received(now(), len),
            None => client.handle_timeout(now()),
        }
    }
    Ok(said)
}
