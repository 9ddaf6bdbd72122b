//! Requests with an OpenID token: the bodies of the three endpoints of clients (`docs/protocol.md#request-bodies`).
//!
//! How it works:
//! - `/get_token` and `/delegate_delayed_leave` share one body, `/sfu/get` has the legacy one; both share the structs
//!   of the OpenID token and of the delayed leave;
//! - first the body is read field by field: wrong types are `M_NOT_JSON`, and unknown fields are ignored at every
//!   depth, because clients pass on what others gave them;
//! - then fields are checked: missing ones, and a delayed leave that isn't complete, are `M_BAD_JSON`;
//! - the name of the token's homeserver is checked last, because a malformed one is `M_UNAUTHORIZED`;
//! - room and identity on the SFU are derived here (`docs/protocol.md#names-on-the-sfu`), the identity only once the
//!   user is verified.

use crate::body::{Fields, MAX_ID, required, required_id, within};
use crate::error::{ApiError, Unauthorized};
use crate::matrix::federation::openid::{AccessToken, OpenIdError, OpenIdToken};
use crate::matrix::ids::server_name::ServerName;
use crate::matrix::ids::user_id::UserId;
use delegated_leaves::{DelayId, DelayTimeout, Identity, RoomName};

/// A request for a LiveKit token, from either endpoint.
pub struct TokenRequest {
    /// The identifier of the Matrix room, unparsed: only where membership is required does its form matter.
    pub matrix_room: String,
    /// The LiveKit room.
    pub room: RoomName,
    /// The claimed identity of the caller.
    pub claim: ClaimedIdentity,
    /// The OpenID token that proves it.
    pub openid_token: OpenIdToken,
    /// The delayed leave to delegate with it, if there is one.
    pub delayed_leave: Option<DelayedLeave>,
    /// The meaning of a refusal of that leave.
    pub if_leave_refused: IfLeaveRefused,
}

/// Meaning of a homeserver's refusal of a delayed leave, by the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfLeaveRefused {
    /// The token is issued without it: clients of `/get_token` take a failure for the end of the call.
    IssueWithout,
    /// The request is rejected: clients of `/sfu/get` repeat it without the leave, and restart the event themselves.
    Reject,
}

impl TokenRequest {
    /// Parses the body of `POST /get_token`.
    pub fn from_get_token(body: &[u8]) -> Result<Self, ApiError> {
        let request = MemberRequest::parse(body)?;
        Ok(Self {
            matrix_room: request.matrix_room,
            room: request.room,
            claim: ClaimedIdentity::Member(request.member),
            openid_token: request.openid_token?,
            delayed_leave: request.delayed_leave,
            if_leave_refused: IfLeaveRefused::IssueWithout,
        })
    }

    /// Parses the body of `POST /sfu/get`.
    pub fn from_sfu_get(body: &[u8]) -> Result<Self, ApiError> {
        let body = SfuGetBody::parse(body)?;
        let room_id = required_id("room", body.room)?;
        let (server_name, access_token) = body.openid_token.required()?;
        let device_id = within("device_id", body.device_id.unwrap_or_default(), MAX_ID)?;
        let delayed_leave = body.delayed_leave.checked()?;
        Ok(Self {
            room: RoomName::of_slot(&room_id, LEGACY_SLOT),
            matrix_room: room_id,
            claim: ClaimedIdentity::Device { device_id },
            openid_token: openid_token(&server_name, access_token)?,
            delayed_leave,
            if_leave_refused: IfLeaveRefused::Reject,
        })
    }
}

/// A request to delegate the delayed leave of a member who is in the call already: `POST /delegate_delayed_leave`.
pub struct DelegationRequest {
    /// The identifier of the Matrix room, unparsed.
    pub matrix_room: String,
    /// The LiveKit room.
    pub room: RoomName,
    /// The claimed identity of the caller.
    pub member: Member,
    /// The OpenID token that proves it.
    pub openid_token: OpenIdToken,
    /// The leave.
    pub delayed_leave: DelayedLeave,
    /// Whether the member may have joined through `/sfu/get`, which has only this slot.
    pub is_legacy_slot: bool,
}

impl DelegationRequest {
    /// Parses the body.
    pub fn from_body(body: &[u8]) -> Result<Self, ApiError> {
        let request = MemberRequest::parse(body)?;
        let missing = || ApiError::BadJson("delay_id is missing or empty".to_owned());
        Ok(Self {
            matrix_room: request.matrix_room,
            room: request.room,
            member: request.member,
            delayed_leave: request.delayed_leave.ok_or_else(missing)?,
            openid_token: request.openid_token?,
            is_legacy_slot: request.is_legacy_slot,
        })
    }
}

