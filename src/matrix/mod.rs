//! What speaks Matrix: server discovery, OpenID verification, and what homeservers are asked as their application service.
//!
//! Knows nothing of LiveKit or of the routes of this service.

pub mod address;
pub mod federation;
pub mod homeserver;
pub mod ids;
pub mod lookups;
pub mod well_known;
