use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};

/// What workerd wrote: the worker's lines, which are JSON objects, and workerd's own, which aren't.
pub struct Log {
    file: PathBuf,
}

/// A line of the worker's.
#[derive(Clone, Debug)]
pub struct LogLine(pub Value);

impl Log {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Everything, as it is in the file.
    pub fn text(&self) -> String {
        fs::read(&self.file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The worker's lines so far.
    pub fn lines(&self) -> Vec<LogLine> {
        let text = self.text();
        // What follows the last line feed is still being written.
        let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
        complete
            .lines()
            .filter(|line| line.starts_with('{'))
            .map(|line| match serde_json::from_str(line) {
                Ok(value) => LogLine(value),
                Err(error) => panic!("a log line isn't JSON ({error}): {line}"),
            })
            .collect()
    }

    /// The first line for which `is` holds, as soon as there is one.
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

    /// As soon as there is a line with all of these texts in it, regardless of their case.
    pub async fn line_with(&self, texts: &[&str]) -> LogLine {
        self.line(&format!("with {texts:?}"), |line| line.has(texts)).await
    }
}

impl LogLine {
    /// Whether all of these texts are in it, regardless of their case.
    pub fn has(&self, texts: &[&str]) -> bool {
        let line = self.0.to_string().to_lowercase();
        texts.iter().all(|text| line.contains(&text.to_lowercase()))
    }

    /// `debug`, `info`, `warn` or `error`.
    pub fn level(&self) -> &str {
        self.0["level"].as_str().unwrap_or_default()
    }
}

const POLL: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);
