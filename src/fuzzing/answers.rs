//! Responses of other servers: homeservers, resolvers and the SFU.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;
use url::Url;

use super::first_line;
use crate::livekit::room_service::{ListParticipantsResponse, ParticipantInfo, RoomServiceError, decode};
use crate::matrix::address::is_public;
use crate::matrix::federation::discovery::{AddressPolicy, Destination, Network, WellKnown, discover};
use crate::matrix::federation::dns::SrvAnswer;
use crate::matrix::federation::openid::subject;
use crate::matrix::homeserver::delayed_events::{from_body, from_header, reports_no_event, scheduled, settled};
use crate::matrix::homeserver::members;
use crate::matrix::ids::server_name::{Host, ServerName};
use crate::matrix::well_known as well_known_file;
use delegated_leaves::{HomeserverAnswer, Participant};

/// Reads the first line as the `Location` of a redirect, and the rest as both well-known files.
pub fn well_known(data: &[u8]) {
    let Some((location, body)) = first_line(data) else { return };
    let policy = AddressPolicy::PublicOnly;
    for kind in ["server", "client"] {
        let from = Url::parse(&format!("https://example.com/.well-known/matrix/{kind}"));
        let to = from.ok().and_then(|from| well_known_file::redirected(policy, &from, location, kind));
        if let Some(to) = to {
            assert_eq!((to.scheme(), to.query(), to.fragment(), to.username()), ("https", None, None, ""));
            assert!(to.path().ends_with(&format!("/.well-known/matrix/{kind}")));
            assert!(Host::of(&to).is_some_and(|host| is_public(&host)), "a redirect leads to a private address");
        }
    }
    let _ = well_known_file::delegated_name(body);
    if let Some(Ok(base)) = well_known_file::client_base_url(body) {
        let api = format!("{}/_matrix/client/versions", base.as_str().trim_end_matches('/'));
        let api = Url::parse(&api).ok();
        let parts = api.as_ref().map(|api| (api.scheme(), api.host(), api.port(), api.query(), api.fragment()));
        assert_eq!(parts, Some(("https", base.host(), base.port(), None, None)));
        assert!(api.is_some_and(|api| api.path().ends_with("/_matrix/client/versions")), "the path isn't ours");
    }
}

/// Reads three lines as `Cache-Control`, as `Expires` and `Retry-After`, and as the time in milliseconds.
pub fn cache_headers(data: &[u8]) {
    let Some((cache_control, rest)) = first_line(data) else { return };
    let Some((date, now)) = first_line(rest) else { return };
    let now_ms = std::str::from_utf8(now).ok().and_then(|now| now.trim().parse().ok()).unwrap_or_default();
    for expires in [None, Some(date)] {
        for cache_control in [None, Some(cache_control)] {
            let lifetime = well_known_file::lifetime(cache_control, expires, now_ms);
            assert!(lifetime >= well_known_file::MIN_LIFETIME && lifetime <= Duration::from_secs(48 * 3600));
        }
    }
    let _ = from_header(date, now_ms);
}

/// Reads the first line as a server name, the second as the name that it delegates to, and the rest as a resolver's
/// response for both SRV records.
pub fn discovery(data: &[u8]) {
    let Some((name, rest)) = first_line(data) else { return };
    let Some((delegated, dns)) = first_line(rest) else { return };
    let srv = SrvAnswer::parse(dns);
    if let Some(srv) = &srv {
        assert!(srv.targets.len() <= 4 && srv.targets.iter().all(|target| target.port != 0));
        assert!(srv.lifetime >= Duration::from_secs(60) && srv.lifetime <= Duration::from_secs(24 * 3600));
    }
    let Ok(name) = ServerName::parse(name) else { return };
    let network = Given { delegated: ServerName::parse(delegated).ok(), srv };
    let Some(Ok(resolution)) = discover(&network, AddressPolicy::PublicOnly, &name).now_or_never() else { return };
    match resolution.destination {
        Destination::Direct { host, port } => assert!(is_public(&host) && port != 0),
        Destination::Srv { targets, .. } => {
            assert!(!targets.is_empty());
            for target in targets {
                let host = ServerName::parse(&target.host).map(|name| name.host().clone());
                assert!(host.is_ok_and(|host| matches!(host, Host::Name(_)) && is_public(&host)));
            }
        }
    }
}

/// Network with the well-known file and the SRV records of the input.
struct Given {
    delegated: Option<ServerName>,
    srv: Option<SrvAnswer>,
}

impl Network for Given {
    async fn well_known(&self, _host: &Host) -> WellKnown {
        WellKnown { delegated: self.delegated.clone(), lifetime: Duration::from_secs(60) }
    }

    async fn srv(&self, _record: &str) -> Option<SrvAnswer> {
        self.srv.clone()
    }
}

/// Reads the input as a homeserver's responses to queries of a token, of members, and of a delayed event.
pub fn homeserver_answers(data: &[u8]) {
    if let Ok(server) = ServerName::parse("example.com")
        && let Ok(user) = subject(data, &server)
    {
        assert_eq!(user.server_name(), "example.com");
    }
    if let Ok(joined) = members::joined(data) {
        assert!(!joined.is_empty());
    }
    let is_gone = reports_no_event(data);
    if let Ok(answer) = serde_json::from_slice::<Value>(data) {
        assert!(!is_gone || answer["errcode"].is_string());
        let _ = (scheduled(&answer), members::is_joined(&answer));
    } else {
        assert!(!is_gone);
    }
}

/// Reads the first line as the status of a response to a restart or a send, the second as its `Retry-After`, the rest
/// as its body.
pub fn delayed_event_answers(data: &[u8]) {
    let Some((status, rest)) = first_line(data) else { return };
    let Some((retry_after, body)) = first_line(rest) else { return };
    let _ = from_header(retry_after, 1_700_000_000_000).max(from_body(body));
    let Ok(status) = status.parse() else { return };
    if !matches!(status, 200..=299 | 404 | 409) {
        return;
    }
    let answer = serde_json::from_slice::<Value>(body).ok().filter(Value::is_object);
    match settled(status, body) {
        Ok(HomeserverAnswer::Done) => assert!(answer.is_some() && status < 300),
        Ok(HomeserverAnswer::Gone) => {
            let errcode = answer.as_ref().and_then(|answer| answer["errcode"].as_str());
            assert!(errcode.is_some_and(|errcode| status == 409 || errcode != "M_UNRECOGNIZED"));
        }
        Ok(other) => assert_eq!(other, HomeserverAnswer::Failed, "it settles nothing"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Reads the input as the SFU's responses: a list of participants, one participant, and an error.
pub fn sfu_answers(data: &[u8]) {
    if let Ok(answer) = decode::<ListParticipantsResponse>(data) {
        assert!(answer.participants.len() <= data.len());
        answer.participants.into_iter().map(Participant::from).for_each(check_participant);
    }
    if let Ok(participant) = decode::<ParticipantInfo>(data) {
        check_participant(participant.into());
    }
    for status in [404, 500, 503] {
        let error = RoomServiceError::Answer { status, twirp: serde_json::from_slice(data).ok() };
        assert!(!error.to_string().is_empty());
    }
}

fn check_participant(participant: Participant) {
    assert!(participant.joined_at.is_none_or(|at| at.as_millis() > 0));
    assert!(participant.sid.is_none_or(|sid| !sid.as_str().is_empty()));
}
