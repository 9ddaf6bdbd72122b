//! Matrix: server discovery, OpenID verification, and the requests of an application service to its homeserver.
//!
//! Independent of LiveKit and of the routes of this service.

pub mod address;
pub mod federation;
pub mod homeserver;
pub mod ids;
pub mod lookups;
pub mod well_known;
