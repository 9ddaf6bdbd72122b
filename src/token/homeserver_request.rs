//! Requests of homeserver mode (MSC4195, `docs/protocol.md#proxied-requests`): bodies, and the headers with the user or server that our homeserver has
//! authenticated.
//!
//! How it works:
//! - the header is `X-Matrix-User-Identifier` for a client, and `X-Matrix-Origin` for another homeserver; our
//!   homeserver sets it, and a missing or malformed one is an error;
//! - all three bodies share [`MembershipBody`]; each endpoint takes at most one field more;
//! - unknown fields are ignored, because homeservers may add some;
//! - wrong types are reported first, then missing fields, then malformed values.

use delegated_leaves::{DelayId, Identity, RoomName};
use serde_json::{Value, json};

use crate::body::{Fields, required, required_id, within};
use crate::error::ApiError;
use crate::matrix::ids::room_id::RoomId;
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;

/// The user or server that a request is made for, as authenticated by the homeserver.
pub trait Requester: Sized {
    /// Name of the header.
    const HEADER: &'static str;

    /// Parses the value of the header.
    fn parse(value: &str) -> Option<Self>;

    /// Reads the header, which must be present.
    fn from_header(value: Option<&str>) -> Result<Self, ApiError> {
        let value = value.filter(|value| !value.is_empty()).ok_or(ApiError::NoRequester(Self::HEADER))?;
        Self::parse(value).ok_or_else(|| ApiError::InvalidParam(format!("{} is malformed", Self::HEADER)))
    }
}

/// The user of a client request.
impl Requester for UserId {
    const HEADER: &'static str = "X-Matrix-User-Identifier";

    fn parse(value: &str) -> Option<Self> {
        Self::parse(value).ok()
    }
}

/// The origin of a federation request.
impl Requester for ServerName {
    const HEADER: &'static str = "X-Matrix-Origin";

    fn parse(value: &str) -> Option<Self> {
        Self::parse(value).ok()
    }
}

/// A member of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// `room_id`: the Matrix room.
    pub room: RoomId,
    /// `slot_id`: the call in it.
    pub slot_id: String,
    /// `member_id`, or `member.id`.
    pub member_id: String,
}

impl Membership {
    /// Returns the LiveKit room (`docs/protocol.md#names-on-the-sfu`).
    pub fn livekit_room(&self) -> RoomName {
        RoomName::of_slot(self.room.as_str(), &self.slot_id)
    }

    /// Returns the identity of this membership of `user` on the SFU (`docs/protocol.md#names-on-the-sfu`).
    pub fn identity_of(&self, user: &UserId) -> Identity {
        Identity::of_homeserver_member(user.as_str(), &self.member_id)
    }

    /// Returns the body of the request by which the homeserver of `user` requests a token from another one,
    /// for the SFU at `url`.
    pub fn to_federation_body(&self, user: &UserId, url: &str) -> Value {
        json!({
            "user_id": user.as_str(),
            "url": url,
            "room_id": self.room.as_str(),
            "slot_id": self.slot_id,
            "member_id": self.member_id,
        })
    }
}

/// A user's request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTokenRequest {
    /// `server_name`: the homeserver that has the SFU. `None` for the own homeserver of the user.
    pub server: Option<ServerName>,
    /// `url` of the SFU to join.
    pub url: String,
    /// The member, and the call.
    pub membership: Membership,
}

impl ClientTokenRequest {
    /// Parses the body of `POST /_matrix/client/…/rtc/livekit/get_token`.
    pub fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let body = MembershipBody::take(&mut fields)?;
        let server_name = fields.text("server_name")?;
        let (url, membership) = body.into_membership()?;
        let url = required("url", url)?;
        let server = server_name.map(|name| ServerName::parse(&name)).transpose();
        let server = server.map_err(|_| ApiError::InvalidParam("server_name is malformed".to_owned()))?;
        Ok(Self { server, url, membership })
    }
}

/// Another homeserver's request for a token for one of its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederationTokenRequest {
    /// `user_id`.
    pub user: UserId,
    /// `url` of the SFU to join.
    pub url: String,
    /// The member, and the call.
    pub membership: Membership,
}

impl FederationTokenRequest {
    /// Parses the body of `POST /_matrix/federation/…/rtc/livekit/get_token`.
    pub fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let body = MembershipBody::take(&mut fields)?;
        let user_id = fields.text("user_id")?;
        let user_id = required("user_id", user_id)?;
        let (url, membership) = body.into_membership()?;
        let url = required("url", url)?;
        let user = UserId::parse(&user_id).map_err(|_| ApiError::InvalidParam("user_id is malformed".to_owned()))?;
        Ok(Self { user, url, membership })
    }
}

