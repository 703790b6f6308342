//! Messages received and not acknowledged, in the order of receipt.

use crate::codec::{PacketId, Qos, ReasonCode};

/// Memory for one message received and not acknowledged; the default is unused memory, to make a
/// slice to lend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owed {
    /// `None` only where unused.
    pub(super) id: Option<PacketId>,
    /// 1 or 2.
    pub(super) qos: Qos,
    /// Names the message on this connection.
    pub(super) number: u32,
    /// What the application says of it, once it has.
    pub(super) answer: Option<ReasonCode>,
}
