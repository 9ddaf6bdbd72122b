//! Place where the operator sets the service's variables, for the change that a problem needs.

use std::path::PathBuf;

use crate::doctor::report::{Outcome, Verdict};
use crate::variables::{Unread, UnreadName};

/// Place of the variables.
#[derive(Clone, Debug)]
pub enum Settings {
    /// wrangler's configuration and its secrets; also where the place isn't known.
    Wrangler,
    /// Environment file at this path, of a service on one's own machine.
    EnvFile(PathBuf),
}

impl Settings {
    /// Checks that the service reads all of the file with its variables.
    pub(crate) fn are_read(&self, Unread { path, names, lines }: &Unread) -> Verdict<()> {
        let names = names.iter().map(|UnreadName { name, meant }| match meant {
            Some(meant) if meant == name => format!("{name} is read on a machine of one's own only"),
            Some(meant) => format!("nothing reads {name}: perhaps {meant} is meant"),
            None => format!("nothing reads {name}"),
        });
        let lines = lines.iter().map(|skipped| format!("line {} has no effect: {}", skipped.line, skipped.reason));
        let unread: Vec<_> = names.chain(lines).collect();
        let outcome = match (unread.is_empty(), self) {
            (true, _) => Outcome::ok(format!("{} has no unknown ones", path.display())),
            (false, Self::Wrangler) => Outcome::warning(
                format!("{}: {}", path.display(), unread.join("; ")),
                "correct them there, and deploy again with `--secrets-file`; `npx wrangler secret delete NAME` removes one from the \
                 worker",
            ),
            (false, Self::EnvFile(_)) => Outcome::warning(
                format!("{}: {}", path.display(), unread.join("; ")),
                "correct them there, and restart the service",
            ),
        };
        (outcome, Some(()))
    }

    /// Sets variables of any kind, which the problem has named.
    pub(crate) fn variables(&self) -> String {
        match self {
            Self::Wrangler => String::from(
                "set them: in [vars] of wrangler's configuration, with `npx wrangler secret put NAME` or `npx wrangler secret bulk \
                 secrets.production.json`, or in the environment of a local run; the service's log gives the reason for each",
            ),
            Self::EnvFile(file) => format!(
                "set them in {}, and restart the service; its log (`journalctl -u matrixrtc-edge`) gives the reason for each",
                file.display()
            ),
        }
    }

    /// Sets one secret to `value`, in words.
    pub(crate) fn secret(&self, name: &str, value: &str) -> String {
        match self {
            Self::Wrangler => format!(
                "set {name} (`npx wrangler secret put {name}`, or in the secrets file and `npx wrangler secret bulk \
                 secrets.production.json`) to {value}"
            ),
            Self::EnvFile(file) => format!("set {name} in {} to {value}, and restart the service", file.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;
    use crate::env_file::{Reason, Skipped};

    #[test]
    fn names_and_lines_that_nothing_reads_are_a_warning_where_they_are() {
        let unread = |name: &str, meant| UnreadName { name: name.to_owned(), meant };
        let path = PathBuf::from("/etc/edge.env");
        let mut file = Unread {
            path: path.clone(),
            names: vec![
                unread("LIVEKIT_API_SECRET", Some("LIVEKIT_SECRET")),
                unread("LIVEKIT_KEY_FILE", Some("LIVEKIT_KEY_FILE")),
                unread("LIVEKIT_EGRESS", None),
            ],
            lines: vec![Skipped { line: 4, reason: Reason::NoAssignment }],
        };
        for (settings, remedy) in [(Settings::EnvFile(path), "restart"), (Settings::Wrangler, "wrangler")] {
            let outcome = settings.are_read(&file).0;
            assert_eq!(outcome.status, Status::Warning);
            for text in [
                "/etc/edge.env: ",
                "nothing reads LIVEKIT_API_SECRET: perhaps LIVEKIT_SECRET is meant",
                "LIVEKIT_KEY_FILE is read on a machine of one's own only",
                "nothing reads LIVEKIT_EGRESS;",
                "line 4 has no effect: it has no `=`",
            ] {
                assert!(outcome.seen.contains(text), "{outcome:?}");
            }
            assert!(outcome.change.is_some_and(|change| change.contains(remedy)));
        }
        (file.names, file.lines) = (Vec::new(), Vec::new());
        assert_eq!(Settings::Wrangler.are_read(&file).0.status, Status::Ok);
    }
}
