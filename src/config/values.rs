//! Parsers for the values of variables. Their errors never repeat a value, which may be a secret.

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
            [] => Err("is empty".to_owned()),
            ["*"] => Ok(Self::All),
            entries if entries.contains(&"*") => Err("`*` must be its only entry".to_owned()),
            entries => (entries.iter().enumerate())
                .map(|(n, entry)| ServerName::parse(entry).map_err(|error| format!("entry {} is {error}", n + 1)))
                .collect::<Result<_, _>>()
                .map(Self::Listed),
        }
    }
}

pub(super) fn parse_token_ttl(text: &str) -> Result<u32, String> {
    match text.trim().parse() {
        Ok(seconds @ 1..=LONGEST_TOKEN_TTL_S) => Ok(seconds),
        _ => Err(format!("is not a whole number of seconds from 1 to {LONGEST_TOKEN_TTL_S}")),
    }
}

pub(super) fn parse_interval(text: &str) -> Result<Option<Duration>, String> {
    match text.trim().parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds.into()))),
        Err(_) => Err("is not a whole number of seconds".to_owned()),
    }
}

pub(super) fn parse_seconds(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| "is not a whole number of seconds".to_owned())
}

pub(super) fn parse_number(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| "is not a whole number".to_owned())
}

pub(super) fn parse_level(text: &str) -> Result<Level, String> {
    Level::parse(text.trim()).ok_or_else(|| "must be debug, info, warn or error".to_owned())
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

pub(super) fn parse_jurisdiction(text: &str) -> Result<Jurisdiction, String> {
    Jurisdiction::parse(text.trim()).ok_or_else(|| format!("must be one of {}", Jurisdiction::ALL.join(", ")))
}

pub(super) fn parse_location_hint(text: &str) -> Result<LocationHint, String> {
    LocationHint::parse(text.trim()).ok_or_else(|| format!("must be one of {}", LocationHint::ALL.join(", ")))
}

pub(super) fn parse_sfu_url(text: &str) -> Result<SfuUrl, String> {
    SfuUrl::parse(text).map_err(str::to_owned)
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
        _ => Err("is not an http or https URL".to_owned()),
    }
}

/// Parses `name=url,name=url`. A URL without a scheme means https, as in lk-jwt-service.
pub(super) fn parse_overrides(text: &str) -> Result<Rc<BTreeMap<ServerName, Url>>, String> {
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
        .collect::<Result<_, _>>()
        .map(Rc::new)
}

/// A token outlives the membership that it was issued for, so MSC4195 limits it to an hour.
const LONGEST_TOKEN_TTL_S: u32 = 3600;
