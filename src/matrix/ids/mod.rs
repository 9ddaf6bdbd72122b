//! Matrix identifiers, parsed where they enter the service: a value of these types is well-formed.

pub mod room_id;
pub mod server_name;
pub mod user_id;
