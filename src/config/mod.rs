//! The service's configuration (§9 of the protocol): read once, typed, with everything that is wrong in it at once.

pub mod bindings;
pub mod location_hint;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use url::Url;

use crate::config::location_hint::LocationHint;
use crate::livekit::keys::ApiKeys;
use crate::livekit::sfu_url::SfuUrl;
use crate::log::Level;
use crate::matrix::federation::discovery::AddressPolicy;
use crate::matrix::homeserver::{ApplicationService, Token};
use crate::matrix::ids::server_name::ServerName;

/// Everything that an operator can set.
#[derive(Clone, Debug)]
pub struct Config {
    /// `LIVEKIT_URL`.
    pub sfu: SfuUrl,
    /// `LIVEKIT_KEY` and `LIVEKIT_SECRET`, or `LIVEKIT_KEYS`.
    pub keys: ApiKeys,
    /// `LIVEKIT_FULL_ACCESS_HOMESERVERS`.
    pub full_access: FullAccess,
    /// `LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS`; `None` for never.
    pub sanity_check_interval: Option<Duration>,
    /// `LIVEKIT_LOG_LEVEL`.
    pub log_level: Level,
    /// `LIVEKIT_CS_API_URL_OVERRIDES`: client-server API URLs by server name, without a slash at their end.
    pub cs_api_url_overrides: Rc<BTreeMap<ServerName, Url>>,
    /// `LIVEKIT_CAN_UPDATE_OWN_METADATA`.
    pub can_update_own_metadata: bool,
    /// `LIVEKIT_RESTRICTED_CAN_PUBLISH`.
    pub restricted_can_publish: bool,
    /// `LIVEKIT_ALLOW_PRIVATE_ADDRESSES`.
    pub addresses: AddressPolicy,
    /// `LIVEKIT_DNS_OVER_HTTPS_URL`.
    pub dns_over_https_url: Rc<Url>,
    /// `LIVEKIT_LOCATION_HINT`; `None` leaves it to the platform.
    pub location_hint: Option<LocationHint>,
    /// Homeserver mode: `LIVEKIT_HS_SERVER_NAME`, `LIVEKIT_AS_TOKEN` and `LIVEKIT_HS_TOKEN`. `None` where it is off.
    pub application_service: Option<ApplicationService>,
    /// `LIVEKIT_TOKEN_TTL_SECONDS`: how long a token of homeserver mode is valid.
    pub token_ttl_s: u32,
    /// `LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS`: how often the members of a Matrix room are asked for while somebody is
    /// in its call; `None` for never.
    pub membership_check_interval: Option<Duration>,
}

impl Config {
    /// Reads the configuration from `lookup`, which gives the value of a variable where there is one. An empty value
    /// counts as none.
    ///
    /// Fails with every variable that is missing or wrong.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        Self::from_source(|variable| Ok(lookup(variable)))
    }

    /// Likewise from a `source` that may fail to give a value that is there. No default takes the place of such a value.
    pub fn from_source(source: impl Fn(&str) -> Result<Option<String>, Unreadable>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader { source, problems: Vec::new() };
        let config = Self::read(&mut reader);
        match config {
            Some(config) if reader.problems.is_empty() => Ok(config),
            _ => Err(ConfigErrors(reader.problems)),
        }
    }

    /// Every variable is read before the first problem ends it, so that all of them are told.
    fn read<S: Fn(&str) -> Result<Option<String>, Unreadable>>(reader: &mut Reader<S>) -> Option<Self> {
        let sfu = reader.required(URL, |text| SfuUrl::parse(text).map_err(str::to_owned));
        let keys = reader.keys();
        let full_access = reader.required(FULL_ACCESS_HOMESERVERS, FullAccess::parse);
        let sanity_check_interval = reader.optional(SANITY_CHECK_INTERVAL_SECONDS, parse_interval, None);
        let log_level = reader.optional(LOG_LEVEL, parse_level, Level::Info);
        let cs_api_url_overrides = reader.optional(CS_API_URL_OVERRIDES, parse_overrides, BTreeMap::new());
        let can_update_own_metadata = reader.optional(CAN_UPDATE_OWN_METADATA, parse_bool, false);
        let restricted_can_publish = reader.optional(RESTRICTED_CAN_PUBLISH, parse_bool, true);
        let allow_private = reader.optional(ALLOW_PRIVATE_ADDRESSES, parse_bool, false);
        let default_resolver = parse_http_url(DEFAULT_DNS_OVER_HTTPS_URL).ok();
        let dns_over_https_url =
            reader.optional(DNS_OVER_HTTPS_URL, |text| parse_http_url(text).map(Some), default_resolver);
        let location_hint = reader.optional(LOCATION_HINT, parse_location_hint, None);
        let application_service = reader.application_service();
        let token_ttl_s = reader.optional(TOKEN_TTL_SECONDS, parse_token_ttl, LONGEST_TOKEN_TTL_S);
        let membership_check_interval =
            reader.optional(MEMBERSHIP_CHECK_INTERVAL_SECONDS, parse_interval, Some(DEFAULT_MEMBERSHIP_CHECK_INTERVAL));
        Some(Self {
            sfu: sfu?,
            keys: keys?,
            full_access: full_access?,
            sanity_check_interval: sanity_check_interval?,
            log_level: log_level?,
            cs_api_url_overrides: Rc::new(cs_api_url_overrides?),
            can_update_own_metadata: can_update_own_metadata?,
            restricted_can_publish: restricted_can_publish?,
            addresses: match allow_private? {
                true => AddressPolicy::Any,
                false => AddressPolicy::PublicOnly,
            },
            dns_over_https_url: Rc::new(dns_over_https_url??),
            location_hint: location_hint?,
            application_service: application_service?,
            token_ttl_s: token_ttl_s?,
            membership_check_interval: membership_check_interval?,
        })
    }
}