/// Common part of `/get_token` and `/delegate_delayed_leave`. The token is a `Result` because an error in it is
/// reported after all others.
struct MemberRequest {
    matrix_room: String,
    room: RoomName,
    member: Member,
    openid_token: Result<OpenIdToken, ApiError>,
    delayed_leave: Option<DelayedLeave>,
    is_legacy_slot: bool,
}

impl MemberRequest {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body = MemberRequestBody::parse(body)?;
        let room_id = required_id("room_id", body.room_id)?;
        let slot_id = required_id("slot_id", body.slot_id)?;
        let (server_name, access_token) = body.openid_token.required()?;
        let member = body.member;
        let member = Member {
            id: required_id("member.id", member.id)?,
            user_id: required_id("member.claimed_user_id", member.claimed_user_id)?,
            device_id: required_id("member.claimed_device_id", member.claimed_device_id)?,
        };
        Ok(Self {
            room: RoomName::of_slot(&room_id, &slot_id),
            matrix_room: room_id,
            member,
            openid_token: openid_token(&server_name, access_token),
            delayed_leave: body.delayed_leave.checked()?,
            is_legacy_slot: slot_id == LEGACY_SLOT,
        })
    }
}

/// A delayed event with which its user leaves the call (MSC4140).
pub struct DelayedLeave {
    /// The identifier on the homeserver.
    pub id: DelayId,
    /// Its delay.
    pub timeout: DelayTimeout,
}

/// The claimed identity of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedIdentity {
    /// A MatrixRTC member.
    Member(Member),
    /// A device of the token's user, the legacy form.
    Device {
        /// `device_id`, perhaps empty.
        device_id: String,
    },
}

/// A MatrixRTC member, with the user and the device it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// `member.id`.
    pub id: String,
    /// `member.claimed_user_id`.
    pub user_id: String,
    /// `member.claimed_device_id`.
    pub device_id: String,
}

impl ClaimedIdentity {
    /// Returns the identity on the SFU (`docs/protocol.md#names-on-the-sfu`) for the verified `user`.
    ///
    /// Fails where the claim is for another user, and for a device whose identity could be another user's.
    pub fn identity_of(&self, user: &UserId) -> Result<Identity, ApiError> {
        match self {
            Self::Member(member) => {
                member.identity_of(user).ok_or(ApiError::Unauthorized(Unauthorized::ClaimedUserDiffers))
            }
            Self::Device { device_id } => device_identity(user, device_id)
                .ok_or_else(|| ApiError::BadJson("device_id must not begin with a number and a colon".to_owned())),
        }
    }
}

/// Returns the legacy identity of a device. `None` where it would be ambiguous: the device `8448:D` of `@a:example.com`
/// would be the device `D` of `@a:example.com:8448`.
pub fn device_identity(user: &UserId, device_id: &str) -> Option<Identity> {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let server_has_port = user.server_name().rsplit_once(':').is_some_and(|(_, end)| is_port(end));
    let device_has_port = device_id.split_once(':').is_some_and(|(start, _)| is_port(start));
    (server_has_port || !device_has_port).then(|| Identity::of_device(user.as_str(), device_id))
}

impl Member {
    /// See [`ClaimedIdentity::identity_of`].
    pub fn identity_of(&self, user: &UserId) -> Option<Identity> {
        (self.user_id == user.as_str()).then(|| Identity::of_member(&self.user_id, &self.device_id, &self.id))
    }
}

// Every field is optional: missing fields are reported after wrong types.

struct MemberRequestBody {
    room_id: Option<String>,
    slot_id: Option<String>,
    openid_token: OpenIdTokenBody,
    member: MemberBody,
    delayed_leave: DelayedLeaveBody,
}

impl MemberRequestBody {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        Ok(Self {
            room_id: fields.text("room_id")?,
            slot_id: fields.text("slot_id")?,
            openid_token: OpenIdTokenBody::parse(fields.object("openid_token")?)?,
            member: MemberBody::parse(fields.object("member")?)?,
            delayed_leave: DelayedLeaveBody::take(&mut fields)?,
        })
    }
}

struct SfuGetBody {
    room: Option<String>,
    openid_token: OpenIdTokenBody,
    device_id: Option<String>,
    delayed_leave: DelayedLeaveBody,
}

impl SfuGetBody {
    fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        Ok(Self {
            room: fields.text("room")?,
            openid_token: OpenIdTokenBody::parse(fields.object("openid_token")?)?,
            device_id: fields.text("device_id")?,
            delayed_leave: DelayedLeaveBody::take(&mut fields)?,
        })
    }
}

