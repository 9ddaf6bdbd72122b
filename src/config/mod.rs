//! The configuration of the service: one table of variables, read once, typed, with all problems reported at once
//! (`docs/protocol.md#configuration`).
//!
//! How it works:
//! - the table below is the only list of variables: name, help, default, parser;
//! - [`Config`], its reader, [`VARIABLES`] and [`TABLE`] come from it, and a test compares README and `wrangler.toml`
//!   with it;
//! - the reader collects the problems of all variables, so that an operator corrects them in one go;
//! - a problem names the variable, shows its value unless that is a secret, and says what to write instead.

pub mod bindings;
pub mod jurisdiction;
pub mod location_hint;
mod reader;
mod table;
mod values;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use url::Url;

use crate::config::jurisdiction::Jurisdiction;
use crate::config::location_hint::LocationHint;
use crate::config::reader::Reader;
pub use crate::config::reader::{ConfigErrors, Problem, Unreadable};
use crate::config::table::configuration;
pub use crate::config::table::{Presence, Variable};
pub use crate::config::values::{HomeserverList, QUOTED, is_quoted, unlike_a_secret};
use crate::config::values::{
    parse_address_policy, parse_bool, parse_interval, parse_jurisdiction, parse_level, parse_location_hint,
    parse_number, parse_overrides, parse_resolver, parse_seconds, parse_sfu_url, parse_token_ttl,
};
use crate::livekit::keys::ApiKeys;
use crate::livekit::room_service::RoomSettings;
use crate::livekit::sfu_url::SfuUrl;
use crate::log::Level;
use crate::matrix::federation::discovery::AddressPolicy;
use crate::matrix::homeserver::ApplicationService;
use crate::matrix::ids::server_name::ServerName;

