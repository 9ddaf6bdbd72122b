//! `cargo xtask dev`: the worker under `wrangler dev`, from nothing.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpListener},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Args;
use supervise::Interrupt;

use crate::{build::Build, progress, tools::Tools, workspace, wrangler::WranglerDev};

/// Set up whatever is missing, build, and run the worker under `wrangler dev`
#[derive(Debug, Args)]
pub struct Options {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    ip: IpAddr,
    /// The port to listen on
    #[arg(long, default_value_t = 8787)]
    port: u16,
}

/// Runs the worker until SIGINT or SIGTERM.
///
/// # Errors
///
/// Something can't be installed or built, the port is taken, or wrangler ends by itself.
pub fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let addr = SocketAddr::new(options.ip, options.port);
    let tools = Tools::set_up(&root)?;
    Build::make(&root)?;
    write_dev_vars(&root)?;
    // wrangler would choose another port without a word.
    drop(TcpListener::bind(addr).with_context(|| format!("can't listen on {addr}; --port chooses another port"))?);

    let interrupt = Interrupt::listen().context("can't listen for signals")?;
    let mut wrangler = WranglerDev::start(&tools, addr, |_| {})?;
    if wrangler.wait_until_it_answers(|| interrupt.has_come())? {
        println!("{}", invitation(addr));
    }
    while !interrupt.has_come() {
        wrangler.check()?;
        thread::sleep(POLL);
    }
    wrangler.stop()
}

fn write_dev_vars(root: &Path) -> Result<()> {
    match fs::File::create_new(root.join(".dev.vars")) {
        Ok(mut file) => {
            progress::note("writing .dev.vars, which matches `livekit-server --dev`");
            std::io::Write::write_all(&mut file, DEV_VARS.as_bytes()).context("can't write .dev.vars")
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).context("can't write .dev.vars"),
    }
}

fn invitation(addr: SocketAddr) -> String {
    format!(
        r##"
The worker answers on http://{addr}. Try it; until there is a real OpenID token in it, the answer is M_UNAUTHORIZED:

  curl -i http://{addr}/get_token -d '{{
    "room_id": "!room:example.com", "slot_id": "m.call#ROOM",
    "openid_token": {{"access_token": "TOKEN", "token_type": "Bearer", "matrix_server_name": "example.com", "expires_in": 3600}},
    "member": {{"id": "member-1", "claimed_user_id": "@alice:example.com", "claimed_device_id": "DEVICE"}}
  }}'

Ctrl-C ends it.
"##
    )
}

const DEV_VARS: &str = "\
# The configuration of `cargo xtask dev`, made for `livekit-server --dev`. Not under version control.
LIVEKIT_URL=ws://127.0.0.1:7880
LIVEKIT_KEY=devkey
LIVEKIT_SECRET=secret
LIVEKIT_FULL_ACCESS_HOMESERVERS=*
";
const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_vars_are_written_once() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(".dev.vars");

        write_dev_vars(root.path()).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        fs::write(&path, "LIVEKIT_URL=wss://mine.example.com").unwrap();
        write_dev_vars(root.path()).unwrap();

        assert!(written.contains("LIVEKIT_KEY=devkey"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "LIVEKIT_URL=wss://mine.example.com");
    }

    #[test]
    fn the_request_to_try_is_json() {
        let invitation = invitation("127.0.0.1:8787".parse().unwrap());
        let body = invitation.split('\'').nth(1).unwrap();

        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
    }
}
