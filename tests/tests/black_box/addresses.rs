//! Private addresses: server names, delegations, redirects and SRV targets must not lead the service there
//! (`docs/protocol.md#private-addresses`).
//!
//! Listeners on the private addresses count connections while callers claim server names in every notation. The log
//! shows that the worker refused the address itself: workerd's own rule isn't there on Cloudflare.

use black_box::{Answer, Endpoint, OpenIdToken, Service, TestSetup, Tripwire};
use serde_json::json;

/// Notations of private, loopback and link-local addresses, each with the address to which it would lead.
const PRIVATE: [(&str, &str); 24] = [
    ("127.0.0.1", "127.0.0.1"),
    ("127.1.2.3", "127.1.2.3"),
    ("10.1.2.3", "10.1.2.3"),
    ("172.16.0.1", "172.16.0.1"),
    ("172.31.255.254", "172.31.255.254"),
    ("192.168.1.1", "192.168.1.1"),
    ("169.254.169.254", "169.254.169.254"),
    ("100.64.0.1", "100.64.0.1"),
    ("0.0.0.0", "127.0.0.1"),
    ("[::1]", "::1"),
    ("[0:0:0:0:0:0:0:1]", "::1"),
    ("[::]", "::1"),
    ("[fd00::1]", "fd00::1"),
    ("[::ffff:127.0.0.1]", "127.0.0.1"),
    ("[::ffff:7f00:1]", "127.0.0.1"),
    ("[::127.0.0.1]", "127.0.0.1"),
    ("127.1", "127.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("0x7f000001", "127.0.0.1"),
    ("0x7f.1", "127.0.0.1"),
    ("0177.0.0.1", "127.0.0.1"),
    ("127.0.0.1.", "127.0.0.1"),
    ("localhost", "127.0.0.1"),
    ("localhost.", "127.0.0.1"),
];

#[tokio::test]
async fn a_private_address_is_refused_however_it_is_written() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();
    let tripwires = tripwires(&setup).await;

    for (host, _) in PRIVATE {
        for name in [host.to_owned(), format!("{host}:8448"), format!("{host}:443")] {
            assert_refused(&request_token(&service, &name).await, &name);
        }
    }
    assert_untouched(&tripwires, &service);
    assert!(setup.resolver.queried().is_empty());
}

#[tokio::test]
async fn a_delegation_to_a_private_address_is_refused_however_it_is_written() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();
    let tripwires = tripwires(&setup).await;

    for (number, (host, _)) in PRIVATE.into_iter().enumerate() {
        for (kind, server) in [("a", host.to_owned()), ("b", format!("{host}:8448"))] {
            let name = format!("{kind}{number}.example");
            let home = setup.homeserver(&name).delegates_to(&server).start().await;
            let token = home.openid_token(&format!("@alice:{name}"));

            assert_refused(&service.request_token(Endpoint::SfuGet, &token).await, &server);
            assert_eq!(home.well_known_requests(), 1, "{server}");
        }
    }
    assert_untouched(&tripwires, &service);
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_not_followed() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();
    let tripwires = tripwires(&setup).await;

    for (number, (host, _)) in PRIVATE.into_iter().enumerate() {
        let name = format!("example{number}.org");
        let redirect = black_box::Reply::redirect(302, &format!("https://{host}/.well-known/matrix/server"));
        let home = setup.homeserver(&name).well_known(redirect).federation_at(&name, 8448).start().await;
        let token = home.openid_token(&format!("@alice:{name}"));

        let answer = service.request_token(Endpoint::SfuGet, &token).await;

        assert_eq!(answer.status, 200, "{host} is no well-known: {answer:?}");
    }
    assert_untouched(&tripwires, &service);
}

#[tokio::test]
async fn an_srv_target_at_a_private_address_is_refused() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();
    let tripwires = tripwires(&setup).await;

    for (number, (host, _)) in PRIVATE.into_iter().enumerate() {
        let name = format!("example{number}.org");
        setup.resolver.add_srv(&format!("_matrix-fed._tcp.{name}"), 10, 5, 8448, host);
        let home = setup.homeserver(&name).without_well_known().start().await;
        let token = home.openid_token(&format!("@alice:{name}"));

        assert_refused(&service.request_token(Endpoint::SfuGet, &token).await, host);
    }
    assert_untouched(&tripwires, &service);
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_not_reached() {
    let setup = TestSetup::new().await;
    let service = setup.deployment().start();
    let tripwires = tripwires(&setup).await;
    setup.resolver.add_srv("_matrix-fed._tcp.behind-srv.example", 10, 5, 8448, "inside3.example");

    for (name, address) in [
        ("inside1.example", "127.0.0.1"),
        ("inside2.example", "10.1.2.3"),
        ("inside3.example", "169.254.169.254"),
        ("inside4.example", "::1"),
        ("inside5.example", "fd00::1"),
    ] {
        setup.network.point(name, address.parse().unwrap());
        for name in [name.to_owned(), format!("{name}:8448")] {
            assert_refused(&request_token(&service, &name).await, &name);
        }
    }
    assert_refused(&request_token(&service, "behind-srv.example").await, "behind-srv.example");
    assert!(tripwires.iter().all(|tripwire| tripwire.connections() == 0));
}

