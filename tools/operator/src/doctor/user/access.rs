//! Access of the user: full or restricted, and why (`docs/protocol.md#access`).

use matrixrtc_edge::matrix::ids::server_name::ServerName;

use crate::doctor::report::{Outcome, Verdict};
use crate::doctor::sfu::AutoCreate;
use crate::doctor::user::sfu::SfuRoom;

/// All that shows a user's access.
pub(crate) struct Access<'a> {
    /// The user's homeserver.
    pub(crate) server_name: &'a ServerName,
    /// The token's room on the SFU.
    pub(crate) room: SfuRoom,
    /// Whether the SFU makes the rooms that are joined, where the doctor has found it out.
    pub(crate) auto_create: Option<AutoCreate>,
    /// Whether the token allows to publish.
    pub(crate) can_publish: bool,
    /// Value of the service's `LIVEKIT_FULL_ACCESS_HOMESERVERS`, where the doctor has it.
    pub(crate) configured: Option<&'a str>,
    /// Hosts that an operator could take for the server name: those of the service and of the homeserver's APIs.
    pub(crate) hosts: Vec<String>,
}

impl Access<'_> {
    /// Judges whether the user can begin a call, and names the cause if not.
    pub(crate) fn judge(&self) -> Verdict<()> {
        let outcome = match (self.room, self.can_publish) {
            (SfuRoom::Exists, true) => self.full(),
            (SfuRoom::Exists, false) => Outcome::warning(
                "the room is on the SFU, but the token doesn't let the user publish: others neither hear nor see them",
                "if that isn't intended, add the homeserver to LIVEKIT_FULL_ACCESS_HOMESERVERS, or set LIVEKIT_RESTRICTED_CAN_PUBLISH to true",
            ),
            (SfuRoom::Missing, _) => self.restricted(),
        };
        (outcome, Some(()))
    }

    /// Judges the access where the room is there: the service has made it, or the SFU.
    fn full(&self) -> Outcome {
        let server_name = self.server_name;
        let is_listed = self.entries().map(|entries| entries.iter().any(|entry| self.includes(entry)));
        match (self.auto_create, is_listed) {
            (Some(AutoCreate::Off), Some(false)) => Outcome::warning(
                format!("full, although the doctor's LIVEKIT_FULL_ACCESS_HOMESERVERS lacks {server_name}"),
                "deploy the service with this value, or restart it: it runs with another",
            ),
            (Some(AutoCreate::Off), _) => {
                Outcome::ok("full: the service has made the room on the SFU, and the user may publish")
            }
            (Some(AutoCreate::On) | None, Some(false)) => Outcome::warning(
                format!(
                    "restricted, because {server_name} isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS; but the SFU makes the room \
                     (auto_create), so the user can begin a call"
                ),
                format!(
                    "switch auto_create off on the SFU (`auto_create: false` under `room:`); if its users shall begin calls, add \
                     {server_name} to the service's LIVEKIT_FULL_ACCESS_HOMESERVERS, and deploy it"
                ),
            ),
            (Some(AutoCreate::On) | None, Some(true)) => Outcome::ok(format!(
                "full: {server_name} is in LIVEKIT_FULL_ACCESS_HOMESERVERS, the room is on the SFU, and the user may publish"
            )),
            (Some(AutoCreate::On), None) => {
                Outcome::ok("full in effect: the SFU makes the room for every user (auto_create), who may publish")
            }
            (None, None) => Outcome::ok(
                "full, or the SFU has auto_create on: the room is on the SFU, and the user may publish (see `SFU: auto_create is off`)",
            ),
        }
    }

    fn restricted(&self) -> Outcome {
        let server_name = self.server_name;
        let seen = "restricted: the service hasn't made the room on the SFU, so the user can't begin a call (\"room doesn't exist\")";
        let add = format!(
            "if its users shall begin calls, add {server_name} to the service's LIVEKIT_FULL_ACCESS_HOMESERVERS, and deploy it"
        );
        let Some(entries) = self.entries() else {
            return Outcome::warning(
                format!("{seen}: {server_name} isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS"),
                format!(
                    "{add}: it must be the part of the users' ids after the colon, in the same capitals, not a host; the doctor compares \
                     the variable, if the environment or --env-file has it"
                ),
            );
        };
        if entries.iter().any(|entry| self.includes(entry)) {
            return Outcome::problem(
                format!("{seen}, although the doctor's LIVEKIT_FULL_ACCESS_HOMESERVERS includes {server_name}"),
                "deploy the service with this value, or restart it: it runs with another",
            );
        }
        if let Some(entry) = entries.iter().find(|entry| entry.eq_ignore_ascii_case(server_name.as_str())) {
            return Outcome::problem(
                format!("{seen}: LIVEKIT_FULL_ACCESS_HOMESERVERS has {entry}, in other capitals than the users' ids"),
                format!("write {server_name} in place of {entry}, and deploy it"),
            );
        }
        if let Some(entry) = entries.iter().find(|entry| self.is_host(entry)) {
            return Outcome::problem(
                format!(
                    "{seen}: LIVEKIT_FULL_ACCESS_HOMESERVERS has {entry}, which is a host, not the name in the users' ids"
                ),
                format!("write {server_name} in place of {entry}, and deploy it"),
            );
        }
        Outcome::warning(format!("{seen}: {server_name} isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS"), add)
    }

    /// Entries of the service's `LIVEKIT_FULL_ACCESS_HOMESERVERS`, where the doctor has it.
    fn entries(&self) -> Option<Vec<&str>> {
        let entries = self.configured?.split(|c: char| c == ',' || c.is_whitespace());
        Some(entries.filter(|entry| !entry.is_empty()).collect())
    }

    /// Whether an entry includes the homeserver, as the service compares it.
    fn includes(&self, entry: &str) -> bool {
        entry == "*" || entry == self.server_name.as_str()
    }

    /// Whether an entry is a host of this homeserver or of the service: one that is known, one below the server name, or
    /// the name itself with another port or a scheme.
    fn is_host(&self, entry: &str) -> bool {
        let entry = entry.rsplit("://").next().unwrap_or_default().trim_end_matches('/').to_ascii_lowercase();
        let host = entry.rsplit_once(':').map_or(entry.as_str(), |(host, _)| host);
        let own = self.server_name.host().to_string().to_ascii_lowercase();
        host == own
            || host.strip_suffix(own.as_str()).is_some_and(|rest| rest.ends_with('.'))
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Status;
    use proptest::prelude::*;

    fn judged(room: SfuRoom, auto_create: Option<AutoCreate>, configured: Option<&str>) -> Outcome {
        let server_name = ServerName::parse("example.com").unwrap();
        let hosts = vec![String::from("cs.example.net")];
        Access { server_name: &server_name, room, auto_create, can_publish: true, configured, hosts }.judge().0
    }

    #[test]
    fn the_cause_of_restricted_access_is_named() {
        for (configured, status, cause) in [
            (None, Status::Warning, "isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS"),
            (Some("example.org"), Status::Warning, "isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS"),
            (Some("notexample.com"), Status::Warning, "isn't in LIVEKIT_FULL_ACCESS_HOMESERVERS"),
            (Some("example.org, Example.com"), Status::Problem, "has Example.com, in other capitals"),
            (Some("matrix.example.com"), Status::Problem, "has matrix.example.com, which is a host"),
            (Some("https://example.com/"), Status::Problem, "which is a host"),
            (Some("example.com:8448"), Status::Problem, "which is a host"),
            (Some("CS.example.net:443"), Status::Problem, "which is a host"),
            (Some("example.com"), Status::Problem, "although the doctor's"),
            (Some("*"), Status::Problem, "although the doctor's"),
        ] {
            let outcome = judged(SfuRoom::Missing, Some(AutoCreate::Off), configured);
            assert!(outcome.status == status && outcome.seen.contains(cause), "{configured:?}: {outcome:?}");
            assert!(outcome.seen.contains("restricted") && outcome.change.is_some());
        }
    }

    #[test]
    fn a_room_that_the_sfu_may_have_made_shows_no_full_access() {
        let (on, off) = (Some(AutoCreate::On), Some(AutoCreate::Off));
        for (auto_create, configured, status, seen) in [
            (off, None, Status::Ok, "full: the service has made the room"),
            (off, Some("example.com"), Status::Ok, "full: the service has made the room"),
            (off, Some("example.org"), Status::Warning, "full, although the doctor's"),
            (on, Some("example.org"), Status::Warning, "restricted, because example.com isn't in"),
            (None, Some("example.org"), Status::Warning, "but the SFU makes the room (auto_create)"),
            (on, Some("*"), Status::Ok, "full: example.com is in"),
            (None, Some("example.org example.com"), Status::Ok, "full: example.com is in"),
            (on, None, Status::Ok, "full in effect: the SFU makes the room"),
            (None, None, Status::Ok, "full, or the SFU has auto_create on"),
        ] {
            let outcome = judged(SfuRoom::Exists, auto_create, configured);
            assert!(outcome.status == status && outcome.seen.contains(seen), "{outcome:?}");
            assert_eq!(outcome.change.is_some(), status == Status::Warning, "{outcome:?}");
        }
    }

    proptest! {
        #[test]
        fn any_list_is_read_without_panic(configured in "\\PC{0,60}") {
            let _ = judged(SfuRoom::Missing, None, Some(&configured));
        }
    }
}
