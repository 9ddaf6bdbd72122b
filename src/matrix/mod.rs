//! What speaks Matrix: server discovery, OpenID verification, and what homeservers are asked as their application service.
//!
//! Knows nothing of LiveKit or of the routes of this service.

pub mod address;
pub mod application_service;
pub mod client_api;
pub mod delayed_events;
pub mod discovery;
pub mod dns;
pub mod federation;
pub mod joined_members;
pub mod lookups;
pub mod membership;
pub mod openid;
pub mod relay;
pub mod room_id;
pub mod server_name;
pub mod user_id;
pub mod well_known;
