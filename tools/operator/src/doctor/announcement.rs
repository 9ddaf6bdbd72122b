//! The announcement by which clients find the service: the entries of both places, and the first of them,
//! `org.matrix.msc4143.rtc_foci` in `.well-known/matrix/client` of the server name
//! (`docs/protocol.md#how-clients-find-this-service`). The other is in `transports`.

use matrixrtc_edge::matrix::ids::server_name::ServerName;
use serde_json::{Value, json};
use url::Url;

use crate::doctor::proxy::allows_any_origin;
use crate::doctor::report::{Outcome, Status, Verdict};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::trust::Trust;
use crate::doctor::web::{ORIGIN, Response, Web};

/// Returns the entry by which clients find `service`, for both places.
///
/// In homeserver mode, `sfu_url` is the SFU's URL. The entry has both keys then: Element Call prefers `url` from 0.28.1
/// on, and earlier versions take no entry without `livekit_service_url`.
pub fn entry(service: &ServiceUrl, sfu_url: Option<&str>) -> Value {
    match sfu_url {
        Some(sfu_url) => json!({ "type": LIVEKIT, "url": sfu_url, SERVICE_KEY: service.as_str() }),
        None => json!({ "type": LIVEKIT, SERVICE_KEY: service.as_str() }),
    }
}

/// Returns the part of the well-known file that has this entry: the key and its value.
pub fn fragment(entry: &Value) -> Value {
    json!({ KEY: [entry] })
}

/// Fetches the file of `server_name` and judges whether clients find `service` by it.
pub async fn examine(trust: Trust, service: &ServiceUrl, server_name: &ServerName) -> Outcome {
    check(&Web { trust }, service, server_name).await.0
}

/// Fetches the file of `server_name`, judges it and returns it for the checks that read other keys of it.
///
/// Clients read the file of a name with a port at the name alone, too; the service doesn't, so that one isn't returned.
pub(crate) async fn check(web: &Web, service: &ServiceUrl, server_name: &ServerName) -> Verdict<Response> {
    let verdict = check_at(web, service, server_name.as_str()).await;
    match (&verdict, server_name.port()) {
        ((_, None), Some(_)) => {
            let host = server_name.host().to_string();
            let without_port = check_at(web, service, &host).await;
            if without_port.1.is_some() { (without_port.0, None) } else { verdict }
        }
        _ => verdict,
    }
}

async fn check_at(web: &Web, service: &ServiceUrl, authority: &str) -> Verdict<Response> {
    let url = format!("https://{authority}{PATH}");
    let put_it = format!(
        "serve the file at {url}, on the server name itself, with the content that `matrixrtc-edge configure` (in a clone of \
         the repository, `cargo xtask configure`) prints"
    );
    let responses = match web.follow(&url, &[("origin", ORIGIN)]).await {
        Ok(responses) => responses,
        Err(failure) => {
            let host = format!("the web server of {authority}");
            return (Outcome::problem(format!("{url}: {failure}"), failure.change(&host)), None);
        }
    };
    let Some((last, hops)) = responses.split_last() else {
        return (Outcome::problem(format!("there is no response from {url}"), put_it), None);
    };
    if last.status != 200 {
        let seen = format!("{url} doesn't exist (the response is {})", last.status);
        return (Outcome::problem(seen, put_it), None);
    }
    let outcome = match judge(&last.body, service) {
        Err(outcome) => outcome,
        Ok(outcome) => {
            match hops.iter().chain([last]).find_map(|response| allows_any_origin(&response.headers).err()) {
                Some(wrong) => Outcome::problem(
                    format!("pages of other origins can't read {url}: {wrong}"),
                    "serve it with `Access-Control-Allow-Origin: *`, exactly once, on redirects, too",
                ),
                None => outcome,
            }
        }
    };
    let body = without_byte_order_mark(&last.body).to_vec();
    (outcome, Some(Response { body, ..last.clone() }))
}

