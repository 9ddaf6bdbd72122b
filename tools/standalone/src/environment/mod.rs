//! The variables of the environment and of `--config`, made into those of the worker.
//!
//! How it works:
//! - [`EnvFile`] reads the file; a variable of the process's environment comes before the file's;
//! - an empty value counts as none, in both; white space around a value isn't part of it;
//! - [`table`](operator::variables::table) lists the variables that the executable has beside the worker's, those of
//!   lk-jwt-service among them;
//! - [`files`] reads the values that variables name files for: they become the worker's own variables, and never reach a
//!   disk again;
//! - the worker's parser judges the result; its problems and those of this module are reported together;
//! - [`names`] finds the variables that nobody reads, with the names that were meant.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::Path,
};

use matrixrtc_edge::config::{Config, QUOTED, Unreadable, VARIABLES, is_quoted};
use operator::{
    env_file::EnvFile,
    variables::{
        SHORTEST_SECRET,
        files::{self, PAIR, SOURCES, contradictions},
        names,
        table::{ADDR, JWT_BIND, JWT_PORT, REDIS_PASSWORD, REDIS_URL, SKIP_VERIFY_TLS},
    },
};
use serde_json::json;
use thiserror::Error;

use crate::message::{Kind, Message};

/// The variables that this program was started with, and what is to be said about them.
#[derive(Debug, Default)]
pub struct Environment {
    values: BTreeMap<String, String>,
    messages: Vec<Message>,
}

/// The configuration is incomplete or wrong: one sentence for each problem.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the configuration is incomplete or wrong: {}", .0.join("; "))]
pub struct Misconfigured(pub Vec<String>);

/// The worker's variables, once they are known to be right.
#[derive(Debug)]
pub struct Worker {
    /// Names and values.
    pub variables: BTreeMap<String, String>,
    /// The worker's reading of them.
    pub config: Config,
}

