//! The log: one JSON object for each message, on the console of the platform.
//!
//! How it works:
//! - it has `level`, `msg` and `request_id`, in this order, then the fields of its message;
//! - Cloudflare is given the object itself, whose fields it indexes; workerd alone, which writes to a file or a terminal,
//!   is given one line of JSON;
//! - `msg` is one of a fixed set: `docs/operations.md` explains each, and a test compares the two;
//! - messages below the configured level are dropped before they are formatted;
//! - tokens, secrets and delay ids are never in one; user ids and the SFU's names of rooms and participants are.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use serde_json::Value;
use wasm_bindgen::prelude::*;

/// Severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Details for troubleshooting.
    Debug,
    /// Normal operation.
    Info,
    /// A failed request, or a suspicious condition.
    Warn,
    /// A condition that needs the operator.
    Error,
}

impl Level {
    /// Parses a value of `LIVEKIT_LOG_LEVEL`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "debug" => Some(Self::Debug),
            "info" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "error" => Some(Self::Error),
            _ => None,
        }
    }

    /// Returns the name of the level in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The log of one request.
#[derive(Clone, Debug)]
pub struct Log {
    /// Lines below this level are dropped.
    pub threshold: Level,
    /// Identifier that all lines of one request have.
    pub request_id: String,
}

impl Log {
    /// Log of a request without an identifier from the edge.
    pub fn of_new_request(threshold: Level) -> Self {
        Self { threshold, request_id: new_request_id() }
    }

    /// Writes one line. `fields` must be a JSON object; tokens, secrets and delay ids must not be in it.
    pub fn write(&self, level: Level, msg: &str, fields: Value) {
        if level < self.threshold {
            return;
        }
        let line = self.line(level, msg, fields);
        let line = match FORM.get() {
            Form::Lines => JsValue::from(line),
            // It is valid JSON.
            Form::Objects => js_sys::JSON::parse(&line).unwrap_or_else(|_| JsValue::from(line)),
        };
        // The platforms derive the level of a line from the method of the console.
        match level {
            Level::Debug => console_debug(&line),
            Level::Info => console_log(&line),
            Level::Warn => console_warn(&line),
            Level::Error => console_error(&line),
        }
    }

    /// Writes one line, unless this instance has written one with this `msg` in this way before.
    pub fn write_once(&self, level: Level, msg: &str, fields: Value) {
        if level >= self.threshold && WRITTEN_ONCE.with_borrow_mut(|written| written.insert(msg.to_owned())) {
            self.write(level, msg, fields);
        }
    }

    /// Level and message come first, for human readers.
    fn line(&self, level: Level, msg: &str, fields: Value) -> String {
        let (msg, request_id) = (Value::from(msg), Value::from(self.request_id.as_str()));
        let mut line = format!(r#"{{"level":"{}","msg":{msg},"request_id":{request_id}"#, level.name());
        for (name, value) in fields.as_object().into_iter().flatten() {
            line.push_str(&format!(",{}:{value}", Value::from(name.as_str())));
        }
        line.push('}');
        line
    }
}

/// Form of the log's messages on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Lines of JSON, for a terminal, a file or a journal.
    Lines,
    /// Objects, for a platform that indexes their fields.
    Objects,
}

impl Form {
    /// Makes this the form of all messages of this instance from now on.
    pub fn choose(self) {
        FORM.set(self);
    }
}

thread_local! {
    static FORM: Cell<Form> = const { Cell::new(Form::Lines) };
    static WRITTEN_ONCE: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = debug)]
    fn console_debug(message: &JsValue);

    #[wasm_bindgen(js_namespace = console, js_name = log)]
    fn console_log(message: &JsValue);

    #[wasm_bindgen(js_namespace = console, js_name = warn)]
    fn console_warn(message: &JsValue);

    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(message: &JsValue);
}

/// Returns an identifier for a request that has none from the edge.
pub fn new_request_id() -> String {
    let mut random = [0; 8];
    // The line is worth writing even without randomness.
    let _ = getrandom::fill(&mut random);
    format!("{:016x}", u64::from_be_bytes(random))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::upstreams::level_of;
    use delegated_leaves::LogEventKind;
    use serde_json::json;
    use std::fs;
    use std::path::{Path, PathBuf};

    #[test]
    fn a_line_is_one_json_object_on_one_line() {
        let log = Log { threshold: Level::Info, request_id: "r1".into() };
        let line = log.line(Level::Warn, "two\nlines", json!({"user": "@a:example.com"}));
        assert!(!line.contains('\n'));
        let expected = json!({"level": "warn", "msg": "two\nlines", "request_id": "r1", "user": "@a:example.com"});
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    }

    /// `docs/operations.md` has a row for each message in the sources, and for no other.
    #[test]
    fn every_line_is_explained_to_the_operator() {
        let mut written = BTreeSet::new();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        for file in sources_in(&sources) {
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            for level in [Level::Debug, Level::Info, Level::Warn, Level::Error] {
                for rest in code.split(&format!("Level::{level:?}, \"")).skip(1) {
                    written.insert(row(level, rest.split('"').next().unwrap()));
                }
            }
        }
        written.extend(LogEventKind::ALL.map(|event| row(level_of(event), &event.to_string())));

        let guide = include_str!("../docs/operations.md").lines();
        let starts_as_row = |line: &&str| {
            ["debug", "info", "warn", "error"].iter().any(|level| line.starts_with(&format!("| {level} |")))
        };
        let explained: BTreeSet<_> =
            guide.filter(starts_as_row).map(|line| line.split(" | ").take(2).collect::<Vec<_>>().join(" | ")).collect();
        assert_eq!(explained, written);
    }

    fn row(level: Level, msg: &str) -> String {
        format!("| {} | `{msg}`", level.name())
    }

    fn sources_in(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { sources_in(&path) } else { vec![path] }).collect()
    }

    #[test]
    fn levels_are_ordered_and_have_their_names() {
        assert!(Level::Debug < Level::Info && Level::Info < Level::Warn && Level::Warn < Level::Error);
        assert_eq!(Level::parse("WARNING"), Some(Level::Warn));
        assert_eq!(Level::parse("loud"), None);
    }
}