/// Whose users may create rooms and delegate leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FullAccess {
    /// Everybody's.
    Everybody,
    /// Those of the listed homeservers.
    Listed(BTreeSet<ServerName>),
}

impl FullAccess {
    /// Whether users of `server` have full access.
    pub fn includes(&self, server: &ServerName) -> bool {
        match self {
            Self::Everybody => true,
            Self::Listed(servers) => servers.contains(server),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let entries: Vec<&str> =
            text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()).collect();
        match entries.as_slice() {
            [] => Err("is empty".to_owned()),
            ["*"] => Ok(Self::Everybody),
            entries if entries.contains(&"*") => Err("`*` must be its only entry".to_owned()),
            entries => (entries.iter().enumerate())
                .map(|(n, entry)| ServerName::parse(entry).map_err(|error| format!("entry {} is {error}", n + 1)))
                .collect::<Result<_, _>>()
                .map(Self::Listed),
        }
    }
}

/// What is wrong with a configuration. Names variables, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<Problem>);

/// What is wrong with one variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong, to be read behind the name.
    pub problem: String,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, Problem { variable, problem }) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{variable} {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A value is there, and can't be read just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

struct Reader<S> {
    source: S,
    problems: Vec<Problem>,
}

impl<S: Fn(&str) -> Result<Option<String>, Unreadable>> Reader<S> {
    /// The variable's value, if it has one. An error is among the problems already.
    fn value(&mut self, variable: &'static str) -> Result<Option<String>, Unreadable> {
        let value = (self.source)(variable).inspect_err(|Unreadable| {
            self.problems.push(Problem { variable, problem: UNREADABLE.to_owned() });
        })?;
        Ok(value.filter(|value| !value.trim().is_empty()))
    }

    fn problem<T>(&mut self, variable: &'static str, problem: impl Into<String>) -> Option<T> {
        let problem = problem.into();
        self.problems.push(Problem { variable, problem });
        None
    }

    fn required<T>(&mut self, variable: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let value = self.value(variable);
        self.given(variable, value, parse)
    }

    /// What a variable that can't be left out says, its value having been read.
    fn given<T>(
        &mut self,
        variable: &'static str,
        value: Result<Option<String>, Unreadable>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match value.ok()? {
            Some(value) => self.parsed(variable, &value, parse),
            None => self.problem(variable, "is not set"),
        }
    }

    fn optional<T>(
        &mut self,
        variable: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        default: T,
    ) -> Option<T> {
        match self.value(variable).ok()? {
            Some(value) => self.parsed(variable, &value, parse),
            None => Some(default),
        }
    }

    fn parsed<T>(
        &mut self,
        variable: &'static str,
        value: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        parse(value).map_err(|problem| self.problem::<T>(variable, problem)).ok()
    }

    fn keys(&mut self) -> Option<ApiKeys> {
        // All three are read before the first that can't be ends it.
        let (name, secret, lines) = (self.value(KEY), self.value(SECRET), self.value(KEYS));
        match (name.ok()?, secret.ok()?, lines.ok()?) {
            (None, None, Some(lines)) => match ApiKeys::from_lines(&lines) {
                Some(keys) => Some(keys),
                None => self.problem(KEYS, "must consist of `key: secret` lines"),
            },
            (Some(name), Some(secret), None) => ApiKeys::single(&name, &secret),
            (_, _, Some(_)) => self.problem(KEYS, format!("can't be combined with {KEY} and {SECRET}")),
            (name, secret, None) => {
                if name.is_none() {
                    self.problem::<()>(KEY, "is not set");
                }
                if secret.is_none() {
                    self.problem::<()>(SECRET, "is not set");
                }
                None
            }
        }
    }

    /// All of its three variables, or none. The outer `None` is a problem.
    fn application_service(&mut self) -> Option<Option<ApplicationService>> {
        let [as_token, hs_token, server_name] =
            [AS_TOKEN, HS_TOKEN, HS_SERVER_NAME].map(|variable| self.value(variable));
        if let (Ok(None), Ok(None), Ok(None)) = (&as_token, &hs_token, &server_name) {
            return Some(None);
        }
        let parse_token = |text: &str| Token::parse(text).ok_or_else(|| "can't be sent in a header".to_owned());
        let parse_name = |text: &str| ServerName::parse(text.trim()).map_err(|error| format!("is {error}"));
        let as_token = self.given(AS_TOKEN, as_token, parse_token);
        let hs_token = self.given(HS_TOKEN, hs_token, parse_token);
        let server_name = self.given(HS_SERVER_NAME, server_name, parse_name);
        Some(Some(ApplicationService::new(server_name?, as_token?, hs_token?)))
    }
}

fn parse_token_ttl(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(seconds @ 1..=LONGEST_TOKEN_TTL_S) => Ok(seconds),
        _ => Err(format!("is not a whole number of seconds from 1 to {LONGEST_TOKEN_TTL_S}")),
    }
}

