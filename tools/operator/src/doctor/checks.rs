//! The table of checks, in the order in which they run and are reported.
//!
//! # How it works
//!
//! - A [`Check`] is one value in [`CHECKS`]: its id, its title, its needs and the function that runs it. A new check
//!   is a new value, and a function in the module of the part that it examines.
//! - A [`Need`] is either an option of the command line, or an earlier check. While one isn't met, the check is
//!   skipped, and the need gives the reason.
//! - Needs are transitive: a check that needs a skipped one is skipped for the same reason.
//! - A run reads only results of checks that its own check needs, in [`Round`].
//! - The functions depend neither on the table nor on the round: they take their arguments and return a [`Verdict`].

use futures_util::future::LocalBoxFuture;

use crate::doctor::credentials::SfuCredentials;
use crate::doctor::need::{Need, Reason};
use crate::doctor::report::Verdict;
use crate::doctor::round::{Round, found, keep};
use crate::doctor::subject::Subject;
use crate::doctor::user::sfu::SfuRoom;
use crate::doctor::user::token::Endpoint;
use crate::doctor::{announcement, client_api, federation, homeserver_mode, service, transports, user, webhook};

/// One check of a deployment.
pub(crate) struct Check {
    /// Name in `--json`, on which scripts rely.
    pub(crate) id: &'static str,
    /// Name in the report.
    pub(crate) title: &'static str,
    /// Conditions without which the check is skipped; the first unmet one gives the reason.
    pub(crate) needs: &'static [Need],
    /// Starts the check.
    pub(crate) run: for<'r> fn(&'r mut Round<'_>) -> Run<'r>,
}

/// Running check. `Err` is a skipped one.
pub(crate) type Run<'r> = LocalBoxFuture<'r, Result<Verdict<()>, Reason>>;

const REACHABLE: Need = Need::Passed("service-address", "no connection to the service");
const TRUSTED: Need = Need::Passed("service-certificate", "no trusted TLS connection to the service");
const HEALTHY: Need = Need::Passed("healthz", "the service must be healthy first");
const ERRORS: Need = Need::Passed("endpoints", "no endpoint returns an error of the service's own");
const FEDERATION: Need = Need::Passed("federation-discovery", "the federation API isn't found");
const CLIENT_API: Need = Need::Passed("client-api", "the client-server API isn't found");
const APPLICATION_SERVICE: Need = Need::Passed("as-token", "the homeserver must accept the as_token first");
const HOMESERVER_MODE: Need = Need::NotFailed("ping", "the service must be in homeserver mode first");
const USER: Need = Need::Passed("user", "the user isn't logged in");
const OPEN_ID_TOKEN: Need = Need::Passed("user-open-id", "the user has no OpenID token");
const TEST_ROOM: Need = Need::Passed("user-room", "there is no Matrix room for a test");
const DELAYED_EVENTS: Need = Need::Passed("delayed-events", "the homeserver announces no delayed events");
const GET_TOKEN: Need = Need::Passed("user-get-token", "the user gets no token from /get_token");
const USER_SFU: Need = Need::Passed("user-sfu", "the SFU doesn't accept the user's token");
const HOMESERVER_TOKEN: Need = Need::Passed("user-homeserver-token", "the user gets no token by the homeserver");
const WEBHOOKS: Need = Need::Passed("webhook-passes", "webhooks must get through first");
const SFU: Need = Need::Passed("sfu", "no SFU responds");
const SFU_KEYS: Need = Need::Passed("sfu-keys", "the SFU must accept the key pair first");

