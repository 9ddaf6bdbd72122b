//! Findings of an examination, for people (`Display`) and for scripts (`Serialize`).

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// Result of a check, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Correct.
    Ok,
    /// Works, but not for all clients or not permanently.
    Warning,
    /// Makes calls fail.
    Problem,
    /// Not checked.
    Skipped,
}

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Result in one word.
    pub status: Status,
    /// Observation; for a problem, its cause.
    pub seen: String,
    /// Setting to change, and its location.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

impl Outcome {
    /// Returns an outcome without a problem.
    pub fn ok(seen: impl Into<String>) -> Self {
        Self { status: Status::Ok, seen: seen.into(), change: None }
    }

    /// Returns a warning.
    pub fn warning(seen: impl Into<String>, change: impl Into<String>) -> Self {
        Self { status: Status::Warning, seen: seen.into(), change: Some(change.into()) }
    }

    /// Returns a problem.
    pub fn problem(seen: impl Into<String>, change: impl Into<String>) -> Self {
        Self { status: Status::Problem, seen: seen.into(), change: Some(change.into()) }
    }

    /// Replaces control characters, which may come from a server's texts.
    pub(crate) fn printable(self) -> Self {
        let printable = |text: String| text.replace(char::is_control, " ");
        Self { seen: printable(self.seen), change: self.change.map(printable), ..self }
    }

    /// Returns the outcome of a check that didn't run, for this reason.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self { status: Status::Skipped, seen: reason.into(), change: None }
    }
}

/// Outcome of a check, and its result for the checks that need it: `None` if those can't run.
pub(crate) type Verdict<T> = (Outcome, Option<T>);

/// Returns the verdict of a check whose dependents run unless it is a problem.
pub(crate) fn unless_problem(outcome: Outcome) -> Verdict<()> {
    let go_on = (outcome.status != Status::Problem).then_some(());
    (outcome, go_on)
}

/// Line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Id of the check.
    pub check: &'static str,
    /// Title of the check.
    #[serde(skip)]
    pub title: &'static str,
    /// Outcome of the check.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self.outcome.status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Problem => "PROBLEM",
            Status::Skipped => "skipped",
        };
        write!(f, "{status:<8} {:<34} {}", self.title, self.outcome.seen)?;
        match &self.outcome.change {
            Some(change) => write!(f, "\n         change: {change}"),
            None => Ok(()),
        }
    }
}

/// Report of an examination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Findings, one for each check, in the order of the table.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Number of findings of this status.
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.outcome.status == status).count()
    }

    /// Whether there is a problem.
    pub fn has_problem(&self) -> bool {
        self.count(Status::Problem) > 0
    }

    /// Exit code for a program: 1 if there is a problem.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(self.has_problem()))
    }
}

impl fmt::Display for Report {
    /// Writes the last line: the number of findings of each status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
        write!(
            f,
            "{}, {}, {} ok, {} skipped",
            plural(self.count(Status::Problem), "problem"),
            plural(self.count(Status::Warning), "warning"),
            self.count(Status::Ok),
            self.count(Status::Skipped)
        )
    }
}
