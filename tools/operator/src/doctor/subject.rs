//! The deployment to examine, as far as options and environment describe it.

use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::federation::discovery::AddressPolicy;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use url::Url;

use crate::doctor::credentials::{RegistrationToken, SfuCredentials};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::settings::Settings;
use crate::doctor::trust::Trust;
use crate::doctor::user::UserLogin;
use crate::variables::Unread;

/// Deployment to examine.
#[derive(Clone, Debug)]
pub struct Subject {
    /// URL of the service.
    pub service: ServiceUrl,
    /// Place of the service's variables.
    pub settings: Settings,
    /// Name of a homeserver whose users use the service.
    pub server_name: Option<ServerName>,
    /// URL of the SFU that clients get.
    pub sfu_url: Option<SfuUrl>,
    /// Key pair that the service and the SFU share.
    pub credentials: Option<SfuCredentials>,
    /// `as_token` of the registration file at `server_name`, or the reason for its absence.
    pub as_token: Result<RegistrationToken, &'static str>,
    /// `hs_token` of that file, or the reason for its absence.
    pub hs_token: Result<RegistrationToken, &'static str>,
    /// Login of a user of `server_name`, or the reason for its absence.
    pub user: Result<UserLogin, &'static str>,
    /// Value of the service's `LIVEKIT_FULL_ACCESS_HOMESERVERS`, if it is given.
    pub full_access: Option<String>,
    /// The parts that the service doesn't read of the file with its variables, if one is given.
    pub unread_variables: Option<Unread>,
    /// Trusted certificates.
    pub trust: Trust,
    /// Addresses at which homeservers may be.
    pub addresses: AddressPolicy,
    /// Resolver for SRV records.
    pub dns_over_https_url: Url,
}
