//! A 429 is about all requests of ours to a homeserver.

use std::time::Duration;

use delegated_leaves::{Delegate, HomeserverAnswer, LogEventKind, Pacing, ServerName};

use crate::call::{Call, DONE, request};

fn limited(seconds: u64) -> HomeserverAnswer {
    HomeserverAnswer::Limited(Some(Duration::from_secs(seconds)))
}

/// A call whose members are connected, with these delays in seconds, and whose first restarts are due.
fn call(members: &[(&str, u64)]) -> Call {
    let mut call = Call::new();
    for (who, timeout_s) in members {
        call.delegate(who, *timeout_s);
        call.joined(who, "PA_1");
    }
    call
}

#[test]
fn all_restarts_wait_as_long_as_one_has_to() {
    let mut call = call(&[("alice", 60), ("bob", 600), ("carol", 3600)]);
    assert_eq!(call.acts_up_to(1), ["restart alice"]);
    call.homeserver(limited(5));
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.wait_for_due(), 5.0);
    assert_eq!(call.acts(), ["restart alice"]);
    call.homeserver(DONE);
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["restart bob"]);
    call.homeserver(DONE);
    assert!(call.wait_for_due() < 1.0);
    assert_eq!(call.acts(), ["restart carol"]);
}

#[test]
fn who_was_refused_keeps_its_turn() {
    let mut call = call(&[("alice", 60), ("bob", 600)]);
    assert_eq!(call.acts_up_to(1), ["restart alice"]);
    call.jitter = 0.9;
    call.homeserver(limited(1));
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.wait_for_due(), 1.4, "the homeserver takes the next in a second, but that is alice");
    assert_eq!(call.acts(), ["restart alice"]);
}

#[test]
fn an_earlier_deadline_comes_before_what_was_refused() {
    let mut call = call(&[("alice", 3600)]);
    assert_eq!(call.acts_up_to(1), ["restart alice"]);
    call.jitter = 0.9;
    call.homeserver(limited(1));
    call.delegate("bob", 10);
    call.joined("bob", "PA_1");
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["restart bob"]);
}

/// Rooms of one process, with a member each, whose first restarts are due.
fn rooms<const N: usize>(members: [(&str, u64); N]) -> [Call; N] {
    let pacing = Pacing::default();
    members.map(|member| {
        let mut call = call(&[member]);
        call.room.share_pacing(pacing.for_another_room());
        call
    })
}

#[test]
fn a_limit_holds_for_all_rooms_of_a_process() {
    let [mut one, mut other] = rooms([("alice", 60), ("bob", 600)]);
    assert_eq!(one.acts(), ["restart alice"]);
    one.homeserver(limited(5));
    assert_eq!(other.acts(), [""; 0]);
    assert_eq!(one.acts(), [""; 0]);
    assert_eq!(one.wait_for_due(), 5.0);
    assert_eq!(one.acts(), ["restart alice"]);
    one.homeserver(DONE);
    assert_eq!(other.wait_for_due(), 6.0);
    assert_eq!(other.acts(), ["restart bob"]);
}

#[test]
fn an_earlier_deadline_in_another_room_comes_first() {
    let [mut one, mut other] = rooms([("alice", 600), ("bob", 60)]);
    assert_eq!(one.acts(), ["restart alice"]);
    one.homeserver(limited(5));
    assert_eq!(other.acts(), [""; 0]);
    assert_eq!(one.acts(), [""; 0]);
    assert_eq!(one.wait_for_due(), 6.0, "the first turn is Bob's");
    assert_eq!(other.wait_for_due(), 5.0);
    assert_eq!(other.acts(), ["restart bob"]);
    other.homeserver(DONE);
    assert_eq!(one.acts(), ["restart alice"]);
}

/// It expects others before it that are gone by the time when it comes back.
#[test]
fn a_room_that_comes_back_late_is_not_overtaken() {
    let [mut alice, mut bob, mut carol] = rooms([("alice", 60), ("bob", 600), ("carol", 3600)]);
    assert_eq!(carol.acts(), ["restart carol"]);
    carol.homeserver(limited(5));
    assert_eq!(alice.acts(), [""; 0]);
    assert_eq!(bob.acts(), [""; 0]);
    assert_eq!(bob.wait_for_due(), 6.0, "the first turn is Alice's");
    alice.left("alice", "PA_1");
    assert_eq!(alice.acts(), ["send alice"]);
    assert_eq!(carol.acts(), [""; 0]);
    assert_eq!(carol.wait_for_due(), 7.0, "Bob hasn't had his turn");
    assert_eq!(bob.acts(), ["restart bob"]);
    bob.homeserver(DONE);
    assert_eq!(carol.acts(), ["restart carol"]);
}

