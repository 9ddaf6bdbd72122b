//! Showing what is under way to whoever waits.

use std::time::Duration;

use crate::doctor::report::{Check, Finding};

/// Hears of an examination while it goes on.
pub trait Watcher {
    /// A check has ended.
    fn found(&mut self, finding: &Finding);

    /// A check is still under way, after this time.
    fn waiting(&mut self, check: Check, elapsed: Duration);
}

/// Nobody looks.
impl Watcher for () {
    fn found(&mut self, _: &Finding) {}

    fn waiting(&mut self, _: Check, _: Duration) {}
}

/// A line on standard output for each finding, where they are wanted at once, and one on standard error for each check that
/// takes longer.
pub(crate) struct Terminal {
    /// Whether findings are printed as they come.
    pub(crate) findings: bool,
}

impl Watcher for Terminal {
    fn found(&mut self, finding: &Finding) {
        if self.findings {
            println!("{finding}");
        }
    }

    fn waiting(&mut self, check: Check, elapsed: Duration) {
        eprintln!("…        {} (waiting for {} s)", check.about(), elapsed.as_secs());
    }
}