struct OpenIdTokenBody {
    access_token: Option<String>,
    matrix_server_name: Option<String>,
}

impl OpenIdTokenBody {
    fn parse(mut fields: Fields) -> Result<Self, ApiError> {
        let (access_token, matrix_server_name) = (fields.text("access_token")?, fields.text("matrix_server_name")?);
        fields.text("token_type")?;
        fields.ignore_number("expires_in")?;
        Ok(Self { access_token, matrix_server_name })
    }

    fn required(self) -> Result<(String, AccessToken), ApiError> {
        let access_token = required("openid_token.access_token", self.access_token)?;
        let access_token = within("openid_token.access_token", access_token, MAX_ACCESS_TOKEN)?;
        let server_name = required("openid_token.matrix_server_name", self.matrix_server_name)?;
        Ok((server_name, AccessToken::new(access_token)))
    }
}

struct MemberBody {
    id: Option<String>,
    claimed_user_id: Option<String>,
    claimed_device_id: Option<String>,
}

impl MemberBody {
    fn parse(mut fields: Fields) -> Result<Self, ApiError> {
        let id = fields.text("id")?;
        let (claimed_user_id, claimed_device_id) = (fields.text("claimed_user_id")?, fields.text("claimed_device_id")?);
        Ok(Self { id, claimed_user_id, claimed_device_id })
    }
}

/// Fields of a delayed leave, which all three endpoints have.
struct DelayedLeaveBody {
    delay_id: Option<String>,
    delay_timeout: Option<i64>,
}

impl DelayedLeaveBody {
    fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        let body = Self { delay_id: fields.text("delay_id")?, delay_timeout: fields.integer("delay_timeout")? };
        fields.text("delay_cs_api_url")?;
        Ok(body)
    }

    /// Returns the leave, where there is one. Clients also write an absent one as an empty id with a timeout of 0.
    fn checked(self) -> Result<Option<DelayedLeave>, ApiError> {
        if matches!((self.delay_id.as_deref(), self.delay_timeout), (None, None) | (Some(""), Some(0))) {
            return Ok(None);
        }
        let id = DelayId::new(required("delay_id", self.delay_id)?);
        let id = id.map_err(|_| ApiError::BadJson("delay_id can't be the id of a delayed event".to_owned()))?;
        let timeout = self.delay_timeout.ok_or_else(|| ApiError::BadJson("delay_timeout is missing".to_owned()))?;
        let timeout = u64::try_from(timeout).ok().and_then(DelayTimeout::from_millis);
        let timeout = timeout.ok_or_else(|| ApiError::BadJson("delay_timeout must be more than 0".to_owned()))?;
        Ok(Some(DelayedLeave { id, timeout }))
    }
}

fn openid_token(server_name: &str, access_token: AccessToken) -> Result<OpenIdToken, ApiError> {
    let server = ServerName::parse(server_name).map_err(OpenIdError::ServerName)?;
    Ok(OpenIdToken { server, access_token })
}

/// Length limit of an OpenID token, in bytes.
const MAX_ACCESS_TOKEN: usize = 4096;