impl Environment {
    /// Reads the variables of this process, and those of a file beneath them.
    ///
    /// # Errors
    ///
    /// The file can't be read or parsed, or a variable isn't UTF-8.
    pub fn of_process(config: Option<&Path>) -> Result<Self, Misconfigured> {
        let mut process = Vec::new();
        for (name, value) in env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => process.push((name, value)),
                (Ok(name), Err(_)) if names::is_known(&name) => {
                    return Err(Misconfigured(vec![format!("{name} isn't UTF-8")]));
                }
                // Another program's.
                _ => {}
            }
        }
        let file = config.map(|path| {
            let problem = |problem: String| Misconfigured(vec![format!("--config {} {problem}", path.display())]);
            let text = files::read(path)
                .map_err(|error| problem(format!("can't be read: {error}{}", files::remedy(&error))))?;
            Ok((path, EnvFile::parse(&text).map_err(|error| problem(format!("can't be read: {error}")))?))
        });
        Ok(Self::new(process, file.transpose()?))
    }

    /// Puts the variables of a process before those of a file.
    fn new(process: Vec<(String, String)>, file: Option<(&Path, EnvFile)>) -> Self {
        let mut environment = Self::default();
        if let Some((path, file)) = file {
            for skipped in file.skipped {
                let fields = json!({ "file": path.display().to_string(), "line": skipped.line, "cause": skipped.reason.to_string() });
                environment.say(Kind::LineIgnored, fields);
            }
            environment.add(file.assignments, |_| true);
        }
        environment.add(process, names::is_meant_for_us);
        environment
    }

    fn add(&mut self, variables: Vec<(String, String)>, meant_for_us: impl Fn(&str) -> bool) {
        for (name, value) in variables {
            if names::is_known(&name) {
                let value = value.trim();
                if !value.is_empty() {
                    self.values.insert(name, value.to_owned());
                }
            } else if meant_for_us(&name) && !is_link_of_a_container(&name, &value) {
                let nearest = names::nearest(&name);
                let mut fields = json!({ "variable": name });
                if let Some(nearest) = nearest {
                    fields["did_you_mean"] = nearest.into();
                }
                self.say(Kind::UnknownVariable, fields);
            }
        }
    }

    /// Returns the value of a variable of the executable, if it has one.
    ///
    /// # Errors
    ///
    /// It is in quotation marks.
    pub fn get(&self, name: &str) -> Result<Option<&str>, Misconfigured> {
        match self.values.get(name) {
            Some(value) if is_quoted(value) => Err(Misconfigured(vec![format!("{name} {QUOTED}")])),
            value => Ok(value.map(String::as_str)),
        }
    }

    /// Notes what is to be written to the log.
    pub(crate) fn say(&mut self, kind: Kind, fields: serde_json::Value) {
        self.messages.push(Message { kind, fields });
    }

    /// Returns what is to be written to the log, and forgets it.
    pub fn take_messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    /// Reads the files that variables name, and returns the worker's variables.
    ///
    /// # Errors
    ///
    /// A variable is missing or wrong, a file hasn't got its value, or two variables stand for the same. All problems are
    /// reported together.
    pub fn worker(&mut self) -> Result<Worker, Misconfigured> {
        self.note_what_has_no_effect();
        let mut problems = contradictions(|name| self.values.contains_key(name));
        let mut variables = BTreeMap::new();
        // Their own problems would only repeat what has been said.
        let mut unread: BTreeSet<&str> = BTreeSet::new();
        let mut origins: BTreeMap<&str, &str> = BTreeMap::new();
        for name in VARIABLES {
            if let Some(value) = self.values.get(name) {
                variables.insert(name.to_owned(), value.clone());
            }
        }
        if !problems.is_empty() {
            unread.extend(SOURCES.iter().flat_map(|source| source.sets));
            unread.extend(PAIR);
        }
        for source in SOURCES {
            let read =
                |path| source.read(path).map_err(|error| Misconfigured(vec![format!("{} {error}", source.variable)]));
            match self.get(source.variable).and_then(|path| path.map(read).transpose()) {
                Ok(None) => {}
                Ok(Some(values)) => {
                    for (name, value) in source.sets.iter().zip(values) {
                        origins.insert(name, source.variable);
                        variables.insert((*name).to_owned(), value.trim().to_owned());
                    }
                }
                Err(Misconfigured(of_source)) => {
                    unread.extend(source.sets);
                    problems.extend(of_source);
                }
            }
        }
        if let Some(value) = self.values.get(SKIP_VERIFY_TLS)
            && !["false", "0", "no", "off"].contains(&value.to_ascii_lowercase().as_str())
        {
            problems.push(format!(
                "{SKIP_VERIFY_TLS} isn't supported: certificates are always verified. Remove it, and give the certificate of \
                 your own authority with --trust-ca FILE"
            ));
        }
        let config = Config::from_source(|name| match unread.contains(name) {
            true => Err(Unreadable),
            false => Ok(variables.get(name).cloned()),
        });
        match config {
            Ok(config) if problems.is_empty() => {
                self.note_short_secrets(&variables, &origins);
                Ok(Worker { variables, config })
            }
            config => {
                for problem in config.err().into_iter().flat_map(|errors| errors.0) {
                    if !unread.contains(problem.variable) {
                        let origin =
                            origins.get(problem.variable).map_or_else(String::new, |from| format!(" (from {from})"));
                        problems.push(format!("{}{origin} {}", problem.variable, problem.problem));
                    }
                }
                Err(Misconfigured(problems))
            }
        }
    }

    fn note_what_has_no_effect(&mut self) {
        for name in [REDIS_URL, REDIS_PASSWORD] {
            if self.values.contains_key(name) {
                let fields = json!({ "variable": name, "cause": "state is kept in --state, there is no Redis to use" });
                self.say(Kind::WithoutEffect, fields);
            }
        }
    }

    fn note_short_secrets(&mut self, variables: &BTreeMap<String, String>, origins: &BTreeMap<&str, &str>) {
        let of = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
        let lines = of("LIVEKIT_KEYS").lines().filter_map(|line| Some(("LIVEKIT_KEYS", line.split_once(':')?.1)));
        let secrets: Vec<_> = lines.chain([("LIVEKIT_SECRET", of("LIVEKIT_SECRET"))]).collect();
        let is_short = |secret: &str| (1..SHORTEST_SECRET).contains(&secret.trim().chars().count());
        if let Some((name, _)) = secrets.into_iter().find(|(_, secret)| is_short(secret)) {
            let variable = origins.get(name).copied().unwrap_or(name);
            let cause = format!("it has fewer than {SHORTEST_SECRET} characters, and can be guessed");
            self.say(Kind::ShortSecret, json!({ "variable": variable, "cause": cause }));
        }
    }

    /// Returns the text of the address to listen on, with the variable that it is from.
    ///
    /// `LIVEKIT_JWT_BIND` and `LIVEKIT_JWT_PORT` come before `MATRIXRTC_EDGE_ADDR`, which a container has by default.
    pub(crate) fn address(&mut self) -> Result<Option<(&'static str, String)>, Misconfigured> {
        // Kubernetes makes one of this name for a service that is called livekit-jwt.
        if self.values.get(JWT_PORT).is_some_and(|port| port.contains("://")) {
            self.values.remove(JWT_PORT);
            let cause =
                "it is Kubernetes' variable for a service named livekit-jwt; enableServiceLinks: false avoids it";
            self.say(Kind::WithoutEffect, json!({ "variable": JWT_PORT, "cause": cause }));
        }
        let chosen = match [JWT_BIND, JWT_PORT].map(|name| self.values.contains_key(name)) {
            [true, true] => {
                return Err(Misconfigured(vec![format!(
                    "{JWT_BIND} and {JWT_PORT} are both set: remove {JWT_PORT}, the older form"
                )]));
            }
            [true, false] => JWT_BIND,
            [false, true] => JWT_PORT,
            [false, false] => ADDR,
        };
        let Some(text) = self.get(chosen)?.map(str::to_owned) else { return Ok(None) };
        if self.values.get(ADDR).is_some_and(|addr| *addr != text) {
            let cause = format!("{chosen} comes before it");
            self.say(Kind::WithoutEffect, json!({ "variable": ADDR, "cause": cause }));
        }
        Ok(Some((chosen, text)))
    }
}

