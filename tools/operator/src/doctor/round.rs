//! State of one examination, which the runs of its checks share: the deployment, an HTTP client, and the results of the
//! checks so far.

use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::federation::discovery::Resolution;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use url::Url;

use crate::doctor::client_api::ClientApi;
use crate::doctor::credentials::{RegistrationToken, SfuCredentials};
use crate::doctor::homeserver_mode::{Homeserver, bare};
use crate::doctor::need::{Need, Reason};
use crate::doctor::report::Verdict;
use crate::doctor::sfu::{AutoCreate, Sfu};
use crate::doctor::subject::Subject;
use crate::doctor::user;
use crate::doctor::user::access::Access;
use crate::doctor::user::room::TestRoom;
use crate::doctor::user::sfu::SfuRoom;
use crate::doctor::user::token::{Endpoint, JoinToken, OpenIdToken};
use crate::doctor::user::{Session, UserApi, UserLogin};
use crate::doctor::web::{Response, Web};
use crate::variables::Unread;

/// State of one examination: the deployment, and the results of the checks so far.
pub(crate) struct Round<'a> {
    /// Deployment to examine.
    pub(crate) subject: &'a Subject,
    /// HTTP client.
    pub(crate) web: Web,
    /// Errors returned by the client endpoints, by path.
    pub(crate) errors: Option<Vec<(&'static str, Response)>>,
    /// The client well-known file.
    pub(crate) well_known: Option<Response>,
    /// The federation API that was found.
    pub(crate) federation: Option<Resolution>,
    /// The client-server API that was found.
    pub(crate) client_api: Option<ClientApi>,
    /// Whether the SFU makes the rooms that are joined.
    pub(crate) auto_create: Option<AutoCreate>,
    /// The user's session.
    pub(crate) session: Option<Session>,
    /// URLs of SFUs that the homeserver announces to the user for homeserver mode.
    pub(crate) sfu_urls: Option<Vec<String>>,
    /// The user's OpenID token.
    pub(crate) openid_token: Option<OpenIdToken>,
    /// The Matrix room of the test.
    pub(crate) test_room: Option<TestRoom>,
    /// Response of `/get_token`.
    pub(crate) join_token: Option<JoinToken>,
    /// The token's room on the SFU.
    pub(crate) sfu_room: Option<SfuRoom>,
    /// LiveKit token by the homeserver.
    pub(crate) homeserver_token: Option<JoinToken>,
}

impl<'a> Round<'a> {
    /// Starts a round without results.
    pub(crate) fn new(subject: &'a Subject) -> Self {
        let web = Web { trust: subject.trust.clone() };
        Self {
            subject,
            web,
            errors: None,
            well_known: None,
            federation: None,
            client_api: None,
            auto_create: None,
            session: None,
            sfu_urls: None,
            openid_token: None,
            test_room: None,
            join_token: None,
            sfu_room: None,
            homeserver_token: None,
        }
    }

    /// Reason for skipping a check that needs an option which isn't given. Needs of earlier checks are met here.
    pub(crate) fn lacks(&self, need: &Need) -> Option<Reason> {
        match need {
            Need::ServerName => self.server_name().err(),
            Need::HsToken => self.hs_token().err(),
            Need::AsToken => self.as_token().err(),
            Need::VariablesFile => self.unread_variables().err(),
            Need::User => self.user_login().err(),
            Need::SfuUrl => self.sfu_url().err(),
            Need::KeyPair => self.credentials().err(),
            Need::Passed(..) | Need::NotFailed(..) => None,
        }
    }

