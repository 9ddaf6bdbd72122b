use std::time::Duration;

use delegated_leaves::{DelayId, Delegate, Ending, Identity, StateColumn};

use crate::call::{Call, DONE, GONE, request};

#[test]
fn a_new_delegation_takes_the_place_of_the_old_one_at_once() {
    let mut call = Call::with_alice(60);
    call.delegate_as(another("alice"));
    assert_eq!(call.endings, [Ending::Replaced]);
    assert_eq!(call.rows.len(), 1);
    call.wait(1.0);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["restart another"]);
}

#[test]
fn results_of_the_old_one_do_not_touch_the_new_one() {
    for answer in [DONE, GONE] {
        let mut call = Call::with_alice(60);
        assert_eq!(call.next_acts(), ["restart alice"]);
        call.delegate_as(another("alice"));
        let (rows, due) = (call.rows.clone(), call.room.next_due());
        call.homeserver(answer);
        assert_eq!((call.rows, call.room.next_due()), (rows, due));
    }
}

#[test]
fn an_answer_about_the_old_one_does_not_touch_the_new_one() {
    let mut call = Call::new();
    call.delegate("alice", 60);
    assert_eq!(call.acts(), ["get alice"]);
    call.delegate_as(another("alice"));
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.state("alice"), Some(StateColumn::Waiting));
    call.wait(1.0);
    assert_eq!(call.acts(), ["get alice"]);
}

#[test]
fn the_same_event_delegated_for_another_member_follows_that_one_only() {
    let mut call = Call::with_alice(60);
    call.delegate_as(Delegate { identity: Identity::new("alice on her phone"), ..request("alice", 60) });
    assert_eq!(call.endings, [Ending::Replaced]);
    assert_eq!(call.rows.len(), 1);
}

#[test]
fn other_members_of_the_same_device_are_left_alone() {
    let mut call = Call::new();
    let legacy_identity = Some(Identity::of_device("@alice:example.com", "D"));
    call.delegate_as(Delegate { legacy_identity: legacy_identity.clone(), ..request("first", 60) });
    call.delegate_as(Delegate { legacy_identity, ..request("second", 60) });
    assert_eq!(call.rows.len(), 2);
}

#[test]
fn a_delegation_is_known_under_both_its_identities() {
    let legacy_identity = Some(Identity::of_device("@alice:example.com", "D"));
    for who in ["alice", "@alice:example.com:D"] {
        let mut call = Call::new();
        call.delegate_as(Delegate { legacy_identity: legacy_identity.clone(), ..request("alice", 60) });
        assert_eq!(call.acts(), ["list participants"]);
        call.sfu(&[("bob", "PA_9"), (who, "PA_1")]);
        assert_eq!(call.acts(), ["restart alice"]);
        call.wait(5.0);
        call.left(who, "PA_1");
        assert_eq!(call.acts(), ["send alice"]);
    }
}

/// A device in the clear, as `/sfu/get` has it, and a member that answers to it besides are two members: neither takes
/// the place of the other, and both leaves are looked after.
#[test]
fn a_second_identity_replaces_nothing() {
    let device = Identity::of_device("@alice:example.com", "D");
    for device_first in [true, false] {
        let mut call = Call::new();
        let of_device = Delegate { identity: device.clone(), ..request("device", 60) };
        let of_member = Delegate { legacy_identity: Some(device.clone()), ..request("member", 60) };
        let (first, second) = if device_first { (of_device, of_member) } else { (of_member, of_device) };
        call.delegate_as(first);
        call.delegate_as(second);
        assert_eq!((call.rows.len(), call.endings.len()), (2, 0));
    }
}

