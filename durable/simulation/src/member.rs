//! A member of the call, as its client knows it.

use delegated_leaves::{DelayTimeout, Timestamp};

use crate::sfu::ConnectionName;

/// A member of the call, and its client.
pub(crate) struct Member {
    pub(crate) server: usize,
    pub(crate) timeout: DelayTimeout,
    /// Its delegations answer to a second identity, under which it may join.
    pub(crate) has_legacy: bool,
    pub(crate) legacy: bool,
    /// Its newest delayed event.
    pub(crate) event: Option<usize>,
    /// The connection that the client holds.
    pub(crate) connection: Option<ConnectionName>,
    pub(crate) last_began: Option<Timestamp>,
    /// Until when a token that it has kept lets it in.
    pub(crate) token_until: Timestamp,
    pub(crate) gone: bool,
    pub(crate) steps: u32,
}

/// What a client does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// It schedules its leave, and starts.
    Start,
    /// It delegates its leave.
    Delegate { tries: u32, then_join: bool },
    /// It connects to the SFU.
    Join,
    /// It asks for another token.
    Renew,
    /// It has been in the call for a while.
    Decide,
}
