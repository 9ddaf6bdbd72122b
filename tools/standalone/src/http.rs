//! Asking a server on this machine whether it answers.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use ureq::Agent;

/// What a server has answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body, as far as it is text, and the first 64 KiB of it.
    pub body: String,
}

/// The status of `GET path`, whichever it is.
///
/// # Errors
///
/// There is no answer within two seconds.
pub fn status(server: SocketAddr, path: &str) -> Result<u16> {
    Ok(get(server, path)?.status)
}

/// The answer to `GET path`, whichever it is.
///
/// # Errors
///
/// There is none within two seconds.
pub fn get(server: SocketAddr, path: &str) -> Result<Answer> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(Duration::from_secs(2)))
        .proxy(None)
        .build()
        .into();
    let no_answer = || format!("{server} doesn't answer");
    let mut answer = agent.get(format!("http://{server}{path}")).call().with_context(no_answer)?;
    let body = answer.body_mut().with_config().limit(64 * 1024).lossy_utf8(true).read_to_string();
    Ok(Answer { status: answer.status().as_u16(), body: body.unwrap_or_default() })
}
