//! The operator's tools: [`configure`] prepares a deployment, [`doctor`] examines it afterwards, and [`status`] shows
//! the state of its rooms.

pub mod configure;
pub mod doctor;
pub mod env_file;
pub mod status;
mod values;
pub mod variables;