configuration! {
    /// the SFU's WebSocket URL, handed to clients; its API has the same host and path
    "LIVEKIT_URL" => sfu: SfuUrl = required(parse_sfu_url);

    /// server names, by commas or spaces, whose users create rooms; `*` alone: all
    "LIVEKIT_FULL_ACCESS_HOMESERVERS" => full_access: HomeserverList = required(HomeserverList::parse);

    /// seconds between two checks that connected participants are on the SFU; `0`: once an hour
    "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS" => sanity_check_interval: Option<Duration> =
        default("300", parse_interval);

    /// `debug`, `info`, `warn` or `error`
    "LIVEKIT_LOG_LEVEL" => log_level: Level = default("info", parse_level);

    /// `name=url,name=url`: client-server APIs that aren't looked up; may be private
    "LIVEKIT_CS_API_URL_OVERRIDES" => cs_api_url_overrides: Rc<BTreeMap<ServerName, Url>> = default("", parse_overrides);

    /// `name=url,name=url`: federation APIs that aren't looked up; may be private
    "LIVEKIT_FEDERATION_URL_OVERRIDES" => federation_url_overrides: Rc<BTreeMap<ServerName, Url>> =
        default("", parse_overrides);

    /// server names, by commas or spaces, whose users receive tokens, beside those with full access; `*` alone: all
    "LIVEKIT_ALLOWED_HOMESERVERS" => allowed_homeservers: HomeserverList = default("*", HomeserverList::parse);

    /// whether participants may change their own name and metadata on the SFU
    "LIVEKIT_CAN_UPDATE_OWN_METADATA" => can_update_own_metadata: bool = default("false", parse_bool);

    /// whether users of other homeservers may publish media
    "LIVEKIT_RESTRICTED_CAN_PUBLISH" => restricted_can_publish: bool = default("true", parse_bool);

    /// whether users of other homeservers may hand over their leaves, in rooms that exist
    "LIVEKIT_RESTRICTED_CAN_DELEGATE" => restricted_can_delegate: bool = default("true", parse_bool);

    /// whether homeservers may have private addresses; for a test setup
    "LIVEKIT_ALLOW_PRIVATE_ADDRESSES" => addresses: AddressPolicy = default("false", parse_address_policy);

    /// resolver for SRV records, with `application/dns-json` answers
    "LIVEKIT_DNS_OVER_HTTPS_URL" => dns_over_https_url: Rc<Url> =
        default("https://cloudflare-dns.com/dns-query", parse_resolver);

    /// where Cloudflare makes the rooms' objects: `wnam`, `enam`, `sam`, `weur`, `eeur`, `apac`, `apac-ne`, `apac-se`, `oc`, `afr`, `me`
    "LIVEKIT_LOCATION_HINT" => location_hint: Option<LocationHint> = optional(parse_location_hint);

    /// where alone Cloudflare may run and store the rooms' objects: `eu`, `fedramp`, `us`; to be chosen before the first call
    "LIVEKIT_JURISDICTION" => jurisdiction: Option<Jurisdiction> = optional(parse_jurisdiction);

    /// seconds that a token is valid, from `1` to `3600`
    "LIVEKIT_TOKEN_TTL_SECONDS" => token_ttl_s: u32 = default("3600", parse_token_ttl);

    /// seconds after which the SFU closes a room that was never joined; `0`: as the SFU is configured
    "LIVEKIT_ROOM_EMPTY_TIMEOUT_SECONDS" => room_empty_timeout_s: u32 = default("300", parse_seconds);

    /// seconds after which the SFU closes a room that every participant has left; `0`: as the SFU is configured
    "LIVEKIT_ROOM_DEPARTURE_TIMEOUT_SECONDS" => room_departure_timeout_s: u32 = default("20", parse_seconds);

    /// participants that a room takes at a time; `0`: as the SFU is configured
    "LIVEKIT_ROOM_MAX_PARTICIPANTS" => room_max_participants: u32 = default("0", parse_number);

    /// homeserver mode: seconds between two checks of the room's members; `0`: never
    "LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS" => membership_check_interval: Option<Duration> =
        default("60", parse_interval);

    /// homeserver mode: server names, by commas or spaces, whose users may publish on this SFU; `*` alone: all
    "LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS" => remote_can_publish_homeservers: HomeserverList =
        default("*", HomeserverList::parse);

    /// whether a browser gets the page with checks and a test call
    "LIVEKIT_PAGE" => page: bool = default("true", parse_bool);

    group keys: ApiKeys {
        /// the SFU's API key; required, unless `LIVEKIT_KEYS` is set
        "LIVEKIT_KEY";
        /// its secret; required with `LIVEKIT_KEY` (a secret)
        "LIVEKIT_SECRET";
        /// in place of both, `key: secret` lines: the first signs, all verify webhooks (a secret)
        "LIVEKIT_KEYS";
    }

    group application_service: Option<ApplicationService> {
        /// homeserver mode: the homeserver whose application service this is; with both tokens
        "LIVEKIT_HS_SERVER_NAME";
        /// homeserver mode: `as_token` of the registration file (a secret)
        "LIVEKIT_AS_TOKEN";
        /// homeserver mode: `hs_token` of the registration file (a secret)
        "LIVEKIT_HS_TOKEN";
    }

    group require_membership: bool {
        /// whether users must be joined to the Matrix room, by whichever endpoint they come; needs homeserver mode, where it is `true` by default
        "LIVEKIT_REQUIRE_MEMBERSHIP";
    }
}

impl Config {
    /// Reads the configuration from `lookup`, which returns the value of a variable where there is one. An empty value
    /// counts as none.
    ///
    /// Fails with every variable that is missing or wrong.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        Self::from_source(|variable| Ok(lookup(variable)))
    }

    /// Returns the settings of the rooms that the service creates.
    pub fn room_settings(&self) -> RoomSettings {
        RoomSettings {
            empty_timeout_s: self.room_empty_timeout_s,
            departure_timeout_s: self.room_departure_timeout_s,
            max_participants: self.room_max_participants,
        }
    }

    /// Whether users of `server` may receive tokens: users with full access and those of our own homeserver always may.
    pub fn allows(&self, server: &ServerName) -> bool {
        let is_ours = || self.application_service.as_ref().is_some_and(|service| service.server_name() == server);
        self.allowed_homeservers.includes(server) || self.full_access.includes(server) || is_ours()
    }

    /// Reads the configuration from a `source` that may fail to return an existing value. No default takes the place
    /// of such a value.
    pub fn from_source(source: impl Fn(&str) -> Result<Option<String>, Unreadable>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader { source, problems: Vec::new() };
        match Self::read(&mut reader) {
            Some(config) if reader.problems.is_empty() => Ok(config),
            _ => Err(ConfigErrors(reader.problems)),
        }
    }
}

