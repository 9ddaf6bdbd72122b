use black_box::{Certificate, CertificateAuthority, PUBLIC_V6, Reply, Sfu, Silence, TestSetup};
use hyper::header::HeaderName;
use operator::doctor::{Report, Status};
use serde_json::json;

use super::{SERVICE_URL, World};

#[tokio::test]
async fn a_name_without_an_address() {
    let world = World::new().await;
    world.setup.network.point_to_all("rtc.example.org", &[]);

    let report = world.examine().await;

    World::assert_problem(&report, "service-address", "there is no address for rtc.example.org");
    World::assert_skipped(&report, &AFTER_ADDRESS);
}

#[tokio::test]
async fn an_address_at_which_nothing_listens() {
    let mut world = World::new().await;
    world.proxy.go_away().await;

    let report = world.examine().await;

    World::assert_problem(&report, "service-address", "connection refused");
    World::assert_skipped(&report, &AFTER_ADDRESS);
}

#[tokio::test]
async fn an_address_from_which_nothing_comes() {
    let mut world = World::new().await;
    let _silence = Silence::of_packets(world.proxy.go_away().await).await;

    let report = world.examine().await;

    World::assert_problem(&report, "service-address", "no answer, perhaps because of a firewall");
    World::assert_skipped(&report, &AFTER_ADDRESS);
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing() {
    let mut world = World::new().await;
    let _silence = Silence::after_connecting(world.proxy.go_away().await).await;

    let report = world.examine().await;

    World::assert_problem(&report, "service-certificate", "no response within 10 s");
    World::assert_skipped(&report, &AFTER_ADDRESS[1..]);
}

#[tokio::test]
async fn an_ipv6_address_that_does_not_answer() {
    let world = World::new().await;
    let v4 = world.setup.network.address_of("rtc.example.org");
    world.setup.network.point_to_all("rtc.example.org", &[v4, PUBLIC_V6.into()]);

    let report = world.examine().await;

    World::assert_problem(&report, "service-address", "has the IPv6 address 2606:2800:220:1::5, which doesn't answer");
    World::assert_skipped(&report, &[]);
}

#[tokio::test]
async fn an_ipv6_address_to_which_this_machine_has_no_way() {
    let world = World::new().await;
    let v4 = world.setup.network.address_of("rtc.example.org");
    world.setup.network.point_to_all("rtc.example.org", &[v4, "2a00::1".parse().unwrap()]);

    let report = world.examine().await;

    let address = World::finding(&report, "service-address");
    assert!(address.outcome.seen.contains("2a00::1 can't be reached from this machine"), "{address:?}");
    World::assert_well(&report);
}

#[tokio::test]
async fn a_service_at_a_private_address_that_chrome_asks_its_user_about() {
    let report = report_of_a_private_address("rtc.example.org").await;

    World::assert_warning(&report, "service-address", "is at 10.0.0.5, a private address: Chrome asks the user");
}

#[tokio::test]
async fn an_sfu_at_a_private_address_that_chrome_asks_its_user_about() {
    let report = report_of_a_private_address("sfu.example.org").await;

    World::assert_warning(&report, "sfu", "is at 10.0.0.5, a private address: Chrome asks the user");
}

async fn report_of_a_private_address(host: &str) -> Report {
    let setup = TestSetup::new().await;
    setup.network.point(host, "10.0.0.5".parse().unwrap());
    World::with(setup, |deployment| deployment).await.examine().await
}

#[tokio::test]
async fn an_expired_certificate() {
    let mut world = World::new().await;
    world.proxy.show(Some(world.setup.authority.expired_certificate("rtc.example.org"))).await;
    assert_certificate(&world, "has expired").await;
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet() {
    let mut world = World::new().await;
    world.proxy.show(Some(world.setup.authority.future_certificate("rtc.example.org"))).await;
    assert_certificate(&world, "isn't valid yet").await;
}

#[tokio::test]
async fn a_server_without_a_certificate_for_the_name() {
    let mut world = World::new().await;
    world.proxy.show(Some(Certificate::none())).await;
    assert_certificate(&world, "has no certificate for rtc.example.org").await;
}

#[tokio::test]
async fn something_else_than_http() {
    let mut world = World::new().await;
    world.proxy.speak(world.setup.authority.certificate("rtc.example.org"), b"220 mail.example.org ESMTP\r\n").await;

    let report = world.examine().await;

    World::assert_problem(&report, "healthz", "doesn't speak HTTP");
    World::assert_skipped(&report, &AFTER_ADDRESS[2..]);
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    let mut world = World::new().await;
    world.proxy.show(Some(world.setup.authority.certificate("www.example.org"))).await;
    assert_certificate(&world, "is for www.example.org, not for rtc.example.org").await;
}

#[tokio::test]
async fn a_self_signed_certificate() {
    let mut world = World::new().await;
    world.proxy.show(Some(CertificateAuthority::self_signed_certificate("rtc.example.org"))).await;
    assert_certificate(&world, "is self-signed").await;
}

#[tokio::test]
async fn a_certificate_without_its_issuer() {
    let mut world = World::new().await;
    world.proxy.show(Some(CertificateAuthority::named("another authority").certificate("rtc.example.org"))).await;
    assert_certificate(&world, "comes without its issuer's, or its issuer isn't a public authority").await;
}

#[tokio::test]
async fn a_port_without_tls() {
    let mut world = World::new().await;
    world.proxy.show(None).await;
    assert_certificate(&world, "doesn't speak TLS").await;
}

#[tokio::test]
async fn a_misconfigured_service() {
    let world = World::with(TestSetup::new().await, |deployment| {
        deployment.unset("LIVEKIT_SECRET").set("LIVEKIT_LOG_LEVEL", "WRONG")
    })
    .await;

    let report = world.examine().await;

    World::assert_problem(&report, "healthz", "503: missing or invalid: LIVEKIT_LOG_LEVEL, LIVEKIT_SECRET");
    World::assert_skipped(&report, &AFTER_ADDRESS[2..]);
}

#[tokio::test]
async fn a_url_that_leads_elsewhere() {
    let world = World::new().await;
    for (reply, cause) in [
        (Reply::html(404), "404: this URL isn't routed to the service"),
        (Reply::html(200), "returned 200, but not this service's"),
        (Reply::html(502), "502: the proxy doesn't reach the service"),
        (Reply::html(403), "403: something in front of the service requires authentication"),
        (Reply::redirect(302, "https://login.example.org/"), "redirected (302 to https://login.example.org/)"),
    ] {
        world.proxy.meddle(move |_, _| reply.clone());

        let report = world.examine().await;

        World::assert_problem(&report, "healthz", cause);
        World::assert_skipped(&report, &AFTER_ADDRESS[2..]);
    }
}

#[tokio::test]
async fn a_prefix_that_does_not_lead_to_the_service() {
    let mut world = World::new().await;
    world.arguments[1] = String::from("https://rtc.example.org/livekit");

    let report = world.examine().await;

    World::assert_finding(&report, "healthz", Status::Problem, "404");
    World::assert_finding(&report, "announcement", Status::Problem, "the right host with another path");
    let change = World::finding(&report, "healthz").outcome.change.as_deref().unwrap();
    assert!(change.contains("everything below /livekit/"), "{change}");
}

#[tokio::test]
async fn another_implementation() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.path.ends_with("/healthz") {
        true => Reply::new(200, "text/plain", ""),
        false => reply,
    });

    let report = world.examine().await;

    World::assert_warning(&report, "healthz", "another implementation");
}

