//! `cargo xtask configure`, as it is called from scripts.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "what goes wrong here ends the test")]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use operator::env_file::EnvFile;
use toml_edit::{DocumentMut, Value};
use xtask::{tools::Tools, workspace};

fn configure(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
    for name in matrixrtc_edge::config::VARIABLES {
        command.env_remove(name);
    }
    command.arg("configure").args(arguments).stdin(Stdio::null()).output().expect("operator runs")
}

/// Writes a deployment to `directory`, and returns what is said.
#[track_caller]
fn write(directory: &Path, arguments: &[&str]) -> String {
    let output = configure(&[&COMPLETE[..], arguments, &["--write", directory.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The pair of the secrets file in `directory`.
fn pair(directory: &Path) -> (String, String) {
    let file = fs::read_to_string(directory.join("secrets.production.json")).unwrap();
    let secrets: serde_json::Value = serde_json::from_str(&file).unwrap();
    let value = |name: &str| secrets[name].as_str().unwrap().to_owned();
    (value("LIVEKIT_KEY"), value("LIVEKIT_SECRET"))
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).unwrap().permissions().mode() & 0o777
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
        ("--domain", "wss://rtc.example.com", "begins with wss://: give the host name alone"),
        ("--domain", "rtc.example.com/livekit", "has a path: give the host name alone, rtc.example.com, or for a path"),
        ("--domain", "rtc.example.com:8443", "has a port"),
        ("--domain", "10.0.0.1", "is an address"),
        ("--route", "rtc.example.com", "has no path: for a host name as a whole, give --domain"),
        ("--zone", "example", "has no dot"),
        ("--sfu-url", "sfu.example.com", "has no scheme: write wss:// before"),
        ("--homeserver", "https://example.com", "perhaps example.com"),
        ("--homeserver-mode", "https://example.com", "perhaps example.com"),
        ("--server-name", "@alice:example.com", "perhaps example.com"),
    ] {
        let output = configure(&[option, value]);

        assert_eq!(output.status.code(), Some(2), "{option}");
        let error = text(&output.stderr);
        assert!(error.contains(option) && error.contains(problem), "{error}");
    }
}

#[test]
fn what_cannot_work_together_is_an_error_that_says_what_to_give() {
    let complete = |changes: &[(&'static str, Option<&'static str>)]| {
        let mut options = COMPLETE.chunks(2).map(|pair| (pair[0], Some(pair[1]))).collect::<Vec<_>>();
        for change in changes {
            options.retain(|(option, _)| *option != change.0);
            options.push(*change);
        }
        let given = options.iter().filter_map(|(option, value)| Some([*option, (*value)?]));
        let output = configure(&given.flatten().collect::<Vec<_>>());
        assert!(!output.status.success() && output.stdout.is_empty(), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    for (changes, problem) in [
        (
            [("--zone", None)],
            "--zone must be given with --route: the domain at Cloudflare that rtc.example.com belongs to",
        ),
        ([("--zone", Some("example.org"))], "--zone example.org is not the domain of rtc.example.com"),
        (
            [("--sfu-url", Some("ws://192.168.1.7:7880"))],
            "--sfu-url has a private address, 192.168.1.7, which Cloudflare",
        ),
        ([("--sfu-url", Some("ws://livekit:7880"))], "a name of a private network, livekit"),
    ] {
        let error = complete(&changes);
        assert!(error.contains(problem), "{error}");
    }
    let output = configure(&[&COMPLETE[..], &["--own-machine"]].concat());
    assert!(!output.status.success() && text(&output.stderr).contains("--own-machine"), "{}", text(&output.stderr));
}

#[test]
fn for_a_machine_of_ones_own_the_files_are_those_of_the_executable_and_its_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let arguments = [&OWN_MACHINE[..], &["--homeserver-mode", "example.com", "--write", path]].concat();

    let output = configure(&arguments);

    assert!(output.status.success(), "{}", text(&output.stderr));
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected = [
        "Caddyfile-fragment",
        "homeserver-fragment.yaml",
        "livekit-fragment.yaml",
        "matrixrtc-edge.env",
        "matrixrtc-registration.yaml",
        "nginx-fragment.conf",
        "traefik-fragment.yaml",
        "well-known-fragment.json",
    ];
    assert_eq!(names, expected);
    let said = text(&output.stdout);
    assert!(!said.contains("wrangler") && !said.contains("Cloudflare"), "{said}");
    let env_file = directory.path().join("matrixrtc-edge.env");
    for command in [
        format!("sudo install -m 600 {} /etc/matrixrtc-edge.env", env_file.display()),
        format!(
            "doctor https://matrix-rtc.example.com/livekit/jwt --server-name example.com --env-file {}",
            env_file.display()
        ),
    ] {
        assert!(said.contains(&command), "no {command} in {said}");
    }
    assert_eq!(mode(&env_file), 0o600);
    let ignored = fs::read_to_string(workspace::root().unwrap().join(".gitignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "matrixrtc-edge.env"), "git doesn't ignore it");
    let variables: BTreeMap<_, _> =
        EnvFile::parse(&fs::read_to_string(&env_file).unwrap()).unwrap().assignments.into_iter().collect();
    let sfu: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&fs::read_to_string(directory.path().join("livekit-fragment.yaml")).unwrap()).unwrap();
    assert!(sfu["keys"][&variables["LIVEKIT_KEY"]] == variables["LIVEKIT_SECRET"].as_str(), "another pair for the SFU");
    assert!(!said.contains(&variables["LIVEKIT_SECRET"]), "the secret is shown");
    let registration = fs::read_to_string(directory.path().join("matrixrtc-registration.yaml")).unwrap();
    assert!(registration.contains(&variables["LIVEKIT_HS_TOKEN"]), "another token for the homeserver");
    assert_eq!(variables["LIVEKIT_HS_SERVER_NAME"], "example.com");
    // The executable reads them as they were meant.
    let config = matrixrtc_edge::config::Config::from_lookup(|name| variables.get(name).cloned()).unwrap();
    assert_eq!(config.sfu.client(), "ws://10.0.0.7:7880");

    let before = fs::read(&env_file).unwrap();
    let again = configure(&arguments);
    assert!(again.status.success() && fs::read(&env_file).unwrap() == before, "{}", text(&again.stderr));
}

/// `tests/tests/black_box/proxies.rs` runs nginx, Caddy and Traefik with the guide's blocks.
#[test]
fn the_proxies_are_configured_as_in_the_guide() {
    let printed = text(&configure(&OWN_MACHINE).stdout);
    let guide = fs::read_to_string(workspace::root().unwrap().join("docs/guides/own-machine.md")).unwrap();
    let blocks: Vec<_> = guide.split("```").skip(1).step_by(2).map(unindented).collect();
    for name in ["nginx-fragment.conf", "Caddyfile-fragment", "traefik-fragment.yaml"] {
        let block = printed.split("── ").find(|block| block.starts_with(name)).unwrap();
        let content = block.split_once("\n\n").unwrap().1;
        let content: Vec<_> = content.trim().lines().filter(|line| !line.starts_with('#')).collect();
        assert!(blocks.contains(&content), "{name} isn't in the guide: {content:#?}");
    }
}

/// Lines of a block, whose first one is its language, without the indentation of a list.
fn unindented(block: &str) -> Vec<&str> {
    let lines = block.lines().skip(1).filter(|line| !line.trim().is_empty());
    let indent = lines.clone().map(|line| line.len() - line.trim_start().len()).min().unwrap_or_default();
    lines.map(|line| &line[indent..]).collect()
}

#[test]
fn fragments_say_that_they_are_to_be_merged() {
    let printed = text(&configure(&COMPLETE).stdout);
    for text in [
        "# Merge this into the SFU's configuration",
        "# Merge this into homeserver.yaml",
        "Of two keys of the same name Synapse takes the last",
        "to be merged into https://(server name)/.well-known/matrix/client",
    ] {
        assert!(printed.contains(text), "no {text:?} in {printed}");
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
    let secrets = Path::new(directory).join("secrets.production.json");
    wrangler.args(["deploy", "--dry-run", "--outdir"]).arg(bundle).arg("-c").arg(&config);
    wrangler.arg("--secrets-file").arg(&secrets);
    let dry_run = wrangler.stdin(Stdio::null()).output().unwrap();
    let said = text(&dry_run.stdout) + &text(&dry_run.stderr);
    assert!(dry_run.status.success(), "{said}");
    assert!(said.contains("LIVEKIT_URL (\"wss://sfu.example.com\")") && said.contains("ROOMS"), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
    for secret in ["LIVEKIT_KEY", "LIVEKIT_SECRET"] {
        assert!(said.contains(&format!("env.{secret} (\"(hidden)\")")), "{said}");
    }
    let deploy = format!("npx wrangler deploy -c {} --secrets-file {}\n", config.display(), secrets.display());
    let steps = text(&output.stdout);
    assert!(steps.contains(&deploy), "{steps}");
}

#[test]
fn what_the_edge_needs_is_in_the_repository_and_in_what_is_written() {
    let root = workspace::root().unwrap();
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &[]);

    for file in [root.join("wrangler.toml"), directory.path().join("wrangler.production.toml")] {
        let config: DocumentMut = fs::read_to_string(&file).unwrap().parse().unwrap();
        let file = file.display();
        let flags: Vec<_> =
            config["compatibility_flags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(flags, ["global_fetch_strictly_public"], "{file}");
        let observability = &config["observability"];
        assert_eq!(observability["enabled"].as_bool(), Some(true), "logs, {file}");
        assert_eq!(observability["redact_query_string"].as_bool(), Some(true), "{file}");
        assert_eq!(observability["traces"]["enabled"].as_bool(), Some(false), "{file}");
        assert_eq!(config["workers_dev"].as_bool(), Some(false), "{file}");
        assert_eq!(config["preview_urls"].as_bool(), Some(false), "{file}");
        let limits = config["ratelimits"].as_array_of_tables().unwrap();
        let ids: Vec<_> = limits.iter().map(|limit| limit["namespace_id"].as_str().unwrap()).collect();
        assert!(ids.iter().all(|id| id.len() == 9) && ids[0] != ids[1], "{ids:?}, {file}");
    }
}

#[test]
fn ids_of_rate_limits_are_those_of_the_deployment() {
    let ids = |arguments: &[&str]| {
        let printed = text(&configure(arguments).stdout);
        let ids = printed.lines().filter(|line| line.starts_with("namespace_id")).map(str::to_owned);
        ids.collect::<Vec<_>>()
    };
    let other = COMPLETE.map(|argument| if argument == COMPLETE[1] { "rtc.example.com/other" } else { argument });
    assert_eq!(ids(&COMPLETE).len(), 2);
    assert_eq!(ids(&COMPLETE), ids(&COMPLETE), "another id with each run");
    assert!(ids(&COMPLETE).iter().all(|id| !ids(&other).contains(id)), "two deployments count together");
}

#[test]
fn the_worker_is_placed_beside_the_sfu_or_where_cloudflare_chooses() {
    for (placement, written) in [
        (["--placement", "sfu"], "[placement]\nhostname = \"sfu.example.com\"\n"),
        (["--placement", "smart"], "[placement]\nmode = \"smart\"\n"),
    ] {
        let output = configure(&[&COMPLETE[..COMPLETE.len() - 2], &placement].concat());
        let printed = text(&output.stdout);
        assert!(printed.contains(written), "{printed}");
    }
}

#[test]
fn a_new_pair_is_in_both_files_for_their_owner_only_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let said = write(directory.path(), &[]);

    let (key, secret) = pair(directory.path());
    assert!(key.starts_with("API") && key.len() == 15 && secret.len() >= 32, "another form than LiveKit's");
    assert!(!said.contains(&secret), "the secret is shown");
    let fragment = directory.path().join("livekit-fragment.yaml");
    let sfu: serde_yaml_ng::Value = serde_yaml_ng::from_str(&fs::read_to_string(&fragment).unwrap()).unwrap();
    assert!(
        sfu["keys"][&key] == secret.as_str() && sfu["webhook"]["api_key"] == key.as_str(),
        "another pair for the SFU"
    );
    let ignored = fs::read_to_string(workspace::root().unwrap().join(".gitignore")).unwrap();
    for file in ["livekit-fragment.yaml", "secrets.production.json"] {
        assert_eq!(mode(&directory.path().join(file)), 0o600, "{file}");
        assert!(ignored.lines().any(|line| line == file), "git doesn't ignore {file}");
    }

    write(directory.path(), &[]);
    assert!(pair(directory.path()) == (key, secret), "another pair in the second run");
}

#[test]
fn a_pair_that_is_there_is_taken_from_a_file_or_the_environment() {
    let sources = tempfile::tempdir().unwrap();
    let keys = sources.path().join("keys.yaml");
    fs::write(&keys, "APIthere: a-secret-that-is-there-and-long-enough\nother: x\n").unwrap();

    let from_file = sources.path().join("file");
    write(&from_file, &["--sfu-keys", keys.to_str().unwrap()]);
    assert!(pair(&from_file) == (String::from("APIthere"), String::from("a-secret-that-is-there-and-long-enough")));

    let from_environment = sources.path().join("environment");
    let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
    command.arg("configure").args(COMPLETE).args(["--sfu-key", "APImine", "--write"]).arg(&from_environment);
    let output = command.env("LIVEKIT_SECRET", "nobody-may-see").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(pair(&from_environment) == (String::from("APImine"), String::from("nobody-may-see")));
    let said = text(&output.stdout);
    assert!(!said.contains("nobody") && said.contains("fewer than 32 characters"), "{said}");
}

#[test]
fn a_secrets_file_with_another_pair_is_never_lost() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &[]);
    let (before, keys) = (pair(directory.path()), directory.path().join("keys.yaml"));
    fs::write(&keys, "APIthere: nobody-may-see\n").unwrap();
    let path = directory.path().to_str().unwrap();

    let other = configure(&[&COMPLETE[..], &["--sfu-keys", keys.to_str().unwrap(), "--write", path]].concat());

    let error = text(&other.stderr);
    assert!(!other.status.success() && error.contains("the secrets file has another LIVEKIT_KEY"), "{error}");
    assert!(!error.contains("nobody") && pair(directory.path()) == before, "another pair than before");
}

#[test]
fn half_a_pair_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--sfu-key", "APImine", "--write", directory.path().to_str().unwrap()];
    let output = configure(&[&COMPLETE[..], &arguments].concat());
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains("no secret: set LIVEKIT_SECRET"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_is_printed_has_no_secret_and_nothing_that_livekit_takes_for_one() {
    let printed = text(&configure(&[&COMPLETE[..], &["--homeserver-mode", "example.com"]].concat()).stdout);
    let blocks: Vec<_> = printed.split("── ").collect();
    let block = |name: &str| {
        let block = blocks.iter().find(|block| block.starts_with(name)).unwrap();
        let yaml = block.split_once("\n\n").unwrap().1;
        serde_yaml_ng::from_str::<serde_yaml_ng::Value>(yaml.split("\nNo secret").next().unwrap()).unwrap()
    };
    // LiveKit refuses to start without keys and api_key, and Synapse without the tokens.
    let sfu = block("livekit-fragment.yaml");
    assert!(
        sfu.get("keys").is_none() && sfu["webhook"].get("api_key").is_none() && sfu["webhook"]["urls"].is_sequence()
    );
    let registration = block("matrixrtc-registration.yaml");
    assert!(registration.get("as_token").is_none() && registration.get("hs_token").is_none());

    let mine = text(&configure(&[&COMPLETE[..], &["--sfu-key", "APImine"]].concat()).stdout);
    assert!(mine.contains("  api_key: \"APImine\"\n"), "{mine}");
}

#[test]
fn livekit_cloud_has_a_console_in_place_of_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let cloud: Vec<_> = COMPLETE[..COMPLETE.len() - 2]
        .iter()
        .map(|argument| if argument.starts_with("wss:") { "wss://calls-abcdefgh.livekit.cloud" } else { argument })
        .collect();

    let without_keys = configure(&[&cloud[..], &["--write", path]].concat());
    let error = text(&without_keys.stderr);
    assert!(!without_keys.status.success() && error.contains("LiveKit Cloud makes API key and secret"), "{error}");

    let keys = directory.path().join("keys");
    fs::write(&keys, "APIcloud: a-secret-of-the-console-that-is-long-enough").unwrap();
    let output = configure(&[&cloud[..], &["--sfu-keys", keys.to_str().unwrap(), "--write", path]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let webhook = "the URL https://rtc.example.com/livekit/jwt/sfu_webhook, signed with APIcloud";
    assert!(said.contains(webhook) && said.contains("LiveKit Cloud answers in many places"), "{said}");
    assert!(!directory.path().join("livekit-fragment.yaml").exists());
    let wrangler = fs::read_to_string(directory.path().join("wrangler.production.toml")).unwrap();
    assert!(wrangler.contains("[placement]\nmode = \"smart\""), "{wrangler}");
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
fn what_is_added_to_wranglers_configuration_is_kept_and_the_file_as_it_was_stays_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &[]);
    let file = directory.path().join("wrangler.production.toml");
    let with_mine = fs::read_to_string(&file).unwrap() + "LIVEKIT_LOG_LEVEL = \"debug\"\n# Mine.\n";
    fs::write(&file, &with_mine).unwrap();

    let said = write(directory.path(), &["--jurisdiction", "eu"]);

    let written: DocumentMut = fs::read_to_string(&file).unwrap().parse().unwrap();
    let variable = |name: &str| written["vars"][name].as_str();
    assert_eq!((variable("LIVEKIT_LOG_LEVEL"), variable("LIVEKIT_JURISDICTION")), (Some("debug"), Some("eu")));
    assert!(said.contains("wrangler.production.toml was there. Kept of it: LIVEKIT_LOG_LEVEL.\n"), "{said}");
    assert!(said.contains("LIVEKIT_JURISDICTION was none and is \"eu\""), "{said}");
    let before = directory.path().join("wrangler.production.toml.before");
    assert_eq!(fs::read_to_string(before).unwrap(), with_mine);
}

#[test]
fn secrets_that_are_new_are_said_to_be_with_what_that_means_for_a_deployment_that_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let homeserver_mode = ["--homeserver-mode", "example.com"];
    for (arguments, new) in [
        (&[][..], Some("The pair of API key and secret is new: the SFU needs it")),
        (&[], None),
        (&homeserver_mode, Some("The tokens of homeserver mode are new: the homeserver needs them")),
        (&homeserver_mode, None),
    ] {
        // The announcement is another in homeserver mode.
        for fragment in ["well-known-fragment.json", "homeserver-fragment.yaml"] {
            fs::remove_file(directory.path().join(fragment)).ok();
        }

        let said = write(directory.path(), arguments);

        assert!(new.is_none_or(|new| said.contains(new)), "{said}");
        assert_eq!(said.contains("secrets.production.json by the file of that deployment"), new.is_some(), "{said}");
    }
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
        let secrets = fs::read_to_string(directory.path().join("secrets.production.json")).unwrap();
        assert!(secrets.contains(&format!("\"LIVEKIT_{}\": \"{value}\"", token.to_uppercase())), "{token}");
    }
    assert!(steps.contains("doctor https://rtc.example.com/livekit/jwt --server-name example.com"), "{steps}");
    let wrangler = fs::read_to_string(directory.path().join("wrangler.production.toml")).unwrap();
    assert!(wrangler.contains("LIVEKIT_HS_SERVER_NAME = \"example.com\""), "{wrangler}");

    let again = configure(&arguments);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert!(fs::read_to_string(&file).unwrap() == written, "the tokens are others now");

    fs::remove_file(&file).unwrap();
    assert!(configure(&arguments).status.success());
    assert!(fs::read_to_string(&file).unwrap() == written, "other tokens than in the secrets file");

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
    let printed =
        |complete: &[&str]| text(&configure(&[complete, &["--homeserver-mode", "example.com"]].concat()).stdout);
    let (cloudflare, own_machine) = (printed(&COMPLETE), printed(&OWN_MACHINE));
    for (guide, key) in [
        ("announcing", "livekit_service_url"),
        ("homeserver-mode", "livekit_service_url"),
        ("cloudflare", "include_events"),
        ("own-machine", "include_events"),
    ] {
        let page = fs::read_to_string(workspace::root().unwrap().join(format!("docs/guides/{guide}.md"))).unwrap();
        let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
        let keys = blocks.flat_map(str::lines).filter_map(|line| line.trim().trim_start_matches("- ").split_once(':'));
        let keys: Vec<_> = keys.map(|(key, _)| key).filter(|key| !key.contains(['{', '[', '"'])).collect();
        assert!(keys.contains(&key), "{guide}: {keys:?}");
        let printed = if guide == "own-machine" { &own_machine } else { &cloudflare };
        for key in keys {
            assert!(printed.contains(&format!("{key}:")), "{guide}: {key} isn't printed");
        }
    }
}

#[test]
fn the_guides_deploy_what_their_commands_write() {
    for guide in ["cloudflare", "livekit-cloud"] {
        let page = fs::read_to_string(workspace::root().unwrap().join(format!("docs/guides/{guide}.md"))).unwrap();
        let commands: Vec<_> = page
            .split("```sh\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>())
            .map(|command| command.split_whitespace().collect::<Vec<_>>().join(" "))
            // The executable's command is the same program.
            .map(|command| match command.strip_prefix("matrixrtc-edge ") {
                Some(rest) => format!("cargo xtask {rest}"),
                None => command,
            })
            .collect();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("livekit-keys"), "APIthere: a-secret-that-is-there-and-long-enough").unwrap();
        let arguments = commands.iter().find_map(|command| command.strip_prefix("cargo xtask configure ")).unwrap();

        let mut command = Command::new(env!("CARGO_BIN_EXE_operator"));
        command.arg("configure").args(arguments.split(' ')).args(["--placement", "smart"]);
        let output = command.current_dir(&directory).stdin(Stdio::null()).output().unwrap();

        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        let is_step = |line: &&str| line.starts_with("npx wrangler") || line.starts_with("cargo xtask doctor");
        let steps: Vec<_> = said.lines().map(str::trim).filter(is_step).collect();
        assert_eq!(steps.len(), 2, "{said}");
        for step in steps {
            assert!(commands.iter().any(|command| command == step), "{guide} has no `{step}`: {commands:#?}");
        }
    }
}

/// The SFU may be where only this machine and its clients reach it.
const OWN_MACHINE: [&str; 7] = [
    "--own-machine",
    "--route",
    "matrix-rtc.example.com/livekit/jwt",
    "--sfu-url",
    "ws://10.0.0.7:7880",
    "--homeserver",
    "example.com",
];
/// The placement is given, so that no SFU is looked for.
const COMPLETE: [&str; 10] = [
    "--route",
    "rtc.example.com/livekit/jwt",
    "--zone",
    "example.com",
    "--sfu-url",
    "wss://sfu.example.com",
    "--homeserver",
    "example.com,example.org",
    "--placement",
    "sfu",
];