#[tokio::test]
async fn a_test_setup_may_allow_private_addresses() {
    let setup = TestSetup::new().await;
    setup.network.point("inside.example", "10.1.2.3".parse().unwrap());
    setup.resolver.add_srv("_matrix-fed._tcp.srv.example", 10, 5, 8450, "inside.example");
    let service = setup.deployment().set("LIVEKIT_ALLOW_PRIVATE_ADDRESSES", "true").start();

    for (plan, name) in [
        (setup.homeserver("127.0.0.1").federation_at("127.0.0.1", 8448), "127.0.0.1"),
        (setup.homeserver("[::1]:8449").federation_at("[::1]", 8449), "[::1]:8449"),
        (setup.homeserver("inside.example:8449").federation_at("inside.example", 8449), "inside.example:8449"),
        (
            setup.homeserver("srv.example").without_well_known().federation_behind_srv(
                "srv.example",
                "inside.example",
                8450,
            ),
            "srv.example",
        ),
    ] {
        let home = plan.start().await;

        let token = home.openid_token(&format!("@alice:{name}"));
        let answer = service.request_token(Endpoint::SfuGet, &token).await;

        assert_eq!(answer.status, 200, "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_server_name_is_refused_without_asking_anybody() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().start();

    for name in [
        "https://example.org",
        "//example.org",
        "example.org/",
        "example.org/path",
        "example.org\\path",
        "user@example.org",
        "user:password@example.org",
        "example.org?query",
        "example.org#fragment",
        " example.org",
        "example.org ",
        "example .org",
        "example.org\n",
        "example.org\t:443",
        "example.org\0",
        "example.org:",
        "example.org:port",
        "example.org:0",
        "example.org:65536",
        "example.org:99999999999999999999",
        "example.org:+443",
        "example.org:443:443",
        ":443",
        ":",
        "[",
        "[]",
        "[::1",
        "::1",
        "[example.org]",
        "[fe80::1%25eth0]",
        "%65xample.org",
        "exämple.org",
        "example。org",
        "ｅxample.org",
        "example_org",
        "example.org,other.example",
        "*",
        &format!("{}.example.org", "a.".repeat(110)),
    ] {
        assert_refused(&request_token(&service, name).await, name);
    }
    assert_eq!(home.connections(), 0);
    assert!(setup.resolver.queried().is_empty());
}

/// Listens on all of the addresses, on the ports of server discovery.
async fn tripwires(setup: &TestSetup) -> Vec<Tripwire> {
    let mut addresses: Vec<_> = PRIVATE.iter().map(|(_, address)| *address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let mut tripwires = Vec::new();
    for address in addresses {
        for port in [443, 8448] {
            tripwires.push(setup.tripwire(address, port).await);
        }
    }
    tripwires
}

/// Checks that there was no connection, and that workerd had to prevent none: Cloudflare's platform has no such rule.
#[track_caller]
fn assert_untouched(tripwires: &[Tripwire], service: &Service) {
    assert!(tripwires.iter().all(|tripwire| tripwire.connections() == 0));
    let log = service.log().text();
    assert!(!log.contains("is not allowed"), "workerd had to refuse a connection:\n{log}");
}

#[track_caller]
fn assert_refused(answer: &Answer, name: &str) {
    assert_eq!(answer.status, 401, "{name:?}: {answer:?}");
    assert_eq!(answer.json()["errcode"], "M_UNAUTHORIZED", "{name:?}: {answer:?}");
}

async fn request_token(service: &Service, server_name: &str) -> Answer {
    let token = OpenIdToken {
        access_token: String::from("whatever"),
        user_id: format!("@alice:{server_name}"),
        matrix_server_name: server_name.to_owned(),
    };
    let body = json!(Endpoint::SfuGet.request(&token));
    service.post(Endpoint::SfuGet.path(), &body).await
}