/// Judges the content of a `.well-known/matrix/client`: whether clients find `service` by it.
///
/// `Err` with a problem, `Ok` with a warning or with none.
pub fn judge(file: &[u8], service: &ServiceUrl) -> Result<Outcome, Outcome> {
    let change = |entry: Value| format!("in .well-known/matrix/client, set \"{KEY}\": [{entry}]");
    let problem = |seen: String| Err(Outcome::problem(seen, change(entry(service, None))));
    let text = without_byte_order_mark(file);
    let Ok(content) = serde_json::from_slice::<Value>(text) else {
        return problem(String::from("the file isn't JSON"));
    };
    let Some(foci) = content.get(KEY) else {
        return problem(format!("the file lacks {KEY} (clients report MISSING_MATRIX_RTC_FOCUS or …_TRANSPORT)"));
    };
    let Some(foci) = foci.as_array() else {
        return problem(format!("{KEY} isn't a list"));
    };
    match judge_entries(KEY, foci, service) {
        Ok(outcome) if outcome.status == Status::Ok && text.len() < file.len() => Ok(Outcome::warning(
            "the file begins with a byte order mark, which not all clients skip",
            "save it as UTF-8 without a byte order mark",
        )),
        Ok(outcome) => Ok(outcome),
        Err(seen) => Err(Outcome::problem(seen, change(corrected(foci, service)))),
    }
}

/// Judges the entries of a list, of either place; `list` is its name. `Err` with the cause of a problem.
pub(crate) fn judge_entries(list: &str, entries: &[Value], service: &ServiceUrl) -> Result<Outcome, String> {
    let livekit: Vec<&Value> = entries.iter().filter(|entry| is_livekit(entry)).collect();
    if livekit.is_empty() {
        return Err(format!("{list} has no entry of the type {LIVEKIT}"));
    }
    // Clients skip entries without this key, as long as they don't know `url`.
    let mut announced: Vec<(&Value, &str)> =
        livekit.iter().filter_map(|entry| Some((*entry, entry[SERVICE_KEY].as_str()?))).collect();
    // Clients of today skip the merged type.
    announced.sort_by_key(|(entry, _)| entry["type"] != LIVEKIT);
    let Some((first, url)) = announced.first() else {
        return Err(match livekit.iter().any(|entry| entry["url"].is_string()) {
            true => format!(
                "{list} has an entry with `url`, but without {SERVICE_KEY}: Element Call before 0.28.1, and other clients, find no \
                 transport"
            ),
            false => format!("{list} has an entry without {SERVICE_KEY}"),
        });
    };
    let readings: Vec<Reading> = announced.iter().map(|(_, url)| Reading::of(url, service)).collect();
    match readings.as_slice() {
        [Reading::Same, ..] if livekit.iter().any(|entry| entry["url"].is_string() && entry[SERVICE_KEY].is_null()) => {
            Ok(Outcome::warning(
                format!("`url` and {SERVICE_KEY} are announced in different entries"),
                format!("announce both in one entry: {service} beside the `url`"),
            ))
        }
        [Reading::Same, ..] if first["type"] != LIVEKIT && livekit.iter().all(|entry| entry["type"] != LIVEKIT) => {
            Ok(Outcome::warning(
                format!("only the type {MERGED_LIVEKIT} is announced, which clients of today don't know"),
                format!("add the same entry with the type {LIVEKIT}"),
            ))
        }
        [Reading::Same, ..] => Ok(Outcome::ok(format!("{service}"))),
        [Reading::SlashAtEnd, ..] => Ok(Outcome::warning(
            "the announced URL ends with a slash, so that clients request //sfu/get",
            format!("announce {service}"),
        )),
        [_, rest @ ..] if rest.iter().any(|reading| matches!(reading, Reading::Same | Reading::SlashAtEnd)) => {
            Ok(Outcome::warning(
                format!("{service} is announced, but not first; clients use the first entry of the type {LIVEKIT}"),
                "move it to the front of the list",
            ))
        }
        [reading, ..] => Err(reading.complaint(url)),
        [] => Err(format!("{list} announces nothing")),
    }
}

