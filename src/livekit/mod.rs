//! LiveKit: tokens, the server API, webhooks.

pub mod api_token;
pub mod keys;
pub mod room_service;
pub mod sfu_url;
pub mod token;
pub mod webhook;
