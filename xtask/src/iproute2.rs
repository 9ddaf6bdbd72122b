//! The `ip` command, which the tests' network namespaces are made with.

use anyhow::Result;

use crate::debian;

/// Sees to it that there is an `ip` command.
///
/// # Errors
///
/// There is none, and it can't be installed.
pub fn set_up() -> Result<()> {
    debian::install("ip", "iproute2")
}