/// Returns the entry to announce in place of these, with the `url` of homeserver mode if they have one.
pub(crate) fn corrected(entries: &[Value], service: &ServiceUrl) -> Value {
    let url = entries.iter().find_map(|entry| entry["url"].as_str()).filter(|url| url.len() <= MAX_SHOWN);
    entry(service, url)
}

/// Whether an entry is that of an SFU, as deployed or as merged.
pub(crate) fn is_livekit(entry: &Value) -> bool {
    entry["type"] == LIVEKIT || entry["type"] == MERGED_LIVEKIT
}

/// Returns a file's content without the byte order mark at its beginning, if it has one.
pub(crate) fn without_byte_order_mark(file: &[u8]) -> &[u8] {
    file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file)
}

/// An announced URL, compared with the service's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Same,
    SlashAtEnd,
    NoUrl,
    SfuUrl,
    PlainHttp,
    OtherPath,
    OtherService,
}

impl Reading {
    fn of(announced: &str, service: &ServiceUrl) -> Self {
        let Ok(url) = Url::parse(announced) else {
            return Self::NoUrl;
        };
        let expected = service.url();
        let same_host =
            (url.host(), url.port_or_known_default()) == (expected.host(), expected.port_or_known_default());
        match ServiceUrl::parse(announced) {
            _ if matches!(url.scheme(), "ws" | "wss") => Self::SfuUrl,
            Ok(parsed) if parsed == *service && announced.ends_with('/') => Self::SlashAtEnd,
            Ok(parsed) if parsed == *service => Self::Same,
            _ if url.scheme() == "http" && expected.scheme() == "https" => Self::PlainHttp,
            _ if same_host && url.scheme() == expected.scheme() => Self::OtherPath,
            _ => Self::OtherService,
        }
    }

    fn complaint(self, announced: &str) -> String {
        let announced: String = announced.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
        match self {
            Self::NoUrl => format!("the livekit_service_url {announced:?} isn't a URL"),
            Self::SfuUrl => {
                format!("{announced} is announced: that is an SFU's URL; the https:// URL of this service is expected")
            }
            Self::PlainHttp => format!("{announced} is announced: pages under https:// can't send requests to http://"),
            Self::OtherPath => format!("{announced} is announced: the right host with another path"),
            Self::OtherService | Self::Same | Self::SlashAtEnd => format!("{announced} is announced, another service"),
        }
    }
}

