//! Host name against which TLS certificates are validated (`docs/protocol.md#finding-homeservers`).
//!
//! The fake homeserver presents certificates for right and wrong names, expired ones, and some of an unknown authority.
//! After a failed handshake it must not have received a request.

use black_box::{Certificate, CertificateAuthority, Endpoint, HomeserverPlan, TestSetup};

#[tokio::test]
async fn a_certificate_of_another_name_is_not_accepted() {
    for name in ["www.example.org", "example.com", "sub.matrix.example.org", "org"] {
        assert_not_accepted(|authority| authority.certificate(name)).await;
    }
}

#[tokio::test]
async fn the_certificate_is_checked_for_the_delegated_name_not_the_server_name() {
    assert_not_accepted(|authority| authority.certificate("example.org")).await;
}

#[tokio::test]
async fn an_expired_certificate_is_not_accepted() {
    assert_not_accepted(|authority| authority.expired_certificate("matrix.example.org")).await;
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_accepted() {
    assert_not_accepted(|_| CertificateAuthority::new().certificate("matrix.example.org")).await;
}

#[tokio::test]
async fn a_certificate_of_an_srv_target_s_own_name_is_not_accepted() {
    let setup = TestSetup::new().await;
    let certificate = setup.authority.certificate("node1.example.com");

    assert_not_connected(&setup, behind_srv(&setup).certificate(certificate)).await;
}

#[tokio::test]
async fn an_expired_certificate_behind_an_srv_record_is_not_accepted() {
    let setup = TestSetup::new().await;
    let certificate = setup.authority.expired_certificate("example.org");

    assert_not_connected(&setup, behind_srv(&setup).certificate(certificate)).await;
}

#[tokio::test]
async fn a_well_known_under_a_wrong_certificate_is_no_well_known() {
    for expired in [false, true] {
        let setup = TestSetup::new().await;
        let wrong = match expired {
            true => setup.authority.expired_certificate("example.org"),
            false => setup.authority.certificate("example.com"),
        };
        let home = setup
            .homeserver("example.org")
            .delegates_to("elsewhere.example:443")
            .website_certificate(wrong)
            .federation_at("example.org", 8448)
            .start()
            .await;
        let service = setup.deployment().start();

        let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;

        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(home.well_known_requests(), 0);
    }
}

/// Checks that `matrix.example.org`, to which `example.org` delegates, is rejected with this certificate.
async fn assert_not_accepted(certificate: impl Fn(&CertificateAuthority) -> Certificate) {
    let setup = TestSetup::new().await;
    let certificate = certificate(&setup.authority);

    assert_not_connected(&setup, setup.homeserver("example.org").certificate(certificate)).await;
}

/// Checks that the worker connects to the homeserver, sends it no request, and rejects the token.
async fn assert_not_connected(setup: &TestSetup, plan: HomeserverPlan<'_>) {
    let home = plan.start().await;
    let service = setup.deployment().start();

    let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;

    answer.assert_error(401, "M_UNAUTHORIZED");
    assert_eq!((home.federation_connections() > 0, home.userinfo_requests()), (true, 0));
}

fn behind_srv(setup: &TestSetup) -> HomeserverPlan<'_> {
    setup.resolver.add_srv("_matrix-fed._tcp.example.org", 10, 5, 8449, "node1.example.com");
    setup.homeserver("example.org").without_well_known().federation_behind_srv("example.org", "node1.example.com", 8449)
}
