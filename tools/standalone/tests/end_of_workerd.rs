//! A workerd that ends at once: its reason is reported, its output is in the log, and its arguments are as configured.
//!
//! A script takes its place. The program is that of `cargo xtask serve`, which takes workerd and the build as options.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

#[test]
fn a_workerd_that_ends_at_once_is_reported_with_its_last_words() {
    let script = "echo '{\"level\":\"info\",\"msg\":\"of the worker\"}'\n\
                  echo 'kj/x.c++:1: info: chatter' >&2\n\
                  echo 'Socket \"http\": bind(): no such device' >&2\n\
                  echo '  stack: 1 2 3' >&2\n\
                  exit 1\n";

    let (outcome, stderr, lines) = run(script, []);

    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(stderr.contains("workerd ended before it listened on 127.0.0.1:0"), "{stderr}");
    assert!(stderr.contains("bind(): no such device") && !stderr.contains("exit status"), "{stderr}");
    let found: Vec<_> = lines.iter().map(|line| (&line["level"], &line["msg"])).collect();
    let (info, warn) = (Value::from("info"), Value::from("warn"));
    assert_eq!(found, [(&info, &Value::from("of the worker")), (&warn, &Value::from("workerd"))]);
    assert!(lines[1]["stack"].as_str().unwrap().contains("1 2 3"), "{lines:?}");
}

#[test]
fn a_workerd_that_ends_without_a_word_is_reported_in_ours() {
    for (script, expected) in
        [("exit 0\n", "it gave no reason, and no error"), ("exit 3\n", "no reason but exit status: 3")]
    {
        let (outcome, stderr, _) = run(script, []);

        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(stderr.contains(expected), "{stderr}");
        assert!(!stderr.contains("exit status: 0"), "{stderr}");
    }
}

/// The worker ignores white space around a value, and so must the configuration of its network.
#[test]
fn private_addresses_are_reached_exactly_where_the_worker_allows_them() {
    for (value, configuration) in [
        ("true", " withPrivateAddresses "),
        (" true\n", " withPrivateAddresses "),
        ("false\n", " config "),
        ("", " config "),
    ] {
        let (_, stderr, _) = run("echo \"$@\" >&2\nexit 1\n", [("LIVEKIT_ALLOW_PRIVATE_ADDRESSES", value)]);

        assert!(stderr.contains(configuration), "{value:?}: {stderr}");
    }
}

/// Runs the script as workerd, with these variables beside the needed ones, and returns the text on standard error, and
/// the objects on standard output.
fn run<const V: usize>(script: &str, variables: [(&str, &str); V]) -> (Output, String, Vec<Value>) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write_program(&path("workerd"), script);
    fs::create_dir(path("assets")).unwrap();
    for file in ["index.js", "index_bg.wasm", "assets/index.html", "assets/livekit-client.js"] {
        fs::write(path(file), "").unwrap();
    }
    let outcome = Command::new(env!("CARGO_BIN_EXE_serve"))
        .arg("--workerd")
        .arg(path("workerd"))
        .arg("--build")
        .arg(dir.path())
        .arg("--state")
        .arg(path("state"))
        .args(["--addr", "127.0.0.1:0"])
        .env_clear()
        .envs([("LIVEKIT_URL", "wss://127.0.0.1"), ("LIVEKIT_KEY", "key")])
        .envs([("LIVEKIT_SECRET", "a-secret-that-is-long-enough-for-all"), ("LIVEKIT_FULL_ACCESS_HOMESERVERS", "*")])
        .envs(variables)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let stdout = String::from_utf8_lossy(&outcome.stdout).into_owned();
    let lines = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (outcome, stderr, lines)
}

fn write_program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}
