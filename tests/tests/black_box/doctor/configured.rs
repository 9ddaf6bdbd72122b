use black_box::{Reply, TestSetup};
use operator::configure::{Files, KeyPair, Placement, Plan, Route, Secrets, SecretsFile, Tokens};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::workspace;

use super::{SERVICE_URL, SFU_URL, World, well_known};

#[tokio::test]
async fn what_configure_prints_is_what_the_doctor_finds_well() {
    let route = Route::below_path("rtc.example.org/livekit/jwt").unwrap();
    let plan = Plan::new(route, SFU_URL.to_owned(), String::from("example.org"), None).unwrap();
    let files = files(&plan, None);
    let wrangler: toml::Table = files.content("wrangler.production.toml").unwrap().parse().unwrap();
    let vars = wrangler["vars"].as_table().unwrap().clone();
    let mut announced: Value = serde_json::from_str(files.content("well-known-fragment.json").unwrap()).unwrap();
    announced["m.homeserver"] = json!({ "base_url": "https://cs.example.org" });

    let world = World::with(TestSetup::new().await, |deployment| {
        let deployment = deployment.unset("LIVEKIT_URL").unset("LIVEKIT_FULL_ACCESS_HOMESERVERS");
        vars.iter().fold(deployment, |deployment, (name, value)| deployment.set(name, value.as_str().unwrap()))
    })
    .await;
    world.own.home.set_client_well_known(well_known(&announced));
    let report = world.examine().await;

    World::assert_well(&report);
    let sfu = files.content("livekit-fragment.yaml").unwrap();
    assert!(sfu.contains(&format!("    - \"{SERVICE_URL}/sfu_webhook\"\n")), "{sfu}");
    assert!(sfu.contains("room:\n  auto_create: false\n"), "{sfu}");
}

#[tokio::test]
async fn what_configure_announces_in_homeserver_mode_is_well_in_both_places() {
    let world = World::in_homeserver_mode().await;
    let route = Route::below_path("rtc.example.org/livekit/jwt").unwrap();
    let plan = Plan::new(route, SFU_URL.to_owned(), String::from("example.org"), None).unwrap();
    let plan = plan.in_homeserver_mode(world.subject().server_name.unwrap());
    let files = files(&plan, Some(Tokens::generate().unwrap()));
    let mut announced: Value = serde_json::from_str(files.content("well-known-fragment.json").unwrap()).unwrap();
    let entry = announced["org.matrix.msc4143.rtc_foci"][0].clone();
    announced["m.homeserver"] = json!({ "base_url": "https://cs.example.org" });
    world.own.home.set_client_well_known(well_known(&announced));
    world.own.announces_nothing();
    world.own.announces(&entry);

    let report = world.examine().await;

    World::assert_well_in_homeserver_mode(&report);
    let homeserver = files.content("homeserver-fragment.yaml").unwrap();
    for (key, value) in entry.as_object().unwrap() {
        assert!(homeserver.contains(&format!("{key}: {value}\n")), "{homeserver}");
    }
    let registration = files.content("matrixrtc-registration.yaml").unwrap();
    assert!(registration.lines().any(|line| line == "rate_limited: false"));
}

#[tokio::test]
async fn the_worker_is_placed_beside_an_sfu_that_is_not_behind_cloudflare() {
    let world = World::new().await;
    let find = async || Placement::find(world.subject().trust, SFU_URL).await;
    let beside = Placement::Hostname(String::from("sfu.example.org"));

    let (placement, reason) = find().await;
    assert_eq!(placement, beside);
    assert!(reason.contains("isn't behind Cloudflare's proxy"), "{reason}");

    world.sfu.fail(Reply::html(502).header("server", "cloudflare"));
    let (placement, reason) = find().await;
    assert_eq!(placement, Placement::Smart);
    assert!(reason.contains("is behind Cloudflare's proxy"), "{reason}");

    world.setup.network.point("sfu.example.org", world.setup.network.unused_address());
    let (placement, reason) = find().await;
    assert_eq!(placement, beside, "an SFU that doesn't run yet");
    assert!(reason.contains("--placement smart"), "{reason}");
}

/// The files that are written, with a new pair.
fn files(plan: &Plan, tokens: Option<Tokens>) -> Files {
    let directory = TempDir::new().unwrap();
    let secrets = Secrets { pair: KeyPair::generate().unwrap(), tokens };
    let root = workspace::root().unwrap();
    Files::for_directory(plan, &secrets, SecretsFile::default(), &root, directory.path()).unwrap()
}
