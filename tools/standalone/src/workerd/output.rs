//! workerd's output, made into one JSON object a line.
//!
//! How it works:
//! - the worker's lines are such objects already, and are passed on as they are;
//! - a line of workerd's own begins a record; lines that begin with white space or `stack:` continue it;
//! - a record is written as one message, `workerd`, at `debug`: most repeat what the worker reports with a cause;
//! - a record that comes from a place of workerd's source for the first time, or says something for the first time, is at
//!   `warn`, unless that place only reports what the worker is given as an exception; a fatal one is at `error`;
//! - one that each start has is left out;
//! - the last records are kept, as the reason for workerd's end.

use std::{
    collections::{BTreeSet, VecDeque},
    io::{self, BufRead, BufReader, PipeReader, Write},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use matrixrtc_edge::log::Level;
use serde_json::{Map, Value};

/// The threads that read workerd's output and write the log.
#[derive(Debug)]
pub(super) struct Output {
    writer: JoinHandle<()>,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl Output {
    /// Starts to read from workerd's output, until it ends. workerd's own lines below `threshold` are left out.
    pub(super) fn read(pipe: PipeReader, threshold: Level) -> Self {
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            // Text of any kind: workerd's end may be in the middle of a character.
            while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let last = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&last);
        let writer = thread::spawn(move || {
            let mut writer = Writer { threshold, known: BTreeSet::new(), kept: &kept };
            writer.write(&lines, |line| {
                // Nobody may be reading any more.
                let _ = writeln!(io::stdout().lock(), "{line}");
            });
        });
        Self { writer, last }
    }

    /// Waits until all has been written, once workerd has ended, and returns its last own words.
    pub(super) fn finish(self) -> Vec<String> {
        // A panic there has been reported.
        let _ = self.writer.join();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.drain(..).collect()
    }
}

struct Writer<'a> {
    threshold: Level,
    known: BTreeSet<String>,
    kept: &'a Mutex<VecDeque<String>>,
}

