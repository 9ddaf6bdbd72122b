use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

/// Output of workerd: the worker's lines, which are JSON objects, and workerd's own, which aren't.
pub struct Log {
    file: PathBuf,
}

/// Line of the worker.
#[derive(Clone, Debug)]
pub struct LogLine(pub Value);

impl Log {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Returns the whole file.
    pub fn text(&self) -> String {
        fs::read(&self.file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Empties the file.
    pub fn clear(&self) {
        fs::write(&self.file, "").expect("the log is mine");
    }

    /// Returns the worker's lines so far.
    pub fn lines(&self) -> Vec<LogLine> {
        let is_object = |line: &&String| line.starts_with('{');
        self.complete_lines().iter().filter(is_object).map(|line| LogLine::parse(line)).collect()
    }

    /// Returns the lines that are no JSON objects.
    pub fn foreign_lines(&self) -> Vec<String> {
        self.complete_lines().into_iter().filter(|line| !line.starts_with('{')).collect()
    }

    /// The part after the last line feed is still being written.
    fn complete_lines(&self) -> Vec<String> {
        let text = self.text();
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete.lines().map(str::to_owned).collect()
    }

    /// Waits for a line for which `is` holds, and returns the first one.
    pub async fn line(&self, what: &str, is: impl Fn(&LogLine) -> bool) -> LogLine {
        let poll = async {
            loop {
                if let Some(line) = self.lines().into_iter().find(&is) {
                    return line;
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("no line in the log: {what}\n{}", self.text()))
    }

    /// Waits until the whole file contains all of these texts. wrangler decorates the worker's lines.
    pub async fn contains(&self, texts: &[&str]) {
        let poll = async {
            while !texts.iter().all(|text| self.text().contains(text)) {
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, poll).await.unwrap_or_else(|_| panic!("no {texts:?} in the log:\n{}", self.text()));
    }

    /// Waits for a line that contains all of these texts, regardless of their case.
    pub async fn line_with(&self, texts: &[&str]) -> LogLine {
        self.line(&format!("with {texts:?}"), |line| line.has(texts)).await
    }
}

impl LogLine {
    fn parse(line: &str) -> Self {
        let value = serde_json::from_str(line);
        Self(value.unwrap_or_else(|error| panic!("a log line isn't JSON ({error}): {line}")))
    }

    /// Whether the line contains all of these texts, regardless of their case.
    pub fn has(&self, texts: &[&str]) -> bool {
        let line = self.0.to_string().to_lowercase();
        texts.iter().all(|text| line.contains(&text.to_lowercase()))
    }

    /// Level: `debug`, `info`, `warn` or `error`.
    pub fn level(&self) -> &str {
        self.0["level"].as_str().unwrap_or_default()
    }
}

const POLL: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);
