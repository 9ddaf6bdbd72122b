//! Timeouts and lifetimes: slow homeservers, resolvers and SFUs (`docs/protocol.md#verifying-an-openid-token`,
//! `docs/protocol.md#finding-homeservers`).
//!
//! The fakes accept connections and delay a response, or a part of it, for ever. All cases of a test run side by side,
//! so that their timeouts are waited for only once.

use std::time::{Duration, Instant};

use black_box::{Endpoint, Gate, Homeserver, HomeserverPlan, Reply, Service, TestSetup};
use futures_util::future::join_all;
use serde_json::json;
use tokio::time::timeout;

#[tokio::test]
async fn a_verification_ends_however_slow_the_others_are() {
    let setup = TestSetup::new().await;
    let never = Gate::closed();
    let subject = |name: &str| Reply::json(200, &json!({ "sub": format!("@alice:{name}") }));
    let delegation = |name: &str| Reply::json(200, &json!({ "m.server": format!("matrix.{name}:443") }));
    setup.resolver.add_srv("_matrix-fed._tcp.srv-head.example", 10, 5, 8450, "node1.example");
    setup.resolver.add_srv("_matrix-fed._tcp.srv-body.example", 10, 5, 8451, "node1.example");
    setup.resolver.add_srv("_matrix-fed._tcp.srv-tls.example", 10, 5, 8452, "node1.example");
    let _silent_srv = setup.tripwire("node1.example", 8452).await;
    let _silent = setup.tripwire("silent.example", 8448).await;
    let srv =
        |name, port| setup.homeserver(name).without_well_known().federation_behind_srv(name, "node1.example", port);
    let cases: Vec<(&str, u16, HomeserverPlan<'_>)> = vec![
        ("head.example", 401, setup.homeserver("head.example").userinfo(subject("head.example").behind(&never))),
        ("body.example", 401, setup.homeserver("body.example").userinfo(subject("body.example").that_never_ends())),
        ("srv-head.example", 401, srv("srv-head.example", 8450).userinfo(subject("srv-head.example").behind(&never))),
        (
            "srv-body.example",
            401,
            srv("srv-body.example", 8451).userinfo(subject("srv-body.example").that_never_ends()),
        ),
        ("srv-tls.example", 401, setup.homeserver("srv-tls.example").without_well_known()),
        ("silent.example:8448", 401, setup.homeserver("silent.example:8448").federation_at("other.example", 443)),
        // Several slow steps share one deadline.
        (
            "slow.example",
            401,
            setup
                .homeserver("slow.example")
                .well_known(delegation("slow.example").behind(&never))
                .federation_at("slow.example", 8448)
                .userinfo(subject("slow.example").behind(&never)),
        ),
        // A website that doesn't respond counts like one that doesn't exist.
        (
            "website.example",
            200,
            setup
                .homeserver("website.example")
                .well_known(delegation("website.example").behind(&never))
                .federation_at("website.example", 8448),
        ),
        (
            "website-body.example",
            200,
            setup
                .homeserver("website-body.example")
                .well_known(delegation("website-body.example").that_never_ends())
                .federation_at("website-body.example", 8448),
        ),
    ];
    let service = setup.deployment().full_access("sfu.example").start();

    let mut homes = Vec::new();
    for (name, status, plan) in cases {
        homes.push((name, status, plan.start().await));
    }
    let answers = homes.iter().map(|(name, status, home)| answered(&service, name, *status, home));

    join_all(answers).await;
}

#[tokio::test]
async fn a_resolver_or_an_sfu_that_does_not_answer_is_given_up() {
    let setup = TestSetup::new().await;
    let never = Gate::closed();
    setup.resolver.set_reply(Reply::html(200).behind(&never));
    let home = setup.homeserver("example.org").without_well_known().federation_at("example.org", 8448).start().await;
    let service = setup.deployment().full_access("example.org").start();
    setup.sfu.fail(Reply::html(200).behind(&never));

    answered(&service, "example.org", 500, &home).await;
    service.log().line_with(&["sfu", "LIVEKIT_URL"]).await;
}

#[tokio::test]
async fn a_well_known_that_may_not_be_kept_is_queried_for_again_after_a_minute() {
    let setup = TestSetup::new().await;
    let reply = Reply::json(200, &json!({ "m.server": "matrix.example.org:443" }));
    let home = setup.homeserver("example.org").well_known(reply.header("cache-control", "max-age=0")).start().await;
    let service = setup.deployment().start();

    let queried_again = async {
        while home.well_known_requests() < 2 {
            answered(&service, "example.org", 200, &home).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };

    timeout(Duration::from_secs(120), queried_again).await.expect("fetched again within two minutes");
}

/// Checks the status of a response, which has 10 s for the verification and 10 s more for the SFU and a slow machine.
async fn answered(service: &Service, name: &str, status: u16, home: &Homeserver) {
    let started = Instant::now();

    let answer = service.request_token(Endpoint::SfuGet, &home.openid_token(&format!("@alice:{name}"))).await;

    assert_eq!(answer.status, status, "{name}: {answer:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{name}: {:?}", started.elapsed());
}
