//! `cargo xtask dev`: the worker under `wrangler dev`, from nothing, and its first minute.
//!
//! - Where `.dev.vars` is `dev`'s own, a homeserver and an SFU stand in on loopback: the tests' fakes, as a program of the
//!   crate `fakes`. With a `.dev.vars` of the user's, nothing but the worker is started.
//! - `dev` then shows the service at work: each request is printed as a `curl`, that very command is run, and its answer is
//!   printed, with a token's claims decoded. The stand-ins print the worker's requests.
//! - The commands work again as long as `dev` runs.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind},
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use base64ct::{Base64UrlUnpadded, Encoding};
use clap::Args;
use serde_json::Value;
use supervise::Interrupt;

use crate::{
    build::Build,
    program::STAND_INS,
    progress::{self, Task},
    tools::{self, Tools},
    workspace,
    wrangler::WranglerDev,
};

/// Set up missing tools, build, and run the worker under `wrangler dev`
///
/// Without a .dev.vars, a homeserver and an SFU stand in on loopback, and the first requests are shown.
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
/// Something can't be installed or built, a port is taken, or wrangler ends by itself.
pub fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let addr = SocketAddr::new(options.ip, options.port);
    let with_stand_ins = write_dev_vars(&root)?;
    let mut stand_ins = None;
    progress::all([
        Box::new(|| Build::make(&root).map(drop)) as Task<'_>,
        Box::new(|| {
            if with_stand_ins {
                // First the one that the build waits for: cargo makes them one after the other anyway.
                tools::bindgen(&root)?;
                stand_ins = Some(STAND_INS.compile(&root)?);
            }
            Ok(())
        }),
    ])?;
    let tools = Tools::set_up(&root)?;
    // wrangler would choose another port without a word.
    drop(TcpListener::bind(addr).with_context(|| format!("can't listen on {addr}; --port chooses another port"))?);

    let interrupt = Interrupt::listen().context("can't listen for signals")?;
    let stand_ins = stand_ins.map(|program| StandIns::start(&program, addr)).transpose()?;
    // The stand-ins forget everything when they end; leaves of an earlier run would be about their new events.
    let state = root.join("target/stand-ins-state");
    if stand_ins.is_some() && state.exists() {
        fs::remove_dir_all(&state).with_context(|| format!("can't remove {}", state.display()))?;
    }
    let mut wrangler = WranglerDev::start(&tools, addr, |command| {
        if let Some(stand_ins) = &stand_ins {
            command.env("NODE_EXTRA_CA_CERTS", &stand_ins.authority).arg("--persist-to").arg(&state);
        }
    })?;
    if wrangler.wait_until_it_answers(|| interrupt.has_come())? {
        if stand_ins.is_some() {
            show_first_minute(addr, &interrupt)?;
        }
        println!("\nThe worker answers on http://{addr}. Ctrl-C ends it.");
    }
    while !interrupt.has_come() {
        wrangler.check()?;
        thread::sleep(POLL);
    }
    wrangler.stop()
}

/// The homeserver, the SFU and the client that stand in. They end when this is dropped, and when this process ends.
struct StandIns {
    child: Child,
    authority: PathBuf,
}

impl StandIns {
    fn start(program: &Path, worker: SocketAddr) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(worker.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {}", program.display()))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let stand_ins = Self { child, authority: line.trim().into() };
        if line.is_empty() {
            bail!(
                "the stand-ins for a homeserver and an SFU don't start; with a .dev.vars of your own, none are started"
            );
        }
        Ok(stand_ins)
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        // The end of its standard input ends it; killing it, too, if that fails.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Writes `.dev.vars` if it is missing, and returns whether it is the one for the stand-ins.
fn write_dev_vars(root: &Path) -> Result<bool> {
    let path = root.join(".dev.vars");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text == DEV_VARS),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            progress::note("writing .dev.vars, for stand-ins for a homeserver and an SFU");
            fs::write(&path, DEV_VARS).context("can't write .dev.vars")?;
            Ok(true)
        }
        Err(error) => Err(error).context("can't read .dev.vars"),
    }
}