/// Deleting the old row is what comes last.
#[test]
fn a_replacement_that_was_stored_by_half_is_completed() {
    let mut call = Call::with_alice(60);
    let old = call.rows.clone();
    call.delegate_as(another("alice"));
    call.rows.extend(old);
    call.crash();
    assert_eq!(call.room.len(), 1);
    assert_eq!(call.acts(), ["get alice"]);
    assert_eq!(call.rows.len(), 1, "what was replaced is deleted now");
    call.sfu(&[("alice", "PA_1")]);
    assert_eq!(call.acts(), ["restart another"]);
}

fn another(who: &str) -> Delegate {
    Delegate { delay_id: DelayId::new("leave of another").unwrap(), ..request(who, 60) }
}

/// The worker sends a command again when the answer was lost, which may have been the object's end.
#[test]
fn the_same_command_again_changes_nothing() {
    for reloaded in [false, true] {
        let mut call = Call::new();
        let command = Delegate { restarted_at: Some(call.now), ..request("alice", 60) };
        call.delegate_as(command.clone());
        call.wait(1.0);
        if reloaded {
            call.crash();
        }
        let (rows, due) = (call.rows.clone(), call.room.next_due());

        call.delegate_as(command.clone());

        assert_eq!((&call.rows, call.room.next_due()), (&rows, due), "reloaded: {reloaded}");
        assert_eq!(call.endings, []);
        let once_more = Delegate { restarted_at: Some(call.now), ..command };
        call.delegate_as(once_more);
        assert_eq!(call.endings, [Ending::Replaced]);
    }
}

#[test]
fn the_same_command_again_does_not_interrupt_a_call() {
    let mut call = Call::new();
    let command = Delegate { restarted_at: Some(call.now), ..request("alice", 60) };
    call.delegate_as(command.clone());
    call.joined("alice", "PA_1");
    call.delegate_as(command);
    assert_eq!(call.state("alice"), Some(StateColumn::Connected));
    assert_eq!(call.endings, []);
}

#[test]
fn a_command_that_comes_late_does_not_bring_back_what_was_replaced() {
    for reloaded in [false, true] {
        let mut call = Call::new();
        let first = Delegate { restarted_at: Some(call.now), ..request("alice", 60) };
        call.delegate_as(first.clone());
        call.wait(2.0);
        let second = Delegate { restarted_at: Some(call.now), ..another("alice") };
        call.delegate_as(second);
        if reloaded {
            call.crash();
        }
        let rows = call.rows.clone();
        call.wait(1.0);
        call.delegate_as(first);
        assert_eq!(call.rows, rows);
    }
}

/// The homeserver may have refused the restart before the acceptance, for its rate.
#[test]
fn of_commands_without_a_restart_the_newer_counts_too() {
    for reloaded in [false, true] {
        let mut call = Call::new();
        let first = Delegate { issued_at: Some(call.now), ..request("alice", 60) };
        call.wait(1.0);
        let second = Delegate { issued_at: Some(call.now), ..another("alice") };
        call.wait(6.0);
        call.delegate_as(first.clone());
        call.joined("alice", "PA_1");
        if reloaded {
            call.crash();
        }
        call.wait(1.0);
        call.delegate_as(second.clone());
        assert_eq!(call.endings, [Ending::Replaced], "reloaded: {reloaded}");
        if reloaded {
            call.crash();
        }
        let rows = call.rows.clone();
        for late in [first, second] {
            call.wait(1.0);
            call.delegate_as(late);
            assert_eq!(call.rows, rows, "reloaded: {reloaded}");
        }
    }
}

#[test]
fn a_clock_that_was_set_back_costs_no_delegation() {
    let mut call = Call::new();
    let now = Some(call.now);
    call.delegate_as(Delegate { restarted_at: now, issued_at: now, ..request("alice", 60) });
    call.wait(20.0);
    let an_hour_ago = Some(call.now - Duration::from_secs(3600));
    call.delegate_as(Delegate { restarted_at: an_hour_ago, issued_at: an_hour_ago, ..another("alice") });
    assert_eq!(call.endings, [Ending::Replaced]);
}
