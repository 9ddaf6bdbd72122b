//! LiveKit's webhooks: their signature, and their events.

pub mod event;
pub mod signature;
