//! Bodies of requests for tokens, in both modes.

use delegated_leaves::{DelayedEventsUrl, Delegate, RoomCommand, ServerName as LeaveServerName};

use super::{SECRET, assert_crosses_to_the_object, first_line};
use crate::body::MAX_ID;
use crate::error::ApiError;
use crate::matrix::homeserver::{ApplicationService, Token};
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;
use crate::token::homeserver_request::{
    ClientTokenRequest, FederationTokenRequest, LeaveRequest, Membership, Requester, check_ping,
};
use crate::token::openid_request::{ClaimedIdentity, DelegationRequest, TokenRequest};

/// Reads the input as the body of `/get_token`, `/sfu/get` and `/delegate_delayed_leave`.
pub fn client_bodies(data: &[u8]) {
    let delegation = DelegationRequest::from_body(data);
    match TokenRequest::from_get_token(data) {
        Ok(request) => {
            assert_eq!(request.delayed_leave.is_some(), delegation.is_ok());
            check_token_request(request);
        }
        Err(error) => {
            check_error(&error);
            assert!(delegation.is_err());
        }
    }
    if let Err(error) = delegation {
        check_error(&error);
    }
    match TokenRequest::from_sfu_get(data) {
        Ok(request) => check_token_request(request),
        Err(error) => check_error(&error),
    }
}

fn check_token_request(request: TokenRequest) {
    let Ok(alice) = UserId::parse("@alice:example.com") else { return };
    let identity = request.claim.identity_of(&alice).ok();
    match &request.claim {
        ClaimedIdentity::Member(member) => {
            assert!([&member.id, &member.user_id, &member.device_id].iter().all(|text| text.len() <= MAX_ID));
            assert_eq!(identity.is_some(), member.user_id == alice.as_str());
        }
        ClaimedIdentity::Device { device_id } => {
            assert!(device_id.len() <= MAX_ID);
            // `@alice:example.com:8448` and its device would have the same identity.
            let digits = device_id.bytes().take_while(u8::is_ascii_digit).count();
            assert_eq!(identity.is_none(), digits > 0 && device_id[digits..].starts_with(':'));
        }
    }
    let (Some(identity), Some(leave)) = (identity, request.delayed_leave) else { return };
    assert_crosses_to_the_object(&RoomCommand::Delegate(Delegate {
        room: request.room,
        identity,
        legacy_identity: None,
        server_name: LeaveServerName::new(request.openid_token.server.as_str()),
        delayed_events_url: DelayedEventsUrl::new("https://example.com/delayed_events"),
        owner: None,
        user_id: delegated_leaves::UserId::new("@alice:example.com"),
        restricted: false,
        delay_id: leave.id,
        delay_timeout: leave.timeout,
        restarted_at: None,
        issued_at: None,
    }));
}

/// Reads the first line as the headers that the homeserver sends, and the rest as the bodies of homeserver mode.
pub fn homeserver_bodies(data: &[u8]) {
    let Some((header, body)) = first_line(data) else { return };
    check_requester::<UserId>(header);
    check_requester::<ServerName>(header);
    let tokens = (ServerName::parse("example.com"), Token::parse("as"), Token::parse(SECRET));
    if let (Ok(server_name), Some(as_token), Some(hs_token)) = tokens {
        let service = ApplicationService::new(server_name, as_token, hs_token);
        let token = header.trim().split_once(' ').map(|(_, token)| token.trim());
        assert!(service.verify(Some(header)).is_err() || token == Some(SECRET));
    }
    match ClientTokenRequest::from_body(body) {
        Ok(request) => check_membership(&request.membership, &request.url),
        Err(error) => check_error(&error),
    }
    match FederationTokenRequest::from_body(body) {
        Ok(request) => check_membership(&request.membership, &request.url),
        Err(error) => check_error(&error),
    }
    match LeaveRequest::from_body(body) {
        Ok(request) => check_membership(&request.membership, request.url.as_deref().unwrap_or("wss://sfu.example.com")),
        Err(error) => check_error(&error),
    }
    if let Err(error) = check_ping(body) {
        check_error(&error);
    }
}

fn check_requester<R: Requester>(header: &str) {
    if let Err(error) = R::from_header(Some(header)) {
        assert!(!error.body().to_string().contains(SECRET));
    }
}

/// Asserts that another homeserver reads a membership as it is relayed.
fn check_membership(membership: &Membership, url: &str) {
    let Ok(alice) = UserId::parse("@alice:example.com") else { return };
    assert!(membership.slot_id.len() <= MAX_ID && membership.member_id.len() <= MAX_ID && url.len() <= 1024);
    if url.is_empty() {
        return;
    }
    let relayed = membership.to_federation_body(&alice, url).to_string();
    let read = FederationTokenRequest::from_body(relayed.as_bytes()).ok();
    assert_eq!(read.as_ref().map(|request| (&request.membership, request.url.as_str())), Some((membership, url)));
    assert_eq!(read.map(|request| request.user), Some(alice));
}

/// Asserts that an error is the caller's own fault, and quotes no value of the body.
fn check_error(error: &ApiError) {
    assert!(matches!(error.status(), 400 | 401), "{}", error.status());
    let texts = format!("{}{}", error.body(), error.cause().unwrap_or_default());
    assert!(!texts.contains(SECRET), "an error quotes a value");
}
