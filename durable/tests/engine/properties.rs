use delegated_leaves::DisconnectReason::{self, DuplicateIdentity, Migration, Other};
use delegated_leaves::{
    EngineConfig, HomeserverAnswer, MembersAnswer, Occurrence, ParticipantRef, ParticipantState, RemovalAnswer,
    ServerAnswer, StateColumn,
};
use proptest::prelude::*;
use std::time::Duration;

use crate::call::{Call, DONE, FAILED, GONE, participant, token};

/// Anything that may happen to a room.
#[derive(Clone, Debug)]
enum Happening {
    Delegate(usize, u64),
    Joined(usize, u8, Option<u64>),
    Left(usize, u8, Option<u64>, DisconnectReason),
    Aborted(usize, u8),
    RoomFinished,
    Wait(u32),
    WaitForDue,
    Homeserver(HomeserverAnswer),
    Sfu(Option<Vec<(usize, u8, ParticipantState)>>),
    Track(usize, bool, u64),
    Members(Option<Vec<usize>>, bool),
    Server(ServerAnswer),
    Removal(RemovalAnswer),
    Crash,
}

fn happening() -> impl Strategy<Value = Happening> {
    let who = 0..WHO.len();
    let age = prop_oneof![Just(None), (0..300_u64).prop_map(Some)];
    let reason = prop_oneof![Just(Other), Just(DuplicateIdentity), Just(Migration)];
    let state = prop_oneof![
        3 => Just(ParticipantState::Active),
        1 => Just(ParticipantState::Joining),
        1 => Just(ParticipantState::Disconnected)
    ];
    let answer = prop_oneof![
        3 => Just(DONE),
        2 => Just(FAILED),
        1 => Just(GONE),
        1 => (0..200_u64).prop_map(|wait| HomeserverAnswer::Limited(Some(Duration::from_secs(wait)))),
    ];
    let shown = prop::collection::vec((who.clone(), 0..4_u8, state), 0..3);
    let members = prop::option::weighted(0.7, prop::collection::vec(who.clone(), 0..3));
    let server = prop_oneof![any::<bool>().prop_map(ServerAnswer::Joined), Just(ServerAnswer::Failed)];
    let removal = prop_oneof![Just(RemovalAnswer::Done), Just(RemovalAnswer::NotThere), Just(RemovalAnswer::Failed)];
    prop_oneof![
        3 => (who.clone(), any::<bool>(), 0..7200_u64)
            .prop_map(|(who, other_room, lifetime)| Happening::Track(who, other_room, lifetime)),
        6 => (members, any::<bool>()).prop_map(|(joined, forbidden)| Happening::Members(joined, forbidden)),
        4 => server.prop_map(Happening::Server),
        4 => removal.prop_map(Happening::Removal),
        2 => (who.clone(), 1..7200_u64).prop_map(|(who, timeout)| Happening::Delegate(who, timeout)),
        3 => (who.clone(), 0..4_u8, age.clone()).prop_map(|(who, sid, age)| Happening::Joined(who, sid, age)),
        3 => (who.clone(), 0..4_u8, age, reason).prop_map(|(who, sid, age, why)| Happening::Left(who, sid, age, why)),
        1 => (who, 0..4_u8).prop_map(|(who, sid)| Happening::Aborted(who, sid)),
        1 => Just(Happening::RoomFinished),
        2 => (0..100_000_u32).prop_map(Happening::Wait),
        6 => Just(Happening::WaitForDue),
        6 => answer.prop_map(Happening::Homeserver),
        5 => prop::option::weighted(0.8, shown).prop_map(Happening::Sfu),
        1 => Just(Happening::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// [`Call`] checks after each input that the rows on disk are those that a crash needs.
    #[test]
    fn whatever_happens_there_is_a_next_step_and_it_is_a_step(happenings in prop::collection::vec(happening(), 0..80)) {
        let interval = Some(Duration::from_secs(60));
        let config = EngineConfig { sanity_check_interval: interval, membership_check_interval: interval };
        let mut call = Call::with_rules(config);
        for happening in happenings {
            happen(&mut call, happening);
            if call.room.is_empty() {
                prop_assert_eq!(call.room.next_due(), call.room.next_due().filter(|_| call.room.has_actions_in_flight()));
            } else {
                prop_assert!(call.room.next_due().is_some());
            }
            call.acts();
            prop_assert!(call.acts().is_empty());
            prop_assert!(call.room.has_actions_in_flight() || call.room.next_due().is_none_or(|due| due > call.now));
        }
    }

    /// However often and in whatever order participants come and go, none is remembered for ever, and nothing is left
    /// to do.
    #[test]
    fn whoever_is_tracked_is_forgotten_in_the_end(happenings in prop::collection::vec(happening(), 0..60)) {
        let mut call = Call::with_membership();
        for happening in happenings {
            // Delegations have their own end.
            if !matches!(happening, Happening::Delegate(..)) {
                happen(&mut call, happening);
                call.acts();
            }
        }
        for _ in 0..5_000 {
            if call.awaits_sfu() {
                call.sfu(&[]);
            } else if call.awaits("members of") {
                call.members(&WHO);
            } else if call.awaits("server in") {
                call.server_answers(ServerAnswer::Failed);
            } else if call.awaits("remove") || call.awaits("delete") {
                call.removal(RemovalAnswer::Failed);
            } else if call.room.next_due().is_some() {
                call.wait_for_due();
            } else {
                break;
            }
            call.acts();
        }
        prop_assert!(call.tracked.is_empty(), "{:?}", call.tracked);
        prop_assert_eq!(call.room.next_due(), None);
    }

    /// In whatever order the webhooks of two connections come, the participant has left in the end.
    #[test]
    fn webhooks_in_any_order_come_to_the_same(order in Just(vec![0, 1, 2, 3]).prop_shuffle(), crash_after in 0..5_usize) {
        let mut call = Call::new();
        call.delegate("alice", 3600);
        let start = call.now;
        call.wait(60.0);
        for (n, webhook) in order.into_iter().enumerate() {
            if n == crash_after {
                call.crash();
            }
            let (sid, began, at) = if webhook < 2 { ("PA_1", 5, 10) } else { ("PA_2", 20, 30) };
            let joined_at = Some(start + Duration::from_secs(began));
            let participant = ParticipantRef { joined_at, ..participant("alice", sid) };
            call.webhook(
                start + Duration::from_secs(at),
                if webhook % 2 == 0 {
                    Occurrence::ParticipantJoined(participant)
                } else {
                    Occurrence::ParticipantLeft(participant, Other)
                },
            );
        }
        while !call.acts().contains(&"send alice".to_owned()) {
            if call.room.has_actions_in_flight() {
                answer(&mut call);
            }
            prop_assert!(call.now < start + Duration::from_secs(120), "it stays {:?}", call.state("alice"));
            call.wait_for_due();
        }
    }
}

fn happen(call: &mut Call, happening: Happening) {
    let earlier = |call: &Call, age: Option<u64>| call.now - Duration::from_secs(age.unwrap_or(0));
    match happening {
        Happening::Delegate(who, timeout_s) => call.delegate(WHO[who], timeout_s),
        Happening::Joined(who, sid, age) => {
            let at = earlier(call, age);
            let joined_at = age.map(|_| at);
            let participant = ParticipantRef { joined_at, ..participant(WHO[who], SIDS[usize::from(sid)]) };
            call.webhook(at, Occurrence::ParticipantJoined(participant));
        }
        Happening::Left(who, sid, age, reason) => {
            let at = earlier(call, age);
            call.webhook(at, Occurrence::ParticipantLeft(participant(WHO[who], SIDS[usize::from(sid)]), reason));
        }
        Happening::Aborted(who, sid) => call.aborted(WHO[who], SIDS[usize::from(sid)]),
        Happening::RoomFinished => call.room_finished(),
        Happening::Wait(ms) => call.wait(f64::from(ms) / 1000.0),
        Happening::WaitForDue => {
            if call.due_in().is_finite() {
                call.wait_for_due();
            }
        }
        Happening::Homeserver(answer) => {
            if call.awaits_homeserver() {
                call.homeserver(answer);
            }
        }
        Happening::Sfu(answer) => {
            if call.awaits_sfu() {
                match answer {
                    Some(there) => {
                        let there: Vec<_> = there
                            .iter()
                            .map(|(who, sid, state)| (WHO[*who], SIDS[usize::from(*sid)], *state))
                            .collect();
                        call.sfu_shows(&there);
                    }
                    None => call.sfu_fails(),
                }
            }
        }
        Happening::Track(who, other_room, lifetime_s) => {
            let expires_at = call.now + Duration::from_secs(lifetime_s);
            call.track_as(token(WHO[who], if other_room { "!other" } else { "!room" }, expires_at));
        }
        Happening::Members(joined, forbidden) => {
            if call.awaits("members of") {
                match joined {
                    Some(joined) => call.members(&joined.iter().map(|who| WHO[*who]).collect::<Vec<_>>()),
                    None if forbidden => call.members_answer(MembersAnswer::Forbidden),
                    None => call.members_answer(MembersAnswer::Failed),
                }
            }
        }
        Happening::Server(answer) => {
            if call.awaits("server in") {
                call.server_answers(answer);
            }
        }
        Happening::Removal(answer) => {
            if call.awaits("remove") || call.awaits("delete") {
                call.removal(answer);
            }
        }
        Happening::Crash => call.crash(),
    }
}

/// Answers a poll without participants, and a request to the homeserver with success.
fn answer(call: &mut Call) {
    if call.awaits_sfu() {
        call.sfu(&[]);
    }
    if call.awaits_homeserver() {
        call.homeserver(DONE);
    }
    assert_ne!(call.state("alice"), None::<StateColumn>);
}

const WHO: [&str; 3] = ["alice", "bob", "carol"];
const SIDS: [&str; 4] = ["", "PA_1", "PA_2", "PA_3"];
