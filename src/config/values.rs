//! Parsers for the values of variables that are no secrets. Their errors show the value, and say what to write in its
//! place.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use url::Url;

use crate::config::jurisdiction::Jurisdiction;
use crate::config::location_hint::LocationHint;
use crate::livekit::sfu_url::SfuUrl;
use crate::log::Level;
use crate::matrix::federation::discovery::AddressPolicy;
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::well_known::is_plain;

/// Homeservers that a variable lists, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeserverList {
    /// All homeservers.
    All,
    /// The listed homeservers.
    Listed(BTreeSet<ServerName>),
}

impl HomeserverList {
    /// Whether `server` is among them.
    pub fn includes(&self, server: &ServerName) -> bool {
        match self {
            Self::All => true,
            Self::Listed(servers) => servers.contains(server),
        }
    }

    /// Returns the entry that differs from `server` by capital letters only. Server names are compared exactly, so it
    /// is likely a mistake.
    pub fn in_other_capitals(&self, server: &ServerName) -> Option<&ServerName> {
        let Self::Listed(servers) = self else { return None };
        servers.iter().find(|entry| *entry != server && entry.as_str().eq_ignore_ascii_case(server.as_str()))
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let entries: Vec<&str> =
            text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()).collect();
        match entries.as_slice() {
            [] => Err(format!("names no homeserver: it is {}", shown(text))),
            ["*"] => Ok(Self::All),
            entries if entries.contains(&"*") => {
                Err(format!("must have `*` as its only entry, and is {}", shown(text)))
            }
            entries => (entries.iter().enumerate())
                .map(|(n, entry)| parse_server_name(entry).map_err(|problem| format!("entry {} {problem}", n + 1)))
                .collect::<Result<_, _>>()
                .map(Self::Listed),
        }
    }
}

pub(super) fn parse_token_ttl(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(seconds @ 1..=LONGEST_TOKEN_TTL_S) => Ok(seconds),
        _ => Err(format!("must be a whole number of seconds from 1 to {LONGEST_TOKEN_TTL_S}, and is {}", number(text))),
    }
}

pub(super) fn parse_interval(text: &str) -> Result<Option<Duration>, String> {
    match text.trim().parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        Err(_) => Err(format!("must be a whole number of seconds, and is {}", number(text))),
    }
}

pub(super) fn parse_seconds(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("must be a whole number of seconds, and is {}", number(text)))
}

pub(super) fn parse_number(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("must be a whole number, and is {}", shown(text)))
}

pub(super) fn parse_level(text: &str) -> Result<Level, String> {
    Level::parse(text.trim()).ok_or_else(|| format!("must be debug, info, warn or error, and is {}", shown(text)))
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("must be true or false, and is {}", shown(text))),
    }
}

pub(super) fn parse_jurisdiction(text: &str) -> Result<Jurisdiction, String> {
    Jurisdiction::parse(text.trim())
        .ok_or_else(|| format!("must be one of {}, and is {}", Jurisdiction::ALL.join(", "), shown(text)))
}

pub(super) fn parse_location_hint(text: &str) -> Result<LocationHint, String> {
    LocationHint::parse(text.trim())
        .ok_or_else(|| format!("must be one of {}, and is {}", LocationHint::ALL.join(", "), shown(text)))
}

pub(super) fn parse_sfu_url(text: &str) -> Result<SfuUrl, String> {
    SfuUrl::parse(text).map_err(|problem| match text.contains("://") {
        true => format!("{problem}: it is {}", shown(text)),
        false => format!("is {}, which has no scheme: write wss:// before the SFU's host", shown(text)),
    })
}

pub(super) fn parse_address_policy(text: &str) -> Result<AddressPolicy, String> {
    Ok(match parse_bool(text)? {
        true => AddressPolicy::Any,
        false => AddressPolicy::PublicOnly,
    })
}

pub(super) fn parse_resolver(text: &str) -> Result<Rc<Url>, String> {
    parse_http_url(text).map(Rc::new)
}

fn parse_http_url(text: &str) -> Result<Url, String> {
    match Url::parse(text.trim()) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(format!("must be an http or https URL, and is {}", shown(text))),
    }
}