/// Names of the variables in [`TABLE`].
pub const VARIABLES: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = TABLE[at].name;
        at += 1;
    }
    names
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::UNREADABLE;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const URL: &str = "LIVEKIT_URL";
    const KEY: &str = "LIVEKIT_KEY";
    const SECRET: &str = "LIVEKIT_SECRET";
    const KEYS: &str = "LIVEKIT_KEYS";
    const FULL_ACCESS_HOMESERVERS: &str = "LIVEKIT_FULL_ACCESS_HOMESERVERS";
    const SANITY_CHECK_INTERVAL_SECONDS: &str = "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS";
    const LOG_LEVEL: &str = "LIVEKIT_LOG_LEVEL";
    const CS_API_URL_OVERRIDES: &str = "LIVEKIT_CS_API_URL_OVERRIDES";
    const FEDERATION_URL_OVERRIDES: &str = "LIVEKIT_FEDERATION_URL_OVERRIDES";
    const ALLOWED_HOMESERVERS: &str = "LIVEKIT_ALLOWED_HOMESERVERS";
    const RESTRICTED_CAN_DELEGATE: &str = "LIVEKIT_RESTRICTED_CAN_DELEGATE";
    const ROOM_EMPTY_TIMEOUT_SECONDS: &str = "LIVEKIT_ROOM_EMPTY_TIMEOUT_SECONDS";
    const ROOM_DEPARTURE_TIMEOUT_SECONDS: &str = "LIVEKIT_ROOM_DEPARTURE_TIMEOUT_SECONDS";
    const ROOM_MAX_PARTICIPANTS: &str = "LIVEKIT_ROOM_MAX_PARTICIPANTS";
    const REMOTE_CAN_PUBLISH_HOMESERVERS: &str = "LIVEKIT_REMOTE_CAN_PUBLISH_HOMESERVERS";
    const REQUIRE_MEMBERSHIP: &str = "LIVEKIT_REQUIRE_MEMBERSHIP";
    const CAN_UPDATE_OWN_METADATA: &str = "LIVEKIT_CAN_UPDATE_OWN_METADATA";
    const RESTRICTED_CAN_PUBLISH: &str = "LIVEKIT_RESTRICTED_CAN_PUBLISH";
    const ALLOW_PRIVATE_ADDRESSES: &str = "LIVEKIT_ALLOW_PRIVATE_ADDRESSES";
    const DNS_OVER_HTTPS_URL: &str = "LIVEKIT_DNS_OVER_HTTPS_URL";
    const LOCATION_HINT: &str = "LIVEKIT_LOCATION_HINT";
    const JURISDICTION: &str = "LIVEKIT_JURISDICTION";
    const AS_TOKEN: &str = "LIVEKIT_AS_TOKEN";
    const HS_TOKEN: &str = "LIVEKIT_HS_TOKEN";
    const HS_SERVER_NAME: &str = "LIVEKIT_HS_SERVER_NAME";
    const TOKEN_TTL_SECONDS: &str = "LIVEKIT_TOKEN_TTL_SECONDS";
    const MEMBERSHIP_CHECK_INTERVAL_SECONDS: &str = "LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS";

    const MINIMAL: [(&str, &str); 4] = [
        (URL, "wss://sfu.example.com"),
        (KEY, "devkey\n"),
        (SECRET, " secret "),
        (FULL_ACCESS_HOMESERVERS, "example.com, example.org\nexample.net:8448"),
    ];

    fn config(changes: &[(&str, &str)]) -> Result<Config, Vec<&'static str>> {
        let mut variables: BTreeMap<_, _> = MINIMAL.into();
        variables.extend(changes.iter().copied());
        Config::from_lookup(|name| variables.get(name).map(|value| (*value).to_owned()))
            .map_err(|errors| errors.0.into_iter().map(|problem| problem.variable).collect())
    }

    #[test]
    fn the_required_variables_are_enough() {
        let config = config(&[]).unwrap();
        assert_eq!(config.keys.signing().name, "devkey");
        assert!(config.full_access.includes(&ServerName::parse("example.net:8448").unwrap()));
        assert!(!config.full_access.includes(&ServerName::parse("example.net").unwrap()));
        assert_eq!(config.sanity_check_interval, Some(Duration::from_secs(300)));
        assert!(config.federation_url_overrides.is_empty());
        assert_eq!(config.allowed_homeservers, HomeserverList::All);
        assert_eq!(config.remote_can_publish_homeservers, HomeserverList::All);
        assert!(config.restricted_can_delegate && !config.require_membership);
        assert_eq!((config.room_empty_timeout_s, config.room_departure_timeout_s), (300, 20));
        assert_eq!(config.room_max_participants, 0);
        assert!(config.restricted_can_publish && !config.can_update_own_metadata);
        assert_eq!(config.addresses, AddressPolicy::PublicOnly);
        assert!(config.application_service.is_none());
        assert_eq!(config.token_ttl_s, 3600);
        assert_eq!(config.membership_check_interval, Some(Duration::from_secs(60)));
    }

    #[test]
    fn every_missing_variable_is_named_at_once() {
        let errors = Config::from_lookup(|_| None).unwrap_err();
        let variables: Vec<_> = errors.0.iter().map(|problem| problem.variable).collect();
        assert_eq!(variables, [URL, FULL_ACCESS_HOMESERVERS, KEY, SECRET]);
        assert_eq!(config(&[(KEY, " "), (LOG_LEVEL, "loud")]).unwrap_err(), [LOG_LEVEL, KEY]);
    }

    #[test]
    fn homeserver_mode_takes_all_of_its_variables() {
        let all = [(AS_TOKEN, "as"), (HS_TOKEN, " hs\n"), (HS_SERVER_NAME, "example.com")];
        let service = config(&all).unwrap().application_service.unwrap();
        assert_eq!(service.server_name().as_str(), "example.com");
        assert_eq!(service.verify(Some("Bearer hs")), Ok(()));
        for (missing, _) in all {
            let others = all.map(|(name, value)| if name == missing { (name, " ") } else { (name, value) });
            assert_eq!(config(&others).unwrap_err(), [missing]);
            let only = all.map(|(name, value)| if name == missing { (name, value) } else { (name, "") });
            assert_eq!(config(&only).unwrap_err().len(), 2, "{missing}");
        }
    }

    #[test]
    fn membership_is_required_in_homeserver_mode_and_cannot_be_without_it() {
        let mode = [(AS_TOKEN, "as"), (HS_TOKEN, "hs"), (HS_SERVER_NAME, "example.com")];
        let required = |value| config(&[mode.as_slice(), &[(REQUIRE_MEMBERSHIP, value)]].concat());
        assert!(required("").unwrap().require_membership && required("true").unwrap().require_membership);
        assert!(!required("false").unwrap().require_membership);
        assert!(!config(&[(REQUIRE_MEMBERSHIP, "false")]).unwrap().require_membership);
        assert_eq!(config(&[(REQUIRE_MEMBERSHIP, "true")]).unwrap_err(), [REQUIRE_MEMBERSHIP]);
        // What is wrong is homeserver mode.
        assert_eq!(config(&[(REQUIRE_MEMBERSHIP, "true"), mode[0], mode[1]]).unwrap_err(), [HS_SERVER_NAME]);
    }

    #[test]
    fn a_wrong_value_is_an_error_that_shows_it() {
        for (variable, value) in [
            (URL, "sfu.example.com:value"),
            (FULL_ACCESS_HOMESERVERS, "*, value.example"),
            (FULL_ACCESS_HOMESERVERS, "https://value"),
            (SANITY_CHECK_INTERVAL_SECONDS, "value"),
            (SANITY_CHECK_INTERVAL_SECONDS, "-1"),
            (SANITY_CHECK_INTERVAL_SECONDS, "value\n\u{7}"),
            (CS_API_URL_OVERRIDES, "value"),
            (CS_API_URL_OVERRIDES, "example.com=ftp://value"),
            (CAN_UPDATE_OWN_METADATA, "value"),
            (RESTRICTED_CAN_PUBLISH, "value"),
            (ALLOW_PRIVATE_ADDRESSES, "value"),
            (DNS_OVER_HTTPS_URL, "value"),
            (LOCATION_HINT, "value"),
            (LOCATION_HINT, "WEUR"),
            (JURISDICTION, "value"),
            (JURISDICTION, "EU"),
            (TOKEN_TTL_SECONDS, "value"),
            (TOKEN_TTL_SECONDS, "0"),
            (TOKEN_TTL_SECONDS, "3601"),
            (TOKEN_TTL_SECONDS, "-1"),
            (MEMBERSHIP_CHECK_INTERVAL_SECONDS, "value"),
            (FEDERATION_URL_OVERRIDES, "example.com=ftp://value"),
            (ALLOWED_HOMESERVERS, "*, value.example"),
            (RESTRICTED_CAN_DELEGATE, "value"),
            (ROOM_EMPTY_TIMEOUT_SECONDS, "value"),
            (ROOM_DEPARTURE_TIMEOUT_SECONDS, "-1"),
            (ROOM_MAX_PARTICIPANTS, "4294967296"),
            (REMOTE_CAN_PUBLISH_HOMESERVERS, "https://value"),
            (REQUIRE_MEMBERSHIP, "value"),
        ] {
            let lookup = |name: &str| match name == variable {
                true => Some(value.to_owned()),
                false => MINIMAL.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
            };
            let errors = Config::from_lookup(lookup).unwrap_err();
            assert!(errors.to_string().starts_with(variable), "{errors}");
            let text = errors.to_string();
            assert!(text.contains(value) || text.contains(&format!("{value:?}")), "{errors}");
            assert!(!text.contains(char::is_control), "{errors}");
        }
    }

    #[test]
    fn a_secret_is_never_shown_nor_a_password_in_a_url() {
        for (variable, value) in [
            (KEY, "\"WRONG\""),
            (SECRET, "'WRONG"),
            (SECRET, "two\nWRONG"),
            (SECRET, "<WRONG>"),
            (KEYS, "a: WRONG"),
            (AS_TOKEN, "WRONG WRONG"),
            (HS_TOKEN, "\"WRONG\""),
            (URL, "https://user:WRONG@sfu.example.com"),
            (DNS_OVER_HTTPS_URL, "ftp://user:WRONG@example.com"),
            (CS_API_URL_OVERRIDES, "example.com=ftp://user:WRONG@example.com"),
        ] {
            let mode = [(AS_TOKEN, "as"), (HS_TOKEN, "hs"), (HS_SERVER_NAME, "example.com")];
            let given = |name: &str| match name == variable {
                true => Some(value.to_owned()),
                false => (MINIMAL.iter().chain(&mode))
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned()),
            };
            let errors = Config::from_lookup(given).unwrap_err();
            assert_eq!(errors.0.len(), 1, "{errors}");
            assert_eq!(errors.0[0].variable, variable);
            assert!(!errors.to_string().contains("WRONG"), "{errors}");
        }
    }

    #[test]
    fn a_problem_names_the_remedy() {
        let problem = |variable: &str, value: &str| {
            let given = |name: &str| match name == variable {
                true => Some(value.to_owned()),
                false if variable == KEYS && [KEY, SECRET].contains(&name) => None,
                false => MINIMAL.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
            };
            Config::from_lookup(given).unwrap_err().to_string()
        };
        for (variable, value, remedy) in [
            (SANITY_CHECK_INTERVAL_SECONDS, "60s", "write 60, without a unit"),
            (TOKEN_TTL_SECONDS, "1h", "write 3600, without a unit"),
            (ROOM_EMPTY_TIMEOUT_SECONDS, "5 min", "write 300, without a unit"),
            (FULL_ACCESS_HOMESERVERS, "a.example https://example.com/", "entry 2"),
            (FULL_ACCESS_HOMESERVERS, "https://example.com/", "perhaps example.com"),
            (FULL_ACCESS_HOMESERVERS, "example.com/", "perhaps example.com"),
            (FULL_ACCESS_HOMESERVERS, "@alice:example.com", "perhaps example.com"),
            (FULL_ACCESS_HOMESERVERS, "\"example.com\"", "remove them"),
            (LOG_LEVEL, "'info'", "remove them"),
            (URL, "\"wss://sfu.example.com\"", "remove them"),
            (URL, "sfu.example.com", "write wss://"),
            (URL, "sfu.example.com:7880", "write wss://"),
            (SECRET, "\"secret\"", "remove them"),
            (SECRET, "…", "placeholder"),
            (KEY, "APIxxxxxxxx", "placeholder"),
            (KEY, "API...", "placeholder"),
            (SECRET, "ChangeMe", "placeholder"),
            (SECRET, "change-me", "placeholder"),
            (KEYS, "a: b\nc: 'd'", "line 2: its secret is in quotation marks"),
        ] {
            let problem = problem(variable, value);
            assert!(problem.starts_with(variable) && problem.contains(remedy), "{problem}");
        }
        let long = problem(LOG_LEVEL, &"long".repeat(1000));
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn optional_values_are_read() {
        let config = config(&[
            (FULL_ACCESS_HOMESERVERS, "*"),
            (SANITY_CHECK_INTERVAL_SECONDS, "30"),
            (LOG_LEVEL, "warning"),
            (CS_API_URL_OVERRIDES, "example.com=https://matrix.example.com/base, example.org=cs.example.org"),
            (CAN_UPDATE_OWN_METADATA, "true"),
            (RESTRICTED_CAN_PUBLISH, "false"),
            (ALLOW_PRIVATE_ADDRESSES, "true"),
            (LOCATION_HINT, " weur\n"),
            (JURISDICTION, " eu\n"),
            (TOKEN_TTL_SECONDS, "60"),
            (MEMBERSHIP_CHECK_INTERVAL_SECONDS, "0"),
            (FEDERATION_URL_OVERRIDES, "example.com=http://10.0.0.1:8448"),
            (ALLOWED_HOMESERVERS, "example.org"),
            (RESTRICTED_CAN_DELEGATE, "false"),
            (ROOM_EMPTY_TIMEOUT_SECONDS, "0"),
            (ROOM_DEPARTURE_TIMEOUT_SECONDS, " 60"),
            (ROOM_MAX_PARTICIPANTS, "50"),
            (REMOTE_CAN_PUBLISH_HOMESERVERS, "example.net example.org"),
        ])
        .unwrap();
        assert_eq!(config.full_access, HomeserverList::All);
        assert_eq!(config.sanity_check_interval, Some(Duration::from_secs(30)));
        assert_eq!(config.log_level, Level::Warn);
        let urls: Vec<_> = config.cs_api_url_overrides.values().map(Url::as_str).collect();
        assert_eq!(urls, ["https://matrix.example.com/base", "https://cs.example.org/"]);
        assert!(config.can_update_own_metadata && !config.restricted_can_publish);
        assert_eq!(config.addresses, AddressPolicy::Any);
        assert_eq!(config.location_hint.map(LocationHint::as_str), Some("weur"));
        assert_eq!(config.jurisdiction.map(Jurisdiction::as_str), Some("eu"));
        assert_eq!(config.token_ttl_s, 60);
        assert_eq!(config.membership_check_interval, None);
        assert_eq!(
            config.federation_url_overrides.values().map(Url::as_str).collect::<Vec<_>>(),
            ["http://10.0.0.1:8448/"]
        );
        assert!(!config.restricted_can_delegate);
        assert_eq!((config.room_empty_timeout_s, config.room_departure_timeout_s), (0, 60));
        assert_eq!(config.room_max_participants, 50);
        for (list, server) in
            [(&config.allowed_homeservers, "example.org"), (&config.remote_can_publish_homeservers, "example.net")]
        {
            assert!(list.includes(&ServerName::parse(server).unwrap()));
            assert!(!list.includes(&ServerName::parse("example.com").unwrap()));
        }
    }

    const HOMESERVER_MODE: [&str; 3] = [AS_TOKEN, HS_TOKEN, HS_SERVER_NAME];

    #[test]
    fn a_value_that_cannot_be_read_is_named_once_and_has_no_default() {
        for variable in VARIABLES {
            let source = |name: &str| match MINIMAL.iter().find(|(known, _)| *known == name) {
                _ if name == variable => Err(Unreadable),
                _ if variable == KEYS && [KEY, SECRET].contains(&name) => Ok(None),
                _ if [variable, name].iter().all(|name| HOMESERVER_MODE.contains(name)) => Ok(Some("value".to_owned())),
                known => Ok(known.map(|(_, value)| (*value).to_owned())),
            };
            let errors = Config::from_source(source).unwrap_err();
            assert_eq!(errors.to_string(), format!("{variable} {UNREADABLE}"));
        }
    }

    #[test]
    fn every_variable_is_listed() {
        let read = std::cell::RefCell::new(BTreeSet::new());
        let _ = Config::from_lookup(|name| {
            read.borrow_mut().insert(name.to_owned());
            None
        });
        assert_eq!(*read.borrow(), VARIABLES.iter().map(|name| (*name).to_owned()).collect());
    }

    #[test]
    fn every_default_is_a_value() {
        for variable in TABLE {
            if let Presence::Default(text) = variable.presence {
                let lookup = |name: &str| match MINIMAL.iter().find(|(known, _)| *known == name) {
                    Some((_, value)) => Some((*value).to_owned()),
                    None => (name == variable.name).then(|| text.to_owned()),
                };
                assert!(Config::from_lookup(lookup).is_ok(), "{}", variable.name);
            }
        }
    }

    /// The table in the README and the comment in `wrangler.toml` list exactly [`TABLE`].
    #[test]
    fn readme_and_wrangler_configuration_have_the_same_table() {
        let default = |variable: &Variable| match variable.presence {
            Presence::Required => "required".to_owned(),
            Presence::Default("") | Presence::Optional | Presence::Grouped => String::new(),
            Presence::Default(text) => format!("`{text}`"),
        };
        let row = |variable: &Variable| match default(variable) {
            default if default.is_empty() => format!("| `{}` | {} | |", variable.name, variable.help),
            default => format!("| `{}` | {} | {default} |", variable.name, variable.help),
        };
        let comment = |variable: &Variable| match default(variable) {
            default if default.is_empty() => format!("#   {}: {}", variable.name, variable.help),
            default => format!("#   {}: {} ({default})", variable.name, variable.help),
        };
        let lines = |text: &'static str, start: &'static str| -> Vec<&'static str> {
            text.lines().filter(|line| line.starts_with(start)).collect()
        };
        let readme = lines(include_str!("../../README.md"), "| `LIVEKIT_");
        let wrangler = lines(include_str!("../../wrangler.toml"), "#   LIVEKIT_");
        let rows: Vec<_> = TABLE.iter().map(row).collect();
        assert_eq!(readme, rows, "README.md:\n{}\n", rows.join("\n"));
        let comments: Vec<_> = TABLE.iter().map(comment).collect();
        assert_eq!(wrangler, comments, "wrangler.toml:\n{}\n", comments.join("\n"));
    }

    proptest! {
        #[test]
        fn any_values_are_read_without_panic(values in prop::collection::vec("[*,= \\n:/a-z0-9.]{0,30}|\\PC{0,20}", VARIABLES.len())) {
            let _ = Config::from_lookup(|name| VARIABLES.iter().position(|known| *known == name).map(|n| values[n].clone()));
        }
    }
}
