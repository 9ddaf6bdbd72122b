//! A deployment, as far as it is known to the doctor.

use matrixrtc_edge::livekit::sfu_url::SfuUrl;
use matrixrtc_edge::matrix::federation::discovery::AddressPolicy;
use matrixrtc_edge::matrix::ids::server_name::ServerName;
use url::Url;

use crate::doctor::credentials::{RegistrationToken, SfuCredentials};
use crate::doctor::service_url::ServiceUrl;
use crate::doctor::trust::Trust;

/// What is to be examined.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Where the service is.
    pub service: ServiceUrl,
    /// A homeserver whose users call with it.
    pub server_name: Option<ServerName>,
    /// The SFU's URL that clients get.
    pub sfu_url: Option<SfuUrl>,
    /// The key pair that the service and the SFU share.
    pub credentials: Option<SfuCredentials>,
    /// The `as_token` of the registration file at `server_name`, or why it isn't there.
    pub as_token: Result<RegistrationToken, &'static str>,
    /// The `hs_token` of that file, or why it isn't there.
    pub hs_token: Result<RegistrationToken, &'static str>,
    /// Which certificates are trusted.
    pub trust: Trust,
    /// Where homeservers may be.
    pub addresses: AddressPolicy,
    /// The resolver for SRV records.
    pub dns_over_https_url: Url,
}
