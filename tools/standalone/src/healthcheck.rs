//! `matrixrtc-edge healthcheck`: the health of the service on this machine, for containers and scripts.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Result, bail};
use clap::Args;
use supervise::http;

use crate::{environment::Environment, listen_address};

/// Check the health of a running service: exits with 0 if it is well, and prints its problems otherwise
#[derive(Debug, Args)]
pub struct Options {
    /// The address that the service listens on; otherwise found as the service finds it
    #[arg(long, value_name = "IP:PORT", value_parser = listen_address::parse)]
    addr: Option<SocketAddr>,
    /// The file of variables that the service was started with
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Requests `/healthz`, and prints `ok` if the answer is 200.
///
/// # Errors
///
/// The address in the environment is wrong, there is no answer, or another one than 200: the error carries it.
pub fn run(options: &Options) -> Result<()> {
    let addr = match options.addr {
        Some(addr) => addr,
        None => listen_address::chosen(None, &mut Environment::of_process(options.config.as_deref())?)?,
    };
    let answer = http::get(reachable(addr), "/healthz")?;
    if answer.status != 200 {
        bail!("/healthz answers {}: {}", answer.status, answer.body.trim());
    }
    println!("ok");
    Ok(())
}

/// A server that listens on every address does so on loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_listen_on_becomes_one_to_connect_to() {
        for (listens, asked) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("192.0.2.1:80", "192.0.2.1:80")]
        {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
