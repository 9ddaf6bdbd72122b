//! The table of checks, in the order in which they run and are reported.
//!
//! # How it works
//!
//! - A [`Check`] is one value in [`CHECKS`]: its id, its title, its needs and the function that runs it. A new check
//!   is a new value, and a function in the module of the part that it examines.
//! - A [`Need`] is either an option of the command line, or an earlier check. While one isn't met, the check is
//!   skipped, and the need gives the reason.
//! - Needs are transitive: a check that needs a skipped one is skipped for the same reason.
//! - [`Round`] is shared by the runs: the deployment, an HTTP client, and the results of earlier checks. A run reads
//!   only results of checks that its own check needs.
//! - The functions depend neither on the table nor on the round: they take their arguments and return a [`Verdict`].

use futures_util::future::LocalBoxFuture;
use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::federation::discovery::Resolution;
use matrixrtc_edge::matrix::ids::server_name::ServerName;

use crate::doctor::client_api::ClientApi;
use crate::doctor::credentials::{RegistrationToken, SfuCredentials};
use crate::doctor::homeserver_mode::Homeserver;
use crate::doctor::report::Verdict;
use crate::doctor::sfu::Sfu;
use crate::doctor::subject::Subject;
use crate::doctor::web::{Response, Web};
use crate::doctor::{announcement, client_api, federation, homeserver_mode, service, transports, webhook};

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

/// Reason for skipping a check.
pub(crate) type Reason = &'static str;

/// Condition of a check.
pub(crate) enum Need {
    /// A homeserver's name is given.
    ServerName,
    /// The `hs_token` is given.
    HsToken,
    /// The `as_token` is given.
    AsToken,
    /// The SFU's URL is given.
    SfuUrl,
    /// The SFU's key pair is given.
    KeyPair,
    /// The check of this id has passed. The second value is the reason if it has failed; the reason of a skipped one
    /// is passed on.
    Passed(&'static str, Reason),
    /// The check of this id has passed or was skipped. The second value is the reason if it has failed.
    NotFailed(&'static str, Reason),
}

const REACHABLE: Need = Need::Passed("service-address", "no connection to the service");
const TRUSTED: Need = Need::Passed("service-certificate", "no trusted TLS connection to the service");
const HEALTHY: Need = Need::Passed("healthz", "the service must be healthy first");
const ERRORS: Need = Need::Passed("endpoints", "no endpoint returns an error of the service's own");
const FEDERATION: Need = Need::Passed("federation-discovery", "the federation API isn't found");
const CLIENT_API: Need = Need::Passed("client-api", "the client-server API isn't found");
const APPLICATION_SERVICE: Need = Need::Passed("as-token", "the homeserver must accept the as_token first");
const HOMESERVER_MODE: Need = Need::NotFailed("ping", "the service must be in homeserver mode first");
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
        run: |round| Box::pin(async { Ok(round.sfu()?.auto_create_is_off(round.credentials()?.key()).await) }),
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
];

/// State of one examination: the deployment, and the results of the checks so far.
pub(crate) struct Round<'a> {
    /// Deployment to examine.
    pub(crate) subject: &'a Subject,
    web: Web,
    /// Errors returned by the client endpoints, by path.
    errors: Option<Vec<(&'static str, Response)>>,
    well_known: Option<Response>,
    federation: Option<Resolution>,
    client_api: Option<ClientApi>,
}

impl<'a> Round<'a> {
    /// Starts a round without results.
    pub(crate) fn new(subject: &'a Subject) -> Self {
        let web = Web { trust: subject.trust.clone() };
        Self { subject, web, errors: None, well_known: None, federation: None, client_api: None }
    }

    /// Reason for skipping a check that needs an option which isn't given. Needs of earlier checks are met here.
    pub(crate) fn lacks(&self, need: &Need) -> Option<Reason> {
        match need {
            Need::ServerName => self.server_name().err(),
            Need::HsToken => self.hs_token().err(),
            Need::AsToken => self.as_token().err(),
            Need::SfuUrl => self.sfu_url().err(),
            Need::KeyPair => self.credentials().err(),
            Need::Passed(..) | Need::NotFailed(..) => None,
        }
    }

    fn server_name(&self) -> Result<&'a ServerName, Reason> {
        self.subject.server_name.as_ref().ok_or(NO_SERVER_NAME)
    }

    fn hs_token(&self) -> Result<&'a RegistrationToken, Reason> {
        self.subject.hs_token.as_ref().map_err(|reason| *reason)
    }

    fn as_token(&self) -> Result<&'a RegistrationToken, Reason> {
        self.subject.as_token.as_ref().map_err(|reason| *reason)
    }

    fn sfu_url(&self) -> Result<&'a SfuUrl, Reason> {
        self.subject.sfu_url.as_ref().ok_or(NO_SFU_URL)
    }

    fn credentials(&self) -> Result<&'a SfuCredentials, Reason> {
        self.subject.credentials.as_ref().ok_or(NO_KEY_PAIR)
    }

    fn sfu(&self) -> Result<Sfu<'_>, Reason> {
        Ok(Sfu { web: &self.web, url: self.sfu_url()? })
    }

    fn homeserver(&self) -> Result<Homeserver<'_>, Reason> {
        let (server_name, as_token) = (self.server_name()?, self.as_token()?);
        Ok(Homeserver { web: &self.web, api: found(&self.client_api)?, server_name, as_token })
    }
}

/// Keeps the result of a check for the checks that need it.
fn keep<T>((outcome, found): Verdict<T>, slot: &mut Option<T>) -> Verdict<()> {
    *slot = found;
    (outcome, slot.as_ref().map(drop))
}

/// Result of an earlier check; present if the check that reads it declares that it needs that one.
fn found<T>(slot: &Option<T>) -> Result<&T, Reason> {
    slot.as_ref().ok_or("the result of an earlier check is missing")
}

const NO_SERVER_NAME: Reason = "no homeserver is given: --server-name";
const NO_SFU_URL: Reason =
    "no SFU is given: --sfu-url or LIVEKIT_URL (clients get its URL with a token, which requires a login)";
const NO_KEY_PAIR: Reason = "no key pair is given: --sfu-key and --sfu-secret, or LIVEKIT_KEY and LIVEKIT_SECRET";

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