#[test]
fn a_room_that_does_not_come_back_loses_its_turn() {
    let [mut one, mut other] = rooms([("alice", 600), ("bob", 60)]);
    assert_eq!(one.acts(), ["restart alice"]);
    one.homeserver(limited(5));
    assert_eq!(other.acts(), [""; 0]);
    drop(other);
    assert_eq!(one.acts(), [""; 0]);
    assert_eq!(one.wait_for_due(), 6.0);
    assert_eq!(one.acts(), ["restart alice"], "its own turn has come");
    for (wait, turn) in [(6.0, "Bob's may still come"), (5.0, "Bob's has passed")] {
        one.homeserver(limited(5));
        assert_eq!(one.acts(), [""; 0]);
        assert_eq!(one.wait_for_due(), wait, "{turn}");
        assert_eq!(one.acts(), ["restart alice"]);
    }
}

#[test]
fn other_homeservers_are_not_limited() {
    let mut call = call(&[("alice", 60)]);
    assert_eq!(call.acts(), ["restart alice"]);
    call.homeserver(limited(30));
    call.delegate_as(Delegate { server_name: ServerName::new("other.example"), ..request("bob", 60) });
    call.joined("bob", "PA_1");
    assert_eq!(call.acts(), ["restart bob"]);
}

#[test]
fn a_leave_is_sent_at_once_nevertheless() {
    let mut call = call(&[("alice", 60), ("bob", 600)]);
    assert_eq!(call.acts_up_to(1), ["restart alice"]);
    call.homeserver(limited(30));
    call.left("bob", "PA_1");
    assert_eq!(call.acts(), ["send bob"]);
}

#[test]
fn restarts_make_way_for_a_leave_that_was_refused() {
    let mut call = call(&[("alice", 60), ("bob", 600)]);
    call.acts();
    call.homeserver(DONE);
    call.homeserver(limited(1));
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
    call.jitter = 0.9;
    call.homeserver(limited(1));
    assert_eq!(call.wait_for_due(), 1.4);
    assert_eq!(call.acts(), ["send alice"]);
    call.homeserver(DONE);
    assert_eq!(call.next_acts(), ["restart bob"]);
}

/// A restart that was due before the alarm would count as made.
#[test]
fn what_is_held_back_is_not_forgotten_on_a_load() {
    let mut call = call(&[("alice", 60), ("bob", 600)]);
    assert_eq!(call.acts_up_to(1), ["restart alice"]);
    call.homeserver(limited(30));
    assert_eq!(call.acts(), [""; 0]);
    let alarm = call.room.next_due();
    assert_eq!(alarm, Some(call.now + Duration::from_secs(30)));
    call.wait(1.0);
    call.load(alarm);
    assert!(call.acts().contains(&"restart bob".to_owned()));
}

#[test]
fn the_limit_is_reported_once_an_hour() {
    let mut call = call(&[("alice", 24 * 3600)]);
    let reports = |call: &Call| call.logged.iter().filter(|kind| **kind == LogEventKind::RequestsLimited).count();
    for _ in 0..10 {
        call.next_acts();
        call.homeserver(limited(1));
    }
    assert_eq!(reports(&call), 1);
    call.next_acts();
    call.homeserver(DONE);
    while reports(&call) < 2 {
        if call.next_acts().contains(&"restart alice".to_owned()) {
            call.homeserver(limited(1));
        }
        if call.awaits_sfu() {
            call.sfu(&[("alice", "PA_1")]);
        }
    }
    assert_eq!(call.logged.iter().filter(|kind| **kind == LogEventKind::RestartFailed).count(), 11);
}

/// With the room to itself a homeserver that takes one a second is sent one a second, and is probed for more.
#[test]
fn twenty_members_share_one_restart_a_second() {
    let members: Vec<_> = (0..20).map(|n| format!("m{n:02}")).collect();
    let mut call = call(&members.iter().map(|who| (who.as_str(), 10)).collect::<Vec<_>>());
    let (mut content, mut filled_at) = (5.0_f64, call.now);
    let (mut restarted, mut refused) = (Vec::new(), 0);
    let end = call.now + Duration::from_secs(9);
    while call.now < end {
        for restart in call.acts_up_to(1) {
            content = (content + call.now.since(filled_at).as_secs_f64()).min(5.0);
            filled_at = call.now;
            if !restart.starts_with("restart") {
                call.sfu_fails();
            } else if content >= 1.0 {
                content -= 1.0;
                restarted.push(restart);
                call.homeserver(DONE);
            } else {
                refused += 1;
                call.homeserver(limited(1));
            }
        }
        call.wait_for_due();
    }
    let mut each = restarted.clone();
    each.sort();
    each.dedup();
    assert_eq!(each.len(), restarted.len(), "no member is restarted twice before the others: {restarted:?}");
    assert!(restarted.len() >= 12, "{restarted:?}");
    assert!(refused <= 4, "{refused}");
}
