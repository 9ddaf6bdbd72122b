//! What speaks Matrix: server discovery and OpenID verification.
//!
//! Knows nothing of LiveKit or of the routes of this service.

pub mod address;
pub mod client_api;
pub mod delayed_events;
pub mod discovery;
pub mod dns;
pub mod federation;
pub mod lookups;
pub mod openid;
pub mod server_name;
pub mod user_id;
pub mod well_known;
