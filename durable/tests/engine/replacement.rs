use delegated_leaves::{DelayId, Delegate, Ending, Identity, StateColumn};

use crate::call::{Call, DONE, GONE, request};

#[test]
fn a_new_delegation_takes_the_place_of_the_old_one_at_once() {
    let mut call = Call::with_alice(60);
    call.delegate_as(another("alice"));
    assert_eq!(call.endings, [Ending::Replaced]);
    assert_eq!(call.rows.len(), 1);
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

fn another(who: &str) -> Delegate {
    Delegate { delay_id: DelayId::new("leave of another").unwrap(), ..request(who, 60) }
}
