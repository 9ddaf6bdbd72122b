//! Progress of an examination, for the terminal.

use std::time::Duration;

use crate::doctor::report::Finding;

/// Receiver of an examination's progress.
pub trait Watcher {
    /// Receives the finding of a check that has ended.
    fn found(&mut self, finding: &Finding);

    /// Receives the title of a check that is still running after `elapsed`.
    fn waiting(&mut self, title: &str, elapsed: Duration);
}

/// Ignores the progress.
impl Watcher for () {
    fn found(&mut self, _: &Finding) {}

    fn waiting(&mut self, _: &str, _: Duration) {}
}

/// Printer of a line on standard output for each finding, and of one on standard error for each check that takes
/// longer.
pub(crate) struct Terminal {
    /// Whether findings are printed as they are made.
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
