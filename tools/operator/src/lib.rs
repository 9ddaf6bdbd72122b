//! What the operator of a deployment runs: [`configure`] before it, [`doctor`] after it.

pub mod configure;
pub mod doctor;
