//! The rooms that this instance has lately sent a command to. In memory, so that it costs nothing to store; on the edge
//! other instances have others.

use std::cell::RefCell;

use delegated_leaves::RoomName;

use crate::clock;

/// Remembers that a command goes to `room`.
pub fn remember(room: &RoomName) {
    let now_ms = clock::now_ms();
    ROOMS.with_borrow_mut(|rooms| {
        if let Some((_, latest)) = rooms.iter_mut().find(|(known, _)| known == room) {
            *latest = now_ms;
            return;
        }
        let latest = (room.clone(), now_ms);
        if rooms.len() < MOST {
            rooms.push(latest);
        } else if let Some(oldest) = rooms.iter_mut().min_by_key(|(_, latest)| *latest) {
            *oldest = latest;
        }
    });
}

/// Returns the names of these rooms.
pub fn names() -> Vec<RoomName> {
    ROOMS.with_borrow(|rooms| rooms.iter().map(|(room, _)| room.clone()).collect())
}

thread_local! {
    /// Each room with the time of its latest command.
    static ROOMS: RefCell<Vec<(RoomName, u64)>> = const { RefCell::new(Vec::new()) };
}

/// Rooms to remember: some 100 kB of memory.
const MOST: usize = 500;
