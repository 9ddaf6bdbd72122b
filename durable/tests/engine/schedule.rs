use std::time::Duration;

use delegated_leaves::{Delegate, ServerName};

use crate::call::{Call, DONE, FAILED, request};

#[test]
fn no_more_is_done_at_once_than_allowed() {
    let mut call = Call::new();
    answering("example.com", &mut call);
    for n in 0..10 {
        connect_on("example.com", &format!("m{n}"), &mut call);
    }
    assert_eq!(call.acts_up_to(0), [""; 0]);
    assert_eq!(call.acts_up_to(6).len(), 6);
    assert_eq!(call.acts_up_to(0), [""; 0]);
    assert_eq!(call.acts_up_to(6).len(), 4);
    assert_eq!(call.acts_up_to(6), [""; 0]);
}

#[test]
fn what_has_been_due_the_longest_comes_first() {
    let mut call = Call::new();
    for who in ["alice", "bob"] {
        call.delegate(who, 60);
        call.joined(who, "PA_1");
        call.acts();
        call.homeserver(DONE);
        call.wait(1.0);
    }
    call.wait(600.0);
    assert_eq!(call.acts_up_to(1), ["restart alice"]);
    assert_eq!(call.acts_up_to(1), ["restart bob"]);
}

#[test]
fn the_earliest_deadline_comes_first() {
    let mut call = Call::new();
    answering("example.com", &mut call);
    for (who, timeout_s) in [("hour", 3600), ("minute", 60), ("ten", 10)] {
        call.delegate(who, timeout_s);
        call.joined(who, "PA_1");
    }
    assert_eq!(call.acts_up_to(6), ["restart ten", "restart minute", "restart hour"]);
}

#[test]
fn a_homeserver_that_fails_gets_two_places_until_it_works() {
    let mut call = Call::new();
    answering("slow.example", &mut call);
    for n in 0..20 {
        connect_on("slow.example", &format!("slow {n}"), &mut call);
    }
    assert_eq!(call.acts_up_to(6).len(), 6);
    for _ in 0..6 {
        call.homeserver(FAILED);
    }
    assert_eq!(call.acts_up_to(6).len(), 2);
    connect_on("other.example", "other", &mut call);
    assert_eq!(call.acts_up_to(4), ["restart other"]);
    call.homeserver(DONE);
    assert_eq!(call.acts_up_to(4).len(), 4);
}

/// Ports are free, and so are names below a domain.
#[test]
fn two_places_are_kept_for_homeservers_that_answer() {
    let mut call = Call::new();
    answering("good.example", &mut call);
    for n in 0..100 {
        connect_on(&format!("evil.example:{}", n + 1), &format!("port {n}"), &mut call);
    }
    assert_eq!(call.acts_up_to(6).len(), 2, "two for one host");
    for n in 0..100 {
        connect_on(&format!("evil{n}.example"), &format!("evil {n}"), &mut call);
    }
    assert_eq!(call.acts_up_to(4).len(), 1, "three for all hosts");
    for n in 0..2 {
        connect_on("good.example", &format!("good {n}"), &mut call);
    }
    assert_eq!(call.acts_up_to(3), ["restart good 0", "restart good 1"]);
}

#[test]
fn a_homeserver_that_takes_its_time_does_not_count_as_answering() {
    let mut call = Call::new();
    for n in 0..6 {
        connect_on("slow.example", &format!("slow {n}"), &mut call);
    }
    call.acts();
    call.wait(2.5);
    call.homeserver(DONE);
    assert_eq!(call.acts_up_to(6).len(), 1);
}

#[test]
fn a_thousand_that_wait_cost_one_query_a_second() {
    let mut call = Call::new();
    let start = call.now;
    for n in 0..1_000 {
        call.delegate(&format!("m{n}"), 3600);
        call.wait(0.01);
    }
    let mut queries = 0;
    while call.due_in() < 120.0 && call.now < start + Duration::from_secs(130) {
        call.wait_for_due();
        queries += call.acts().len();
        if call.awaits_sfu() {
            call.sfu(&[]);
        }
    }
    assert!(queries <= 40, "{queries}");
}

#[test]
fn all_polls_are_one_query_and_one_at_a_time() {
    let mut call = Call::new();
    call.delegate("alice", 60);
    assert_eq!(call.acts(), ["get alice"]);
    call.delegate("bob", 60);
    call.delegate("carol", 60);
    assert_eq!(call.acts(), [""; 0]);
    call.sfu(&[]);
    assert_eq!(call.acts(), [""; 0], "one a second");
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["list participants"]);
    call.sfu(&[("bob", "PA_2")]);
    assert_eq!(call.acts(), ["restart bob"]);
}

#[test]
fn an_action_without_result_is_due_again_after_half_a_minute() {
    let mut call = Call::with_alice(600);
    assert_eq!(call.next_acts(), ["restart alice"]);
    assert_eq!(call.wait_for_due(), 30.0);
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["restart alice"]);
}

#[test]
fn who_waits_for_results_is_given_what_comes_next() {
    let mut call = Call::new();
    for who in ["alice", "bob"] {
        call.delegate(who, 60);
        call.connect(who, "PA_1");
        call.wait(10.0);
    }
    call.wait(28.0);
    assert_eq!(call.acts(), ["restart alice"]);
    assert_eq!(call.room.next_due_after(call.now), Some(call.now + Duration::from_secs(10)));
}

fn connect_on(server_name: &str, who: &str, call: &mut Call) {
    call.delegate_as(Delegate { server_name: ServerName::new(server_name), ..request(who, 3600) });
    call.joined(who, "PA_1");
}

/// Lets a homeserver answer once, for a delegation that stays.
fn answering(server_name: &str, call: &mut Call) {
    connect_on(server_name, "first", call);
    call.acts();
    call.homeserver(DONE);
}

/// The SFU is polled once a second at most: an absence that isn't fresh any more waits for the next poll.
#[test]
fn a_leave_that_was_held_back_waits_for_the_next_poll() {
    let mut call = Call::with_alice(3600);
    call.wait(60.0);
    call.left("alice", "PA_1");
    assert_eq!(call.acts(), ["send alice"]);
    call.wait(2.05);
    call.delegate("bob", 3600);
    assert_eq!(call.acts(), ["get bob"], "nothing is known of alice while her leave is being sent");
    call.sfu(&[]);
    call.wait(0.05);
    call.jitter = 0.0;
    call.homeserver(FAILED);
    call.wait(0.92);
    assert_eq!(call.acts(), [""; 0], "she was seen to be gone 3.02 s ago, and the last poll is 0.97 s old");
    assert!((call.wait_for_due() - 0.03).abs() < 0.001);
    assert_eq!(call.acts(), ["list participants"]);
}

#[test]
fn a_clock_that_is_set_back_does_not_keep_the_sfu_from_being_polled() {
    let mut call = Call::new();
    call.delegate("alice", 3600);
    assert_eq!(call.acts(), ["get alice"]);
    call.sfu(&[]);
    call.now = call.now - Duration::from_secs(86_400);
    call.delegate("bob", 3600);
    assert_eq!(call.due_in(), 1.0);
    assert_eq!(call.acts(), [""; 0]);
    assert_eq!(call.wait_for_due(), 1.0);
    assert_eq!(call.acts(), ["get bob"]);
}