/// Table of all checks.
pub(crate) const CHECKS: &[Check] = &[
    Check {
        id: "service-address",
        title: "service: address",
        needs: &[],
        run: |round| Box::pin(async { Ok(service::address(&round.subject.service).await) }),
    },
    Check {
        id: "service-certificate",
        title: "service: certificate",
        needs: &[REACHABLE],
        run: |round| Box::pin(async { Ok(service::certificate(&round.web, &round.subject.service).await) }),
    },
    Check {
        id: "healthz",
        title: "service: /healthz",
        needs: &[TRUSTED],
        run: |round| {
            Box::pin(async { Ok(service::healthz(&round.web, &round.subject.service, &round.subject.settings).await) })
        },
    },
    Check {
        id: "variables",
        title: "service: names of variables",
        needs: &[Need::VariablesFile],
        run: |round| Box::pin(async { Ok(round.subject.settings.are_read(round.unread_variables()?)) }),
    },
    Check {
        id: "endpoints",
        title: "service: client endpoints",
        needs: &[HEALTHY],
        run: |round| {
            Box::pin(async {
                let verdict = service::endpoints(&round.web, &round.subject.service).await;
                Ok(keep(verdict, &mut round.errors))
            })
        },
    },
    Check {
        id: "slashes",
        title: "service: doubled slashes",
        needs: &[HEALTHY],
        run: |round| Box::pin(async { Ok(service::slashes(&round.web, &round.subject.service).await) }),
    },
    Check {
        id: "preflight",
        title: "service: CORS, preflight",
        needs: &[HEALTHY],
        run: |round| Box::pin(async { Ok(service::preflight(&round.web, &round.subject.service).await) }),
    },
    Check {
        id: "cors-on-errors",
        title: "service: CORS, errors",
        needs: &[ERRORS],
        run: |round| Box::pin(async { Ok(service::cors_on_errors(found(&round.errors)?).await) }),
    },
    Check {
        id: announcement::ID,
        title: announcement::TITLE,
        needs: &[Need::ServerName],
        run: |round| {
            Box::pin(async {
                let verdict = announcement::check(&round.web, &round.subject.service, round.server_name()?).await;
                Ok(keep(verdict, &mut round.well_known))
            })
        },
    },
    Check {
        id: "federation-discovery",
        title: "homeserver: federation is found",
        needs: &[Need::ServerName],
        run: |round| {
            Box::pin(async {
                let verdict = federation::discovery(&round.web, round.subject, round.server_name()?).await;
                Ok(keep(verdict, &mut round.federation))
            })
        },
    },
    Check {
        id: "open-id",
        title: "homeserver: verifies OpenID tokens",
        needs: &[FEDERATION],
        run: |round| Box::pin(async { Ok(federation::openid(&round.web, found(&round.federation)?).await) }),
    },
    Check {
        id: "client-api",
        title: "homeserver: client API is found",
        needs: &[Need::ServerName],
        run: |round| {
            Box::pin(async {
                let (server_name, well_known) = (round.server_name()?, round.well_known.as_ref());
                let verdict = client_api::find(&round.web, round.subject, server_name, well_known).await;
                Ok(keep(verdict, &mut round.client_api))
            })
        },
    },
    Check {
        id: "delayed-events",
        title: "homeserver: delayed events",
        needs: &[CLIENT_API],
        run: |round| {
            Box::pin(async {
                let homeserver_mode = round.as_token().is_ok();
                Ok(client_api::delayed_events(&round.web, found(&round.client_api)?, homeserver_mode).await)
            })
        },
    },
    Check {
        id: "rtc-transports",
        title: "homeserver: rtc/transports",
        needs: &[CLIENT_API],
        run: |round| {
            Box::pin(async {
                let Subject { service, as_token, .. } = round.subject;
                let api = found(&round.client_api)?;
                Ok((transports::check(&round.web, api, service, as_token.as_ref().ok()).await, Some(())))
            })
        },
    },
    Check {
        id: "ping",
        title: "homeserver mode: ping",
        needs: &[Need::HsToken, HEALTHY],
        run: |round| {
            Box::pin(async {
                let (service, settings) = (&round.subject.service, &round.subject.settings);
                Ok(homeserver_mode::ping(&round.web, service, settings, round.hs_token()?).await)
            })
        },
    },
    Check {
        id: "as-token",
        title: "homeserver mode: as_token",
        needs: &[Need::AsToken, CLIENT_API],
        run: |round| Box::pin(async { Ok(round.homeserver()?.accepts_as_token().await) }),
    },
    Check {
        id: "is-joined",
        title: "homeserver mode: is_joined",
        needs: &[APPLICATION_SERVICE],
        run: |round| Box::pin(async { Ok(round.homeserver()?.reports_is_joined().await) }),
    },
    Check {
        id: "transports",
        title: "homeserver mode: SFU is announced",
        needs: &[APPLICATION_SERVICE],
        run: |round| Box::pin(async { Ok(round.homeserver()?.announces_sfu(round.subject.sfu_url.as_ref()).await) }),
    },
    Check {
        id: "proxying",
        title: "homeserver mode: requests arrive",
        needs: &[APPLICATION_SERVICE, HEALTHY, HOMESERVER_MODE],
        run: |round| Box::pin(async { Ok(round.homeserver()?.forwards_requests().await) }),
    },
    Check {
        id: "sfu",
        title: "SFU: responds",
        needs: &[Need::SfuUrl],
        run: |round| Box::pin(async { Ok(round.sfu()?.answers().await) }),
    },
    Check {
        id: "web-sockets",
        title: "SFU: WebSockets get through",
        needs: &[SFU],
        run: |round| Box::pin(async { Ok(round.sfu()?.passes_websockets().await) }),
    },
    Check {
        id: "sfu-keys",
        title: "SFU: accepts the key",
        needs: &[SFU, Need::KeyPair],
        run: |round| Box::pin(async { Ok(round.sfu()?.accepts_key(round.credentials()?).await) }),
    },
    Check {
        id: "sfu-rooms",
        title: "SFU: creates rooms",
        needs: &[SFU_KEYS],
        run: |round| Box::pin(async { Ok(round.sfu()?.creates_rooms(round.credentials()?.key()).await) }),
    },
    Check {
        id: "auto-create",
        title: "SFU: auto_create is off",
        needs: &[SFU_KEYS],
        run: |round| {
            Box::pin(async {
                let verdict = round.sfu()?.auto_create_is_off(round.credentials()?.key()).await;
                Ok(keep(verdict, &mut round.auto_create))
            })
        },
    },
    Check {
        id: "webhook-passes",
        title: "webhook: gets through",
        needs: &[HEALTHY],
        run: |round| Box::pin(async { Ok(webhook::gets_through(&round.web, &round.subject.service).await) }),
    },
    Check {
        id: "webhook",
        title: "webhook: accepted",
        needs: &[WEBHOOKS, Need::KeyPair],
        run: |round| {
            Box::pin(async {
                let (key, Subject { service, sfu_url, .. }) = (round.credentials()?.key(), round.subject);
                Ok(webhook::is_accepted(&round.web, service, sfu_url.as_ref(), key).await)
            })
        },
    },
    Check {
        id: "forged-webhook",
        title: "webhook: forgery refused",
        needs: &[WEBHOOKS],
        run: |round| {
            Box::pin(async {
                let Subject { service, credentials, .. } = round.subject;
                Ok(webhook::forgery_is_refused(&round.web, service, credentials.as_ref()).await)
            })
        },
    },
    Check {
        id: "user",
        title: "user: is logged in",
        needs: &[Need::User, Need::ServerName, CLIENT_API],
        run: |round| {
            Box::pin(async {
                let (api, server_name) = (found(&round.client_api)?, round.server_name()?);
                let verdict = user::log_in(&round.web, api, server_name, round.user_login()?).await;
                Ok(keep(verdict, &mut round.session))
            })
        },
    },
    Check {
        id: "user-transports",
        title: "user: rtc/transports",
        needs: &[USER],
        run: |round| {
            Box::pin(async {
                let verdict = transports::check_as_user(round.user()?, &round.subject.service).await;
                Ok(keep(verdict, &mut round.sfu_urls))
            })
        },
    },
    Check {
        id: "user-open-id",
        title: "user: gets an OpenID token",
        needs: &[USER],
        run: |round| {
            Box::pin(async {
                let verdict = user::token::openid_token(round.user()?, round.server_name()?).await;
                Ok(keep(verdict, &mut round.openid_token))
            })
        },
    },
    Check {
        id: "user-room",
        title: "user: makes a test room",
        needs: &[USER],
        run: |round| {
            Box::pin(async {
                let verdict = user::room::make(round.user()?).await;
                Ok(keep(verdict, &mut round.test_room))
            })
        },
    },
    Check {
        id: "user-get-token",
        title: "user: /get_token",
        needs: &[OPEN_ID_TOKEN, TEST_ROOM, HEALTHY],
        run: |round| {
            Box::pin(async {
                let verdict = round.exchange(Endpoint::GetToken).await?;
                Ok(keep(verdict, &mut round.join_token))
            })
        },
    },
    Check {
        id: "user-sfu-get",
        title: "user: /sfu/get",
        needs: &[OPEN_ID_TOKEN, TEST_ROOM, HEALTHY],
        run: |round| {
            Box::pin(async {
                let (outcome, token) = round.exchange(Endpoint::SfuGet).await?;
                Ok((outcome, token.map(drop)))
            })
        },
    },
    Check {
        id: "user-sfu",
        title: "user: the SFU accepts the token",
        needs: &[GET_TOKEN],
        run: |round| {
            Box::pin(async {
                let verdict = user::sfu::accepts_token(&round.web, found(&round.join_token)?).await;
                Ok(keep(verdict, &mut round.sfu_room))
            })
        },
    },
    Check {
        id: "user-access",
        title: "user: access",
        needs: &[USER_SFU],
        run: |round| Box::pin(async { Ok(round.access()?.judge()) }),
    },
    Check {
        id: "user-leave",
        title: "user: a leave is delegated",
        needs: &[OPEN_ID_TOKEN, TEST_ROOM, GET_TOKEN, DELAYED_EVENTS],
        run: |round| {
            Box::pin(async {
                let (room, token) = (found(&round.test_room)?, found(&round.openid_token)?);
                let restricted = round.sfu_room == Some(SfuRoom::Missing);
                Ok(user::token::delegates(round.user()?, &round.subject.service, room, token, restricted).await)
            })
        },
    },
    Check {
        id: "user-homeserver-token",
        title: "user: token by the homeserver",
        needs: &[TEST_ROOM],
        run: |round| {
            Box::pin(async {
                let (url, room) = (round.announced_sfu()?, found(&round.test_room)?);
                let verdict = user::homeserver_mode::token(round.user()?, room, url).await;
                Ok(keep(verdict, &mut round.homeserver_token))
            })
        },
    },
    Check {
        id: "user-homeserver-sfu",
        title: "user: the SFU accepts that token",
        needs: &[HOMESERVER_TOKEN],
        run: |round| {
            Box::pin(async {
                Ok(user::homeserver_mode::accepts_token(&round.web, found(&round.homeserver_token)?).await)
            })
        },
    },
    Check {
        id: "user-homeserver-leave",
        title: "user: leave by the homeserver",
        needs: &[HOMESERVER_TOKEN, DELAYED_EVENTS],
        run: |round| {
            Box::pin(async {
                let (url, room) = (round.announced_sfu()?, found(&round.test_room)?);
                let (service, token) = (&round.subject.service, found(&round.homeserver_token)?);
                let key = round.credentials().ok().map(SfuCredentials::key);
                Ok(user::homeserver_mode::delegates(round.user()?, service, room, url, token, key).await)
            })
        },
    },
    Check {
        id: "user-room-left",
        title: "user: leaves the test room",
        needs: &[TEST_ROOM],
        run: |round| Box::pin(async { Ok(user::room::leave(round.user()?, found(&round.test_room)?).await) }),
    },
    Check {
        id: "user-logout",
        title: "user: is logged out",
        needs: &[USER],
        run: |round| {
            Box::pin(async { Ok(user::log_out(&round.web, found(&round.client_api)?, found(&round.session)?).await) })
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_in_kebab_case() {
        let mut ids: Vec<_> = CHECKS.iter().map(|check| check.id).collect();
        for id in &ids {
            assert!(id.split('-').all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase())), "{id}");
        }
        ids.sort_unstable();
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
    }

    #[test]
    fn a_check_needs_earlier_checks_only() {
        for (n, check) in CHECKS.iter().enumerate() {
            for need in check.needs {
                if let Need::Passed(id, _) | Need::NotFailed(id, _) = need {
                    assert!(CHECKS[..n].iter().any(|earlier| earlier.id == *id), "{} needs {id}", check.id);
                }
            }
        }
    }
}
