//! The rooms that this instance has lately sent a command to. In memory, so that it costs nothing to store; on the edge
//! other instances have others.

use std::cell::RefCell;
use std::collections::BTreeMap;

use delegated_leaves::RoomName;

use crate::clock;

/// Remembers that a command goes to `room`.
pub fn remember(room: &RoomName) {
    ROOMS.with_borrow_mut(|rooms| {
        if let Some(latest) = rooms.get_mut(room) {
            *latest = clock::now_ms();
            return;
        }
        if rooms.len() >= MOST {
            let oldest = rooms.iter().min_by_key(|(_, latest)| **latest).map(|(room, _)| room.clone());
            oldest.and_then(|room| rooms.remove(&room));
        }
        rooms.insert(room.clone(), clock::now_ms());
    });
}

/// Returns the names of these rooms.
pub fn names() -> Vec<RoomName> {
    ROOMS.with_borrow(|rooms| rooms.keys().cloned().collect())
}

thread_local! {
    static ROOMS: RefCell<BTreeMap<RoomName, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Rooms to remember: some 100 kB of memory.
const MOST: usize = 500;
