//! The time, as the platform tells it.

/// Milliseconds since the epoch. On the edge the clock stands still between two points of I/O.
pub fn now_ms() -> u64 {
    worker::Date::now().as_millis()
}
