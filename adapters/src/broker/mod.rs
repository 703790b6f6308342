//! An MQTT broker over TCP, to run or to embed.
//!
//! ```
//! use fulmar_adapters::broker::{Options, Publication, Qos, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listeners = vec!["127.0.0.1:0".parse()?];
//! let server = Server::bind(Options { listeners, ..Options::default() })?;
//! println!("clients connect to {}", server.addresses()[0]);
//! let broker = server.handle();
//! let thread = server.spawn()?;
//! smol::block_on(async {
//!     let mut news = broker.subscribe(&[("news/#", Qos::AtLeastOnce)], 1_000).await?;
//!     let (topic, payload) = ("news/today".into(), "rain".into());
//!     broker.publish(Publication { topic, payload, ..Publication::default() }).await?;
//!     assert_eq!(news.next().await.expect("a message").payload, "rain");
//!     broker.stop().await;
//!     Ok::<(), fulmar_adapters::broker::HandleError>(())
//! })?;
//! thread.join().expect("the broker does not panic")?;
//! # Ok(())
//! # }
//! ```
//!
//! Each shard of the broker has a thread that runs it and waits for its connections; while that
//! sleeps another shard's thread may do the little that is to do. One more thread accepts
//! connections and finds out where they belong, and one, of `smol`, watches the listening sockets.
//! [`BrokerHandle`] may be used from any thread and any executor.
//!
//! Tested on Linux. For FreeBSD and macOS it compiles; there nothing has been run.

mod accept;
mod handle;
mod inbox;
mod limit;
mod mesh;
mod notice;
mod peers;
mod place;
mod poller;
mod record;
mod requests;
mod seat;
mod server;
mod shard;
mod socket;
mod subscription;
mod traffic;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use fulmar_core::broker::{
    AuthRequest, AuthStep, ClientInfo, Config, ConnId, Delivery, Event, OpenError, Publication,
    Stats, Verdict,
};
pub use fulmar_core::codec::{Qos, ReasonCode};

pub use handle::{BrokerHandle, Clients, HandleError, Statistics};
pub use limit::raise_file_limit;
pub use notice::Notice;
pub use server::{BindError, Server, shards};
pub use subscription::Subscription;

/// Decides about clients. The steps of one enhanced authentication carry the same [`ConnId`];
/// [`Event::Disconnected`] with it tells that no more will come. Called on a thread of the broker,
/// which waits for it, as the other ones do that want to call it: it must be quick, and must not
/// wait for a [`BrokerHandle`].
pub type Authenticate = Box<dyn FnMut(ConnId, &AuthRequest) -> Verdict + Send>;

/// Is told what happens. Called on a thread of the broker, which waits for it, as the other ones
/// do that want to call it: it must be quick, and must not wait for a [`BrokerHandle`].
pub type Observe = Box<dyn FnMut(&Notice) + Send>;

/// Is called once on each shard's thread, with the shard's number, before it serves anybody: to tie
/// the thread to a core, say, or to have the system's scheduler treat it differently. What it
/// changes of the thread on which [`Server::run`] is called stays when that returns. A panic in it
/// ends the broker.
pub type Prepare = Box<dyn Fn(u16) + Send + Sync>;

/// Where to record to; see [`fulmar_core::broker::Replay`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// A folder that exists. The file in it, one for each shard, is named by the time, and nobody
    /// else may read it: it holds all messages, and the seed, but no passwords.
    pub dir: PathBuf,
    /// Bytes after which the recording of a shard stops.
    pub limit: u64,
}

/// What a [`Server`] is made from.
pub struct Options {
    /// Limits and choices of the broker, for all shards together: see [`Config::of_one`].
    pub config: Config,
    /// Shards, each with a thread, up to 64, for which there must be [`Config::LEAST_BUDGET`] of
    /// memory; more are an error. 0 for one per core, or as many as there is memory for. 1.
    pub shards: u16,
    /// Addresses to listen on; port 0 lets the system choose. May be empty, for a broker that is
    /// used through its handle only. 127.0.0.1:1883.
    pub listeners: Vec<SocketAddr>,
    /// How long [`BrokerHandle::stop`] waits for clients to take their last packets. 10 s.
    pub shutdown_timeout: Duration,
    /// Decides about clients. By default all are accepted, but those that ask for enhanced
    /// authentication, of which no method is known.
    pub authenticate: Authenticate,
    /// Is told what happens. By default nobody.
    pub observe: Observe,
    /// Prepares the threads of the shards. By default nothing is done.
    pub prepare: Prepare,
    /// Records every call of the broker. By default nothing is recorded.
    pub record: Option<Record>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config: Config::default(),
            shards: 1,
            listeners: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1883))],
            shutdown_timeout: Duration::from_secs(10),
            authenticate: Box::new(|_, request| match request.method {
                None => Verdict::Accept { data: None },
                Some(_) => Verdict::Refuse(ReasonCode::BadAuthenticationMethod),
            }),
            observe: Box::new(|_| {}),
            prepare: Box::new(|_| {}),
            record: None,
        }
    }
}