#[tokio::test]
async fn a_redirected_post() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.path.ends_with("/sfu/get") && request.method == "POST" {
        true => Reply::redirect(301, "/livekit/jwt/sfu/get/"),
        false => reply,
    });

    let report = world.examine().await;

    World::assert_finding(&report, "endpoints", Status::Problem, "301 to /livekit/jwt/sfu/get/");
    World::assert_finding(&report, "endpoints", Status::Problem, "turns a client's POST into a GET");
    World::assert_skipped(&report, &["cors-on-errors"]);
}

#[tokio::test]
async fn an_endpoint_that_is_not_passed_on() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.path.ends_with("/delegate_delayed_leave") {
        true if request.method == "POST" => Reply::html(404),
        _ => reply,
    });

    let report = world.examine().await;

    World::assert_problem(&report, "endpoints", "/delegate_delayed_leave returned 404");
}

#[tokio::test]
async fn a_doubled_slash_that_is_redirected() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.path.contains("//") {
        true => Reply::redirect(301, "/livekit/jwt/sfu/get"),
        false => reply,
    });

    let report = world.examine().await;

    World::assert_warning(&report, "slashes", "is redirected to /livekit/jwt/sfu/get");
}

#[tokio::test]
async fn a_preflight_that_the_proxy_answers() {
    let world = World::new().await;
    for (reply, cause) in [
        (Reply::html(405), "it returned 405"),
        (Reply::redirect(308, "/elsewhere"), "redirected to /elsewhere"),
        (Reply::new(204, "text/plain", ""), "no Access-Control-Allow-Origin"),
        (
            Reply::new(204, "text/plain", "").header("access-control-allow-origin", "https://element.example.org"),
            "is https://element.example.org instead of *",
        ),
        (Reply::new(204, "text/plain", "").header("access-control-allow-origin", "*"), "lacks Content-Type"),
    ] {
        world.proxy.meddle(move |request, passed| if request.method == "OPTIONS" { reply.clone() } else { passed });

        let report = world.examine().await;

        World::assert_problem(&report, "preflight", cause);
    }
}

