//! Number of requests to homeserver and SFU that one request causes in homeserver mode
//! (`docs/protocol.md#calls-to-the-homeserver`).
//!
//! The same request is sent several times, and the fakes' counters are compared after each: the first one also looks up
//! the homeserver, the later ones find it in the cache.

use black_box::HomeserverPath;

use super::{ROOM, Stage};

#[tokio::test]
async fn a_token_costs_its_queries_and_the_room() {
    for (path, queries, rooms) in [
        (HomeserverPath::ClientGetToken, 1, 1),
        // `is_joined` of the own server and of the user.
        (HomeserverPath::FederationGetToken, 2, 1),
        // The look-up of the delayed event.
        (HomeserverPath::Delegate, 1, 0),
    ] {
        let stage = Stage::with_members().await;
        assert_eq!(stage.forward(path, &stage.request(path)).await.status, 200);
        // The first request has to find the homeserver.
        assert_eq!(Counts::of(&stage), Counts { client_well_known: 1, versions: 1, queries, rooms }, "{path:?}");

        for times in 2..5 {
            assert_eq!(stage.forward(path, &stage.request(path)).await.status, 200);

            let expected = Counts { client_well_known: 1, versions: 1, queries: times * queries, rooms: times * rooms };
            assert_eq!(Counts::of(&stage), expected, "{path:?}");
        }
    }
}

#[tokio::test]
async fn a_relayed_token_costs_two_queries_and_the_relay() {
    let stage = Stage::with_members().await;
    let reply = black_box::Reply::json(200, &serde_json::json!({ "status": 200, "content": { "jwt": "a.b.c" } }));
    stage.own.answer_always(black_box::HomeserverQuery::FedProxy, reply);
    let mut body = stage.request(HomeserverPath::ClientGetToken);
    body["server_name"] = "remote.example".into();

    for times in 1..4 {
        assert_eq!(stage.forward(HomeserverPath::ClientGetToken, &body).await.jwt(), "a.b.c");

        let expected = Counts { client_well_known: 1, versions: 1, queries: 3 * times, rooms: 0 };
        assert_eq!(Counts::of(&stage), expected);
    }
}

#[tokio::test]
async fn a_refusal_costs_no_more_than_the_query() {
    let stage = Stage::with_members().await;
    stage.own.leave(ROOM, super::ALICE);

    for times in 1..4 {
        let answer =
            stage.forward(HomeserverPath::ClientGetToken, &stage.request(HomeserverPath::ClientGetToken)).await;

        answer.assert_error(403, "M_FORBIDDEN");
        assert_eq!(Counts::of(&stage), Counts { client_well_known: 1, versions: 1, queries: times, rooms: 0 });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    client_well_known: usize,
    versions: usize,
    queries: usize,
    rooms: usize,
}

impl Counts {
    fn of(stage: &Stage) -> Self {
        Self {
            client_well_known: stage.own.home.client_well_known_requests(),
            versions: stage.own.events.versions_requests(),
            queries: stage.own.requests(),
            // Created rooms only: after a delegation, the object polls the SFU at a time of its own.
            rooms: stage.setup.sfu.created().len(),
        }
    }
}
