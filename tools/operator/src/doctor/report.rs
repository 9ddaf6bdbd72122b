//! What was found, for people and for scripts.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, but not for everybody or not for ever.
    Warning,
    /// Calls fail for it.
    Problem,
    /// It couldn't be checked.
    Skipped,
}

/// What a check has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// How it is.
    pub status: Status,
    /// What was seen; of a problem, the cause.
    pub seen: String,
    /// What to change, and where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

impl Outcome {
    /// It is as it should be.
    pub fn ok(seen: impl Into<String>) -> Self {
        Self { status: Status::Ok, seen: seen.into(), change: None }
    }

    /// It works, but.
    pub fn warning(seen: impl Into<String>, change: impl Into<String>) -> Self {
        Self { status: Status::Warning, seen: seen.into(), change: Some(change.into()) }
    }

    /// It doesn't work.
    pub fn problem(seen: impl Into<String>, change: impl Into<String>) -> Self {
        Self { status: Status::Problem, seen: seen.into(), change: Some(change.into()) }
    }

    /// Without the control characters that a server may have put into what is repeated of it.
    pub(crate) fn printable(self) -> Self {
        let printable = |text: String| text.replace(char::is_control, " ");
        Self { seen: printable(self.seen), change: self.change.map(printable), ..self }
    }

    /// It couldn't be checked, for this reason.
    pub fn skipped(reason: impl Into<String>) -> Self {
        Self { status: Status::Skipped, seen: reason.into(), change: None }
    }
}

/// What a check has come to, with what it leaves to those that follow: nothing where they can't go on.
pub(crate) type Verdict<T> = (Outcome, Option<T>);

/// The outcome, and leave to go on unless it is a problem.
pub(crate) fn unless_problem(outcome: Outcome) -> Verdict<()> {
    let go_on = (outcome.status != Status::Problem).then_some(());
    (outcome, go_on)
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The id of the check.
    pub check: &'static str,
    /// Its title, in a few words.
    #[serde(skip)]
    pub title: &'static str,
    /// What came of it.
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

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each check, in order.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings there are of this status.
    pub fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.outcome.status == status).count()
    }

    /// Whether there is a problem.
    pub fn has_problem(&self) -> bool {
        self.count(Status::Problem) > 0
    }

    /// What a program ends with: 1 where there is a problem.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(self.has_problem()))
    }
}

impl fmt::Display for Report {
    /// The last line: how many of which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
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