/// The slot of `/sfu/get`, whose body names none.
const LEGACY_SLOT: &str = "m.call#ROOM";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn get_token() -> Value {
        json!({
            "room_id": "!room:example.com",
            "slot_id": "m.call#ROOM",
            "openid_token": {
                "access_token": "hush", "token_type": "Bearer", "matrix_server_name": "example.com", "expires_in": 3600,
            },
            "member": {"id": "member-1", "claimed_user_id": "@alice:example.com", "claimed_device_id": "DEVICE"},
        })
    }

    fn sfu_get() -> Value {
        json!({"room": "!room:example.com", "openid_token": get_token()["openid_token"], "device_id": "DEVICE"})
    }

    fn parse_get_token(body: &Value) -> Result<TokenRequest, ApiError> {
        TokenRequest::from_get_token(body.to_string().as_bytes())
    }

    fn parse_sfu_get(body: &Value) -> Result<TokenRequest, ApiError> {
        TokenRequest::from_sfu_get(body.to_string().as_bytes())
    }

    #[test]
    fn both_forms_name_the_same_room() {
        let alice = UserId::parse("@alice:example.com").unwrap();
        let request = parse_get_token(&get_token()).ok().unwrap();
        let legacy = parse_sfu_get(&sfu_get()).ok().unwrap();
        assert_eq!(request.room, legacy.room);
        assert_eq!(request.room.as_str(), "krj2dgxw2K6EOm9he4GfQJ6JsSVWfJ8a7BkyjZcSmxs");
        let identity = request.claim.identity_of(&alice).unwrap();
        assert_eq!(identity.as_str(), "vYVt8NUMTb0rAawkFqilcAtxKgY26U3Ab7R9INviNnU");
        let identity = legacy.claim.identity_of(&alice).unwrap();
        assert_eq!(identity.as_str(), "@alice:example.com:DEVICE");
        assert!(request.claim.identity_of(&UserId::parse("@bob:example.com").unwrap()).is_err());
    }

    #[test]
    fn no_two_devices_have_one_identity() {
        let identity = |user: &str, device: &str| device_identity(&UserId::parse(user).unwrap(), device);
        assert_eq!(identity("@a:host:8448", "DEV").unwrap().as_str(), "@a:host:8448:DEV");
        for device in ["8448:DEV", "8448:", "1:2:3"] {
            assert_eq!(identity("@a:host", device), None, "{device}");
            assert_eq!(identity("@a:[::1]", device), None, "{device}");
            assert!(identity("@a:host:8448", device).is_some(), "{device}");
        }
        for device in ["", "DEV", "8448", "x8448:DEV", ":DEV", "DEV:8448"] {
            assert!(identity("@a:host", device).is_some(), "{device}");
        }
    }

    #[test]
    fn strings_have_bounds() {
        for (pointer, longest) in [
            ("/room_id", 255),
            ("/slot_id", 255),
            ("/member/id", 255),
            ("/member/claimed_user_id", 255),
            ("/member/claimed_device_id", 255),
            ("/openid_token/access_token", 4096),
        ] {
            let mut body = get_token();
            *body.pointer_mut(pointer).unwrap() = "x".repeat(longest).into();
            assert!(parse_get_token(&body).is_ok(), "{pointer}");
            *body.pointer_mut(pointer).unwrap() = "x".repeat(longest + 1).into();
            let field = pointer[1..].replace('/', ".");
            let error = parse_get_token(&body).err();
            assert!(matches!(error, Some(ApiError::BadJson(text)) if text.starts_with(&field)), "{pointer}");
        }
        let mut body = sfu_get();
        body["device_id"] = "x".repeat(256).into();
        assert!(matches!(parse_sfu_get(&body), Err(ApiError::BadJson(text)) if text.starts_with("device_id")));
    }

    #[test]
    fn every_required_field_is_missed_by_name() {
        for pointer in [
            "/room_id",
            "/slot_id",
            "/openid_token",
            "/openid_token/access_token",
            "/openid_token/matrix_server_name",
            "/member",
            "/member/id",
            "/member/claimed_user_id",
            "/member/claimed_device_id",
        ] {
            let mut body = get_token();
            *body.pointer_mut(pointer).unwrap() = Value::Null;
            let field = pointer[1..].replace('/', ".");
            match parse_get_token(&body) {
                Err(ApiError::BadJson(text)) => assert!(text.contains(&field), "{text}"),
                _ => panic!("{pointer}"),
            }
        }
        let mut body = sfu_get();
        body["room"] = "".into();
        assert!(matches!(parse_sfu_get(&body), Err(ApiError::BadJson(text)) if text.contains("room")));
    }

    #[test]
    fn the_legacy_device_may_be_empty_or_absent() {
        let mut body = sfu_get();
        body["device_id"] = "".into();
        assert!(parse_sfu_get(&body).is_ok());
        body["device_id"] = Value::Null;
        assert!(parse_sfu_get(&body).is_ok());
    }

    #[test]
    fn wrong_types_are_named_and_values_never() {
        for (pointer, value, named) in [
            ("/room_id", json!(["hush"]), "room_id"),
            ("/openid_token", json!("hush"), "openid_token"),
            ("/openid_token/expires_in", json!("hush"), "openid_token.expires_in"),
            ("/member/id", json!({"surprise": "hush"}), "member.id"),
        ] {
            let mut body = get_token();
            *body.pointer_mut(pointer).unwrap() = value;
            match parse_get_token(&body) {
                Err(ApiError::NotJson(text)) => assert!(text.contains(named) && !text.contains("hush"), "{text}"),
                _ => panic!("{pointer}"),
            }
        }
        for body in ["", "nonsense", "[]", "5", "{", "{} {}", "\"hush\""] {
            assert!(matches!(TokenRequest::from_get_token(body.as_bytes()), Err(ApiError::NotJson(_))), "{body}");
        }
    }

    #[test]
    fn a_delayed_leave_is_given_whole_or_not_at_all() {
        let with = |id: Value, timeout: Value| {
            let (mut body, mut legacy) = (get_token(), sfu_get());
            for body in [&mut body, &mut legacy] {
                body["delay_id"] = id.clone();
                body["delay_timeout"] = timeout.clone();
            }
            [parse_get_token(&body), parse_sfu_get(&legacy)]
        };
        for outcome in with(json!("syd_x"), json!(8000)) {
            let leave = outcome.ok().unwrap().delayed_leave.unwrap();
            assert_eq!((leave.id.secret(), u64::from(leave.timeout)), ("syd_x", 8000));
        }
        for (id, timeout, field) in [
            (json!("syd_x"), Value::Null, "delay_timeout"),
            (Value::Null, json!(8000), "delay_id"),
            (Value::Null, json!(0), "delay_id"),
            (json!(""), Value::Null, "delay_id"),
            (json!(""), json!(8000), "delay_id"),
            (json!(".."), json!(8000), "delay_id"),
            (json!("x".repeat(256)), json!(8000), "delay_id"),
            (json!("syd_x"), json!(0), "delay_timeout"),
            (json!("syd_x"), json!(-1), "delay_timeout"),
        ] {
            for outcome in with(id.clone(), timeout.clone()) {
                assert!(matches!(outcome, Err(ApiError::BadJson(text)) if text.contains(field)), "{id} {timeout}");
            }
        }
        for outcome in with(json!("syd_x"), json!(1.5)) {
            assert!(matches!(outcome, Err(ApiError::NotJson(text)) if text.contains("delay_timeout")));
        }
    }

    #[test]
    fn unknown_fields_are_ignored_at_every_depth() {
        let mut body = get_token();
        for object in ["", "/openid_token", "/member"] {
            body.pointer_mut(object).unwrap()["state"] = json!({"nested": ["hush"]});
        }
        let request = parse_get_token(&body).ok().unwrap();
        assert_eq!(request.room, parse_get_token(&get_token()).ok().unwrap().room);
        let mut body = sfu_get();
        body["openid_token"]["state"] = "allowed".into();
        body["room_id"] = json!(["of the other endpoint"]);
        assert!(parse_sfu_get(&body).is_ok());
    }

    #[test]
    fn an_empty_pair_of_delay_fields_is_absent() {
        for (id, timeout) in [(json!(""), json!(0)), (Value::Null, Value::Null)] {
            for mut body in [get_token(), sfu_get()] {
                body["delay_id"] = id.clone();
                body["delay_timeout"] = timeout.clone();
                let outcome = if body["room"].is_null() { parse_get_token(&body) } else { parse_sfu_get(&body) };
                assert!(outcome.ok().unwrap().delayed_leave.is_none(), "{id} {timeout}");
            }
            let mut body = get_token();
            body["delay_id"] = id.clone();
            body["delay_timeout"] = timeout;
            let outcome = DelegationRequest::from_body(body.to_string().as_bytes());
            assert!(matches!(outcome, Err(ApiError::BadJson(text)) if text.contains("delay_id")), "{id}");
        }
    }

    #[test]
    fn delegating_needs_a_delayed_leave() {
        let mut body = get_token();
        let parse = |body: &Value| DelegationRequest::from_body(body.to_string().as_bytes());
        assert!(matches!(parse(&body), Err(ApiError::BadJson(text)) if text.contains("delay_id")));
        body["delay_id"] = "syd_x".into();
        body["delay_timeout"] = 8000.into();
        assert!(parse(&body).ok().unwrap().is_legacy_slot);
        body["slot_id"] = "m.call#OTHER".into();
        assert!(!parse(&body).ok().unwrap().is_legacy_slot);
    }

    #[test]
    fn a_malformed_server_name_makes_an_unverifiable_token() {
        let mut body = sfu_get();
        body["openid_token"]["matrix_server_name"] = "https://example.com".into();
        let expected = ApiError::Unauthorized(Unauthorized::OpenId(OpenIdError::ServerName(
            crate::matrix::ids::server_name::InvalidServerName,
        )));
        assert_eq!(parse_sfu_get(&body).err(), Some(expected));
    }

    proptest! {
        #[test]
        fn any_body_is_read_without_panic(body: Vec<u8>, cut in 0..400usize, at in 0..400usize, byte: u8) {
            let _ = TokenRequest::from_get_token(&body);
            let mut mutated = get_token().to_string().into_bytes();
            let at = at % mutated.len();
            mutated[at] = byte;
            let _ = TokenRequest::from_get_token(&mutated);
            let _ = TokenRequest::from_sfu_get(&mutated[..cut.min(mutated.len())]);
        }
    }
}
