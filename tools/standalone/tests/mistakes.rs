//! Mistakes of an operator at home, and the messages about them: each names the thing and the remedy.
//!
//! How it works:
//! - a row is one mistake: arguments, changes of a right environment, and the texts that the message must have;
//! - the executable is started with it. It has no worker packed into it, which it finds out last, so every mistake of the
//!   operator's must be reported before;
//! - no message may show a secret, and all of standard output must be JSON.

#![allow(clippy::unwrap_used, reason = "a test program")]

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use standalone::state::StateLock;

/// A mistake, and what must be said.
struct Mistake<'a> {
    arguments: Vec<&'a str>,
    /// An empty value takes the variable away.
    variables: Vec<(&'a str, &'a str)>,
    status: i32,
    said: Vec<&'a str>,
}

#[test]
fn each_mistake_is_named_with_its_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let file = |name: &str, text: &str| {
        fs::write(path(name), text).unwrap();
        path(name)
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let in_use = path("in-use");
    let _lock = StateLock::take(Path::new(&in_use)).unwrap();
    let (a_file, missing, state) = (file("file", "text"), path("missing"), path("state"));
    let below_a_file = format!("{a_file}/state");
    fs::create_dir(path("shared")).unwrap();
    fs::write(path("shared/of-others"), "").unwrap();
    Command::new("chmod").args(["755", &path("shared")]).status().unwrap();
    let shared = path("shared");
    let empty = file("empty", "\n");
    let two_lines = file("two-lines", "WRONG-one\nWRONG-two\n");
    let registration = file("registration.yaml", "id: x\nas_token: WRONG\n");
    let unclosed = file("unclosed.env", "LIVEKIT_LOG_LEVEL=info\nLIVEKIT_SECRET=\"WRONG\n");
    let a_dir = dir.path().to_str().unwrap();

    let mistakes = [
        // Names of variables.
        variable(
            [("LIVEKIT_URL", ""), ("LIVKIT_URL", "wss://sfu.example")],
            ["LIVEKIT_URL is not set", "\"variable\":\"LIVKIT_URL\"", "\"did_you_mean\":\"LIVEKIT_URL\""],
        ),
        variable(
            [("LIVEKIT_SECRET", ""), ("LIVEKIT_API_SECRET", "WRONG")],
            ["LIVEKIT_SECRET is not set", "\"LIVEKIT_API_SECRET\"", "\"did_you_mean\":\"LIVEKIT_SECRET\""],
        ),
        warning(
            [("LIVEKIT_SANITY_CHECK_INTERVAL", "60")],
            ["unknown variable", "\"did_you_mean\":\"LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS\""],
        ),
        variable([("LIVEKIT_FULL_ACCESS_HOMESERVERS", "")], ["LIVEKIT_FULL_ACCESS_HOMESERVERS is not set"]),
        variable([("LIVEKIT_KEY", " ")], ["LIVEKIT_KEY is not set"]),
        // Values.
        variable([("LIVEKIT_URL", "sfu.example:7880")], ["LIVEKIT_URL", "\"sfu.example:7880\"", "write wss://"]),
        variable([("LIVEKIT_URL", "\"wss://sfu.example\"")], ["LIVEKIT_URL is in quotation marks", "--env-file"]),
        variable([("LIVEKIT_URL", "wss://sfu.example/?a=b")], ["LIVEKIT_URL", "a scheme, a host and perhaps a path"]),
        variable(
            [("LIVEKIT_FULL_ACCESS_HOMESERVERS", "https://example.com/")],
            ["entry 1 is \"https://example.com/\"", "perhaps example.com"],
        ),
        variable(
            [("LIVEKIT_FULL_ACCESS_HOMESERVERS", "example.com,@alice:example.org")],
            ["entry 2", "perhaps example.org"],
        ),
        variable([("LIVEKIT_FULL_ACCESS_HOMESERVERS", "\"*\"")], ["is in quotation marks", "remove them"]),
        variable(
            [("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "60s")],
            ["LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", "\"60s\"", "write 60, without a unit"],
        ),
        variable([("LIVEKIT_LOG_LEVEL", "verbose")], ["LIVEKIT_LOG_LEVEL must be debug, info,", "\"verbose\""]),
        variable([("LIVEKIT_RESTRICTED_CAN_PUBLISH", "yes")], ["must be true or false", "\"yes\""]),
        variable([("LIVEKIT_CS_API_URL_OVERRIDES", "example.com")], ["entry 1 has no `=`", "\"example.com\""]),
        variable([("LIVEKIT_SECRET", "\"WRONG\"")], ["LIVEKIT_SECRET is in quotation marks", "remove them"]),
        variable([("LIVEKIT_SECRET", "WRONG\nWRONG")], ["LIVEKIT_SECRET has a line break", "one line"]),
        variable([("LIVEKIT_SECRET", "…")], ["LIVEKIT_SECRET is the placeholder"]),
        warning([("LIVEKIT_SECRET", "WRONG")], ["short secret", "fewer than 32 characters"]),
        variable([("LIVEKIT_REQUIRE_MEMBERSHIP", "true")], ["without homeserver mode", "LIVEKIT_HS_SERVER_NAME"]),
        variable([("LIVEKIT_AS_TOKEN", "WRONG")], ["LIVEKIT_HS_TOKEN is not set", "LIVEKIT_HS_SERVER_NAME is not set"]),
        // Files.
        variable([("LIVEKIT_SECRET_FROM_FILE", &missing)], ["LIVEKIT_SECRET and LIVEKIT_SECRET_FROM_FILE are both"]),
        variable(
            [("LIVEKIT_SECRET", ""), ("LIVEKIT_SECRET_FROM_FILE", &missing)],
            ["LIVEKIT_SECRET_FROM_FILE names", &missing, "is it mounted there?"],
        ),
        variable(
            [("LIVEKIT_SECRET", ""), ("LIVEKIT_SECRET_FROM_FILE", "\"/run/secrets/secret\"")],
            ["LIVEKIT_SECRET_FROM_FILE is in quotation marks", "remove them", "--env-file"],
        ),
        variable(
            [("LIVEKIT_SECRET", ""), ("LIVEKIT_SECRET_FROM_FILE", a_dir)],
            ["LIVEKIT_SECRET_FROM_FILE", "makes a directory of its name"],
        ),
        variable([("LIVEKIT_SECRET", ""), ("LIVEKIT_SECRET_FROM_FILE", &empty)], [&empty, "which is empty"]),
        variable(
            [("LIVEKIT_SECRET", ""), ("LIVEKIT_SECRET_FROM_FILE", "\"/run/secrets/livekit\"")],
            ["LIVEKIT_SECRET_FROM_FILE is in quotation marks", "--env-file"],
        ),
        variable(
            [("LIVEKIT_SECRET", ""), ("LIVEKIT_SECRET_FROM_FILE", &two_lines)],
            ["LIVEKIT_SECRET (from LIVEKIT_SECRET_FROM_FILE) has a line break"],
        ),
        variable(
            [("LIVEKIT_AS_REGISTRATION_FILE", &registration), ("LIVEKIT_HS_SERVER_NAME", "example.com")],
            ["LIVEKIT_AS_REGISTRATION_FILE", "has no `hs_token`"],
        ),
        Mistake {
            arguments: vec!["--config", &missing],
            variables: vec![],
            status: 2,
            said: vec!["--config", &missing],
        },
        Mistake {
            arguments: vec!["--config", &unclosed],
            variables: vec![],
            status: 2,
            said: vec!["line 2", "never closed"],
        },
        Mistake {
            arguments: vec!["--trust-ca", &missing],
            variables: vec![],
            status: 2,
            said: vec!["--trust-ca", &missing, "is it mounted there?"],
        },
        Mistake {
            arguments: vec!["--trust-ca", &a_file],
            variables: vec![],
            status: 2,
            said: vec!["--trust-ca", "PEM"],
        },
        // lk-jwt-service's.
        variable([("LIVEKIT_JWT_BIND", ":8080"), ("LIVEKIT_JWT_PORT", "8080")], ["remove LIVEKIT_JWT_PORT"]),
        variable([("LIVEKIT_INSECURE_SKIP_VERIFY_TLS", "YES_I_KNOW_WHAT_I_AM_DOING")], ["--trust-ca FILE"]),
        warning([("LIVEKIT_REDIS_URL", "redis://:WRONG@redis")], ["variable without effect", "--state"]),
        warning([("LIVEKIT_JWT_PORT", "0")], ["older form of a variable", "LIVEKIT_JWT_BIND=:0"]),
        warning([("LIVEKIT_JWT_PORT", ":0")], ["older form of a variable", "LIVEKIT_JWT_BIND=:0"]),
        variable(
            [("LIVEKIT_JWT_PORT", "127.0.0.1:8080")],
            ["LIVEKIT_JWT_PORT is \"127.0.0.1:8080\", and no port", "LIVEKIT_JWT_BIND takes an address"],
        ),
        variable([("LIVEKIT_JWT_PORT", "\"8080\"")], ["LIVEKIT_JWT_PORT is in quotation marks", "--env-file"]),
        variable([("LIVEKIT_JWT_BIND", "':8080'")], ["LIVEKIT_JWT_BIND is in quotation marks", "--env-file"]),
        // The address.
        variable([("MATRIXRTC_EDGE_ADDR", "8080")], ["MATRIXRTC_EDGE_ADDR \"8080\"", "a colon is missing"]),
        variable([("MATRIXRTC_EDGE_ADDR", "http://0.0.0.0:8080")], ["MATRIXRTC_EDGE_ADDR", "has a scheme"]),
        variable([("MATRIXRTC_EDGE_ADDR", "\":8080\"")], ["MATRIXRTC_EDGE_ADDR is in quotation marks", "--env-file"]),
        Mistake {
            arguments: vec!["--addr", "sfu.example:8080"],
            variables: vec![],
            status: 2,
            said: vec!["--addr", "has a name", "127.0.0.1:8080"],
        },
        Mistake {
            arguments: vec!["--addr", &taken],
            variables: vec![],
            status: 1,
            said: vec![&taken, "in use by another program", "--addr", "MATRIXRTC_EDGE_ADDR"],
        },
        Mistake {
            arguments: vec!["--addr", "192.0.2.1:8080"],
            variables: vec![],
            status: 1,
            said: vec!["192.0.2.1:8080 is no address of this machine", ":8080 for every"],
        },
        // The state directory.
        variable([("STATE_DIRECTORY", "")], ["there is no state directory", "--state DIR", "STATE_DIRECTORY"]),
        variable([("STATE_DIRECTORY", "\"/state\"")], ["STATE_DIRECTORY is in quotation marks", "--env-file"]),
        Mistake {
            arguments: vec!["--state", &in_use],
            variables: vec![],
            status: 1,
            said: vec![&in_use, "in use by another process", "directory of its own"],
        },
        Mistake {
            arguments: vec!["--state", &a_file],
            variables: vec![],
            status: 1,
            said: vec!["is a file: name a directory"],
        },
        Mistake {
            arguments: vec!["--state", &below_a_file],
            variables: vec![],
            status: 1,
            said: vec!["part of its path is a file"],
        },
        Mistake {
            arguments: vec!["--state", &shared],
            variables: vec![],
            status: 1,
            said: vec!["files of others", "of its own"],
        },
        Mistake {
            arguments: vec!["--state", "/proc/matrixrtc-edge"],
            variables: vec![],
            status: 1,
            said: vec!["the state directory /proc/matrixrtc-edge can't be used"],
        },
    ];
    for mistake in mistakes {
        let outcome = mistake.outcome(&state);
        let said = said(&outcome);
        assert_eq!(outcome.status.code(), Some(mistake.status), "{:?}: {said}", mistake.variables);
        for text in &mistake.said {
            assert!(said.contains(text), "{:?} {:?}: no {text:?} in {said}", mistake.arguments, mistake.variables);
        }
        assert!(!said.contains("WRONG"), "a secret is shown: {said}");
        let lines = String::from_utf8(outcome.stdout).unwrap();
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
    }
}

#[test]
fn a_newer_form_is_advised_for_a_right_value_only() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in ["\"8080\"", "127.0.0.1:8080"] {
        let said = said(&variable([("LIVEKIT_JWT_PORT", wrong)], []).outcome(dir.path().to_str().unwrap()));

        assert!(!said.contains("older form"), "{said}");
    }
}

#[test]
fn a_wrong_address_in_the_environment_does_not_stand_in_the_way_of_the_option() {
    let dir = tempfile::tempdir().unwrap();
    let mistake = Mistake {
        arguments: vec!["--addr", ":0"],
        variables: vec![("MATRIXRTC_EDGE_ADDR", "nonsense")],
        status: 1,
        said: vec![],
    };

    let said = said(&mistake.outcome(dir.path().join("state").to_str().unwrap()));

    assert!(said.contains(NOTHING_PACKED), "{said}");
}

#[test]
fn all_mistakes_are_named_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mistake = Mistake {
        arguments: vec![],
        variables: vec![
            ("LIVEKIT_LOG_LEVEL", "loud"),
            ("LIVEKIT_URL", ""),
            ("MATRIXRTC_EDGE_ADDR", "8080"),
            ("LIVEKIT_KEY_FROM_FILE", "/missing"),
            ("STATE_DIRECTORY", ""),
        ],
        status: 2,
        said: vec![],
    };

    let said = said(&mistake.outcome(dir.path().to_str().unwrap()));

    for name in ["LIVEKIT_LOG_LEVEL", "LIVEKIT_URL", "MATRIXRTC_EDGE_ADDR", "LIVEKIT_KEY_FROM_FILE", "STATE_DIRECTORY"]
    {
        assert!(said.contains(name), "{name}: {said}");
    }
}

