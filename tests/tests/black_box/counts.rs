//! Number of requests to homeserver, resolver and SFU that one token costs (`docs/protocol.md#finding-homeservers`,
//! `docs/operations.md#costs`).
//!
//! The fakes count. The tests compare a first request with later ones, and a hundred concurrent ones with a single one:
//! concurrent look-ups of the same name are shared.

use black_box::{Connection, Endpoint, Gate, Homeserver, HomeserverPlan, Reply, Service, TestSetup};
use futures_util::future::join_all;
use hyper::Method;
use serde_json::json;

#[tokio::test]
async fn a_warm_request_costs_userinfo_and_for_full_access_the_room() {
    for how in [How::WellKnown, How::WellKnownAndSrv, How::Srv, How::DefaultPort, How::Address] {
        for (access, rooms) in [("*", 1), ("other.example", 0)] {
            let setup = TestSetup::new().await;
            let (home, name) = how.homeserver(&setup).await;
            let service = setup.deployment().full_access(access).start();
            let user = format!("@alice:{name}");
            assert_eq!(service.request_token(Endpoint::GetToken, &home.openid_token(&user)).await.status, 200);
            let before = Counts::of(&setup, &home);

            for (number, endpoint) in Endpoint::BOTH.into_iter().enumerate() {
                let answer = service.request_token(endpoint, &home.openid_token(&user)).await;

                assert_eq!(answer.status, 200, "{how:?}: {answer:?}");
                let expected = Counts {
                    userinfo: before.userinfo + number + 1,
                    rooms: before.rooms + rooms * (number + 1),
                    ..before
                };
                assert_eq!(Counts::of(&setup, &home), expected, "{how:?}, access for {access}");
            }
        }
    }
}

#[tokio::test]
async fn a_cold_request_costs_the_well_known_file_besides() {
    for (access, rooms) in [("*", 1), ("other.example", 0)] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").start().await;
        let service = setup.deployment().full_access(access).start();

        let answer = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await;

        assert_eq!(answer.status, 200, "{answer:?}");
        let expected = Counts { well_known: 1, srv: 0, userinfo: 1, rooms };
        assert_eq!(Counts::of(&setup, &home), expected);
    }
}

#[tokio::test]
async fn concurrent_cold_requests_share_one_look_up() {
    let setup = TestSetup::new().await;
    let gate = Gate::closed();
    let home = held_by(&setup, &gate).start().await;
    let service = setup.deployment().full_access("*").start();

    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(Client::send(&service, &home).await);
    }
    home.well_known_requested().await;
    gate.open();
    let statuses = join_all(clients.into_iter().map(Client::status)).await;

    assert!(statuses.iter().all(|status| status == "200"), "{statuses:?}");
    let expected = Counts { well_known: 1, srv: 0, userinfo: 100, rooms: 100 };
    assert_eq!(Counts::of(&setup, &home), expected);
}

#[tokio::test]
async fn a_shared_look_up_outlives_the_client_that_caused_it() {
    let setup = TestSetup::new().await;
    let gate = Gate::closed();
    let home = held_by(&setup, &gate).start().await;
    let service = setup.deployment().full_access("*").start();

    let first = Client::send(&service, &home).await;
    home.well_known_requested().await;
    let mut others = Vec::new();
    for _ in 0..99 {
        others.push(Client::send(&service, &home).await);
    }
    first.0.abort();
    // This later request is served after the worker has noticed that the first client is gone.
    assert_eq!(service.request(Method::GET, "/healthz").await.status, 200);
    gate.open();
    let statuses = join_all(others.into_iter().map(Client::status)).await;

    assert!(statuses.iter().all(|status| status == "200"), "{statuses:?}");
    assert_eq!(home.well_known_requests(), 1);
}

#[tokio::test]
async fn different_names_are_looked_up_side_by_side() {
    let setup = TestSetup::new().await;
    let never = Gate::closed();
    let stuck = held_by(&setup, &never).start().await;
    let other = setup.homeserver("other.example").start().await;
    let service = setup.deployment().start();
    let _waiting = Client::send(&service, &stuck).await;
    stuck.well_known_requested().await;

    let answer = service.request_token(Endpoint::SfuGet, &other.openid_token("@bob:other.example")).await;

    assert_eq!(answer.status, 200, "{answer:?}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    well_known: usize,
    srv: usize,
    userinfo: usize,
    rooms: usize,
}

impl Counts {
    fn of(setup: &TestSetup, home: &Homeserver) -> Self {
        Self {
            well_known: home.well_known_requests(),
            srv: setup.resolver.queried().len(),
            userinfo: home.userinfo_requests(),
            rooms: setup.sfu.requests(),
        }
    }
}

/// Step of server discovery that finds the homeserver.
#[derive(Clone, Copy, Debug)]
enum How {
    WellKnown,
    WellKnownAndSrv,
    Srv,
    DefaultPort,
    Address,
}

impl How {
    async fn homeserver(self, setup: &TestSetup) -> (Homeserver, String) {
        let name = match self {
            Self::Address => setup.network.unused_address().to_string(),
            _ => String::from("example.org"),
        };
        for host in ["hs.example.net", "example.org"] {
            setup.resolver.add_srv(&format!("_matrix-fed._tcp.{host}"), 10, 5, 8449, "node1.example");
        }
        let plan = setup.homeserver(&name);
        let plan = match self {
            Self::WellKnown => plan,
            Self::WellKnownAndSrv => {
                plan.delegates_to("hs.example.net").federation_behind_srv("hs.example.net", "node1.example", 8449)
            }
            Self::Srv => plan.without_well_known().federation_behind_srv("example.org", "node1.example", 8449),
            Self::DefaultPort => {
                setup.resolver.forget();
                plan.without_well_known().federation_at("example.org", 8448)
            }
            Self::Address => plan.federation_at(&name, 8448),
        };
        (plan.start().await, name)
    }
}

fn held_by<'a>(setup: &'a TestSetup, gate: &Gate) -> HomeserverPlan<'a> {
    let delegation = Reply::json(200, &json!({ "m.server": "matrix.example.org:443" }));
    setup.homeserver("example.org").well_known(delegation.behind(gate))
}

/// A client that has sent a complete request. It can wait for the response, or disconnect before.
struct Client(Connection);

impl Client {
    async fn send(service: &Service, home: &Homeserver) -> Self {
        let body = Endpoint::GetToken.request(&home.openid_token("@alice:example.org")).to_string();
        let length = body.len();
        let head =
            format!("POST /get_token HTTP/1.1\r\nHost: edge\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        let mut connection = service.connect().await;
        connection.send((head + &body).as_bytes()).await;
        Self(connection)
    }

    async fn status(mut self) -> String {
        let answer = self.0.receive_to_end().await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }
}