#[tokio::test]
async fn cors_headers_that_errors_lack() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.method.as_str() {
        "POST" => reply.without_header(CORS.as_str()),
        _ => reply,
    });

    let report = world.examine().await;

    World::assert_problem(&report, "cors-on-errors", "there is no Access-Control-Allow-Origin");
}

#[tokio::test]
async fn cors_headers_that_a_proxy_doubles() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.method.as_str() {
        "POST" => reply.header(CORS.as_str(), "*"),
        _ => reply,
    });

    let report = world.examine().await;

    World::assert_problem(&report, "cors-on-errors", "there are 2 Access-Control-Allow-Origin headers");
}

#[tokio::test]
async fn a_name_in_the_secrets_file_that_nothing_reads() {
    let world = World::new().await;
    let (key, secret) = Sfu::credentials();
    world.has_secrets(&json!({ "LIVEKIT_KEY": key, "LIVEKIT_SECRET": secret, "LIVEKIT_HS_TOKENS": "SECRET-x" }));

    let report = world.examine().await;

    World::assert_warning(&report, "variables", "nothing reads LIVEKIT_HS_TOKENS: perhaps LIVEKIT_HS_TOKEN is meant");
    World::assert_skipped(&report, &[]);
}

#[tokio::test]
async fn a_url_without_tls() {
    let mut world = World::new().await;
    world.proxy.show(None).await;
    world.arguments[1] = SERVICE_URL.replace("https://rtc.example.org/", "http://rtc.example.org:443/");

    let report = world.examine().await;

    World::assert_finding(&report, "service-certificate", Status::Problem, "no TLS");
    assert_eq!(World::finding(&report, "endpoints").outcome.status, Status::Ok);
}

#[tokio::test]
async fn an_error_that_is_no_longer_the_services() {
    let world = World::new().await;
    world.proxy.meddle(|request, reply| match request.method.as_str() {
        "POST" => Reply::json(400, &json!({ "message": "bad request" })),
        _ => reply,
    });

    let report = world.examine().await;

    World::assert_finding(&report, "endpoints", Status::Problem, "400, in a response that isn't the service's");
}

async fn assert_certificate(world: &World, cause: &str) {
    let report = world.examine().await;
    World::assert_problem(&report, "service-certificate", cause);
    World::assert_skipped(&report, &AFTER_ADDRESS[1..]);
}

/// Checks that need the service, in order.
const AFTER_ADDRESS: [&str; 9] = [
    "service-certificate",
    "healthz",
    "endpoints",
    "slashes",
    "preflight",
    "cors-on-errors",
    "webhook-passes",
    "webhook",
    "forged-webhook",
];
const CORS: HeaderName = HeaderName::from_static("access-control-allow-origin");
