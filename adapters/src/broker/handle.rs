//! The broker as the program sees it that embeds it.

use std::fmt;
use std::sync::Arc;

use async_channel::{Receiver, Sender};
use fulmar_core::broker::{ClientInfo, Command, Publication, Reply, SERIAL_BITS, Stats};
use fulmar_core::codec::{Qos, ReasonCode};

use super::inbox::{Inbox, Item};
use super::mesh::Mesh;
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

/// Clients of one page at most.
const PAGE: u32 = 1_000;

/// Figures of a running broker, of all its shards together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Those of the broker itself. Connections that are not placed on a shard yet, or on their way
    /// to another one, count as open and not accepted; those refused before, as refused.
    pub core: Stats,
    /// System calls that read from clients.
    pub reads: u64,
    /// System calls that wrote to clients.
    pub writes: u64,
    /// System calls that waited for something to do.
    pub waits: u64,
    /// System calls that ended such a wait for a message of another shard, a connection or a
    /// request.
    pub wakes: u64,
    /// Connections that one shard gave to another since the start, since their clients belong
    /// there. With one shard 0.
    pub handed_over: u64,
    /// Application messages that one shard took from another since the start, each counted once
    /// for each shard that took it. With one shard 0.
    pub crossed: u64,
}

/// A page of the sessions; see [`BrokerHandle::clients`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// In the order in which they were made, shard by shard.
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
    pub(super) mesh: Arc<Mesh>,
    /// Closed when the broker has stopped.
    pub(super) stopped: Receiver<()>,
}

impl BrokerHandle {
    /// Publishes a message and gives the number of sessions that were to receive it; with several
    /// shards those of the first one, and one for each other shard that has any.
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
        let inbox = &self.mesh.inboxes[0];
        self.ask(inbox, |answer| Item::Subscribe { command, answer })
            .await?
            .map_err(HandleError::Refused)
    }

    /// A page of the sessions, connected or not: at most `limit`, and never more than 1,000, from
    /// the one that follows `after`; 0 begins.
    ///
    /// # Errors
    /// As all requests.
    pub async fn clients(&self, after: u64, limit: u32) -> Result<Clients, HandleError> {
        let mut page = Clients { clients: Vec::new(), next: Some(after) };
        // The serial numbers of a shard begin where those of the one before it can never come to.
        while let Some(after) = page.next
            && (page.clients.len() as u32) < limit.min(PAGE)
        {
            let shard = (after >> SERIAL_BITS) as usize;
            let Some(inbox) = self.mesh.inboxes.get(shard) else {
                page.next = None;
                break;
            };
            let limit = limit.min(PAGE) - page.clients.len() as u32;
            let command = Command::Clients { after, limit };
            match self.ask(inbox, |answer| Item::Command { command, answer }).await? {
                Reply::Clients { clients, next } => {
                    page.clients.extend(clients);
                    let following = (shard as u64 + 1) << SERIAL_BITS;
                    let more = shard + 1 < self.mesh.inboxes.len();
                    page.next = next.or(more.then_some(following));
                }
                other => return Err(unexpected(&other)),
            }
        }
        Ok(page)
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
        let inbox = self.mesh.home(client_id);
        let client_id = client_id.into();
        let command = Command::Disconnect { client_id, reason, end_session };
        match self.ask(inbox, |answer| Item::Command { command, answer }).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The number of the shard that has the session of a Client Identifier, or would have it: the
    /// same as long as the broker runs. With one shard 0. Clients should not learn it: who knows
    /// can choose identifiers that all fall on one shard.
    #[must_use]
    pub fn home(&self, client_id: &str) -> u16 {
        self.mesh.place(0).home(client_id)
    }

    /// The figures. Each shard tells its own when it comes to it, so that what moves between two of
    /// them meanwhile may count twice or not at all.
    ///
    /// # Errors
    /// As all requests.
    pub async fn stats(&self) -> Result<Statistics, HandleError> {
        let mut sum: Option<Statistics> = None;
        for inbox in &self.mesh.inboxes {
            let part = self.ask(inbox, Item::Statistics).await?;
            match &mut sum {
                None => sum = Some(part),
                Some(sum) => {
                    sum.core.add(&part.core);
                    sum.reads += part.reads;
                    sum.writes += part.writes;
                    sum.waits += part.waits;
                    sum.wakes += part.wakes;
                    sum.handed_over += part.handed_over;
                    sum.crossed += part.crossed;
                }
            }
        }
        let mut sum = sum.ok_or(HandleError::Stopped)?;
        // Last: what a shard has counted is no longer under way.
        let under_way = self.mesh.under_way();
        sum.core.connections += under_way;
        sum.core.unauthenticated += under_way;
        sum.core.refused_total += self.mesh.refused();
        Ok(sum)
    }

    /// Stops the broker and waits until it has: no more connections are accepted, every client is
    /// told and gets what is under way to it, at most for the `shutdown_timeout` of the options.
    /// Harmless when it has stopped already. The broker must run, or be dropped, for this to end.
    pub async fn stop(&self) {
        self.end(|| Item::Stop).await;
    }

    /// Stops the broker without telling the clients, and waits until it has. Harmless when it has
    /// stopped already, and during a [`stop`](Self::stop), which it cuts short.
    pub async fn abort(&self) {
        self.end(|| Item::Abort).await;
    }

    async fn end(&self, item: fn() -> Item) {
        let mut running = false;
        for inbox in &self.mesh.inboxes {
            running |= inbox.push(item()).is_ok();
        }
        if running {
            // Nothing is ever sent: it fails when the other end is gone.
            let _ = self.stopped.recv().await;
        }
    }

    async fn command(&self, command: Command) -> Result<Reply, HandleError> {
        self.ask(&self.mesh.inboxes[0], |answer| Item::Command { command, answer }).await
    }

    async fn ask<T>(
        &self,
        inbox: &Inbox,
        item: impl FnOnce(Sender<T>) -> Item,
    ) -> Result<T, HandleError> {
        let (answer, answers) = async_channel::bounded(1);
        inbox.push(item(answer))?;
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