/// Parses a server name, and says what to write in place of a URL or a user id.
pub(super) fn parse_server_name(text: &str) -> Result<ServerName, String> {
    let text = text.trim();
    ServerName::parse(text).map_err(|error| {
        let meant = match text.split_once("://") {
            Some((_, rest)) => rest.split('/').next(),
            None if text.starts_with('@') => text.split_once(':').map(|(_, server)| server),
            None => text.split('/').next(),
        };
        let meant = meant.filter(|meant| *meant != text && ServerName::parse(meant).is_ok());
        let remedy = meant.map_or_else(
            || String::from("it is what follows the colon in the user ids of the homeserver, such as example.com"),
            |meant| format!("write what follows the colon in the user ids of the homeserver, perhaps {meant}"),
        );
        format!("is {}, {error}: {remedy}", shown(text))
    })
}

/// Returns a value for a message: on one line, cut, and not if it is a URL with a password.
pub(super) fn shown(text: &str) -> String {
    let text = text.trim();
    if text.contains("://") && text.contains('@') {
        return String::from("not shown, because it may have a password");
    }
    match text.char_indices().nth(MOST_SHOWN) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

/// Returns a value that is no number of seconds for a message, and the number if it has a unit.
fn number(text: &str) -> String {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let in_seconds = match unit.trim() {
        "s" | "sec" | "second" | "seconds" => Some(1_u64),
        "m" | "min" | "minute" | "minutes" => Some(60),
        "h" | "hour" | "hours" => Some(3600),
        _ => None,
    };
    match in_seconds.and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor)) {
        Some(seconds) => format!("{}: write {seconds}, without a unit", shown(text)),
        None => shown(text),
    }
}

/// Returns the reason for which a text can't be a secret or the name of a key, if there is one. It doesn't show the
/// text, and is worded to follow its name.
pub fn unlike_a_secret(text: &str) -> Option<String> {
    let text = text.trim();
    let is_filled_up = |text: &str| text.len() >= 4 && text.chars().all(|c| c == 'x' || c == 'X');
    let is_change_me = |text: &str| text.replace(['-', '_'], "").eq_ignore_ascii_case("changeme");
    if text.starts_with(['"', '\'']) || text.ends_with(['"', '\'']) {
        Some(QUOTED.to_owned())
    } else if text.chars().any(char::is_control) {
        Some("has a line break or another control character inside: it must be one line".to_owned())
    } else if text.contains('…')
        || text.ends_with("...")
        || is_change_me(text)
        || (text.starts_with('<') && text.ends_with('>'))
        || is_filled_up(text.strip_prefix("API").unwrap_or(text))
    {
        Some("is the placeholder of an example: write the value of the SFU's or the registration file".to_owned())
    } else {
        None
    }
}

/// Whether a value begins and ends with quotation marks.
pub fn is_quoted(text: &str) -> bool {
    let text = text.trim();
    ['"', '\''].iter().any(|mark| text.len() > 1 && text.starts_with(*mark) && text.ends_with(*mark))
}

/// Parses `name=url,name=url`. A URL without a scheme means https, as in lk-jwt-service.
pub(super) fn parse_overrides(text: &str) -> Result<Rc<BTreeMap<ServerName, Url>>, String> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    (entries.enumerate())
        .map(|(n, entry)| {
            let entry_is = |problem: &str| format!("entry {} {problem}: it is {}", n + 1, shown(entry));
            let (name, url) = entry.split_once('=').ok_or_else(|| entry_is("has no `=` between a name and a URL"))?;
            let name = ServerName::parse(name.trim()).map_err(|_| entry_is("doesn't begin with a server name"))?;
            let url = match url.contains("://") {
                true => parse_http_url(url),
                false => parse_http_url(&format!("https://{}", url.trim())),
            };
            let url = url.map_err(|_| entry_is("doesn't end with an http or https URL"))?;
            match is_plain(&url) {
                true => Ok((name, url)),
                // What is more may be a password.
                false => Err(format!("entry {} has a URL with more than scheme, host, port and path", n + 1)),
            }
        })
        .collect::<Result<_, _>>()
        .map(Rc::new)
}

/// The problem of a value that has arrived with quotation marks, worded to follow the variable's name.
pub const QUOTED: &str =
    "is in quotation marks, which are a part of the value here: remove them (docker's --env-file keeps them)";
const MOST_SHOWN: usize = 80;
/// A token outlives the membership that it was issued for, so MSC4195 limits it to an hour.
const LONGEST_TOKEN_TTL_S: u32 = 3600;