/// A user's request to delegate a delayed leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveRequest {
    /// `url` of the SFU. The merged text of MSC4195 has none here.
    pub url: Option<String>,
    /// The member to whom the leave belongs.
    pub membership: Membership,
    /// `delay_id`: the identifier of the delayed event. `None` for a text that is no such identifier.
    pub delay_id: Option<DelayId>,
}

impl LeaveRequest {
    /// Parses the body of `POST /_matrix/client/…/rtc/livekit/delegate_delayed_leave`.
    pub fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let body = MembershipBody::take(&mut fields)?;
        let delay_id = fields.text("delay_id")?;
        let delay_id = DelayId::new(required("delay_id", delay_id)?).ok();
        let (url, membership) = body.into_membership()?;
        Ok(Self { url: url.filter(|url| !url.is_empty()), membership, delay_id })
    }
}

/// Checks the body of `POST /_matrix/app/v1/ping`.
pub fn check_ping(body: &[u8]) -> Result<(), ApiError> {
    Fields::parse(body)?.text("transaction_id").map(drop)
}

// Unknown fields are ignored; an endpoint takes its own field, if it has one, after these.

/// Fields of every body of homeserver mode. All are optional here: missing fields are reported after wrong types.
struct MembershipBody {
    url: Option<String>,
    room_id: Option<String>,
    slot_id: Option<String>,
    member_id: Option<String>,
}

impl MembershipBody {
    fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        let (url, room_id, slot_id) = (fields.text("url")?, fields.text("room_id")?, fields.text("slot_id")?);
        let member_id = match fields.text("member_id")?.filter(|id| !id.is_empty()) {
            // Some clients send `member`, as to the endpoints with an OpenID token.
            None => fields.object("member")?.text("id")?,
            member_id => member_id,
        };
        Ok(Self { url, room_id, slot_id, member_id })
    }

    /// Reports missing fields before malformed ones. The URL may be absent, where the endpoint allows that.
    fn into_membership(self) -> Result<(Option<String>, Membership), ApiError> {
        let url = self.url.map(|url| within("url", url, MAX_URL)).transpose()?;
        let room_id = required_id("room_id", self.room_id)?;
        let slot_id = required_id("slot_id", self.slot_id)?;
        let member_id = required_id("member_id", self.member_id)?;
        let room = RoomId::parse(&room_id).map_err(|_| ApiError::InvalidParam("room_id is malformed".to_owned()))?;
        Ok((url, Membership { room, slot_id, member_id }))
    }
}

