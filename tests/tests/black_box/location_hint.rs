//! Location of the rooms' objects (`README.md#configuration`): that of `LIVEKIT_LOCATION_HINT`, or the platform's
//! choice.
//!
//! A wrapper around the binding `ROOMS` records the options with which the worker gets each object.

use std::time::Duration;

use black_box::{Deployment, EntryPoint, Member, TalkativeNamespace, TestSetup};
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

/// Options passed to the namespace for each object: for a delegation with a token, and for a webhook.
async fn options_of_objects(configure: impl FnOnce(Deployment) -> Deployment) -> Vec<String> {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let events = setup.delayed_events("cs.example.org").await;
    home.has_client_api(events.base_url());
    let deployment = setup.deployment().full_access("example.org").bind("ROOMS", TalkativeNamespace);
    let service = configure(deployment).start();
    let alice = Member::of_room("!room:example.org", "@alice:example.org");
    let delay = Duration::from_secs(600);
    let delay_id = events.schedule(delay);

    let body = alice.delegation(EntryPoint::GetToken, &home.openid_token(&alice.user_id), &delay_id, delay);
    let answer = service.post(EntryPoint::GetToken.path(), &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let participant = setup.sfu.join(&alice.room(), &alice.identity(EntryPoint::GetToken));
    assert_eq!(participant.joined().send(&service).await.status, 200);

    TalkativeNamespace::options(&service)
}
