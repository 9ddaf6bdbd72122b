//! Progress of long steps, for the user who waits. All of it goes to standard error.

use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use supervise::last_lines;

/// Runs `command` with its output in the file `log`, showing `what` it does, the elapsed time and its latest line.
///
/// # Errors
///
/// The command can't be started, or fails: the error names the log and carries its last lines.
pub fn run(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    run_step(Step::start(what), command, log)
}

/// Like [`run`], and shows nothing if the command succeeds within a second.
///
/// # Errors
///
/// See [`run`].
pub fn run_unless_quick(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    run_step(Step::start_unless_quick(what), command, log)
}

fn run_step(mut step: Step, command: &mut Command, log: &Path) -> Result<()> {
    if let Some(dir) = log.parent() {
        fs::create_dir_all(dir).with_context(|| format!("can't create {}", dir.display()))?;
    }
    let output = File::create(log).with_context(|| format!("can't write {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .with_context(|| cannot_start(command))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        step.tick(|| last_lines(log, 1));
        thread::sleep(POLL);
    };
    if !status.success() {
        let what = step.fail();
        bail!("{what}: {status}\n{}\n(all of it is in {})", last_lines(log, TAIL_LINES), log.display());
    }
    step.done();
    Ok(())
}

/// Runs `command` with its output shown, between a line that says `what` it does and one with the elapsed time.
///
/// # Errors
///
/// The command can't be started, or fails.
pub fn run_shown(what: &str, command: &mut Command) -> Result<()> {
    let mut step = Step::start(what);
    step.settle();
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        let what = step.fail();
        bail!("{what}: {status}");
    }
    step.done();
    Ok(())
}

/// Runs the tasks at the same time, and returns the first error once all have ended.
///
/// Steps inside them print lines of their own, also on a terminal.
///
/// # Errors
///
/// A task fails, or panics.
pub fn all<const N: usize>(tasks: [Task<'_>; N]) -> Result<()> {
    SIMULTANEOUS.fetch_add(1, Ordering::Relaxed);
    let outcome = thread::scope(|scope| {
        let threads: Vec<_> = tasks.into_iter().map(|task| scope.spawn(task)).collect();
        let outcomes: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
        outcomes.into_iter().try_for_each(|outcome| outcome.unwrap_or_else(|_| bail!("a task panicked")))
    });
    SIMULTANEOUS.fetch_sub(1, Ordering::Relaxed);
    outcome
}

/// One of several tasks that run at the same time.
pub type Task<'a> = Box<dyn FnOnce() -> Result<()> + Send + 'a>;

/// Prints one line of news.
pub fn note(text: &str) {
    eprintln!("  {text}");
}

/// Something that takes a while. On a terminal one line is kept up to date; elsewhere a line is printed now and then.
///
/// A step that is dropped without [`Step::done`] or [`Step::fail`] leaves its line as it was.
#[must_use]
pub struct Step {
    what: String,
    started: Instant,
    shown: Instant,
    live: bool,
    announced: bool,
}

impl Step {
    /// Announces `what` is being done.
    pub fn start(what: &str) -> Self {
        let mut step = Self::start_unless_quick(what);
        step.announce();
        step
    }

    /// Announces it only if it takes longer than a second.
    pub fn start_unless_quick(what: &str) -> Self {
        let now = Instant::now();
        let live = io::stderr().is_terminal() && SIMULTANEOUS.load(Ordering::Relaxed) == 0;
        Self { what: what.to_owned(), started: now, shown: now, live, announced: false }
    }

    fn announce(&mut self) {
        self.announced = true;
        if self.live {
            eprint!("… {}", self.what);
        } else {
            eprintln!("… {}", self.what);
        }
    }

    /// Shows the elapsed time and `detail`, if that is due. Call it at least once a second.
    pub fn tick(&mut self, detail: impl FnOnce() -> String) {
        if !self.announced {
            if self.started.elapsed() > QUICK {
                self.announce();
            }
            return;
        }
        let every = if self.live { Duration::from_millis(500) } else { Duration::from_secs(20) };
        if self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        let line = format!("… {} ({})", self.what, elapsed(self.started));
        let detail = detail();
        let detail = detail.trim().chars().filter(|c| !c.is_control());
        let detail: String = detail.take(LINE_WIDTH.saturating_sub(line.chars().count())).collect();
        if self.live {
            eprint!("\r\x1b[2K{line} {detail}");
            // A progress line that can't be shown is no reason to stop.
            let _ = io::stderr().flush();
        } else {
            eprintln!("{line} {detail}");
        }
    }

    /// Ends the line, so that something else can print below it.
    pub fn settle(&mut self) {
        if self.live {
            eprintln!();
            self.live = false;
        }
    }

    /// Ends the step: it worked.
    pub fn done(self) {
        if self.announced {
            self.end('✓');
        }
    }

    /// Ends the step: it failed. Returns its description, for the error that the caller reports.
    pub fn fail(self) -> String {
        self.end('✗');
        self.what
    }

    fn end(&self, mark: char) {
        let clear = if self.live { "\r\x1b[2K" } else { "" };
        eprintln!("{clear}{mark} {} ({})", self.what, elapsed(self.started));
    }
}

fn elapsed(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

fn cannot_start(command: &Command) -> String {
    format!("can't start {}", command.get_program().display())
}

/// How many calls of [`all`] are under way.
static SIMULTANEOUS: AtomicUsize = AtomicUsize::new(0);
const QUICK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(50);
const LINE_WIDTH: usize = 110;
const TAIL_LINES: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_failed_command_carries_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log/failing.log");
        let script = "for i in $(seq 100); do echo line $i; done; echo the cause >&2; exit 3";

        let error = run("failing", Command::new("sh").args(["-c", script]), &log).unwrap_err().to_string();

        assert!(error.contains("the cause") && error.contains("line 100"), "{error}");
        assert!(!error.contains("line 1\n"), "{error}");
        assert!(error.contains("failing.log"), "{error}");
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();

        let error = run("trying", &mut Command::new("no-such-command"), &dir.path().join("log")).unwrap_err();

        assert!(error.to_string().contains("no-such-command"), "{error}");
    }
}