impl Writer<'_> {
    fn write(&mut self, lines: &Receiver<String>, mut out: impl FnMut(&str)) {
        let mut record: Option<Record> = None;
        loop {
            let next = match &record {
                // What continues a record comes at once.
                Some(_) => lines.recv_timeout(PATIENCE),
                None => lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let continues = |line: &str| line.is_empty() || line.starts_with([' ', '\t']) || line.starts_with(STACK);
            match (next, &mut record) {
                (Ok(line), Some(record)) if continues(&line) => record.add(&line),
                (next, before) => {
                    if let Some(text) = before.take().and_then(|record| self.message(record)) {
                        out(&text);
                    }
                    match next {
                        Ok(line) if is_object(&line) => out(&line),
                        Ok(line) if line.is_empty() => {}
                        Ok(line) => record = Some(Record { text: line, stack: String::new() }),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            }
        }
    }

    /// Returns the line for a record, unless it is below the threshold.
    fn message(&mut self, record: Record) -> Option<String> {
        let (place, severity, text) = parts(&record.text);
        if place.is_some_and(|place| place.starts_with(AT_EACH_START)) {
            return None;
        }
        let text = without_queries(text);
        let is_new = {
            let key = place.unwrap_or(&text).to_owned();
            self.known.len() < MOST_KNOWN && self.known.insert(key)
        };
        let repeats_the_worker = place.is_some_and(|place| REPORTED_BY_THE_WORKER.iter().any(|p| place.starts_with(p)));
        let level = match severity {
            Some("fatal") => Level::Error,
            Some("info" | "debug") => Level::Debug,
            _ if is_new && !repeats_the_worker => Level::Warn,
            _ => Level::Debug,
        };
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= MOST_KEPT {
                kept.pop_front();
            }
            kept.push_back(text.clone());
        }
        if level < self.threshold {
            return None;
        }
        let mut line = format!(r#"{{"level":"{}","msg":"workerd","text":{}"#, level.name(), Value::from(text));
        if let Some(place) = place {
            line += &format!(r#","place":{}"#, Value::from(place));
        }
        if !record.stack.is_empty() {
            line += &format!(r#","stack":{}"#, Value::from(record.stack.trim()));
        }
        line.push('}');
        Some(line)
    }
}

/// Lines of workerd's own that belong together.
struct Record {
    text: String,
    stack: String,
}

impl Record {
    fn add(&mut self, line: &str) {
        if self.stack.len() < MOST_STACK {
            self.stack.push_str(line.strip_prefix(STACK).unwrap_or(line).trim());
            self.stack.push('\n');
        }
    }
}

/// Splits `place: severity: text`. Other texts have no place and no severity.
fn parts(line: &str) -> (Option<&str>, Option<&str>, &str) {
    let mut rest = line.splitn(3, ": ");
    if let (Some(place), Some(severity), Some(text)) = (rest.next(), rest.next(), rest.next())
        && place.rsplit_once(':').is_some_and(|(_, number)| number.bytes().all(|digit| digit.is_ascii_digit()))
        && ["debug", "info", "warning", "error", "fatal"].contains(&severity)
    {
        return (Some(place), Some(severity), text);
    }
    (None, None, line)
}

/// Cuts the queries of URLs, which may have tokens.
fn without_queries(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.split_once('?') {
        Some((before, _)) if before.contains("://") || before.starts_with('/') => format!("{before}?…"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn is_object(line: &str) -> bool {
    line.starts_with('{') && serde_json::from_str::<Map<String, Value>>(line).is_ok()
}

/// The place where workerd reports an internal error before it throws it as an exception, whose cause the worker logs.
const REPORTED_BY_THE_WORKER: [&str; 1] = ["workerd/jsg/util.c++:"];
/// The place where workerd reports that, with V8's flags of `workerd.capnp`, it compiles its own scripts at each start.
const AT_EACH_START: &str = "workerd/api/per-isolate-bootstrap.c++:";
const STACK: &str = "stack:";
const PATIENCE: Duration = Duration::from_millis(100);
const MOST_KNOWN: usize = 1000;
const MOST_KEPT: usize = 3;
const MOST_STACK: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(threshold: Level, output: &str) -> (Vec<Value>, Vec<String>) {
        let (sender, lines) = mpsc::channel();
        for line in output.lines() {
            sender.send(line.to_owned()).unwrap();
        }
        drop(sender);
        let kept = Mutex::default();
        let mut written = Vec::new();
        Writer { threshold, known: BTreeSet::new(), kept: &kept }
            .write(&lines, |line| written.push(serde_json::from_str(line).expect("an object on one line")));
        (written, kept.into_inner().unwrap().into())
    }

    #[test]
    fn every_line_is_an_object_and_a_stack_is_a_part_of_it() {
        let output = r#"{"level":"info","msg":"one"}
workerd/jsg/util.c++:320: error: e = rust/worker/ffi.rs:104: failed: connecting isn't allowed
stack: /x/workerd@2b5edc0 /x/workerd@3fe4230; wdErrId = mab95
{"level":"info","msg":"two"}
Uncaught TypeError: no
  at index.js:1:2

  at index.js:3:4
{"no": "object
"#;

        let (lines, _) = written(Level::Debug, output);

        assert_eq!(lines.len(), 5, "{lines:?}");
        assert_eq!((&lines[0]["msg"], &lines[2]["msg"]), (&"one".into(), &"two".into()));
        assert_eq!((&lines[1]["level"], &lines[1]["place"]), (&"debug".into(), &"workerd/jsg/util.c++:320".into()));
        assert_eq!(lines[1]["text"], "e = rust/worker/ffi.rs:104: failed: connecting isn't allowed");
        assert!(lines[1]["stack"].as_str().unwrap().starts_with("/x/workerd@2b5edc0"), "{lines:?}");
        assert!(lines[3]["stack"].as_str().unwrap().contains("index.js:3:4"), "{lines:?}");
        assert_eq!(lines[4]["text"], "{\"no\": \"object");
    }

    #[test]
    fn only_what_is_new_is_above_debug() {
        let output = "workerd/jsg/util.c++:320: error: e = failed\n\
                      workerd/api/per-isolate-bootstrap.c++:828: warning: compile cache failed\n\
                      workerd/io/x.c++:1: warning: new\n\
                      workerd/io/x.c++:1: warning: the same place again\n\
                      something else\nsomething else\n\
                      workerd/io/y.c++:2: info: chatter\n\
                      kj/z.c++:3: fatal: the end\n";

        let (lines, last) = written(Level::Info, output);

        let texts: Vec<_> = lines.iter().map(|line| (line["level"].as_str().unwrap(), &line["text"])).collect();
        let expected =
            [("warn", &"new".into()), ("warn", &"something else".into()), ("error", &Value::from("the end"))];
        assert_eq!(texts, expected);
        assert_eq!(last, ["something else", "chatter", "the end"]);
    }

    #[test]
    fn the_token_in_a_query_is_cut() {
        let output = "kj/x.c++:1: error: GET https://a.example/userinfo?access_token=nobody-may-see failed\n";
        let (lines, last) = written(Level::Debug, output);
        assert_eq!(lines[0]["text"], "GET https://a.example/userinfo?… failed");
        assert!(!last[0].contains("nobody-may-see"));
    }
}
