//! `cargo xtask doctor`, as it is called from scripts.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what goes wrong here ends the test")]

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Command, Output},
};

use serde_json::Value;

fn doctor(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
    for name in matrixrtc_edge::config::VARIABLES {
        command.env_remove(name);
    }
    command.arg("doctor").args(arguments).envs(environment.iter().copied()).output().expect("operator runs")
}

/// A URL at which nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_problem_ends_with_1_and_a_line_that_says_what_to_change() {
    let output = doctor(&[&nowhere()], &[]);

    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("PROBLEM  service: address"), "{said}");
    assert!(said.contains("connection refused") && said.contains("\n         change: "), "{said}");
    assert!(said.contains("\n1 problem, 0 warnings, 0 ok, "), "{said}");
}

#[test]
fn scripts_get_one_json_object_and_no_secret() {
    let environment =
        [("LIVEKIT_KEY", "devkey"), ("LIVEKIT_SECRET", "nobody-may-see-this"), ("LIVEKIT_URL", &*nowhere())];
    let output = doctor(&[&nowhere(), "--json"], &environment);

    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    assert_eq!((&findings[0]["check"], &findings[0]["status"]), (&"service-address".into(), &"problem".into()));
    assert!(findings[0]["seen"].is_string() && findings[0]["change"].is_string());
    let sfu = findings.iter().find(|finding| finding["check"] == "sfu").unwrap();
    assert_eq!(sfu["status"], "problem", "the environment's SFU wasn't looked at");
    let all = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8(all).unwrap().contains("nobody-may-see-this"));
}

#[test]
fn a_wrong_call_ends_otherwise_than_a_problem() {
    assert_eq!(doctor(&[], &[]).status.code(), Some(2));
    assert_eq!(doctor(&["wss://sfu.example.com"], &[]).status.code(), Some(2));
    let output = doctor(&[&nowhere(), "--sfu-key", "devkey"], &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("an API key is given, but no secret"), "{said}");
    assert!(output.stdout.is_empty(), "nothing is checked");
}