    pub(crate) fn server_name(&self) -> Result<&'a ServerName, Reason> {
        self.subject.server_name.as_ref().ok_or(NO_SERVER_NAME)
    }

    pub(crate) fn hs_token(&self) -> Result<&'a RegistrationToken, Reason> {
        self.subject.hs_token.as_ref().map_err(|reason| *reason)
    }

    pub(crate) fn as_token(&self) -> Result<&'a RegistrationToken, Reason> {
        self.subject.as_token.as_ref().map_err(|reason| *reason)
    }

    fn sfu_url(&self) -> Result<&'a SfuUrl, Reason> {
        self.subject.sfu_url.as_ref().ok_or(NO_SFU_URL)
    }

    pub(crate) fn credentials(&self) -> Result<&'a SfuCredentials, Reason> {
        self.subject.credentials.as_ref().ok_or(NO_KEY_PAIR)
    }

    pub(crate) fn unread_variables(&self) -> Result<&'a Unread, Reason> {
        self.subject.unread_variables.as_ref().ok_or(NO_VARIABLES_FILE)
    }

    pub(crate) fn user_login(&self) -> Result<&'a UserLogin, Reason> {
        self.subject.user.as_ref().map_err(|reason| *reason)
    }

    pub(crate) fn user(&self) -> Result<UserApi<'_>, Reason> {
        Ok(UserApi { web: &self.web, api: found(&self.client_api)?, session: found(&self.session)? })
    }

    pub(crate) async fn exchange(&self, endpoint: Endpoint) -> Result<Verdict<JoinToken>, Reason> {
        let (room, token) = (found(&self.test_room)?, found(&self.openid_token)?);
        let body = endpoint.body(room, found(&self.session)?, token);
        let Subject { service, sfu_url, .. } = self.subject;
        Ok(user::token::exchange(&self.web, service, sfu_url.as_ref(), endpoint, &body).await)
    }

    pub(crate) fn access(&self) -> Result<Access<'_>, Reason> {
        let api = found(&self.client_api)?;
        let hosts = [Some(self.subject.service.url().clone()), Url::parse(api.base()).ok()];
        Ok(Access {
            server_name: self.server_name()?,
            room: *found(&self.sfu_room)?,
            auto_create: self.auto_create,
            can_publish: found(&self.join_token)?.can_publish,
            configured: self.subject.full_access.as_deref(),
            hosts: hosts.into_iter().flatten().filter_map(|url| url.host_str().map(str::to_owned)).collect(),
        })
    }

    /// SFU that the homeserver announces to the user for homeserver mode: the service's, if that is known.
    pub(crate) fn announced_sfu(&self) -> Result<&str, Reason> {
        let urls = self.sfu_urls.as_deref().unwrap_or_default();
        let own =
            urls.iter().find(|url| self.subject.sfu_url.as_ref().is_some_and(|sfu| bare(sfu.client()) == bare(url)));
        own.or(urls.first()).map(String::as_str).ok_or(NO_ANNOUNCED_SFU)
    }

    pub(crate) fn sfu(&self) -> Result<Sfu<'_>, Reason> {
        Ok(Sfu { web: &self.web, url: self.sfu_url()? })
    }

    pub(crate) fn homeserver(&self) -> Result<Homeserver<'_>, Reason> {
        let (server_name, as_token) = (self.server_name()?, self.as_token()?);
        Ok(Homeserver { web: &self.web, api: found(&self.client_api)?, server_name, as_token })
    }
}

/// Keeps the result of a check for the checks that need it.
pub(crate) fn keep<T>((outcome, found): Verdict<T>, slot: &mut Option<T>) -> Verdict<()> {
    *slot = found;
    (outcome, slot.as_ref().map(drop))
}

/// Result of an earlier check; present if the check that reads it declares that it needs that one.
pub(crate) fn found<T>(slot: &Option<T>) -> Result<&T, Reason> {
    slot.as_ref().ok_or("the result of an earlier check is missing")
}

const NO_SERVER_NAME: Reason = "no homeserver is given: --server-name";
const NO_ANNOUNCED_SFU: Reason = "for homeserver mode only; the homeserver announces no transport with a `url`";
const NO_VARIABLES_FILE: Reason = "no file with the service's variables is given: --env-file or --secrets-file";
const NO_SFU_URL: Reason =
    "no SFU is given: --sfu-url or LIVEKIT_URL (clients get its URL with a token, which requires a login)";
const NO_KEY_PAIR: Reason = "no key pair is given: --sfu-key and --sfu-secret, or LIVEKIT_KEY and LIVEKIT_SECRET";
