//! Where the rooms' objects are made (protocol 9): as the operator says, or as the platform thinks.

use black_box::{Deployment, Door, Lab, Member};
use serde_json::json;

#[tokio::test]
async fn objects_are_made_where_the_hint_says() {
    let options = options_of_objects(|deployment| deployment.set("LIVEKIT_LOCATION_HINT", "apac")).await;

    assert!(!options.is_empty());
    for options in options {
        assert_eq!(options, json!({ "locationHint": "apac" }).to_string());
    }
}

#[tokio::test]
async fn without_a_hint_the_platform_decides() {
    let options = options_of_objects(|deployment| deployment).await;

    assert!(!options.is_empty());
    assert!(options.iter().all(|options| options == "null"), "{options:?}");
}

/// What the namespace was told for each object that it was asked for, while a room is created, a leave handed over, and a
/// webhook taken.
async fn options_of_objects(configure: impl FnOnce(Deployment) -> Deployment) -> Vec<String> {
    let lab = Lab::new().await;
    let home = lab.homeserver("example.org").start().await;
    let events = lab.delayed_events("cs.example.org").await;
    home.has_client_api(events.base_url());
    let deployment = lab.deployment().full_access("example.org").bind("ROOMS", TALKATIVE_NAMESPACE);
    let service = configure(deployment).start();
    let alice = Member::of_room("!room:example.org", "@alice:example.org");
    let delay = std::time::Duration::from_secs(600);
    let delay_id = events.schedule(delay);

    let token = home.openid_token(&alice.user_id);
    let answer = service.post(Door::GetToken.path(), &alice.delegation(Door::GetToken, &token, &delay_id, delay)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let participant = lab.sfu.join(&alice.room(), &alice.identity(Door::GetToken));
    assert_eq!(participant.joined().send(&service).await.status, 200);

    let lines = service.log().foreign_lines();
    lines.iter().filter_map(|line| Some(line.split_once("object got with ")?.1.to_owned())).collect()
}

/// Hands out the real objects, and says what it was told about them.
const TALKATIVE_NAMESPACE: &str = "\
export default ({ ROOMS }) => {
  class DurableObjectNamespace {
    idFromName(name) { return ROOMS.idFromName(name); }
    get(id, options) {
      console.log('object got with ' + JSON.stringify(options ?? null));
      return ROOMS.get(id, options);
    }
  }
  return new DurableObjectNamespace();
};
";