/// Length limit of an SFU's URL, in bytes.
const MAX_URL: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn body() -> Value {
        json!({
            "server_name": "example.org",
            "user_id": "@alice:example.com",
            "url": "wss://sfu.example.com/",
            "room_id": "!room:example.com",
            "slot_id": "m.call#ROOM",
            "member_id": "memberABC",
            "delay_id": "syd_x",
            "surprise": {"nested": true},
        })
    }

    fn read<T>(from_body: impl Fn(&[u8]) -> Result<T, ApiError>, body: &Value) -> Result<T, ApiError> {
        from_body(body.to_string().as_bytes())
    }

    #[test]
    fn names_are_those_of_the_protocol() {
        let request = read(ClientTokenRequest::from_body, &body()).unwrap();
        let alice = UserId::parse("@alice:example.com").unwrap();
        let membership = request.membership;
        assert_eq!(membership.livekit_room().as_str(), "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs");
        assert_eq!(membership.identity_of(&alice).as_str(), "M3VnsLXrkbxIDINXO64u8PZzFyD9ZYFiQULR2dshWYs");
        assert_eq!(request.url, "wss://sfu.example.com/");
        assert_eq!(request.server.unwrap().as_str(), "example.org");
    }

    #[test]
    fn every_required_field_is_missed_by_name() {
        for field in ["url", "room_id", "slot_id", "member_id", "user_id", "delay_id"] {
            for absent in [Value::Null, json!("")] {
                let mut body = body();
                body[field] = absent;
                let outcomes = [
                    read(ClientTokenRequest::from_body, &body).map(drop),
                    read(FederationTokenRequest::from_body, &body).map(drop),
                    read(LeaveRequest::from_body, &body).map(drop),
                ];
                let needed = match field {
                    "user_id" => [false, true, false],
                    "delay_id" => [false, false, true],
                    "url" => [true, true, false],
                    _ => [true; 3],
                };
                for (outcome, needed) in outcomes.into_iter().zip(needed) {
                    match outcome {
                        Ok(()) => assert!(!needed, "{field}"),
                        Err(ApiError::BadJson(text)) => assert!(needed && text.contains(field), "{field}: {text}"),
                        Err(error) => panic!("{field}: {error:?}"),
                    }
                }
            }
        }
    }

    #[test]
    fn the_member_may_be_an_object() {
        let with = |member: Value, member_id: Value| {
            let mut body = body();
            body["member"] = member;
            body["member_id"] = member_id;
            read(ClientTokenRequest::from_body, &body).map(|request| request.membership.member_id)
        };
        let member = json!({"id": "memberXYZ", "claimed_user_id": "@alice:example.com", "more": {}});
        assert_eq!(with(member.clone(), Value::Null), Ok("memberXYZ".to_owned()));
        assert_eq!(with(member, json!("memberABC")), Ok("memberABC".to_owned()));
        assert_eq!(with(json!(["anything"]), json!("memberABC")), Ok("memberABC".to_owned()));
        assert_eq!(with(json!({"id": "memberXYZ"}), json!("")), Ok("memberXYZ".to_owned()));
        assert!(matches!(with(json!({}), Value::Null), Err(ApiError::BadJson(text)) if text.contains("member_id")));
        assert!(
            matches!(with(json!({"id": 5}), Value::Null), Err(ApiError::NotJson(text)) if text.contains("member.id"))
        );
    }

    #[test]
    fn fields_of_other_requests_are_ignored() {
        let mut body = body();
        for field in ["user_id", "delay_id", "surprise"] {
            body[field] = json!(["anything"]);
        }
        assert!(read(ClientTokenRequest::from_body, &body).is_ok());
        body["url"] = json!(5);
        let outcome = read(ClientTokenRequest::from_body, &body);
        assert!(matches!(outcome, Err(ApiError::NotJson(text)) if text.contains("url")));
    }

    #[test]
    fn what_is_malformed_is_named_once_nothing_is_missing() {
        for (field, value) in [("room_id", ".."), ("server_name", "https://example.org"), ("server_name", "")] {
            let mut body = body();
            body[field] = value.into();
            let outcome = read(ClientTokenRequest::from_body, &body);
            assert!(matches!(outcome, Err(ApiError::InvalidParam(text)) if text.contains(field)), "{field}");
            body["member_id"] = Value::Null;
            assert!(matches!(read(ClientTokenRequest::from_body, &body), Err(ApiError::BadJson(_))), "{field}");
        }
        for user_id in ["bob", "@bob", "@bob:", "https://example.com"] {
            let mut body = body();
            body["user_id"] = user_id.into();
            let outcome = read(FederationTokenRequest::from_body, &body);
            assert!(matches!(outcome, Err(ApiError::InvalidParam(text)) if text.contains("user_id")), "{user_id}");
        }
        let mut body = body();
        body["delay_id"] = "..".into();
        assert_eq!(read(LeaveRequest::from_body, &body).unwrap().delay_id, None);
    }

    #[test]
    fn the_requester_is_in_a_header() {
        assert!(matches!(UserId::from_header(None), Err(ApiError::NoRequester("X-Matrix-User-Identifier"))));
        assert!(matches!(ServerName::from_header(Some("")), Err(ApiError::NoRequester("X-Matrix-Origin"))));
        assert!(matches!(UserId::from_header(Some("alice")), Err(ApiError::InvalidParam(_))));
        // The value of a repeated header.
        assert!(matches!(ServerName::from_header(Some("a.example, b.example")), Err(ApiError::InvalidParam(_))));
        assert_eq!(UserId::from_header(Some("@a:b")).unwrap().as_str(), "@a:b");
    }

    #[test]
    fn a_ping_may_have_a_transaction() {
        for body in ["{}", r#"{"transaction_id":"x"}"#, r#"{"transaction_id":null,"y":1}"#] {
            assert_eq!(check_ping(body.as_bytes()), Ok(()), "{body}");
        }
        for body in ["", "[]", "[\"x\"]", r#"{"transaction_id":5}"#] {
            assert!(matches!(check_ping(body.as_bytes()), Err(ApiError::NotJson(_))), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_panic(bytes: Vec<u8>, at in 0..400usize, byte: u8) {
            let _ = ClientTokenRequest::from_body(&bytes);
            let mut mutated = body().to_string().into_bytes();
            let at = at % mutated.len();
            mutated[at] = byte;
            let _ = ClientTokenRequest::from_body(&mutated);
            let _ = FederationTokenRequest::from_body(&mutated);
            let _ = LeaveRequest::from_body(&mutated);
            let _ = check_ping(&mutated);
        }
    }
}
