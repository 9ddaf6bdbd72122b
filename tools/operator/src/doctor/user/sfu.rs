//! The SFU, as the client with a token reaches it.

use crate::doctor::report::{Outcome, Verdict};
use crate::doctor::sfu::{HAVE_RTC_V1, NEWER_CLIENTS, Sfu, unreached};
use crate::doctor::user::token::JoinToken;
use crate::doctor::web::{Request, Web};

/// LiveKit room of the token, as the SFU reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SfuRoom {
    /// It exists, so the service has made it, or the SFU makes the rooms that are joined.
    Exists,
    /// It doesn't, so the token admits nobody to it.
    Missing,
}

/// Checks that the SFU accepts the service's token, and finds out whether the token's room exists.
pub(crate) async fn accepts_token(web: &Web, token: &JoinToken) -> Verdict<SfuRoom> {
    let validated = match validate(web, token, "/rtc/validate").await {
        Ok(validated) => validated,
        Err(outcome) => return (outcome, None),
    };
    let room = match validated {
        Validated::Room(room) => room,
        Validated::Refused(status) => {
            let seen = format!("the SFU refuses the token that the service has issued ({status})");
            let change = "set the service's LIVEKIT_KEY and LIVEKIT_SECRET to a pair under keys: in the SFU's configuration, and the \
                          clocks of both (NTP); let the proxy forward the query";
            return (Outcome::problem(seen, change), None);
        }
        Validated::NoSuchPath(status) => {
            let seen = format!("GET …/rtc/validate returned {status}: clients don't reach the SFU's signalling");
            let change = "let the proxy forward /rtc to the SFU, including WebSockets";
            return (Outcome::problem(seen, change), None);
        }
    };
    let outcome = match validate(web, token, "/rtc/v1/validate").await {
        Err(outcome) => outcome,
        Ok(Validated::NoSuchPath(status)) => Outcome::warning(
            format!("the token is accepted, but the SFU has no /rtc/v1 ({status}): {NEWER_CLIENTS}"),
            HAVE_RTC_V1,
        ),
        Ok(Validated::Room(_) | Validated::Refused(_)) => match room {
            SfuRoom::Exists => Outcome::ok(format!("{}, and has the room", token.sfu.client())),
            SfuRoom::Missing => Outcome::ok(format!("{}, but has no such room", token.sfu.client())),
        },
    };
    (outcome, Some(room))
}

/// Response to a token.
enum Validated {
    Room(SfuRoom),
    Refused(u16),
    NoSuchPath(u16),
}

async fn validate(web: &Web, token: &JoinToken, path: &str) -> Result<Validated, Outcome> {
    let url = format!("{}{path}?access_token={}", token.sfu.api(), token.jwt.as_str());
    let response = web.send(&Request::get(&url, &[])).await.map_err(|failure| unreached(&failure))?;
    Ok(match response.status {
        200 => Validated::Room(SfuRoom::Exists),
        404 if response.body.starts_with(Sfu::NO_SUCH_ROOM) => Validated::Room(SfuRoom::Missing),
        status @ (400 | 401 | 403) => Validated::Refused(status),
        status => Validated::NoSuchPath(status),
    })
}
