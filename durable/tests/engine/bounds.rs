//! What one caller can make the others pay for is bounded.

use std::time::Duration;

use delegated_leaves::{DelayId, Delegate, RoomAnswer, ServerName, Track};

use crate::call::{Call, request, token, user};

fn restricted(n: usize, server_name: &str) -> Delegate {
    Delegate { server_name: ServerName::new(server_name), restricted: true, ..request(&format!("r{n}"), 60) }
}

fn fill(call: &mut Call, requests: impl IntoIterator<Item = Delegate>) -> usize {
    requests.into_iter().take_while(|request| call.delegate_as(request.clone()) == RoomAnswer::Recorded).count()
}

#[test]
fn a_room_has_two_thousand_delegations() {
    let mut call = Call::new();
    assert_eq!(fill(&mut call, (0..2_500).map(|n| request(&format!("m{n}"), 60))), 2_000);
    assert_eq!(call.rows.len(), 2_000);
    let rows_written = call.rows_written;
    assert_eq!(call.delegate_as(request("another", 60)), RoomAnswer::Full);
    assert_eq!(call.rows_written, rows_written, "what is refused leaves no trace");
    let delay_id = DelayId::new("a new one").unwrap();
    assert_eq!(call.delegate_as(Delegate { delay_id, ..request("m7", 60) }), RoomAnswer::Recorded, "the same member");
    let same_event = Delegate { delay_id: request("m8", 60).delay_id, ..request("another", 60) };
    assert_eq!(call.delegate_as(same_event), RoomAnswer::Recorded, "the same event");
    assert_eq!(call.rows.len(), 2_000);
}

#[test]
fn a_user_has_twenty_delegations() {
    let mut call = Call::new();
    let of_alice = |n: usize| Delegate { user_id: user("alice"), ..request(&format!("m{n}"), 60) };
    assert_eq!(fill(&mut call, (0..30).map(of_alice)), 20);
    assert_eq!(call.delegate_as(request("bob", 60)), RoomAnswer::Recorded);
}

#[test]
fn restricted_users_of_one_host_have_a_hundred_delegations() {
    let mut call = Call::new();
    assert_eq!(fill(&mut call, (0..200).map(|n| restricted(n, &format!("evil.example:{}", n + 1)))), 100);
    assert_eq!(call.delegate_as(restricted(900, "good.example")), RoomAnswer::Recorded);
    let unrestricted = Delegate { restricted: false, ..restricted(901, "evil.example") };
    assert_eq!(call.delegate_as(unrestricted), RoomAnswer::Recorded);
}

#[test]
fn restricted_users_leave_room_for_the_others() {
    let mut call = Call::new();
    assert_eq!(fill(&mut call, (0..900).map(|n| restricted(n, &format!("s{n}.example")))), 500);
    assert_eq!(call.delegate_as(request("alice", 60)), RoomAnswer::Recorded);
}

#[test]
fn rows_of_older_versions_count_for_no_user() {
    let mut call = Call::new();
    let unknown = |n: usize| Delegate { user_id: delegated_leaves::UserId::new(""), ..request(&format!("m{n}"), 60) };
    assert_eq!(fill(&mut call, (0..30).map(unknown)), 30);
    assert!(call.rows.values().all(|row| row.user_id.is_none()));
    call.crash();
    assert_eq!(call.rows.len(), 30);
}

#[test]
fn a_room_over_its_bounds_is_loaded_and_takes_no_more() {
    let mut call = Call::new();
    fill(&mut call, (0..2_000).map(|n| request(&format!("m{n}"), 60)));
    let mut row = call.rows.values().next().unwrap().clone();
    for n in 0..500_u64 {
        row.id = serde_json::from_value((n + 1).into()).unwrap();
        row.identity = delegated_leaves::Identity::new(format!("old {n}"));
        row.delay_id = DelayId::new(format!("old {n}")).unwrap();
        call.rows.insert(row.id, row.clone());
    }
    call.crash();
    assert_eq!(call.room.len(), 2_500);
    assert_eq!(call.delegate_as(request("another", 60)), RoomAnswer::Full);
    assert_eq!(call.acts(), ["list participants"]);
}

#[test]
fn a_room_has_five_thousand_tracked_participants_and_a_user_twenty() {
    let mut call = Call::with_membership();
    let expires_at = call.now + Duration::from_secs(3600);
    let of_alice = |n: usize| Track { user_id: user("alice"), ..token(&format!("a{n}"), "!room", expires_at) };
    assert!((0..20).all(|n| call.track_as(of_alice(n)) == RoomAnswer::Recorded));
    assert_eq!(call.track_as(of_alice(20)), RoomAnswer::Full);
    assert_eq!(call.track_as(of_alice(7)), RoomAnswer::Recorded, "a renewal");
    for n in 20..5_000 {
        assert_eq!(call.track_as(token(&format!("m{n}"), "!room", expires_at)), RoomAnswer::Recorded);
    }
    assert_eq!(call.track_as(token("another", "!room", expires_at)), RoomAnswer::Full);
    assert_eq!(call.tracked.len(), 5_000);
}
