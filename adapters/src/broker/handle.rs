//! The broker as the program sees it that embeds it.

use std::fmt;
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use fulmar_core::broker::{ClientInfo, Command, Publication, Reply, Stats};
use fulmar_core::codec::{Qos, ReasonCode};

use super::inbox::{Inbox, Item};
use super::subscription::Subscription;

/// Why the broker did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandleError {
    /// The broker has stopped.
    Stopped,
    /// 4,096 requests wait already; try again later.
    Busy,
    /// The broker refused it for this reason.
    Refused(ReasonCode),
}

impl fmt::Display for HandleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("the broker has stopped"),
            Self::Busy => f.write_str("too many requests wait for the broker"),
            Self::Refused(reason) => write!(f, "the broker refused: {reason}"),
        }
    }
}

impl std::error::Error for HandleError {}

/// Figures of a running broker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Those of the broker itself.
    pub core: Stats,
    /// System calls that read from clients.
    pub reads: u64,
    /// System calls that wrote to clients.
    pub writes: u64,
    /// System calls that waited for something to do.
    pub waits: u64,
}

/// A page of the sessions; see [`BrokerHandle::clients`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// In the order in which they were made.
    pub clients: Vec<ClientInfo>,
    /// Pass it as `after` for the next page; `None` when this was the last.
    pub next: Option<u64>,
}

/// Reaches a broker from any thread and any executor, also before it runs and after it stopped.
///
/// A request is under way from the first poll of its future; dropping that future does not take it
/// back, but a subscription nobody receives is ended. Every request fails with
/// [`HandleError::Stopped`] when the broker has stopped, and with [`HandleError::Busy`] when 4,096
/// others wait.
#[derive(Clone)]
pub struct BrokerHandle {
    pub(super) inbox: Arc<Inbox>,
    /// Closed when the broker has stopped.
    pub(super) stopped: Receiver<()>,
}

impl BrokerHandle {
    /// Publishes a message and gives the number of sessions that were to receive it.
    ///
    /// # Errors
    /// Refused if the topic is not one to publish to, or a field too long.
    pub async fn publish(&self, publication: Publication) -> Result<u32, HandleError> {
        match self.command(Command::Publish(Box::new(publication))).await? {
            Reply::Published { receivers } => Ok(receivers),
            other => Err(unexpected(&other)),
        }
    }

    /// Subscribes to Topic Filters, each with the highest QoS wanted. Up to `capacity` messages
    /// wait for the program; what happens beyond says `queue_full` of the configuration, and
    /// [`Subscription::overflow`] counts it.
    ///
    /// # Errors
    /// Refused if a filter is not valid, or at a limit.
    pub async fn subscribe(
        &self,
        filters: &[(&str, Qos)],
        capacity: u32,
    ) -> Result<Subscription, HandleError> {
        let filters = filters.iter().map(|&(filter, qos)| (filter.into(), qos)).collect();
        let command = Command::Subscribe { filters, queue: capacity };
        self.ask(|answer| Item::Subscribe { command, answer }).await?.map_err(HandleError::Refused)
    }

    /// A page of the sessions, connected or not: at most `limit`, and never more than 1,000, from
    /// the one that follows `after`; 0 begins.
    ///
    /// # Errors
    /// As all requests.
    pub async fn clients(&self, after: u64, limit: u32) -> Result<Clients, HandleError> {
        match self.command(Command::Clients { after, limit }).await? {
            Reply::Clients { clients, next } => Ok(Clients { clients, next }),
            other => Err(unexpected(&other)),
        }
    }

    /// Disconnects a client, 5.0 ones with `reason`, and throws its session away if `end_session`.
    ///
    /// # Errors
    /// Refused if there is no such client.
    pub async fn disconnect(
        &self,
        client_id: &str,
        reason: ReasonCode,
        end_session: bool,
    ) -> Result<(), HandleError> {
        let client_id = client_id.into();
        match self.command(Command::Disconnect { client_id, reason, end_session }).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The figures.
    ///
    /// # Errors
    /// As all requests.
    pub async fn stats(&self) -> Result<Statistics, HandleError> {
        self.ask(Item::Statistics).await
    }

    /// Stops the broker and waits until it has: no more connections are accepted, every client is
    /// told and gets what is under way to it, at most for the `shutdown_timeout` of the options.
    /// Harmless when it has stopped already. The broker must run, or be dropped, for this to end.
    pub async fn stop(&self) {
        self.end(Item::Stop).await;
    }

    /// Stops the broker without telling the clients, and waits until it has. Harmless when it has
    /// stopped already, and during a [`stop`](Self::stop), which it cuts short.
    pub async fn abort(&self) {
        self.end(Item::Abort).await;
    }

    async fn end(&self, item: Item) {
        if self.inbox.push(item).is_ok() {
            // Nothing is ever sent: it fails when the other end is gone.
            let _ = self.stopped.recv().await;
        }
    }

    async fn command(&self, command: Command) -> Result<Reply, HandleError> {
        self.ask(|answer| Item::Command { command, answer }).await
    }

    async fn ask<T>(&self, item: impl FnOnce(Sender<T>) -> Item) -> Result<T, HandleError> {
        let (answer, answers) = async_channel::bounded(1);
        self.inbox.push(item(answer))?;
        answers.recv().await.map_err(|_| HandleError::Stopped)
    }
}

/// What else a command is answered with: a refusal. The core answers each with its own kind only.
fn unexpected(reply: &Reply) -> HandleError {
    HandleError::Refused(match reply {
        Reply::Refused(reason) => *reason,
        _ => ReasonCode::ImplementationSpecificError,
    })
}

impl fmt::Debug for BrokerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerHandle").finish_non_exhaustive()
    }
}
