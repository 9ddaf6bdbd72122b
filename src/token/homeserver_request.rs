//! Requests of homeserver mode (MSC4195): bodies, and the headers in which the homeserver says whose they are.

use delegated_leaves::{DelayId, Identity, RoomName};
use serde_json::{Value, json};

use crate::body::{Fields, required};
use crate::error::ApiError;
use crate::matrix::ids::room_id::RoomId;
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;

/// Who asks, as the homeserver has verified it.
pub trait Requester: Sized {
    /// The header that says it.
    const HEADER: &'static str;

    /// Parses the header's value.
    fn parse(value: &str) -> Option<Self>;

    /// Reads it from the header, where there is one.
    fn from_header(value: Option<&str>) -> Result<Self, ApiError> {
        let value = value.filter(|value| !value.is_empty()).ok_or(ApiError::NoRequester(Self::HEADER))?;
        Self::parse(value).ok_or_else(|| ApiError::InvalidParam(format!("{} is malformed", Self::HEADER)))
    }
}

/// On client requests.
impl Requester for UserId {
    const HEADER: &'static str = "X-Matrix-User-Identifier";

    fn parse(value: &str) -> Option<Self> {
        Self::parse(value).ok()
    }
}

/// On federation requests.
impl Requester for ServerName {
    const HEADER: &'static str = "X-Matrix-Origin";

    fn parse(value: &str) -> Option<Self> {
        Self::parse(value).ok()
    }
}

/// A member of a call, and the SFU that it is to be a participant on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// `url`: the SFU's.
    pub url: String,
    /// `room_id`: the Matrix room.
    pub room: RoomId,
    /// `slot_id`: the call in it.
    pub slot_id: String,
    /// `member_id`.
    pub member_id: String,
}

impl Membership {
    /// The LiveKit room (§4).
    pub fn livekit_room(&self) -> RoomName {
        RoomName::of_slot(self.room.as_str(), &self.slot_id)
    }

    /// The identity there, of `user`'s membership (§4).
    pub fn identity_of(&self, user: &UserId) -> Identity {
        Identity::of_homeserver_member(user.as_str(), &self.member_id)
    }

    /// Whether the SFU is the one at `url`.
    pub fn is_on(&self, url: &str) -> bool {
        self.url.trim_end_matches('/') == url.trim_end_matches('/')
    }

    /// The request by which `user`'s homeserver asks another one for a token.
    pub fn to_federation_body(&self, user: &UserId) -> Value {
        json!({
            "user_id": user.as_str(),
            "url": self.url,
            "room_id": self.room.as_str(),
            "slot_id": self.slot_id,
            "member_id": self.member_id,
        })
    }
}

/// A user's request for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTokenRequest {
    /// `server_name`: whose SFU it is. `None` for that of the user's own homeserver.
    pub server: Option<ServerName>,
    /// Who is to be let in where.
    pub membership: Membership,
}

impl ClientTokenRequest {
    /// Parses the body of `POST /_matrix/client/…/rtc/livekit/get_token`.
    pub fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let body = MembershipBody::take(&mut fields)?;
        let server_name = fields.text("server_name")?;
        let membership = body.into_membership()?;
        let server = server_name.map(|name| ServerName::parse(&name)).transpose();
        let server = server.map_err(|_| ApiError::InvalidParam("server_name is malformed".to_owned()))?;
        Ok(Self { server, membership })
    }
}

/// Another homeserver's request for a token for one of its users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederationTokenRequest {
    /// `user_id`, not parsed: what is no user of the origin is refused in whatever form.
    pub user_id: String,
    /// Who is to be let in where.
    pub membership: Membership,
}

impl FederationTokenRequest {
    /// Parses the body of `POST /_matrix/federation/…/rtc/livekit/get_token`.
    pub fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let body = MembershipBody::take(&mut fields)?;
        let user_id = fields.text("user_id")?;
        let user_id = required("user_id", user_id)?;
        let membership = body.into_membership()?;
        Ok(Self { user_id, membership })
    }
}

/// A user's request to look after a delayed leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveRequest {
    /// Whose leave it is.
    pub membership: Membership,
    /// `delay_id`: what the homeserver calls it. `None` for what can't be such an id.
    pub delay_id: Option<DelayId>,
}

impl LeaveRequest {
    /// Parses the body of `POST /_matrix/client/…/rtc/livekit/delegate_delayed_leave`.
    pub fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let body = MembershipBody::take(&mut fields)?;
        let delay_id = fields.text("delay_id")?;
        let delay_id = DelayId::new(required("delay_id", delay_id)?).ok();
        let membership = body.into_membership()?;
        Ok(Self { membership, delay_id })
    }
}

/// Checks the body of `POST /_matrix/app/v1/ping`.
pub fn check_ping(body: &[u8]) -> Result<(), ApiError> {
    Fields::parse(body)?.text("transaction_id").map(drop)
}

// Unknown fields are ignored; an endpoint takes its own field, if it has one, after these.

/// The fields that every body of homeserver mode has. All are optional here: a missing field is reported once no field has the
/// wrong type.
struct MembershipBody {
    url: Option<String>,
    room_id: Option<String>,
    slot_id: Option<String>,
    member_id: Option<String>,
}

impl MembershipBody {
    fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self {
            url: fields.text("url")?,
            room_id: fields.text("room_id")?,
            slot_id: fields.text("slot_id")?,
            member_id: fields.text("member_id")?,
        })
    }

    /// Reports missing fields before malformed ones.
    fn into_membership(self) -> Result<Membership, ApiError> {
        let url = required("url", self.url)?;
        let room_id = required("room_id", self.room_id)?;
        let slot_id = required("slot_id", self.slot_id)?;
        let member_id = required("member_id", self.member_id)?;
        let room = RoomId::parse(&room_id).map_err(|_| ApiError::InvalidParam("room_id is malformed".to_owned()))?;
        Ok(Membership { url, room, slot_id, member_id })
    }
}

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
        assert!(membership.is_on("wss://sfu.example.com") && !membership.is_on("wss://sfu.example.com/x"));
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
        let mut body = body();
        body["delay_id"] = "..".into();
        assert_eq!(read(LeaveRequest::from_body, &body).unwrap().delay_id, None);
    }

    #[test]
    fn the_requester_is_in_a_header() {
        assert!(matches!(UserId::from_header(None), Err(ApiError::NoRequester("X-Matrix-User-Identifier"))));
        assert!(matches!(ServerName::from_header(Some("")), Err(ApiError::NoRequester("X-Matrix-Origin"))));
        assert!(matches!(UserId::from_header(Some("alice")), Err(ApiError::InvalidParam(_))));
        // What comes of a header that is there twice.
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
