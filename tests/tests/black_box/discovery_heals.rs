//! Discovery that finds homeservers all the same: wrong files that are corrected, files with a byte order mark, and
//! client-server APIs without a file (`docs/protocol.md#finding-homeservers`,
//! `docs/protocol.md#finding-the-client-server-api`).

use std::time::Duration;

use black_box::{DelayedEvents, Endpoint, EntryPoint, Homeserver, Member, Operation, Reply, Service, TestSetup};
use serde_json::json;
use tokio::time::{sleep, timeout};

/// All parts take more than a minute, so they share it.
#[tokio::test]
async fn what_answers_like_no_homeserver_is_looked_up_again_after_a_minute() {
    let setup = TestSetup::new().await;
    let _site = setup.site("www.example.org", Reply::html(200)).await;
    let home = setup.homeserver("example.org").delegates_to("www.example.org:443");
    let home = home.federation_at("matrix.example.org", 443).start().await;
    let service = setup.deployment().start();
    let alice = home.openid_token("@alice:example.org");
    service.request_token(Endpoint::SfuGet, &alice).await.assert_error(401, "M_UNAUTHORIZED");
    service.log().line_with(&["OpenID token verification failed", "no homeserver", "m.server"]).await;

    let away = setup.homeserver("example.net").start().await;
    let old = setup.delayed_events("old.example.net").await;
    let new = setup.delayed_events("new.example.net").await;
    away.has_client_api(old.base_url());
    let delegating = setup.deployment().full_access("example.net").start();
    let bob = Member::of_room("!room:example.net", "@bob:example.net");
    // The back-off leaves several attempts in the minutes until its deadline.
    let delay = Duration::from_secs(300);
    let delay_id = old.schedule(delay);
    new.schedule_as(&delay_id, delay);
    old.answer_always(&delay_id, Operation::Restart, Reply::html(200));
    assert_eq!(hand_over(&delegating, &away, &bob, &delay_id, delay).await, 200);
    let participant = setup.sfu.join(&bob.room(), &bob.identity(EntryPoint::GetToken));
    participant.joined().send(&delegating).await;
    old.restarted(&delay_id, 1).await;

    // A page in place of the API refuses before anything is delegated.
    let moved = setup.homeserver("example.com").start().await;
    let gone = setup.delayed_events("gone.example.com").await;
    let there = setup.delayed_events("there.example.com").await;
    moved.has_client_api(gone.base_url());
    let moving = setup.deployment().full_access("example.com").start();
    let carol = Member::of_room("!room:example.com", "@carol:example.com");
    let carol_s_id = gone.schedule(delay);
    there.schedule_as(&carol_s_id, delay);
    gone.answer_always(&carol_s_id, Operation::Restart, Reply::html(405));
    assert_eq!(hand_over(&moving, &moved, &carol, &carol_s_id, delay).await, 200);
    moving.log().line_with(&["delayed leave not taken over", "405"]).await;

    // All files are corrected.
    moved.has_client_api(there.base_url());
    home.set_well_known(Reply::json(200, &json!({ "m.server": "matrix.example.org:443" })));
    away.has_client_api(new.base_url());

    let healed = async {
        while service.request_token(Endpoint::SfuGet, &alice).await.status != 200 {
            sleep(Duration::from_secs(1)).await;
        }
        while new.restarts(&delay_id) == 0 {
            sleep(Duration::from_millis(100)).await;
        }
        while there.restarts(&carol_s_id) == 0 {
            hand_over(&moving, &moved, &carol, &carol_s_id, delay).await;
            sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(150), healed).await.expect("all are found again");
    let client_well_known_requests = [&away, &moved].map(|home| home.client_well_known_requests());
    assert_eq!((home.well_known_requests(), client_well_known_requests), (2, [2, 2]));
}

#[tokio::test]
async fn a_byte_order_mark_is_skipped() {
    let setup = TestSetup::new().await;
    let marked = |body: &str| Reply::new(200, "application/json", format!("\u{feff}{body}"));
    let home = setup.homeserver("example.org").well_known(marked(r#"{"m.server":"hs.example.net:443"}"#));
    let home = home.federation_at("hs.example.net", 443).start().await;
    let events = setup.delayed_events("cs.example.org").await;
    home.set_client_well_known(marked(r#"{"m.homeserver":{"base_url":"https://cs.example.org"}}"#));

    assert_delegated(&setup, &home, &events, "example.org").await;
}

#[tokio::test]
async fn without_a_well_known_the_host_itself_may_be_the_client_server_api() {
    for name in ["example.org", "example.org:8449"] {
        let setup = TestSetup::new().await;
        let port = if name.ends_with("8449") { 8449 } else { 8448 };
        let home = setup.homeserver(name).without_website().federation_at("example.org", port).start().await;
        let events = setup.delayed_events("example.org").await;

        assert_delegated(&setup, &home, &events, name).await;
        assert_eq!(events.versions_requests(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_base_url_that_cannot_be_used_is_not_replaced_by_the_host() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    for base_url in ["http://example.org", "https://example.org?x=1", "example.org"] {
        home.set_client_well_known(Reply::json(200, &json!({ "m.homeserver": { "base_url": base_url } })));
        home.set_client_versions(Reply::json(
            200,
            &json!({ "versions": ["v1.1"], "unstable_features": { "org.matrix.msc4140": true } }),
        ));
        let service = setup.deployment().full_access("example.org").start();
        let alice = Member::of_room("!room:example.org", "@alice:example.org");

        let delay = Duration::from_secs(600);
        assert_eq!(hand_over(&service, &home, &alice, "syd_secret", delay).await, 400, "{base_url}");
        service.log().line_with(&["base_url", "must be an https URL"]).await;
    }
}

#[tokio::test]
async fn a_host_that_answers_like_no_homeserver_is_no_client_server_api() {
    for versions in [
        Reply::html(200),
        Reply::json(200, &json!({})),
        Reply::json(200, &json!({ "versions": "v1.1" })),
        Reply::json(404, &json!({ "versions": ["v1.1"] })),
    ] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").without_website().federation_at("example.org", 8448).start().await;
        let events = setup.delayed_events("example.org").await;
        events.set_versions(versions);
        let service = setup.deployment().full_access("example.org").start();
        let alice = Member::of_room("!room:example.org", "@alice:example.org");

        let delay = Duration::from_secs(600);
        assert_eq!(hand_over(&service, &home, &alice, &events.schedule(delay), delay).await, 400);
        assert_eq!(events.calls().len(), 0);
    }
}

/// Delegates a leave, whose restart then reaches `events`.
async fn assert_delegated(setup: &TestSetup, home: &Homeserver, events: &DelayedEvents, server_name: &str) {
    let service = setup.deployment().full_access(server_name).start();
    let alice = Member::of_room("!room:example.org", &format!("@alice:{server_name}"));
    let delay = Duration::from_secs(600);
    let delay_id = events.schedule(delay);

    assert_eq!(hand_over(&service, home, &alice, &delay_id, delay).await, 200, "{server_name}");
    let participant = setup.sfu.join(&alice.room(), &alice.identity(EntryPoint::GetToken));
    participant.joined().send(&service).await;

    events.restarted(&delay_id, 1).await;
}

async fn hand_over(service: &Service, home: &Homeserver, member: &Member, delay_id: &str, delay: Duration) -> u16 {
    let token = home.openid_token(&member.user_id);
    service.post("/get_token", &member.delegation(EntryPoint::GetToken, &token, delay_id, delay)).await.status
}
