//! Location of the rooms' objects (`README.md#configuration`): that of `LIVEKIT_LOCATION_HINT`, or the platform's
//! choice, within `LIVEKIT_JURISDICTION`.
//!
//! A wrapper around the binding `ROOMS` records the options with which the worker gets each object.

use std::time::Duration;

use black_box::{Deployment, EntryPoint, Member, Service, TalkativeNamespace, TestSetup};
use serde_json::json;

#[tokio::test]
async fn objects_are_made_where_the_hint_says() {
    let options = options_of_objects(|deployment| deployment.set("LIVEKIT_LOCATION_HINT", "apac")).await;

    assert!(!options.is_empty());
    let expected = json!({ "locationHint": "apac" }).to_string();
    assert!(options.iter().all(|options| *options == expected), "{options:?}");
}

#[tokio::test]
async fn without_a_hint_the_platform_decides() {
    let options = options_of_objects(|deployment| deployment).await;

    assert!(!options.is_empty());
    assert!(options.iter().all(|options| options == "null"), "{options:?}");
}

#[tokio::test]
async fn objects_are_within_the_jurisdiction_and_nowhere_else() {
    for jurisdiction in ["eu", "us"] {
        let (service, statuses) =
            used(|deployment| deployment.set("LIVEKIT_JURISDICTION", jurisdiction).bind("ROOMS", TalkativeNamespace))
                .await;

        assert_eq!(statuses, [200, 200]);
        let objects = TalkativeNamespace::jurisdictions(&service);
        assert!(objects.len() >= 2 && objects.iter().all(|object| object == jurisdiction), "{objects:?}");
    }
}

#[tokio::test]
async fn a_jurisdiction_that_the_platform_refuses_is_an_error() {
    let (service, statuses) =
        used(|deployment| deployment.set("LIVEKIT_JURISDICTION", "fedramp").bind("ROOMS", TalkativeNamespace)).await;

    assert_eq!(statuses, [500, 500]);
    assert_eq!(TalkativeNamespace::jurisdictions(&service), [""; 0]);
    let line = service.log().line_with(&["room object unavailable", "LIVEKIT_JURISDICTION", "no such"]).await;
    assert_eq!(line.level(), "error", "{line:?}");
}

#[tokio::test]
async fn workerd_has_no_jurisdiction_and_says_so_once() {
    let (service, statuses) = used(|deployment| deployment.set("LIVEKIT_JURISDICTION", "eu")).await;

    assert_eq!(statuses, [200, 200]);
    let lines = service.log().lines();
    let warnings = lines.iter().filter(|line| line.0["msg"] == "jurisdiction ignored");
    assert_eq!(warnings.map(|line| line.level()).collect::<Vec<_>>(), ["warn"]);
}

/// Options passed to the namespace for each object.
async fn options_of_objects(configure: impl FnOnce(Deployment) -> Deployment) -> Vec<String> {
    let (service, statuses) = used(|deployment| configure(deployment.bind("ROOMS", TalkativeNamespace))).await;
    assert_eq!(statuses, [200, 200]);
    TalkativeNamespace::options(&service)
}

/// A service that was sent a delegation with a token, and a webhook; with the statuses of both.
async fn used(configure: impl FnOnce(Deployment) -> Deployment) -> (Service, [u16; 2]) {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let events = setup.delayed_events("cs.example.org").await;
    home.has_client_api(events.base_url());
    let service = configure(setup.deployment().full_access("example.org")).start();
    let alice = Member::of_room("!room:example.org", "@alice:example.org");
    let delay = Duration::from_secs(600);
    let delay_id = events.schedule(delay);

    let body = alice.delegation(EntryPoint::GetToken, &home.openid_token(&alice.user_id), &delay_id, delay);
    let delegated = service.post(EntryPoint::GetToken.path(), &body).await;
    let participant = setup.sfu.join(&alice.room(), &alice.identity(EntryPoint::GetToken));
    let reported = participant.joined().send(&service).await;

    (service, [delegated.status, reported.status])
}
