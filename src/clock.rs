//! The time, as the platform tells it.

/// Milliseconds since the epoch. On the edge the clock stands still between two points of I/O.
pub fn now_ms() -> u64 {
    // Not negative, and whole until long after `u64` would be too small for it.
    js_sys::Date::now() as u64
}