/// A wrong configuration: nothing starts.
fn variable<'a, const V: usize, const S: usize>(variables: [(&'a str, &'a str); V], said: [&'a str; S]) -> Mistake<'a> {
    Mistake { arguments: vec![], variables: variables.into(), status: 2, said: said.into() }
}

/// A warning: the start goes on.
fn warning<'a, const V: usize, const S: usize>(variables: [(&'a str, &'a str); V], said: [&'a str; S]) -> Mistake<'a> {
    Mistake { status: 1, ..variable(variables, said) }
}

impl Mistake<'_> {
    fn outcome(&self, state: &str) -> Output {
        let mut variables: BTreeMap<_, _> = RIGHT.into();
        variables.insert("STATE_DIRECTORY", state);
        variables.insert("MATRIXRTC_EDGE_ADDR", "127.0.0.1:0");
        if self.variables.iter().any(|(name, _)| name.starts_with("LIVEKIT_JWT_")) {
            variables.remove("MATRIXRTC_EDGE_ADDR");
        }
        variables.extend(self.variables.iter().copied());
        let variables = variables.into_iter().filter(|(_, value)| !value.is_empty());
        Command::new(env!("CARGO_BIN_EXE_matrixrtc-edge"))
            .args(&self.arguments)
            .env_clear()
            .envs(variables)
            .output()
            .unwrap()
    }
}

fn said(outcome: &Output) -> String {
    String::from_utf8_lossy(&outcome.stdout).into_owned() + &String::from_utf8_lossy(&outcome.stderr)
}

const RIGHT: [(&str, &str); 4] = [
    ("LIVEKIT_URL", "wss://sfu.example"),
    ("LIVEKIT_KEY", "APIkey"),
    ("LIVEKIT_SECRET", "a-secret-that-is-long-enough-for-all"),
    ("LIVEKIT_FULL_ACCESS_HOMESERVERS", "example.com"),
];
/// The last that goes wrong here.
const NOTHING_PACKED: &str = "has nothing packed into it";
