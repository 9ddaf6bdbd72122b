//! `User-Agent` of every request that leaves (`docs/protocol.md#requests-that-are-repeated`).
//!
//! The fakes refuse requests without it, as many sites do, so every test shows it for the requests that it causes. These
//! are those of them that leave by a way of their own.

use std::time::Duration;

use black_box::{Departure, EntryPoint, Member, TestSetup};

#[tokio::test]
async fn parties_that_refuse_requests_without_one_are_served() {
    let setup = TestSetup::new().await;
    // Resolver, and a socket in place of `fetch`.
    setup.resolver.add_srv("_matrix-fed._tcp.example.org", 10, 5, 8449, "node1.example.com");
    let home = (setup.homeserver("example.org").without_well_known())
        .federation_behind_srv("example.org", "node1.example.com", 8449)
        .start()
        .await;
    let events = setup.delayed_events("cs.example.org").await;
    home.has_client_api(events.base_url());
    let service = setup.deployment().full_access("example.org").start();
    let alice = Member::of_room("!room:example.org", "@alice:example.org");
    let delay = Duration::from_secs(600);
    let delay_id = events.schedule(delay);

    let request = alice.delegation(EntryPoint::GetToken, &home.openid_token(&alice.user_id), &delay_id, delay);
    let answer = service.post("/get_token", &request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let participant = setup.sfu.join(&alice.room(), &alice.identity(EntryPoint::GetToken));
    participant.joined().send(&service).await;
    events.restarted(&delay_id, 1).await;
    setup.sfu.leave(&participant);
    participant.left(Departure::ClientInitiated).send(&service).await;

    events.sent(&delay_id).await;
    assert_eq!((home.userinfo_requests(), setup.sfu.created().len()), (1, 1));
}
