//! The well-known file of server discovery: redirects, size limit and lifetime
//! (`docs/protocol.md#finding-homeservers`).
//!
//! A test verifies a token once or twice for a homeserver whose well-known file has some peculiarity. The statuses show
//! whether the file was used, the requests at the fakes how often it was fetched, and from where.

use std::time::{Duration, SystemTime};

use black_box::{Endpoint, Homeserver, Reply, Service, TestSetup};
use serde_json::json;

#[tokio::test]
async fn redirects_are_followed_to_another_host() {
    for status in [301, 302, 303, 307, 308] {
        let setup = TestSetup::new().await;
        let elsewhere = setup.site("elsewhere.example", delegation()).await;
        let home = setup
            .homeserver("example.org")
            .well_known(Reply::redirect(status, "https://elsewhere.example/.well-known/matrix/server"))
            .start()
            .await;

        assert_eq!(query_twice(&setup, &home).await, [200, 200], "{status}");
        assert_eq!(elsewhere.connections(), 1);
    }
}

#[tokio::test]
async fn a_relative_redirect_is_followed() {
    let setup = TestSetup::new().await;
    let elsewhere =
        setup.site("elsewhere.example", Reply::redirect(302, "//third.example/hosted/.well-known/matrix/server")).await;
    let third = setup.site("third.example", delegation()).await;
    let home = setup
        .homeserver("example.org")
        .well_known(Reply::redirect(302, "https://elsewhere.example/.well-known/matrix/server"))
        .start()
        .await;

    assert_eq!(query_twice(&setup, &home).await, [200, 200]);
    assert_eq!((elsewhere.connections(), third.connections()), (1, 1));
}

#[tokio::test]
async fn a_redirect_loop_ends_and_is_no_well_known() {
    let setup = TestSetup::new().await;
    let home = setup
        .homeserver("example.org")
        .well_known(Reply::redirect(302, "/.well-known/matrix/server"))
        .federation_at("example.org", 8448)
        .start()
        .await;

    assert_eq!(query_twice(&setup, &home).await, [200, 200]);
    let requests = home.well_known_requests();
    // Once, and two redirects; whether the look-up is made again for the second request depends on the cache.
    assert!((3..=6).contains(&requests), "{requests} requests");
}

#[tokio::test]
async fn a_redirect_chooses_no_path_or_query_of_a_request() {
    for location in [
        "https://elsewhere.example/",
        "https://elsewhere.example/admin?delete=everything",
        "https://elsewhere.example/.well-known/matrix/server?x=1",
        "https://elsewhere.example/.well-known/matrix/server#x",
        "https://user:password@elsewhere.example/.well-known/matrix/server",
        "https://elsewhere.example/.well-known/matrix/server/x",
        "https://elsewhere.example/.well-known/matrix/client",
        "https://elsewhere.example/x.well-known/matrix/server",
    ] {
        let setup = TestSetup::new().await;
        let elsewhere = setup.site("elsewhere.example", delegation()).await;
        let home = setup
            .homeserver("example.org")
            .well_known(Reply::redirect(302, location))
            .federation_at("example.org", 8448)
            .start()
            .await;

        assert_eq!(query_twice(&setup, &home).await, [200, 200], "{location}");
        assert_eq!(elsewhere.connections(), 0, "{location}");
    }
}

#[tokio::test]
async fn redirects_to_anything_but_https_are_not_followed() {
    for location in
        ["http://elsewhere.example/", "ftp://elsewhere.example/", "data:application/json,{}", "", "https://"]
    {
        let setup = TestSetup::new().await;
        let tripwire = setup.tripwire("elsewhere.example", 80).await;
        let home = setup
            .homeserver("example.org")
            .well_known(Reply::redirect(302, location))
            .federation_at("example.org", 8448)
            .start()
            .await;

        assert_eq!(query_twice(&setup, &home).await, [200, 200], "{location:?}");
        assert_eq!(tripwire.connections(), 0, "{location:?}");
    }
}

#[tokio::test]
async fn a_file_of_64_kib_is_read_and_a_larger_one_is_not() {
    for (size, counts) in [(64 * 1024, true), (64 * 1024 + 1, false), (10_000_000, false)] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").well_known(delegation().padded_to(size)).start().await;

        let statuses = query_twice(&setup, &home).await;

        // Without the file, discovery goes on to port 8448 of the server name, where nothing listens.
        assert_eq!(statuses[0] == 200, counts, "{size} bytes: {statuses:?}");
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_as_long_as_it_says() {
    for (what, reply) in [
        ("nothing", delegation()),
        ("an hour", delegation().header("cache-control", "public, max-age=3600")),
        ("a year", delegation().header("cache-control", "max-age=31536000")),
        ("an expiry", delegation().header("expires", &http_date(Duration::from_secs(3600)))),
        (
            "an hour, and an expiry in the past",
            delegation().header("cache-control", "max-age=3600").header("expires", "Thu, 01 Jan 2015 00:00:00 GMT"),
        ),
    ] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").well_known(reply).start().await;

        assert_eq!(query_twice(&setup, &home).await, [200, 200], "{what}");
        assert_eq!(home.well_known_requests(), 1, "{what}");
    }
}

#[tokio::test]
async fn a_failure_is_kept_too() {
    for reply in [Reply::html(404), Reply::html(500), Reply::html(200)] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").well_known(reply).federation_at("example.org", 8448).start().await;

        assert_eq!(query_twice(&setup, &home).await, [200, 200]);
        assert_eq!(home.well_known_requests(), 1);
    }
}

#[tokio::test]
async fn a_homeserver_that_moved_is_found_again() {
    let setup = TestSetup::new().await;
    setup.network.address_of("old.example.org");
    let home = setup
        .homeserver("example.org")
        .delegates_to("old.example.org:443")
        .federation_at("new.example.org", 443)
        .start()
        .await;
    let service = setup.deployment().start();

    // Nothing listens at the old address …
    assert_eq!(request_token(&service, &home).await, 401);
    home.set_well_known(Reply::json(200, &json!({ "m.server": "new.example.org:443" })));

    // … which drops the cached address, so that the next request repeats the discovery.
    assert_eq!(request_token(&service, &home).await, 200);
}

async fn query_twice(setup: &TestSetup, home: &Homeserver) -> [u16; 2] {
    let service = setup.deployment().start();
    [request_token(&service, home).await, request_token(&service, home).await]
}

async fn request_token(service: &Service, home: &Homeserver) -> u16 {
    service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await.status
}

fn delegation() -> Reply {
    Reply::json(200, &json!({ "m.server": "matrix.example.org:443" }))
}

fn http_date(from_now: Duration) -> String {
    httpdate::fmt_http_date(SystemTime::now() + from_now)
}
