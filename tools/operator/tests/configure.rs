//! `cargo xtask configure`, as it is called from scripts.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what goes wrong here ends the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use toml_edit::{DocumentMut, Value};
use xtask::{tools::Tools, workspace};

fn configure(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
    command.arg("configure").args(arguments).stdin(Stdio::null()).output().expect("operator runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn without_a_terminal_what_is_missing_is_an_error() {
    let output = configure(&["--sfu-url", "wss://sfu.example.com"]);

    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("--domain or --route, --homeserver must be given"), "{error}");
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn a_wrong_value_is_an_error_that_says_what_is_wrong() {
    for (option, value, problem) in [
        ("--domain", "https://rtc.example.com", "is not a host name"),
        ("--route", "rtc.example.com", "has no path"),
        ("--sfu-url", "sfu.example.com", "is not a URL"),
        ("--homeserver", "https://example.com", "not a Matrix server name"),
        ("--homeserver-mode", "https://example.com", "not a Matrix server name"),
    ] {
        let output = configure(&[option, value]);

        assert_eq!(output.status.code(), Some(2), "{option}");
        let error = text(&output.stderr);
        assert!(error.contains(option) && error.contains(problem), "{error}");
    }
}

#[test]
fn what_is_wrong_with_the_announcement_that_is_there_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("client");
    let announced =
        r#"{"org.matrix.msc4143.rtc_foci":[{"type":"livekit","livekit_service_url":"wss://sfu.example.com"}]}"#;
    fs::write(&file, announced).unwrap();

    let output = configure(&[&COMPLETE[..], &["--well-known", file.to_str().unwrap()]].concat());

    assert!(output.status.success());
    let said = text(&output.stdout);
    assert!(said.contains("PROBLEM  homeserver: announces the service  wss://sfu.example.com is announced"), "{said}");
    assert!(said.contains(r#""livekit_service_url":"https://rtc.example.com/livekit/jwt""#), "{said}");
}

#[test]
fn wrangler_takes_what_is_written() {
    let root = workspace::root().unwrap();
    let tools = Tools::set_up(&root).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().to_str().unwrap();

    let output = configure(&[&COMPLETE[..], &["--write", directory]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));

    let config = Path::new(directory).join("wrangler.production.toml");
    let bundle = Path::new(directory).join("bundle");
    let mut wrangler = tools.wrangler();
    wrangler.args(["deploy", "--dry-run", "--outdir"]).arg(bundle).arg("-c").arg(&config);
    let dry_run = wrangler.stdin(Stdio::null()).output().unwrap();
    let said = text(&dry_run.stdout) + &text(&dry_run.stderr);
    assert!(dry_run.status.success(), "{said}");
    assert!(said.contains("LIVEKIT_URL (\"wss://sfu.example.com\")") && said.contains("ROOMS"), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
    let steps = text(&output.stdout);
    for secret in ["LIVEKIT_KEY", "LIVEKIT_SECRET"] {
        assert!(steps.contains(&format!("npx wrangler secret put {secret} -c {}", config.display())), "{steps}");
    }
}

#[test]
fn what_the_edge_needs_is_in_the_repository_and_in_what_is_written() {
    let root = workspace::root().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let output = configure(&[&COMPLETE[..], &["--write", directory.path().to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));

    for file in [root.join("wrangler.toml"), directory.path().join("wrangler.production.toml")] {
        let config: DocumentMut = fs::read_to_string(&file).unwrap().parse().unwrap();
        let flags: Vec<_> =
            config["compatibility_flags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(flags, ["global_fetch_strictly_public"], "{}", file.display());
        let observability = &config["observability"];
        assert_eq!(observability["enabled"].as_bool(), Some(true), "logs, {}", file.display());
        assert_eq!(observability["redact_query_string"].as_bool(), Some(true), "{}", file.display());
        assert_eq!(observability["traces"]["enabled"].as_bool(), Some(false), "{}", file.display());
    }
}

#[test]
fn what_is_there_already_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("livekit-fragment.yaml");
    fs::write(&file, "mine").unwrap();

    let output = configure(&[&COMPLETE[..], &["--write", directory.path().to_str().unwrap()]].concat());

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("exists with other content"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn the_registration_file_is_for_its_owner_only_and_keeps_its_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let arguments = [&COMPLETE[..], &["--homeserver-mode", "example.com", "--write", path]].concat();

    let output = configure(&arguments);

    assert!(output.status.success(), "{}", text(&output.stderr));
    let file = directory.path().join("matrixrtc-registration.yaml");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&file).unwrap();
    let registration: serde_yaml_ng::Value = serde_yaml_ng::from_str(&written).unwrap();
    assert_eq!(registration["io.element.msc4512.proxy_url"], "https://rtc.example.com/livekit/jwt");
    let steps = text(&output.stdout);
    for token in ["as_token", "hs_token"] {
        let value = registration[token].as_str().unwrap();
        assert!(value.len() == 64 && !steps.contains(value), "{token} is short, or shown");
        assert!(steps.contains(&format!("npx wrangler secret put LIVEKIT_{} ", token.to_uppercase())), "{steps}");
    }
    assert!(steps.contains("doctor https://rtc.example.com/livekit/jwt --server-name example.com"), "{steps}");
    let wrangler = fs::read_to_string(directory.path().join("wrangler.production.toml")).unwrap();
    assert!(wrangler.contains("LIVEKIT_HS_SERVER_NAME = \"example.com\""), "{wrangler}");

    let again = configure(&arguments);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(fs::read_to_string(&file).unwrap() == written, "the tokens are others now");

    fs::write(&file, "mine").unwrap();
    let refused = configure(&arguments);
    assert!(!refused.status.success() && text(&refused.stderr).contains("exists with other content"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}

#[test]
fn without_a_directory_the_registration_file_is_printed() {
    let output = configure(&[&COMPLETE[..], &["--homeserver-mode", "example.com"]].concat());

    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for line in
        ["sender_localpart: _matrixrtc", "app_service_config_files:", "LIVEKIT_HS_SERVER_NAME = \"example.com\""]
    {
        assert!(said.contains(line), "{line} isn't printed");
    }
}

#[test]
fn the_guides_set_what_configure_prints() {
    let output = configure(&[&COMPLETE[..], &["--homeserver-mode", "example.com"]].concat());
    let printed = text(&output.stdout);
    for guide in ["announcing", "homeserver-mode"] {
        let page = fs::read_to_string(workspace::root().unwrap().join(format!("docs/guides/{guide}.md"))).unwrap();
        let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let keys = blocks.flat_map(str::lines).filter_map(|line| line.trim().trim_start_matches("- ").split_once(':'));
        let keys: Vec<_> = keys.map(|(key, _)| key).filter(|key| !key.contains(['{', '[', '"'])).collect();
        assert!(keys.contains(&"livekit_service_url"), "{guide}: {keys:?}");
        for key in keys {
            assert!(printed.contains(&format!("{key}:")), "{guide}: {key} isn't printed");
        }
    }
}

const COMPLETE: [&str; 8] = [
    "--route",
    "rtc.example.com/livekit/jwt",
    "--zone",
    "example.com",
    "--sfu-url",
    "wss://sfu.example.com",
    "--homeserver",
    "example.com,example.org",
];
