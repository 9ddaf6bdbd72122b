//! The executable's own messages in the log: one JSON object a line, like the worker's.

use std::{
    fmt,
    io::{self, Write},
};

use matrixrtc_edge::log::Level;
use serde_json::Value;

/// A message of the executable.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Its level and text.
    pub kind: Kind,
    /// Its other fields: a JSON object without secrets.
    pub fields: Value,
}

/// Level and text of a message. `docs/guides/own-machine.md` explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The service answers.
    Listening,
    /// Nobody reads a variable.
    UnknownVariable,
    /// A variable has a newer form.
    OlderForm,
    /// A variable of lk-jwt-service, or a default, isn't used.
    WithoutEffect,
    /// A line of `--config` is no assignment.
    LineIgnored,
    /// A secret is shorter than LiveKit wants it to be.
    ShortSecret,
    /// The clock can't be right.
    WrongClock,
    /// The SFU's name has no address.
    SfuNotFound,
    /// Ten seconds weren't enough for the requests that were under way.
    StillRunning,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Listening,
        Self::UnknownVariable,
        Self::OlderForm,
        Self::WithoutEffect,
        Self::LineIgnored,
        Self::ShortSecret,
        Self::WrongClock,
        Self::SfuNotFound,
        Self::StillRunning,
    ];

    fn level(self) -> Level {
        match self {
            Self::Listening => Level::Info,
            _ => Level::Warn,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::UnknownVariable => "unknown variable",
            Self::OlderForm => "older form of a variable",
            Self::WithoutEffect => "variable without effect",
            Self::LineIgnored => "line of the configuration file ignored",
            Self::ShortSecret => "short secret",
            Self::WrongClock => "clock is wrong",
            Self::SfuNotFound => "name of the SFU not found",
            Self::StillRunning => "stopped while requests were still running",
        }
    }
}

impl Message {
    /// Writes the message to standard output, whichever levels are left out: it is about a start or an end.
    pub fn write(&self) {
        // Nobody may be reading any more.
        let _ = writeln!(io::stdout().lock(), "{self}");
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"{{"level":"{}","msg":{}"#, self.kind.level().name(), Value::from(self.kind.text()))?;
        for (name, value) in self.fields.as_object().into_iter().flatten() {
            write!(f, ",{}:{value}", Value::from(name.as_str()))?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_explained_to_the_operator() {
        let guide = include_str!("../../../docs/guides/own-machine.md");
        let rows: Vec<_> =
            guide.lines().filter(|line| line.starts_with("| info |") || line.starts_with("| warn |")).collect();
        for kind in Kind::ALL {
            let row = format!("| {} | `{}` |", kind.level().name(), kind.text());
            assert_eq!(rows.iter().filter(|line| line.starts_with(&row)).count(), 1, "{row}");
        }
        assert_eq!(rows.len(), Kind::ALL.len(), "{rows:?}");
    }
}
