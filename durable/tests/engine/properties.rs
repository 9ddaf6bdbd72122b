use delegated_leaves::DisconnectReason::{self, DuplicateIdentity, Migration, Other};
use delegated_leaves::{HomeserverAnswer, Occurrence, ParticipantRef, ParticipantState, StateColumn};
use proptest::prelude::*;
use std::time::Duration;

use crate::call::{Call, DONE, FAILED, GONE, participant};

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
    prop_oneof![
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

    /// [`Call`] checks after each input that what is stored is what a crash needs.
    #[test]
    fn whatever_happens_there_is_a_next_step_and_it_is_a_step(happenings in prop::collection::vec(happening(), 0..80)) {
        let mut call = Call::with_sanity_check(60);
        for happening in happenings {
            happen(&mut call, happening);
            if call.room.is_empty() {
                prop_assert_eq!(call.room.next_due(), call.room.next_due().filter(|_| call.room.has_actions_under_way()));
            } else {
                prop_assert!(call.room.next_due().is_some());
            }
            call.acts();
            prop_assert!(call.acts().is_empty());
            prop_assert!(call.room.has_actions_under_way() || call.room.next_due().is_none_or(|due| due > call.now));
        }
    }

    /// In whatever order the webhooks of two connections come, the participant is gone in the end.
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
            if call.room.has_actions_under_way() {
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
        Happening::Crash => call.crash(),
    }
}

/// The SFU has nobody, and the homeserver does what it is asked.
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