fn parse_interval(text: &str) -> Result<Option<Duration>, String> {
    match text.trim().parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        Err(_) => Err("is not a whole number of seconds".to_owned()),
    }
}

fn parse_level(text: &str) -> Result<Level, String> {
    Level::parse(text.trim()).ok_or_else(|| "must be debug, info, warn or error".to_owned())
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

fn parse_location_hint(text: &str) -> Result<Option<LocationHint>, String> {
    match LocationHint::parse(text.trim()) {
        Some(hint) => Ok(Some(hint)),
        None => Err(format!("must be one of {}", LocationHint::ALL.join(", "))),
    }
}

fn parse_http_url(text: &str) -> Result<Url, String> {
    match Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("is not an http or https URL".to_owned()),
    }
}

/// `name=url,name=url`; a URL without a scheme means https, as the established service reads it.
fn parse_overrides(text: &str) -> Result<BTreeMap<ServerName, Url>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    (entries.enumerate())
        .map(|(n, entry)| {
            let entry_is = |problem: &str| format!("entry {} {problem}", n + 1);
            let (name, url) = entry.split_once('=').ok_or_else(|| entry_is("has no `=`"))?;
            let name = ServerName::parse(name.trim()).map_err(|_| entry_is("doesn't begin with a server name"))?;
            let url = match url.contains("://") {
                true => parse_http_url(url),
                false => parse_http_url(&format!("https://{}", url.trim())),
            };
            Ok((name, url.map_err(|_| entry_is("doesn't end with an http or https URL"))?))
        })
        .collect()
}

/// Every variable that the service reads.
pub const VARIABLES: [&str; 18] = [
    URL,
    KEY,
    SECRET,
    KEYS,
    FULL_ACCESS_HOMESERVERS,
    SANITY_CHECK_INTERVAL_SECONDS,
    LOG_LEVEL,
    CS_API_URL_OVERRIDES,
    CAN_UPDATE_OWN_METADATA,
    RESTRICTED_CAN_PUBLISH,
    ALLOW_PRIVATE_ADDRESSES,
    DNS_OVER_HTTPS_URL,
    LOCATION_HINT,
    AS_TOKEN,
    HS_TOKEN,
    HS_SERVER_NAME,
    TOKEN_TTL_SECONDS,
    MEMBERSHIP_CHECK_INTERVAL_SECONDS,
];

