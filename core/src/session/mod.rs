//! The two halves of QoS 1 and 2, as state machines without bytes, time or versions.
//!
//! The protocol is the same in both directions: who publishes is an [`Outbound`], who is published
//! to is an [`Inbound`]. A broker has one of each for every client, a client one of each for its
//! server. Both outlive the connection: they are session state.
//!
//! Memory is lent by the caller or grows on the heap, see [`Storage`](crate::Storage).

mod inbound;
mod outbound;
mod slots;

pub use inbound::{Held, Inbound, Verdict};
pub use outbound::{Acked, Full, Outbound, Recd, Resend, State};
pub use slots::Slot;
