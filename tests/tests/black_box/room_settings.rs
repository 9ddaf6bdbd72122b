//! The settings with which rooms are created on the SFU (`docs/protocol.md#livekits-server-api`).

use black_box::{Endpoint, TestSetup};

#[tokio::test]
async fn the_operator_s_settings_are_those_of_the_room() {
    for (empty, departure, participants) in [("60", "0", "50"), ("0", "4294967295", "1")] {
        let setup = TestSetup::new().await;
        let home = setup.homeserver("example.org").start().await;
        let service = (setup.deployment().full_access("example.org"))
            .set("LIVEKIT_ROOM_EMPTY_TIMEOUT_SECONDS", empty)
            .set("LIVEKIT_ROOM_DEPARTURE_TIMEOUT_SECONDS", departure)
            .set("LIVEKIT_ROOM_MAX_PARTICIPANTS", participants)
            .start();

        let answer = service.request_token(Endpoint::GetToken, &home.openid_token("@alice:example.org")).await;

        assert_eq!(answer.status, 200, "{answer:?}");
        let created = setup.sfu.created();
        let room = &created[0];
        let settings = [room.empty_timeout, room.departure_timeout, room.max_participants];
        assert_eq!(settings.map(|value| value.to_string()), [empty, departure, participants]);
    }
}
