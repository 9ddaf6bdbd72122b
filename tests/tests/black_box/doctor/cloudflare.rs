//! Settings of a zone at Cloudflare that stop requests before they arrive.

use black_box::{Reply, Request};
use hyper::header::USER_AGENT;
use operator::doctor::Status;

use super::World;

#[tokio::test]
async fn responses_of_cloudflare_s_that_only_livekit_gets() {
    let world = World::new().await;
    for (reply, cause, remedy) in [
        (challenge(), "a challenge (cf-mitigated)", "Bot Fight Mode, which no rule can skip, and Under Attack mode"),
        (refusal("text/html", "<html>"), "a page for browsers (403)", "let a WAF custom rule skip"),
        (refusal("text/plain", "error code: 1010"), "Browser Integrity Check", "switch off Browser Integrity Check"),
        (refusal("text/plain", "error code: 1020"), "error 1020", "let a WAF custom rule skip"),
        (login(), "Cloudflare Access requires a login", "with a Bypass policy"),
        (limit("error code: 1015"), "limits the rate of requests (429, error 1015)", "out of the rate limiting rules"),
        (limit("error code: 1027"), "the free plan's requests of the day are used up", "wait until 00:00 UTC"),
        (no_answer(530), "its name isn't resolved, or its tunnel isn't connected (530)", "cloudflared"),
    ] {
        world.proxy.meddle(move |request, there| match is_livekit(request) {
            true => reply.clone(),
            false => there,
        });

        let report = world.examine().await;

        World::assert_problem(&report, "webhook-passes", cause);
        let outcome = &World::finding(&report, "webhook-passes").outcome;
        assert!(outcome.seen.contains("/sfu_webhook don't reach the service"), "{outcome:?}");
        assert!(outcome.change.as_ref().unwrap().contains(remedy), "{outcome:?}");
        World::assert_skipped(&report, &["webhook", "forged-webhook"]);
    }
}

#[tokio::test]
async fn a_webhook_that_gets_through_from_here_may_be_stopped_from_elsewhere() {
    let world = World::new().await;
    world.proxy.meddle(|_, there| there.header("server", "cloudflare"));

    let report = world.examine().await;

    let outcome = &World::finding(&report, "webhook-passes").outcome;
    assert!(outcome.status == Status::Ok && outcome.seen.contains("once on the SFU's machine"), "{outcome:?}");
}

#[tokio::test]
async fn a_challenge_of_everything_at_the_services_name() {
    let world = World::new().await;
    world.proxy.meddle(|_, _| challenge());

    let report = world.examine().await;

    World::assert_problem(&report, "healthz", "a challenge (cf-mitigated)");
}

#[tokio::test]
async fn a_challenge_before_the_homeserver_or_the_sfu() {
    let world = World::new().await;
    world.own.home.set_userinfo(challenge());
    let report = world.examine().await;
    World::assert_problem(&report, "open-id", "a challenge (cf-mitigated)");

    let world = World::new().await;
    world.sfu.fail(challenge());
    let report = world.examine().await;
    World::assert_finding(&report, "sfu", Status::Problem, "a challenge (cf-mitigated)");
}

#[tokio::test]
async fn a_server_behind_cloudflare_that_does_not_answer() {
    let world = World::new().await;
    world.own.home.set_userinfo(no_answer(521));
    let report = world.examine().await;
    World::assert_problem(&report, "open-id", "Cloudflare has no answer of the server: nobody listens there (521)");
    let change = World::finding(&report, "open-id").outcome.change.as_deref().unwrap();
    assert!(change.contains("let its firewall pass Cloudflare's addresses"), "{change}");

    let world = World::new().await;
    world.sfu.fail(no_answer(526));
    let report = world.examine().await;
    World::assert_finding(&report, "sfu", Status::Problem, "its certificate isn't valid (526)");
}

#[tokio::test]
async fn a_refusal_of_the_server_itself_is_not_cloudflare_s() {
    let world = World::new().await;
    world.proxy.meddle(|request, there| match is_livekit(request) {
        true => Reply::html(403).header("server", "nginx"),
        false => there,
    });

    let report = world.examine().await;

    World::assert_finding(
        &report,
        "webhook-passes",
        Status::Problem,
        "something in front of the service requires authentication",
    );
}

fn challenge() -> Reply {
    Reply::html(403).header("cf-mitigated", "challenge").header("server", "cloudflare")
}

fn refusal(kind: &str, body: &'static str) -> Reply {
    Reply::new(403, kind, body.as_bytes().to_vec()).header("server", "cloudflare")
}

fn limit(body: &'static str) -> Reply {
    Reply::new(429, "text/plain", body.as_bytes().to_vec()).header("server", "cloudflare")
}

fn no_answer(status: u16) -> Reply {
    Reply::html(status).header("server", "cloudflare")
}

fn login() -> Reply {
    let login = "https://team.cloudflareaccess.com/cdn-cgi/access/login/rtc.example.org?kid=1";
    Reply::html(302).header("location", login).header("server", "cloudflare")
}

/// Whether the request is like those of LiveKit's client, which is written in Go.
fn is_livekit(request: &Request) -> bool {
    request.header(USER_AGENT).starts_with("Go-http-client/")
}
