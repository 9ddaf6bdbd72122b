//! Simulated lives of delegated leaves: the engine keeps every promise, and each deliberate mutant breaks one.

use delegated_leaves::Mutant::{self, *};
use simulation::{Invariant, simulate};

#[test]
fn every_promise_is_kept() {
    for seed in 0..2_000 {
        if let Err(failure) = simulate(seed) {
            panic!("{failure}\nto see what happens in it: cargo xtask simulate --seed {seed}");
        }
    }
}

#[test]
fn a_simulation_can_be_repeated() {
    for seed in 0..20 {
        assert_eq!(simulate(seed), simulate(seed));
    }
}

/// One test for each mutant, so that they run at the same time.
macro_rules! broken_by {
    ($($name:ident: $mutant:ident breaks $invariant:ident;)*) => {
        $(
            #[test]
            fn $name() {
                assert_eq!(first_broken($mutant), Some(Invariant::$invariant));
            }
        )*

        #[test]
        fn every_mutant_is_looked_for() {
            assert_eq!([$($mutant),*], Mutant::ALL);
        }
    };
}

broken_by! {
    ignoring_sids: IgnoreSid breaks ComingBack;
    forgetting_ended_connections: ForgetEndedConnections breaks ComingBack;
    believing_who_is_coming_back: BelieveReconnecting breaks ComingBack;
    believing_stale_webhooks: BelieveStaleWebhooks breaks NeverEarly;
    taking_a_failed_ask_for_gone: FailedPollMeansAbsent breaks NeverEarly;
    believing_an_overtaken_answer: BelieveOvertakenAnswer breaks NeverEarly;
    sending_without_looking: SendWithoutPolling breaks NeverEarly;
    sending_although_it_is_back: NoWayBack breaks NeverEarly;
    not_restarting_after_a_failure: NoRestartAfterFailure breaks InTurn;
    restarting_too_late: RestartTooLate breaks KeptAlive;
    ignoring_retry_after: IgnoreRetryAfter breaks Patient;
    results_for_the_replacement: ResultsOutliveReplacement breaks ReplacedIsSilent;
    forgetting_a_leave_on_load: ForgetLeavingOnLoad breaks Recorded;
    forgetting_to_store: ForgetToStore breaks Recorded;
    keeping_what_was_replaced: KeepReplaced breaks ReplacedIsSilent;
    giving_up_after_a_failure: GiveUpAfterFailure breaks AcknowledgedIsKept;
    asking_without_pause: PollWithoutPause breaks Bounded;
    polling_never: NoHourlyPoll breaks NeverLost;
    taking_a_failed_check_for_nobody: FailedCheckMeansNobody breaks MembersStay;
    believing_old_members: BelieveOldMembers breaks MembersStay;
    deleting_without_asking: DeleteUnconfirmed breaks MembersStay;
    checking_only_once: CheckOnlyOnce breaks NonMembersGo;
    forgetting_who_is_gone: ForgetWhenAbsent breaks AcknowledgedIsKept;
    forgetting_after_one_look: ForgetAfterFirstPoll breaks AcknowledgedIsKept;
    forgetting_who_is_connected: ForgetConnected breaks Recorded;
    taking_any_number_of_delegations: NoBound breaks Limited;
    taking_retry_after_literally: RetryAfterLiterally breaks InTurn;
    deleting_before_putting: DeleteFirst breaks AcknowledgedIsKept;
    seeking_the_absent_again_and_again: SeekAgain breaks Bounded;
    taking_unreadable_members_for_nobody: UnreadableMeansNobody breaks MembersStay;
    removing_nobody_for_unreadable_members: UnreadableRemovesNobody breaks NonMembersGo;
    keeping_no_places: NoPlacesKept breaks Fair;
    ordering_by_due_time: OrderByDueTime breaks Fair;
    polling_one_by_one: PollOneByOne breaks Limited;
    believing_a_stale_arming: BelieveStaleArming breaks AcknowledgedIsKept;
    skipping_missed_restarts: SkipMissedRestarts breaks KeptAlive;
    believing_any_alarm: BelieveAnyAlarm breaks KeptAlive;
    trusting_an_early_restart: TrustEarlyRestart breaks KeptAlive;
    believing_who_is_sent_round: BelieveSentRound breaks ComingBack;
    believing_who_changes_connections: BelieveEarlyEnd breaks ComingBack;
    believing_a_finished_room_anyway: BelieveFinishedAnyway breaks ComingBack;
    taking_a_limit_one_by_one: LimitOneByOne breaks InTurn;
    losing_a_turn: LoseTurn breaks InTurn;
    finding_the_rate_in_each_room: PaceEachRoom breaks InTurn;
    checking_although_checks_are_off: CheckAnyway breaks Bounded;
    seeking_only_the_connected: SeekOnlyConnected breaks NonMembersGo;
    trusting_proxies: TrustProxies breaks AcknowledgedIsKept;
    believing_late_commands: BelieveLateCommands breaks AcknowledgedIsKept;
}

/// The promise that an engine with that mutant is first found to break.
fn first_broken(mutant: Mutant) -> Option<Invariant> {
    mutant.inject(|| (0..SEEDS).find_map(|seed| simulate(seed).err()).map(|failure| failure.violation.invariant))
}

const SEEDS: u64 = 20_000;
