//! `cargo xtask dev` shows the service at work: what the README's first screen promises.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use black_box::Network;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::workspace;

#[test]
fn dev_answers_with_a_token_and_looks_after_a_leave() {
    let root = workspace::root().expect("the repository");
    if let Ok(mine) = fs::read_to_string(root.join(".dev.vars"))
        && !mine.starts_with("# Written by `cargo xtask dev`")
    {
        eprintln!("not tried: there is a .dev.vars of the developer's own");
        return;
    }
    // Its ports may be taken in the machine's own.
    let _network = Network::enter();
    let mut dev = Dev(workspace::cargo(&root)
        .args(["xtask", "dev"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("cargo runs"));

    let shown = BufReader::new(dev.0.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let mut seen = String::new();
    for line in shown {
        seen += &format!("{line}\n");
        if line.contains("Ctrl-C ends it") {
            break;
        }
    }

    for promise in [
        r#""jwt":""#,
        r#""roomJoin": true"#,
        r#"{"delayed leave restarted":true,"participant_joined":200}"#,
        r#"{"delayed leave sent":true,"participant_left":200}"#,
        "The worker answers on http://127.0.0.1:8787",
    ] {
        assert!(seen.contains(promise), "{promise} isn't shown:\n{seen}");
    }
}

/// `cargo xtask dev`, which is ended as by Ctrl-C.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0.id()).expect("a process id");
        // Fails only if it has ended already.
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        let _ = self.0.wait();
    }
}
