//! Files of a deployment on one's own machine: the environment file, and what a reverse proxy needs.
//!
//! # How it works
//!
//! - The environment file has no quotation marks: `docker run --env-file` would keep them. A value that systemd, docker
//!   and compose read differently is refused.
//! - It is also where a pair of API key and secret, and the tokens of homeserver mode, are kept: a second run takes them
//!   from there.
//! - The proxies' fragments are those of `docs/guides/own-machine.md`, with the names of the plan.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::configure::plan::Plan;
use crate::configure::route::Route;
use crate::configure::secrets::{AS_TOKEN, HS_TOKEN, KEY, SECRET, Secrets, SecretsFile};
use crate::env_file::EnvFile;

/// Renders the environment file, or without secrets for printing.
///
/// # Errors
///
/// A value has a character that is read differently by different programs.
pub(super) fn env_file(plan: &Plan, secrets: Option<&Secrets>) -> Result<String> {
    let mut lines = vec![String::from(
        "# For systemd's EnvironmentFile=, `matrixrtc-edge --config` and `docker run --env-file`. It has secrets.",
    )];
    for (name, value) in plan.vars() {
        lines.push(line(name, &value)?);
    }
    match secrets {
        Some(Secrets { pair, tokens }) => {
            lines.extend([line(KEY, pair.key())?, line(SECRET, pair.secret())?]);
            if let Some(tokens) = tokens {
                lines.extend([line(AS_TOKEN, tokens.as_token())?, line(HS_TOKEN, tokens.hs_token())?]);
            }
        }
        None => {
            lines.push(format!("# {KEY} and {SECRET}: the pair of the SFU, which --write makes"));
            if plan.homeserver_mode().is_some() {
                lines.push(format!("# {AS_TOKEN} and {HS_TOKEN}: those of the registration file"));
            }
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// Reads the secrets of the environment file at `path`; without one, there are none.
///
/// # Errors
///
/// It can't be read.
pub(super) fn secrets_there(path: &Path) -> Result<SecretsFile> {
    if !path.exists() {
        return Ok(SecretsFile::default());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    let file = EnvFile::parse(&text).with_context(|| format!("can't read {}", path.display()))?;
    Ok(SecretsFile::of(file.assignments))
}

/// Location for nginx, which strips the path.
pub(super) fn nginx(route: &Route) -> String {
    let host = route.host();
    match route.url().prefix() {
        "" => format!("# For the `server` block of {host}.\nlocation / {{\n    proxy_pass http://{ADDR};\n}}\n"),
        prefix => {
            format!("# For the `server` block of {host}.\nlocation {prefix}/ {{\n    proxy_pass http://{ADDR}/;\n}}\n")
        }
    }
}

/// Site for Caddy, which strips the path.
pub(super) fn caddy(route: &Route) -> String {
    let host = route.host();
    let merge = format!("# Merge this into the site of {host}, if there is one: Caddy refuses a second one.\n");
    match route.url().prefix() {
        "" => format!("{merge}{host} {{\n    reverse_proxy {ADDR}\n}}\n"),
        prefix => {
            format!("{merge}{host} {{\n    handle_path {prefix}/* {{\n        reverse_proxy {ADDR}\n    }}\n}}\n")
        }
    }
}

/// Dynamic configuration for Traefik, which strips the path.
pub(super) fn traefik(route: &Route) -> String {
    let (host, prefix) = (route.host(), route.url().prefix());
    let (path, middleware, definition) = match prefix {
        "" => (String::new(), "", String::new()),
        prefix => (
            format!(" && PathPrefix(`{prefix}`)"),
            "      middlewares: [matrix-rtc]\n",
            format!("  middlewares:\n    matrix-rtc:\n      stripPrefix:\n        prefixes: [{prefix}]\n"),
        ),
    };
    format!(
        "# A file of Traefik's dynamic configuration; websecure is the name of your entry point for HTTPS.\nhttp:\n  \
         routers:\n    matrix-rtc:\n      rule: \"Host(`{host}`){path}\"\n      entryPoints: \
         [websecure]\n{middleware}      service: matrix-rtc\n      tls: {{}}\n{definition}  services:\n    \
         matrix-rtc:\n      loadBalancer:\n        servers:\n          - url: http://{ADDR}\n"
    )
}

fn line(name: &str, value: &str) -> Result<String> {
    if value.contains(READ_DIFFERENTLY) || value.chars().any(char::is_control) || value.trim() != value {
        bail!(
            "{name} has a character that systemd, docker and compose read differently in such a file (one of ' \" \\ ` $): \
             write this file yourself, or take another value"
        );
    }
    Ok(format!("{name}={value}"))
}

const READ_DIFFERENTLY: [char; 5] = ['\'', '"', '\\', '`', '$'];
/// Default address of the executable.
const ADDR: &str = "127.0.0.1:8080";
/// Name of the environment file.
pub(super) const ENV_FILE: &str = "matrixrtc-edge.env";
/// Fragments for the proxies.
pub(super) const NGINX: &str = "nginx-fragment.conf";
pub(super) const CADDY: &str = "Caddyfile-fragment";
pub(super) const TRAEFIK: &str = "traefik-fragment.yaml";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::KeyPair;
    use crate::configure::plan::Hosting;

    fn plan(route: Route) -> Plan {
        let plan = Plan::new(route, String::from("wss://sfu.example.com"), String::from("*"), None).unwrap();
        plan.hosted_on(Hosting::OwnMachine)
    }

    #[test]
    fn the_environment_file_is_read_back_as_it_was_meant() {
        let secrets = Secrets { pair: KeyPair::generate().unwrap(), tokens: None };
        let text = env_file(&plan(Route::custom_domain("rtc.example.com").unwrap()), Some(&secrets)).unwrap();
        let file = EnvFile::parse(&text).unwrap();
        let names: Vec<_> = file.assignments.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "LIVEKIT_URL",
            "LIVEKIT_FULL_ACCESS_HOMESERVERS",
            "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS",
            "LIVEKIT_KEY",
            "LIVEKIT_SECRET",
        ];
        assert_eq!((names.as_slice(), file.skipped.len()), (&expected[..], 0));
        assert!(SecretsFile::of(file.assignments).pair().unwrap() == Some(secrets.pair), "another pair");
    }

    #[test]
    fn a_value_that_programs_read_differently_is_refused_without_being_shown() {
        for secret in ["nobody'may", "nobody\"may", "nobody\\may", "nobody$may"] {
            let secrets = Secrets { pair: KeyPair::parse("APIkey", secret).unwrap(), tokens: None };
            let plan = plan(Route::custom_domain("rtc.example.com").unwrap());
            let error = env_file(&plan, Some(&secrets)).unwrap_err().to_string();
            assert!(error.contains("LIVEKIT_SECRET has a character") && !error.contains("nobody"), "{error}");
        }
    }

    #[test]
    fn a_name_alone_has_no_path_to_strip() {
        let route = Route::custom_domain("rtc.example.com").unwrap();
        assert!(nginx(&route).contains("location / {\n    proxy_pass http://127.0.0.1:8080;"));
        assert!(caddy(&route).ends_with("rtc.example.com {\n    reverse_proxy 127.0.0.1:8080\n}\n"));
        let traefik: serde_json::Value = serde_yaml_ng::from_str(&traefik(&route)).unwrap();
        assert_eq!(traefik["http"]["routers"]["matrix-rtc"]["rule"], "Host(`rtc.example.com`)");
        assert!(traefik["http"].get("middlewares").is_none());
    }
}
