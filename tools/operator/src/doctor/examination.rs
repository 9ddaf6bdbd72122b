//! Examination of a deployment: runs the table of checks, and skips those whose needs aren't met.

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval_at};

use crate::doctor::checks::{CHECKS, Check, Run};
use crate::doctor::need::{Need, Reason};
use crate::doctor::report::{Finding, Outcome, Report};
use crate::doctor::round::Round;
use crate::doctor::subject::Subject;
use crate::doctor::watch::Watcher;

/// Examines `subject`, and passes each finding to `watcher` as it is made.
pub async fn examine(subject: &Subject, watcher: &mut dyn Watcher) -> Report {
    examine_until(subject, watcher, pending()).await
}

/// Like [`examine`], but leaves out what isn't done when `stop` is ready: only [`CLEARING_UP`] follows.
pub(crate) async fn examine_until(
    subject: &Subject,
    watcher: &mut dyn Watcher,
    stop: impl Future<Output = ()>,
) -> Report {
    run_all(CHECKS, subject, watcher, pin!(stop)).await
}

async fn run_all(
    checks: &[Check],
    subject: &Subject,
    watcher: &mut dyn Watcher,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Report {
    let mut is_stopped = false;
    let mut round = Round::new(subject);
    let mut done = BTreeMap::new();
    let mut report = Report::default();
    for check in checks {
        let reason = check.needs.iter().find_map(|need| round.lacks(need).or_else(|| unmet(&done, need)));
        let result = match reason {
            Some(reason) => Err(reason),
            None if CLEARING_UP.contains(&check.id) => watched(check, (check.run)(&mut round), watcher).await,
            None if is_stopped => Err(STOPPED),
            None => tokio::select! {
                result = watched(check, (check.run)(&mut round), watcher) => result,
                () = &mut stop => {
                    is_stopped = true;
                    Err(STOPPED)
                }
            },
        };
        let (outcome, state) = match result {
            Ok((outcome, passed)) => (outcome, if passed.is_some() { State::Passed } else { State::Failed }),
            Err(reason) => (Outcome::skipped(reason), State::Skipped(reason)),
        };
        done.insert(check.id, state);
        let finding = Finding { check: check.id, title: check.title, outcome: outcome.printable() };
        watcher.found(&finding);
        report.findings.push(finding);
    }
    report
}

/// State of an earlier check, for the checks that need it.
enum State {
    Passed,
    Failed,
    Skipped(Reason),
}

/// Reason for skipping a check that needs an earlier one which hasn't passed.
fn unmet(done: &BTreeMap<&str, State>, need: &Need) -> Option<Reason> {
    match need {
        Need::Passed(id, failed) => match done.get(id) {
            Some(State::Passed) => None,
            Some(State::Skipped(reason)) => Some(reason),
            Some(State::Failed) | None => Some(failed),
        },
        Need::NotFailed(id, failed) => matches!(done.get(id), Some(State::Failed) | None).then_some(*failed),
        Need::ServerName
        | Need::HsToken
        | Need::AsToken
        | Need::VariablesFile
        | Need::User
        | Need::SfuUrl
        | Need::KeyPair => None,
    }
}

/// Drives a check to its end, and notifies the watcher while it takes longer.
async fn watched<'r>(check: &Check, mut run: Run<'r>, watcher: &mut dyn Watcher) -> <Run<'r> as Future>::Output {
    let begun = Instant::now();
    let mut ticks = interval_at(tokio::time::Instant::now() + FIRST_SIGN, LATER_SIGNS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            result = &mut run => return result,
            _ = ticks.tick() => watcher.waiting(check.title, begun.elapsed()),
        }
    }
}

/// Checks that leave nothing of the user's behind; they aren't left out.
const CLEARING_UP: [&str; 2] = ["user-room-left", "user-logout"];
const STOPPED: Reason = "interrupted";
const FIRST_SIGN: Duration = Duration::from_secs(1);
const LATER_SIGNS: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::options::Options;
    use crate::doctor::report::Status;
    use clap::Parser;

    fn subject() -> Subject {
        #[derive(Parser)]
        struct Program {
            #[command(flatten)]
            options: Options,
        }
        let program = Program::try_parse_from(["doctor", "https://rtc.example.com"]).unwrap();
        program.options.into_subject(|_| None, |_| unreachable!()).unwrap()
    }

    const fn check(id: &'static str, needs: &'static [Need], passes: bool) -> Check {
        let run: for<'r> fn(&'r mut Round<'_>) -> Run<'r> = match passes {
            true => |_| Box::pin(async { Ok((Outcome::ok("well"), Some(()))) }),
            false => |_| Box::pin(async { Ok((Outcome::ok("well, but of no use"), None)) }),
        };
        Check { id, title: "", needs, run }
    }

    async fn examined(checks: &[Check]) -> Vec<(&'static str, String)> {
        let report = run_all(checks, &subject(), &mut (), pin!(pending())).await;
        report.findings.into_iter().map(|finding| (finding.check, finding.outcome.seen)).collect()
    }

    #[tokio::test]
    async fn a_check_runs_when_what_it_needs_has_passed() {
        let checks = [check("first", &[], true), check("second", &[Need::Passed("first", "no first")], true)];
        assert!(examined(&checks).await.iter().all(|(_, seen)| seen == "well"));
    }

    #[tokio::test]
    async fn the_reason_for_skipping_is_that_of_the_first_check_that_failed() {
        let checks = [
            check("first", &[], false),
            check("second", &[Need::Passed("first", "no first")], true),
            check("third", &[Need::Passed("second", "no second")], true),
            check("fourth", &[Need::NotFailed("second", "failed second")], true),
            check("fifth", &[Need::NotFailed("first", "failed first")], true),
        ];
        let examined = examined(&checks).await;
        let seen: Vec<_> = examined.iter().map(|(_, seen)| seen.as_str()).collect();
        assert_eq!(seen, ["well, but of no use", "no first", "no first", "well", "failed first"]);
    }

    #[tokio::test]
    async fn an_interruption_leaves_out_all_but_the_clearing_up() {
        let endless: for<'r> fn(&'r mut Round<'_>) -> Run<'r> = |_| Box::pin(pending());
        let checks = [
            check("first", &[], true),
            Check { id: "second", title: "", needs: &[], run: endless },
            check("third", &[], true),
            check("user-logout", &[Need::Passed("first", "no first")], true),
        ];
        let report = run_all(&checks, &subject(), &mut (), pin!(tokio::task::yield_now())).await;
        let seen: Vec<_> = report.findings.iter().map(|finding| finding.outcome.seen.as_str()).collect();
        assert_eq!(seen, ["well", STOPPED, STOPPED, "well"]);
    }

    #[tokio::test]
    async fn an_option_that_is_missing_is_the_reason_for_skipping() {
        let checks = [
            check("first", &[Need::SfuUrl], true),
            check("second", &[Need::Passed("first", "no first"), Need::KeyPair], true),
        ];
        let report = run_all(&checks, &subject(), &mut (), pin!(pending())).await;
        for finding in &report.findings {
            assert_eq!(finding.outcome.status, Status::Skipped);
            assert!(finding.outcome.seen.contains("--sfu-url"), "{finding:?}");
        }
    }
}
