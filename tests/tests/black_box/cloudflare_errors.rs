//! Responses that Cloudflare gives in a server's place (`docs/protocol.md#requests-that-are-repeated`).
//!
//! On the edge a failed connection looks like that. The cause in the log names it, and the homeserver is not taken to
//! have said anything.

use black_box::{Endpoint, Reply, TestSetup};
use serde_json::json;

#[tokio::test]
async fn a_status_of_cloudflare_s_is_a_failure_with_a_cause() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start();

    for (status, cause) in [
        (520, "no valid response"),
        (521, "nobody listens"),
        (522, "isn't reached"),
        (523, "isn't reached"),
        (524, "too long"),
        (525, "certificate"),
        (526, "certificate"),
        (527, "no valid response"),
        (530, "isn't resolved"),
    ] {
        // Cloudflare's own JSON, too, is none of the homeserver's.
        home.set_userinfo(Reply::json(status, &json!({ "errcode": "M_UNKNOWN_TOKEN" })));
        service.log().clear();

        service
            .request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org"))
            .await
            .assert_error(401, "M_UNAUTHORIZED");

        service.log().line_with(&["Cloudflare has no answer", cause, &status.to_string()]).await;
    }
}

#[tokio::test]
async fn a_challenge_is_named_whoever_gets_it() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let service = setup.deployment().full_access("example.org").start();
    let challenge = || Reply::html(403).header("cf-mitigated", "challenge");

    home.set_userinfo(challenge());
    service
        .request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org"))
        .await
        .assert_error(401, "M_UNAUTHORIZED");
    service.log().line_with(&["OpenID token verification failed", "cf-mitigated"]).await;

    home.set_userinfo(Reply::json(200, &json!({ "sub": "@alice:example.org" })));
    setup.sfu.fail(challenge());
    service
        .request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org"))
        .await
        .assert_error(500, "M_UNKNOWN");
    service.log().line_with(&["SFU room creation failed", "cf-mitigated"]).await;
}
