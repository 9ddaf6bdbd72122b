//! The time, as the platform reports it.

/// Returns milliseconds since the epoch. On the edge the clock stands still between two points of I/O.
pub fn now_ms() -> u64 {
    // Neither negative nor fractional, and `u64` is large enough.
    js_sys::Date::now() as u64
}
