//! Identities under which the worker looks for a member on the SFU (`docs/protocol.md#names-on-the-sfu`,
//! `docs/protocol.md#the-life-of-a-delegated-leave`).
//!
//! Members delegate through one endpoint and join with the identity of another. A delegation without a token matches
//! the identities of both forms, one with a token only the token's.

use black_box::{EntryPoint, Member, Query};

use super::{LONG, SHORT, Stage, alice};

#[tokio::test]
async fn a_legacy_client_that_delegates_on_its_own_is_matched() {
    let stage = Stage::new().await;
    let token = stage.home.openid_token(&alice().user_id);
    let answer = stage.service.post("/sfu/get", &alice().request(EntryPoint::SfuGet, &token)).await;
    assert!(!answer.jwt().is_empty());
    let participant = stage.join(EntryPoint::SfuGet, &alice()).await;

    let delay_id = stage.delegate(EntryPoint::Delegate, &alice(), LONG).await;

    stage.events.restarted(&delay_id, 1).await;
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;
    // One poll of the room covers both identities.
    assert_eq!(stage.setup.sfu.queries()[0], Query::List { room: alice().room() });
}

#[tokio::test]
async fn a_legacy_client_that_joins_after_it_delegated_is_matched() {
    let stage = Stage::new().await;
    let delay_id = stage.delegate(EntryPoint::Delegate, &alice(), LONG).await;

    let participant = stage.join(EntryPoint::SfuGet, &alice()).await;

    stage.events.restarted(&delay_id, 1).await;
    stage.leave(&participant).await;
    stage.events.sent(&delay_id).await;
}

#[tokio::test]
async fn the_legacy_identity_is_of_the_legacy_slot_only() {
    let stage = Stage::new().await;
    let member = Member { slot_id: String::from("m.call#OTHER"), ..alice() };
    let delay_id = stage.delegate(EntryPoint::Delegate, &member, LONG).await;

    stage.setup.sfu.join(&member.room(), &member.identity(EntryPoint::SfuGet));
    let stranger = stage.join(EntryPoint::SfuGet, &member).await;
    stage.leave(&stranger).await;
    assert_eq!(stage.events.restarts(&delay_id), 0);

    stage.join(EntryPoint::Delegate, &member).await;
    stage.events.restarted(&delay_id, 1).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
}

#[tokio::test]
async fn with_a_token_only_the_token_s_identity_counts() {
    for (entry_point, other) in [(EntryPoint::GetToken, EntryPoint::SfuGet), (EntryPoint::SfuGet, EntryPoint::GetToken)]
    {
        let stage = Stage::new().await;
        let delay_id = stage.delegate(entry_point, &alice(), SHORT).await;
        stage.join(entry_point, &alice()).await;
        stage.events.restarted(&delay_id, 1).await;

        let namesake = stage.join(other, &alice()).await;
        stage.leave(&namesake).await;

        stage.restarted_again(&delay_id).await;
        assert_eq!(stage.events.sends(&delay_id), 0, "{entry_point:?}");
    }
}

#[tokio::test]
async fn the_other_members_of_a_room_come_and_go_as_they_like() {
    let stage = Stage::new().await;
    let others = [
        Member { user_id: String::from("@bob:example.org"), ..alice() },
        Member { device_id: String::from("OTHER"), ..alice() },
        Member { member_id: String::from("member-2"), ..alice() },
        Member { room_id: String::from("!other:example.org"), ..alice() },
    ];
    let (delay_id, _) = stage.connected(&alice(), SHORT).await;
    for other in others {
        let participant = stage.join(EntryPoint::GetToken, &other).await;
        stage.leave(&participant).await;
    }

    stage.restarted_again(&delay_id).await;
    assert_eq!(stage.events.sends(&delay_id), 0);
}
