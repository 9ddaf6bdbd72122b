//! Delegated leaves.
pub mod names;
