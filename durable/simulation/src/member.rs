//! A member of the call, and the steps of its client.

use delegated_leaves::{DelayTimeout, Timestamp};

use crate::sfu::ConnectionName;

/// Member of the call, and its client.
pub(crate) struct Member {
    pub(crate) server: usize,
    pub(crate) timeout: DelayTimeout,
    /// Its delegations have a second identity, under which it may join.
    pub(crate) has_legacy: bool,
    pub(crate) legacy: bool,
    /// Its newest delayed event.
    pub(crate) event: Option<usize>,
    /// The connection that the client holds.
    pub(crate) connection: Option<ConnectionName>,
    pub(crate) last_began: Option<Timestamp>,
    /// When its client last requested a delegation.
    pub(crate) requested_at: Timestamp,
    /// Expiry of the token that it has kept.
    pub(crate) token_until: Timestamp,
    pub(crate) gone: bool,
    pub(crate) steps: u32,
}

/// Next step of a client.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Schedules its leave, and starts.
    Start,
    /// Delegates its leave.
    Delegate { tries: u32, then_join: bool },
    /// Connects to the SFU.
    Join,
    /// Requests another token.
    Renew,
    /// Decides what to do next, having been in the call for a while.
    Decide,
}