const URL: &str = "LIVEKIT_URL";
const KEY: &str = "LIVEKIT_KEY";
const SECRET: &str = "LIVEKIT_SECRET";
const KEYS: &str = "LIVEKIT_KEYS";
const FULL_ACCESS_HOMESERVERS: &str = "LIVEKIT_FULL_ACCESS_HOMESERVERS";
const SANITY_CHECK_INTERVAL_SECONDS: &str = "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS";
const LOG_LEVEL: &str = "LIVEKIT_LOG_LEVEL";
const CS_API_URL_OVERRIDES: &str = "LIVEKIT_CS_API_URL_OVERRIDES";
const CAN_UPDATE_OWN_METADATA: &str = "LIVEKIT_CAN_UPDATE_OWN_METADATA";
const RESTRICTED_CAN_PUBLISH: &str = "LIVEKIT_RESTRICTED_CAN_PUBLISH";
const ALLOW_PRIVATE_ADDRESSES: &str = "LIVEKIT_ALLOW_PRIVATE_ADDRESSES";
const DNS_OVER_HTTPS_URL: &str = "LIVEKIT_DNS_OVER_HTTPS_URL";
const LOCATION_HINT: &str = "LIVEKIT_LOCATION_HINT";
const AS_TOKEN: &str = "LIVEKIT_AS_TOKEN";
const HS_TOKEN: &str = "LIVEKIT_HS_TOKEN";
const HS_SERVER_NAME: &str = "LIVEKIT_HS_SERVER_NAME";
const TOKEN_TTL_SECONDS: &str = "LIVEKIT_TOKEN_TTL_SECONDS";
const MEMBERSHIP_CHECK_INTERVAL_SECONDS: &str = "LIVEKIT_MEMBERSHIP_CHECK_INTERVAL_SECONDS";
/// A token outlives the membership it was issued for, so MSC4195 wants an hour at most.
const LONGEST_TOKEN_TTL_S: u32 = 3600;
const DEFAULT_MEMBERSHIP_CHECK_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_DNS_OVER_HTTPS_URL: &str = "https://cloudflare-dns.com/dns-query";
const UNREADABLE: &str = "can't be read from the Secrets Store";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert_eq!(config.sanity_check_interval, None);
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
        assert_eq!(variables, [URL, KEY, SECRET, FULL_ACCESS_HOMESERVERS]);
        assert_eq!(config(&[(KEY, " "), (LOG_LEVEL, "loud")]).unwrap_err(), [KEY, LOG_LEVEL]);
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
    fn a_wrong_value_is_an_error_that_does_not_repeat_it() {
        for (variable, value) in [
            (URL, "sfu.example.com:value"),
            (FULL_ACCESS_HOMESERVERS, "*, value.example"),
            (FULL_ACCESS_HOMESERVERS, "https://value"),
            (SANITY_CHECK_INTERVAL_SECONDS, "value"),
            (SANITY_CHECK_INTERVAL_SECONDS, "-1"),
            (CS_API_URL_OVERRIDES, "value"),
            (CS_API_URL_OVERRIDES, "example.com=ftp://value"),
            (CAN_UPDATE_OWN_METADATA, "value"),
            (RESTRICTED_CAN_PUBLISH, "value"),
            (ALLOW_PRIVATE_ADDRESSES, "value"),
            (DNS_OVER_HTTPS_URL, "value"),
            (LOCATION_HINT, "value"),
            (LOCATION_HINT, "WEUR"),
            (KEYS, "a: value"),
            (TOKEN_TTL_SECONDS, "value"),
            (TOKEN_TTL_SECONDS, "0"),
            (TOKEN_TTL_SECONDS, "3601"),
            (TOKEN_TTL_SECONDS, "-1"),
            (MEMBERSHIP_CHECK_INTERVAL_SECONDS, "value"),
        ] {
            let lookup = |name: &str| match name == variable {
                true => Some(value.to_owned()),
                false => MINIMAL.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
            };
            let errors = Config::from_lookup(lookup).unwrap_err();
            assert!(errors.to_string().starts_with(variable), "{errors}");
            assert!(!errors.to_string().contains("value"), "{errors}");
        }
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
            (TOKEN_TTL_SECONDS, "60"),
            (MEMBERSHIP_CHECK_INTERVAL_SECONDS, "0"),
        ])
        .unwrap();
        assert_eq!(config.full_access, FullAccess::Everybody);
        assert_eq!(config.sanity_check_interval, Some(Duration::from_secs(30)));
        assert_eq!(config.log_level, Level::Warn);
        let urls: Vec<_> = config.cs_api_url_overrides.values().map(Url::as_str).collect();
        assert_eq!(urls, ["https://matrix.example.com/base", "https://cs.example.org/"]);
        assert!(config.can_update_own_metadata && !config.restricted_can_publish);
        assert_eq!(config.addresses, AddressPolicy::Any);
        assert_eq!(config.location_hint.map(LocationHint::as_str), Some("weur"));
        assert_eq!(config.token_ttl_s, 60);
        assert_eq!(config.membership_check_interval, None);
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
        let asked = std::cell::RefCell::new(BTreeSet::new());
        let _ = Config::from_lookup(|name| {
            asked.borrow_mut().insert(name.to_owned());
            None
        });
        assert_eq!(*asked.borrow(), VARIABLES.iter().map(|name| (*name).to_owned()).collect());
    }

    proptest! {
        #[test]
        fn any_values_are_read_without_panic(values in prop::collection::vec("[*,= \\n:/a-z0-9.]{0,30}|\\PC{0,20}", VARIABLES.len())) {
            let _ = Config::from_lookup(|name| VARIABLES.iter().position(|known| *known == name).map(|n| values[n].clone()));
        }
    }
}
