//! Values that are read from files: `…_FROM_FILE`, lines of keys, and the homeserver's registration file.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    path::Path,
};

use matrixrtc_edge::config::{QUOTED, is_quoted};
use serde_yaml_ng::Value;
use thiserror::Error;

/// A variable that names a file, and the worker's variables that it stands for.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// The variable with the path.
    pub variable: &'static str,
    /// The worker's variables.
    pub sets: &'static [&'static str],
    content: Content,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    Value,
    KeyLines,
    Registration,
}

/// Every such variable.
pub const SOURCES: &[Source] = &[
    Source { variable: "LIVEKIT_KEY_FROM_FILE", sets: &["LIVEKIT_KEY"], content: Content::Value },
    Source { variable: "LIVEKIT_SECRET_FROM_FILE", sets: &["LIVEKIT_SECRET"], content: Content::Value },
    Source { variable: "LIVEKIT_KEY_FILE", sets: &["LIVEKIT_KEYS"], content: Content::KeyLines },
    Source { variable: "LIVEKIT_AS_TOKEN_FROM_FILE", sets: &["LIVEKIT_AS_TOKEN"], content: Content::Value },
    Source { variable: "LIVEKIT_HS_TOKEN_FROM_FILE", sets: &["LIVEKIT_HS_TOKEN"], content: Content::Value },
    Source {
        variable: "LIVEKIT_AS_REGISTRATION_FILE",
        sets: &["LIVEKIT_AS_TOKEN", "LIVEKIT_HS_TOKEN"],
        content: Content::Registration,
    },
];

impl Source {
    /// Returns the values of [`Source::sets`], in that order.
    ///
    /// # Errors
    ///
    /// The file can't be read, or hasn't got them. The error names the file, and nothing in it.
    pub fn read(&self, path: &str) -> Result<Vec<String>, FileError> {
        if is_quoted(path) {
            return Err(FileError::Quoted);
        }
        let text = read(Path::new(path)).map_err(|cause| FileError::Unreadable { path: path.to_owned(), cause })?;
        if text.trim().is_empty() {
            return Err(FileError::Empty { path: path.to_owned() });
        }
        match self.content {
            Content::Value => Ok(vec![text]),
            Content::KeyLines => {
                let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
                Ok(vec![lines.collect::<Vec<_>>().join("\n")])
            }
            Content::Registration => {
                // The parser's own error may repeat a part of the text.
                let yaml: Value =
                    serde_yaml_ng::from_str(&text).map_err(|_| FileError::NotYaml { path: path.to_owned() })?;
                ["as_token", "hs_token"]
                    .map(|field| match yaml.get(field) {
                        Some(Value::String(token)) => Ok(token.clone()),
                        Some(_) => Err(FileError::NotText { path: path.to_owned(), field }),
                        None => Err(FileError::Missing { path: path.to_owned(), field }),
                    })
                    .into_iter()
                    .collect()
            }
        }
    }
}

/// Returns the variables by which those of the worker can be given: these themselves, and the ones that name files for
/// them.
#[must_use]
pub fn forms(names: &[&'static str]) -> Vec<&'static str> {
    let of_files = SOURCES.iter().filter(|source| names.iter().any(|name| source.sets.contains(name)));
    names.iter().copied().chain(of_files.map(|source| source.variable)).collect()
}

/// Returns a problem for each pair of variables that stand for the same, of those that are `given`.
pub fn contradictions(given: impl Fn(&str) -> bool) -> Vec<String> {
    let both = |one: &str, other: &str| format!("{one} and {other} are both set: remove one of them");
    let mut problems = Vec::new();
    for (n, source) in SOURCES.iter().enumerate().filter(|(_, source)| given(source.variable)) {
        let others = SOURCES.iter().skip(n.saturating_add(1)).filter(|other| given(other.variable));
        for other in others.filter(|other| source.sets.iter().any(|name| other.sets.contains(name))) {
            problems.push(both(source.variable, other.variable));
        }
        for name in source.sets.iter().filter(|name| given(name)) {
            problems.push(both(name, source.variable));
        }
    }
    // The pair and the lines are two forms of the same.
    for lines in forms(&[KEYS]).into_iter().filter(|name| given(name)) {
        for half in forms(&PAIR).into_iter().filter(|name| given(name)) {
            problems.push(both(half, lines));
        }
    }
    problems
}

/// Reads a small text file.
///
/// # Errors
///
/// The file can't be read, is larger than 1 MiB, or isn't UTF-8.
pub fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
        return Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(ErrorKind::InvalidData, "it isn't UTF-8"))
}

/// The form of one API key and its secret.
pub const PAIR: [&str; 2] = ["LIVEKIT_KEY", "LIVEKIT_SECRET"];
/// The form of `key: secret` lines.
pub const KEYS: &str = "LIVEKIT_KEYS";
/// In bytes.
const LARGEST: u64 = 1024 * 1024;

/// The reason for which a file hasn't got its values.
#[derive(Debug, Error)]
pub enum FileError {
    /// The name of the file has arrived with quotation marks.
    #[error("{QUOTED}")]
    Quoted,
    /// It isn't there, or can't be read by this user.
    #[error("names {path}, which can't be read: {cause}{}", remedy(cause))]
    Unreadable {
        /// The file.
        path: String,
        /// The operating system's reason.
        cause: io::Error,
    },
    /// It has nothing but white space.
    #[error("names {path}, which is empty")]
    Empty {
        /// The file.
        path: String,
    },
    /// It isn't YAML.
    #[error("names {path}, which is no registration file: it isn't YAML")]
    NotYaml {
        /// The file.
        path: String,
    },
    /// A field is missing.
    #[error("names {path}, which is no registration file: it has no `{field}`")]
    Missing {
        /// The file.
        path: String,
        /// The field.
        field: &'static str,
    },
    /// A field is a number, or anything else but a text.
    #[error("names {path}, whose `{field}` isn't text: put it in quotation marks there")]
    NotText {
        /// The file.
        path: String,
        /// The field.
        field: &'static str,
    },
}

/// Returns the likely remedy for a file that can't be read, in parentheses to follow the cause; empty if none is likely.
#[must_use]
pub fn remedy(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::NotFound => " (in a container: is it mounted there?)",
        ErrorKind::PermissionDenied => " (the user that runs the service has to be able to read it)",
        ErrorKind::IsADirectory => {
            " (where the file is missing on the host, a container's mount makes a directory of its name)"
        }
        _ => "",
    }
}