/// Id of the check.
pub const ID: &str = "announcement";
/// Title of the check.
pub const TITLE: &str = "homeserver: announces the service";
/// Key in the file (MSC4143).
pub const KEY: &str = "org.matrix.msc4143.rtc_foci";
const LIVEKIT: &str = "livekit";
/// Type of MSC4195 as merged.
const MERGED_LIVEKIT: &str = "m.livekit";
/// Key of the service's URL in an entry.
pub const SERVICE_KEY: &str = "livekit_service_url";
const PATH: &str = "/.well-known/matrix/client";
const MAX_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn service() -> ServiceUrl {
        ServiceUrl::parse("https://rtc.example.com/livekit/jwt").unwrap()
    }

    fn judged(file: &Value) -> Outcome {
        judge(file.to_string().as_bytes(), &service()).unwrap_or_else(|problem| problem)
    }

    fn announcing(url: &str) -> Value {
        json!({ KEY: [{ "type": "livekit", "livekit_service_url": url }] })
    }

    #[test]
    fn what_is_printed_is_what_is_wanted() {
        let outcome = judged(&fragment(&entry(&service(), None)));
        assert_eq!(outcome, Outcome::ok("https://rtc.example.com/livekit/jwt"));
    }

    #[test]
    fn the_host_may_be_written_in_capitals() {
        assert_eq!(judged(&announcing("https://RTC.example.com:443/livekit/jwt")).status, Status::Ok);
    }

    #[test]
    fn every_problem_has_its_cause() {
        let other = announcing("https://rtc.example.com/livekit/jwt");
        for (file, cause) in [
            (json!({}), "MISSING_MATRIX_RTC_FOCUS"),
            (json!([]), "MISSING_MATRIX_RTC_FOCUS"),
            (json!({ KEY: "https://rtc.example.com/livekit/jwt" }), "isn't a list"),
            (json!({ KEY: [] }), "no entry of the type livekit"),
            (json!({ KEY: [{ "type": "full_mesh" }, other] }), "no entry of the type livekit"),
            (json!({ KEY: [{ "type": "livekit" }] }), "without livekit_service_url"),
            (
                json!({ KEY: [{ "type": "livekit", "url": "wss://sfu.example.com" }] }),
                "but without livekit_service_url",
            ),
            (announcing("rtc.example.com"), "isn't a URL"),
            (announcing("wss://sfu.example.com"), "an SFU's URL"),
            (announcing("http://rtc.example.com/livekit/jwt"), "can't send requests to http://"),
            (announcing("https://rtc.example.com"), "another path"),
            (announcing("https://rtc.example.com/livekit/jwt/sfu/get"), "another path"),
            (announcing("https://rtc.example.org/livekit/jwt"), "another service"),
        ] {
            let outcome = judged(&file);
            assert_eq!(outcome.status, Status::Problem, "{file}");
            assert!(outcome.seen.contains(cause), "{file}: {}", outcome.seen);
            assert!(outcome.change.unwrap().contains(r#""livekit_service_url":"https://rtc.example.com/livekit/jwt""#));
        }
        assert!(judge(b"<html>", &service()).unwrap_err().seen.contains("isn't JSON"));
    }

    #[test]
    fn what_works_for_some_is_a_warning() {
        let outcome = judged(&announcing("https://rtc.example.com/livekit/jwt/"));
        assert!(outcome.status == Status::Warning && outcome.seen.contains("ends with a slash"));
        let mut file = announcing("https://other.example.com");
        let ours = announcing("https://rtc.example.com/livekit/jwt")[KEY][0].clone();
        file[KEY].as_array_mut().unwrap().push(ours);
        let outcome = judged(&file);
        assert!(outcome.status == Status::Warning && outcome.seen.contains("not first"), "{outcome:?}");
    }

    #[test]
    fn both_keys_in_one_entry_are_well() {
        let both = entry(&service(), Some("wss://sfu.example.com"));
        assert_eq!(judged(&fragment(&both)).status, Status::Ok);
        let url = json!({ "type": "livekit", "url": "wss://sfu.example.com" });
        let apart = judged(&json!({ KEY: [url, entry(&service(), None)] }));
        assert!(apart.status == Status::Warning && apart.seen.contains("different entries"), "{apart:?}");
    }

    #[test]
    fn the_merged_type_is_read_and_alone_it_is_a_warning() {
        let mut merged = entry(&service(), None);
        merged["type"] = json!("m.livekit");
        let alone = judged(&json!({ KEY: [merged] }));
        assert!(alone.status == Status::Warning && alone.seen.contains("only the type m.livekit"), "{alone:?}");
        assert_eq!(judged(&json!({ KEY: [merged, entry(&service(), None)] })).status, Status::Ok);
        merged["livekit_service_url"] = json!("https://other.example.com");
        let beside = judged(&json!({ KEY: [merged, entry(&service(), None)] }));
        assert_eq!(beside.status, Status::Ok, "clients of today skip it: {beside:?}");
    }

    #[test]
    fn a_byte_order_mark_is_skipped_and_is_a_warning() {
        let file = format!("\u{feff}{}", fragment(&entry(&service(), None)));
        let outcome = judge(file.as_bytes(), &service()).unwrap();
        assert!(outcome.status == Status::Warning && outcome.seen.contains("byte order mark"), "{outcome:?}");
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_panic(file: Vec<u8>, url in "(https://rtc.example.com)?\\PC{0,40}") {
            let _ = judge(&file, &service());
            let _ = judged(&announcing(&url));
        }
    }
}
