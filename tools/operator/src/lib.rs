//! The operator's tools: [`configure`] prepares a deployment, [`doctor`] examines it afterwards.

pub mod configure;
pub mod doctor;
pub mod env_file;
