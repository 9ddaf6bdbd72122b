//! Asking a server on this machine whether it answers.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use ureq::Agent;

/// The status of `GET path`, whichever it is.
///
/// # Errors
///
/// There is no answer within two seconds.
pub fn status(server: SocketAddr, path: &str) -> Result<u16> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(2)))
        .proxy(None)
        .build()
        .into();
    let answer = agent.get(format!("http://{server}{path}")).call();
    Ok(answer.with_context(|| format!("{server} doesn't answer"))?.status().as_u16())
}
