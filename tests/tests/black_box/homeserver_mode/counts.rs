//! How many requests one request costs, here and there.

use black_box::HomeserverPath;

use super::{ROOM, Stage};

#[tokio::test]
async fn a_token_costs_its_questions_and_the_room() {
    for (path, questions, rooms) in [
        (HomeserverPath::ClientGetToken, 1, 1),
        // Our server, and the user.
        (HomeserverPath::FederationGetToken, 2, 1),
        // The look-up of the event.
        (HomeserverPath::Delegate, 1, 0),
    ] {
        let stage = Stage::with_members().await;
        assert_eq!(stage.forward(path, &stage.request(path)).await.status, 200);
        // Cold, it costs to find the homeserver besides.
        assert_eq!(Counts::of(&stage), Counts { client_well_known: 1, versions: 1, questions, rooms }, "{path:?}");

        for times in 2..5 {
            assert_eq!(stage.forward(path, &stage.request(path)).await.status, 200);

            let expected =
                Counts { client_well_known: 1, versions: 1, questions: times * questions, rooms: times * rooms };
            assert_eq!(Counts::of(&stage), expected, "{path:?}");
        }
    }
}

#[tokio::test]
async fn a_relayed_token_costs_two_questions_and_the_relay() {
    let stage = Stage::with_members().await;
    let reply = black_box::Reply::json(200, &serde_json::json!({ "status": 200, "content": { "jwt": "a.b.c" } }));
    stage.own.answer_always(black_box::HomeserverQuestion::FedProxy, reply);
    let mut body = stage.request(HomeserverPath::ClientGetToken);
    body["server_name"] = "remote.example".into();

    for times in 1..4 {
        assert_eq!(stage.forward(HomeserverPath::ClientGetToken, &body).await.jwt(), "a.b.c");

        let expected = Counts { client_well_known: 1, versions: 1, questions: 3 * times, rooms: 0 };
        assert_eq!(Counts::of(&stage), expected);
    }
}

#[tokio::test]
async fn a_refusal_costs_no_more_than_the_question() {
    let stage = Stage::with_members().await;
    stage.own.leave(ROOM, super::ALICE);

    for times in 1..4 {
        let answer =
            stage.forward(HomeserverPath::ClientGetToken, &stage.request(HomeserverPath::ClientGetToken)).await;

        answer.assert_error(403, "M_FORBIDDEN");
        assert_eq!(Counts::of(&stage), Counts { client_well_known: 1, versions: 1, questions: times, rooms: 0 });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    client_well_known: usize,
    versions: usize,
    questions: usize,
    rooms: usize,
}

impl Counts {
    fn of(stage: &Stage) -> Self {
        Self {
            client_well_known: stage.own.home.client_well_known_requests(),
            versions: stage.own.events.versions_requests(),
            questions: stage.own.requests(),
            // Not all requests to the SFU: a delegation has it asked later.
            rooms: stage.lab.sfu.created().len(),
        }
    }
}
