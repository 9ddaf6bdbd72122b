//! Showing what is under way to whoever waits.

use std::time::Duration;

use crate::doctor::report::Finding;

/// Hears of an examination while it goes on.
pub trait Watcher {
    /// A check has ended.
    fn found(&mut self, finding: &Finding);

    /// The check of this title is still under way, after this time.
    fn waiting(&mut self, title: &str, elapsed: Duration);
}

/// Nobody looks.
impl Watcher for () {
    fn found(&mut self, _: &Finding) {}

    fn waiting(&mut self, _: &str, _: Duration) {}
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

    fn waiting(&mut self, title: &str, elapsed: Duration) {
        eprintln!("…        {title} (waiting for {} s)", elapsed.as_secs());
    }
}