fn show_first_minute(worker: SocketAddr, interrupt: &Interrupt) -> Result<()> {
    for Step { what, command } in steps(worker) {
        if interrupt.has_come() {
            break;
        }
        println!("\n# {what}\n$ {command}");
        let output = Command::new("sh").args(["-c", &command]).stderr(Stdio::inherit()).output();
        let output = output.context("can't start sh")?;
        if !output.status.success() {
            bail!("the command failed: {}", output.status);
        }
        let answer = String::from_utf8_lossy(&output.stdout);
        println!("{}", answer.trim());
        if let Some(claims) = claims(&answer) {
            println!("# its jwt says:\n{claims:#}");
        }
    }
    Ok(())
}

/// A request of the first minute.
struct Step {
    what: &'static str,
    command: String,
}

fn steps(worker: SocketAddr) -> [Step; 4] {
    let request = r#""room_id": "!room:localhost:8548", "slot_id": "m.call#ROOM",
    "openid_token": {"access_token": "alices-openid-token", "token_type": "Bearer",
                     "matrix_server_name": "localhost:8548", "expires_in": 3600},
    "member": {"id": "member-1", "claimed_user_id": "@alice:localhost:8548", "claimed_device_id": "DEVICE"}"#;
    [
        Step {
            what: "Alice's client exchanges her OpenID token for a LiveKit token.",
            command: format!("curl -sS http://{worker}/get_token -d '{{\n    {request}\n  }}'"),
        },
        Step {
            what: "It hands over its delayed leave, which the homeserver sends 10 s after the last restart.",
            command: format!(
                "curl -sS http://{worker}/delegate_delayed_leave -d '{{\n    {request},\n    \
                 \"delay_id\": \"alices-leave\", \"delay_timeout\": 10000\n  }}'"
            ),
        },
        Step {
            what: "It connects to the SFU, which notifies the service: the leave is restarted from now on.",
            command: "curl -sS -X POST http://127.0.0.1:7981/join".to_owned(),
        },
        Step {
            what: "Its connection ends. The next webhook, and the leave is sent.",
            command: "curl -sS -X POST http://127.0.0.1:7981/leave".to_owned(),
        },
    ]
}

/// The claims of the token in an answer, if there is one.
fn claims(answer: &str) -> Option<Value> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let claims = answer["jwt"].as_str()?.split('.').nth(1)?;
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(claims).ok()?).ok()
}

const DEV_VARS: &str = "\
# Written by `cargo xtask dev`, for the homeserver and the SFU that it lets stand in. Not under version control.
# Put your own values here, and no stand-ins are started: for `livekit-server --dev`, say, ws://127.0.0.1:7880.
LIVEKIT_URL=ws://127.0.0.1:7980
LIVEKIT_KEY=devkey
LIVEKIT_SECRET=secret
LIVEKIT_FULL_ACCESS_HOMESERVERS=localhost:8548
LIVEKIT_ALLOW_PRIVATE_ADDRESSES=true
LIVEKIT_CS_API_URL_OVERRIDES=localhost:8548=http://127.0.0.1:8549
";
const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_vars_of_the_user_stay_and_mean_no_stand_ins() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(".dev.vars");

        assert!(write_dev_vars(root.path()).unwrap());
        assert!(write_dev_vars(root.path()).unwrap());
        fs::write(&path, "LIVEKIT_URL=wss://mine.example.com").unwrap();

        assert!(!write_dev_vars(root.path()).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "LIVEKIT_URL=wss://mine.example.com");
    }

    #[test]
    fn the_bodies_of_requests_are_json() {
        for Step { command, .. } in steps("127.0.0.1:8787".parse().unwrap()) {
            if let Some(body) = command.split('\'').nth(1) {
                assert!(serde_json::from_str::<Value>(body).is_ok(), "{body}");
            }
        }
    }

    #[test]
    fn a_tokens_claims_are_shown() {
        let claims = claims(r#"{"url": "ws://sfu", "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln"}"#);

        assert_eq!(claims.unwrap()["sub"], "alice");
    }
}
