//! Bounds of one room: what one caller can make the others pay for. They are listed in `docs/protocol.md`, "Limits of
//! one room".
//!
//! A command that goes over one is refused. Rows of older versions aren't: a room that has more than its bounds is
//! loaded and worked off, and takes no more until it has fewer.

use crate::command::Delegate;

/// Delegations in a room.
pub(crate) const DELEGATIONS: usize = 2_000;
/// Tracked participants in a room.
pub(crate) const TRACKED: usize = 5_000;
/// Delegations of one user in a room, and also tracked participants.
pub(crate) const OF_ONE_USER: usize = 20;
/// Delegations of restricted users in a room, so that they can't use up the share of the others.
const RESTRICTED: usize = 500;
/// Delegations of restricted users of one homeserver in a room. Homeservers are counted by host, since ports are free.
const RESTRICTED_OF_ONE_HOST: usize = 100;

/// Returns whether a new delegation beside `others` goes over a bound. A delegation without a known user counts for no
/// user.
pub(crate) fn is_full_for<'a>(others: impl Iterator<Item = &'a Delegate>, new: &Delegate) -> bool {
    let host = new.server_name.host();
    let (mut all, mut of_user, mut restricted, mut of_host) = (0, 0, 0, 0);
    for other in others {
        all += 1;
        of_user += usize::from(other.user_id == new.user_id && !new.user_id.as_str().is_empty());
        restricted += usize::from(other.restricted);
        of_host += usize::from(other.restricted && other.server_name.host() == host);
    }
    let restricted_full = restricted >= RESTRICTED || of_host >= RESTRICTED_OF_ONE_HOST;
    all >= DELEGATIONS || of_user >= OF_ONE_USER || (new.restricted && restricted_full)
}
