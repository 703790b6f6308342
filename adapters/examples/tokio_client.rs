//! The same client on tokio: the machine does not care what runs it. Run it as
//! `tokio_client [HOST:PORT]`.

use std::time::{Duration, Instant as Clock};

use fulmar_core::client::{Client, Event, Options, Sizes, Storage};
use fulmar_core::codec::{Connect, Disconnect, Properties, Publish, SubscriptionOptions};
use fulmar_core::{Instant, ReasonCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "localhost:1883".into());
    let mut socket = TcpStream::connect(address).await?;
    let start = Clock::now();
    let now = || Instant::from_micros(start.elapsed().as_micros() as u64);
    let mut client = Client::new(Storage::heap(Sizes::default()), Options::default());
    let connect = Connect { client_id: "tokio", keep_alive: 30, ..Connect::default() };
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
            let written = socket.write(client.transmit()).await?;
            client.transmitted(now(), written);
        }
        if client.is_closing() {
            return Ok(());
        }
        let wait = client.poll_timeout().map_or(FOR_EVER, |at| at.since(now()));
        match timeout(wait, socket.read(client.recv_buf())).await {
            Ok(read) => match read? {
                0 => return Err("closed by the server".into()),
                len => client.received(len),
            },
            Err(_) => client.handle_timeout(now()),
        }
    }
}
