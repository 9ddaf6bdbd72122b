//! LiveKit's webhooks: their signature, and what they say.

pub mod event;
pub mod signature;