/// Whether a container's platform has made the variable, for another container or service of a name like `livekit`.
fn is_link_of_a_container(name: &str, value: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_TCP", "_UDP"].iter().any(|part| name.contains(part))
        || ["tcp://", "udp://"].iter().any(|scheme| value.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;
    use operator::variables::table::STATE_DIRECTORY;

    const MINIMAL: [(&str, &str); 4] = [
        ("LIVEKIT_URL", "wss://sfu.example.com"),
        ("LIVEKIT_KEY", "APIkey"),
        ("LIVEKIT_SECRET", "a-secret-that-is-long-enough-for-all"),
        ("LIVEKIT_FULL_ACCESS_HOMESERVERS", "example.com"),
    ];

    fn environment(changes: &[(&str, &str)]) -> Environment {
        let mut variables: BTreeMap<_, _> = MINIMAL.into();
        variables.extend(changes.iter().copied());
        let process = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Environment::new(process, None)
    }

    fn problems(changes: &[(&str, &str)]) -> Vec<String> {
        environment(changes).worker().unwrap_err().0
    }

    #[test]
    fn files_stand_for_the_workers_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let secret = file("secret", "from-a-file\n");
        let keys = file("keys", "# comment\nnew: one\nold: two\n");
        let registration = file("registration.yaml", "id: x\nas_token: \"aaa\"\nhs_token: hhh\nurl: null\n");
        let token = file("token", "other\n");

        let worker = environment(&[("LIVEKIT_SECRET", ""), ("LIVEKIT_SECRET_FROM_FILE", &secret)]).worker().unwrap();
        assert_eq!(worker.variables["LIVEKIT_SECRET"], "from-a-file");

        let no_pair = [("LIVEKIT_KEY", ""), ("LIVEKIT_SECRET", ""), ("LIVEKIT_KEY_FILE", &keys)];
        let worker = environment(&no_pair).worker().unwrap();
        assert_eq!(worker.config.keys.signing().name, "new");
        assert!(worker.config.keys.named("old").is_some());

        let mode = [("LIVEKIT_AS_REGISTRATION_FILE", &*registration), ("LIVEKIT_HS_SERVER_NAME", "example.com")];
        let worker = environment(&mode).worker().unwrap();
        assert_eq!((&*worker.variables["LIVEKIT_AS_TOKEN"], &*worker.variables["LIVEKIT_HS_TOKEN"]), ("aaa", "hhh"));

        let mode = [
            ("LIVEKIT_AS_TOKEN_FROM_FILE", &*token),
            ("LIVEKIT_HS_TOKEN_FROM_FILE", &*token),
            ("LIVEKIT_HS_SERVER_NAME", "example.com"),
        ];
        assert!(environment(&mode).worker().unwrap().config.application_service.is_some());
    }

    #[test]
    fn two_of_a_kind_are_refused_and_named() {
        for (changes, named) in [
            (vec![("LIVEKIT_KEY_FROM_FILE", "/f")], ["LIVEKIT_KEY", "LIVEKIT_KEY_FROM_FILE"]),
            (vec![("LIVEKIT_SECRET_FROM_FILE", "/f")], ["LIVEKIT_SECRET", "LIVEKIT_SECRET_FROM_FILE"]),
            (vec![("LIVEKIT_SECRET", ""), ("LIVEKIT_KEY_FILE", "/f")], ["LIVEKIT_KEY", "LIVEKIT_KEY_FILE"]),
            (vec![("LIVEKIT_KEYS", "a: b"), ("LIVEKIT_KEY_FILE", "/f")], ["LIVEKIT_KEYS", "LIVEKIT_KEY_FILE"]),
            (
                vec![("LIVEKIT_AS_TOKEN", "a"), ("LIVEKIT_AS_REGISTRATION_FILE", "/f")],
                ["LIVEKIT_AS_TOKEN", "LIVEKIT_AS_REGISTRATION_FILE"],
            ),
            (
                vec![("LIVEKIT_HS_TOKEN_FROM_FILE", "/g"), ("LIVEKIT_AS_REGISTRATION_FILE", "/f")],
                ["LIVEKIT_HS_TOKEN_FROM_FILE", "LIVEKIT_AS_REGISTRATION_FILE"],
            ),
        ] {
            let problems = problems(&changes);

            let expected = format!("{} and {} are both set: remove one of them", named[0], named[1]);
            assert!(problems.contains(&expected), "{problems:?}");
        }
        let errors = environment(&[(JWT_BIND, ":8080"), (JWT_PORT, "8080")]).address().unwrap_err().0;
        assert!(errors[0].contains(JWT_BIND) && errors[0].contains(JWT_PORT), "{errors:?}");
    }

    #[test]
    fn a_problem_is_named_once_beside_the_workers_own() {
        let changes =
            [("LIVEKIT_SECRET", ""), ("LIVEKIT_SECRET_FROM_FILE", "/does/not/exist"), ("LIVEKIT_LOG_LEVEL", "loud")];

        let problems = problems(&changes);

        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("LIVEKIT_SECRET_FROM_FILE names /does/not/exist"), "{problems:?}");
        assert!(problems[1].starts_with("LIVEKIT_LOG_LEVEL must be"), "{problems:?}");
    }

    #[test]
    fn the_environment_comes_before_the_file() {
        let file = EnvFile::parse("LIVEKIT_URL=wss://of.file\nLIVEKIT_KEY=of-file\nLIVEKIT_LOG_LEVL=x\nnothing\n");
        let process = [("LIVEKIT_URL", "wss://of.process"), ("LIVEKIT_KEY", ""), ("PATH", "/bin")];
        let process = process.map(|(name, value)| (name.to_owned(), value.to_owned())).into();

        let mut environment = Environment::new(process, Some((Path::new("/etc/edge.env"), file.unwrap())));

        assert_eq!(environment.get("LIVEKIT_URL"), Ok(Some("wss://of.process")));
        assert_eq!(environment.get("LIVEKIT_KEY"), Ok(Some("of-file")));
        let messages: Vec<_> = environment.take_messages().iter().map(ToString::to_string).collect();
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert!(messages[0].contains("/etc/edge.env") && messages[0].contains(":4"), "{messages:?}");
        assert!(messages[1].contains("LIVEKIT_LOG_LEVEL"), "{messages:?}");
    }

    #[test]
    fn white_space_around_a_value_is_not_a_part_of_it() {
        let changes = [("LIVEKIT_ALLOW_PRIVATE_ADDRESSES", "true\n"), ("LIVEKIT_LOG_LEVEL", "\twarn ")];

        let worker = environment(&changes).worker().unwrap();

        assert_eq!(worker.variables["LIVEKIT_ALLOW_PRIVATE_ADDRESSES"], "true");
        assert_eq!(worker.variables["LIVEKIT_LOG_LEVEL"], "warn");
    }

    #[test]
    fn a_value_in_quotation_marks_is_refused_where_it_is_read() {
        for source in SOURCES {
            let problems = problems(&[(source.variable, "\"/run/secrets/WRONG\"")]);
            let of_source: Vec<_> = problems.iter().filter(|problem| problem.contains("quotation marks")).collect();
            assert!(of_source.len() == 1 && of_source[0].starts_with(source.variable), "{problems:?}");
        }
        for name in [ADDR, JWT_BIND, JWT_PORT] {
            let problems = environment(&[(name, " '8080'")]).address().unwrap_err().0;
            assert_eq!(problems, [format!("{name} {QUOTED}")]);
        }
        assert!(environment(&[(STATE_DIRECTORY, "\"/state\"")]).get(STATE_DIRECTORY).is_err());
        let mut with_bind = environment(&[(ADDR, "\":8080\""), (JWT_BIND, ":8081")]);
        assert_eq!(with_bind.address(), Ok(Some((JWT_BIND, ":8081".to_owned()))));
    }

    #[test]
    fn what_a_platform_sets_for_containers_is_not_taken_for_ours() {
        let mut environment = environment(&[
            ("LIVEKIT_SERVICE_HOST", "10.0.0.1"),
            ("LIVEKIT_PORT", "tcp://10.0.0.1:7880"),
            ("LIVEKIT_PORT_7880_TCP_ADDR", "10.0.0.1"),
        ]);
        assert!(environment.take_messages().is_empty());

        environment.values.insert(JWT_PORT.to_owned(), "tcp://10.0.0.2:8080".to_owned());
        assert_eq!(environment.address(), Ok(None));
        assert!(environment.take_messages()[0].to_string().contains("Kubernetes"));
    }

    #[test]
    fn the_address_of_lk_jwt_service_comes_before_the_containers_default() {
        for (changes, expected) in [
            (vec![(ADDR, "0.0.0.0:8080")], Some((ADDR, "0.0.0.0:8080"))),
            (vec![(ADDR, "0.0.0.0:8080"), (JWT_BIND, " :8081\n")], Some((JWT_BIND, ":8081"))),
            (vec![(ADDR, "0.0.0.0:8080"), (JWT_PORT, "8082")], Some((JWT_PORT, "8082"))),
            (vec![], None),
        ] {
            let expected = expected.map(|(name, value)| (name, value.to_owned()));
            assert_eq!(environment(&changes).address(), Ok(expected), "{changes:?}");
        }
    }

    #[test]
    fn redis_is_not_needed_and_unverified_certificates_are_not_accepted() {
        let mut with_redis = environment(&[(REDIS_URL, "redis://redis:6379"), (REDIS_PASSWORD, "nobody-may-see")]);
        assert!(with_redis.worker().is_ok());
        let messages: String = with_redis.take_messages().iter().map(ToString::to_string).collect();
        assert!(messages.contains("--state") && !messages.contains("nobody-may-see"), "{messages}");

        assert!(problems(&[(SKIP_VERIFY_TLS, "YES_I_KNOW_WHAT_I_AM_DOING")])[0].contains("--trust-ca"));
        assert!(environment(&[(SKIP_VERIFY_TLS, "false")]).worker().is_ok());
    }

    #[test]
    fn a_short_secret_is_warned_of_and_not_shown() {
        for (changes, named) in [
            (vec![("LIVEKIT_SECRET", "nobody-may-see")], Some("LIVEKIT_SECRET")),
            (
                vec![("LIVEKIT_KEY", ""), ("LIVEKIT_SECRET", ""), ("LIVEKIT_KEYS", "a: nobody-may-see")],
                Some("LIVEKIT_KEYS"),
            ),
            (vec![], None),
        ] {
            let mut environment = environment(&changes);
            assert!(environment.worker().is_ok());
            let messages: String = environment.take_messages().iter().map(ToString::to_string).collect();
            assert_eq!(messages.contains("short secret"), named.is_some(), "{messages}");
            assert!(named.is_none_or(|named| messages.contains(named)), "{messages}");
            assert!(!messages.contains("nobody-may-see"), "{messages}");
        }
    }

    #[test]
    fn a_registration_file_without_its_tokens_is_named_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registration.yaml");
        for (text, expected) in [
            ("as_token: \"WRONG\n: [", "isn't YAML"),
            ("as_token: WRONG\n", "has no `hs_token`"),
            ("as_token: WRONG\nhs_token: 12345\n", "`hs_token` isn't text"),
            (" \n", "is empty"),
        ] {
            std::fs::write(&path, text).unwrap();
            let changes =
                [("LIVEKIT_AS_REGISTRATION_FILE", path.to_str().unwrap()), ("LIVEKIT_HS_SERVER_NAME", "example.com")];
            let problems = problems(&changes);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
            assert!(!problems[0].contains("WRONG") && !problems[0].contains("12345"), "{problems:?}");
        }
    }
}
