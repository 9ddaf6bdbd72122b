//! `KEY=value` lines, read as systemd reads its `EnvironmentFile=`
//! ([systemd.exec(5)](https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html#EnvironmentFile=)).
//!
//! How it works:
//! - empty lines and those that begin with `#` or `;` are comments;
//! - a value without quotation marks ends with its line; a backslash keeps the next character, and at the end of the line
//!   joins the next line to it;
//! - in single quotes everything is literal; in double quotes a backslash escapes `"`, `\`, `` ` ``, `$`, and a line's
//!   end; both may have several lines;
//! - quotation marks inside an unquoted value are a part of it;
//! - systemd skips lines without a name in silence: here they are returned, for a warning.

use thiserror::Error;

/// The assignments of a file, in order, and the lines that are none.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// Names and values.
    pub assignments: Vec<(String, String)>,
    /// Lines without effect, by their numbers.
    pub skipped: Vec<Skipped>,
}

/// A line without effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skipped {
    /// The number of the line, from 1.
    pub line: usize,
    /// The reason.
    pub reason: Reason,
}

/// The reason for which a line has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Reason {
    /// It has no `=`.
    #[error("it has no `=`")]
    NoAssignment,
    /// It begins with `export`, as in a shell.
    #[error("it begins with `export`, which only a shell knows: remove the word")]
    Export,
    /// The text before the `=` is no name of a variable.
    #[error("what is before its `=` is no name of a variable")]
    NoName,
}

/// A quotation mark that isn't closed before the end of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("line {line}: its quotation mark is never closed")]
pub struct Unclosed {
    line: usize,
}

impl EnvFile {
    /// Parses the text of a file.
    ///
    /// # Errors
    ///
    /// A quotation mark isn't closed.
    pub fn parse(text: &str) -> Result<Self, Unclosed> {
        let mut file = Self::default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut scanner = Scanner { rest: text.chars().peekable(), line: 1 };
        loop {
            scanner.skip_while(|c| c.is_ascii_whitespace());
            let line = scanner.line;
            match scanner.rest.peek() {
                None => return Ok(file),
                Some('#' | ';') => scanner.skip_while(|c| c != '\n'),
                Some(_) => {
                    let name = scanner.name();
                    match name {
                        None => file.skipped.push(Skipped { line, reason: Reason::NoAssignment }),
                        Some(name) => {
                            let value = scanner.value()?;
                            match reason_against(&name) {
                                Some(reason) => file.skipped.push(Skipped { line, reason }),
                                None => file.assignments.push((name, value)),
                            }
                        }
                    }
                }
            }
        }
    }
}

fn reason_against(name: &str) -> Option<Reason> {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_';
    if name.split_whitespace().next() == Some("export") && name != "export" {
        Some(Reason::Export)
    } else if !name.starts_with(is_start) || !name.chars().all(|c| is_start(c) || c.is_ascii_digit()) {
        Some(Reason::NoName)
    } else {
        None
    }
}

struct Scanner<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        if next == Some('\n') {
            self.line = self.line.saturating_add(1);
        }
        next
    }

    fn next_if(&mut self, is: impl FnOnce(char) -> bool) -> Option<char> {
        let next = self.rest.peek().copied()?;
        if is(next) { self.next() } else { None }
    }

    fn skip_while(&mut self, is: impl Fn(char) -> bool) {
        while self.next_if(&is).is_some() {}
    }

    /// Reads up to and with `=`; returns `None` at the end of a line without one.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        while let Some(c) = self.next_if(|c| c != '\n') {
            if c == '=' {
                return Some(name.trim().to_owned());
            }
            name.push(c);
        }
        None
    }

    /// Reads up to the end of the line that the value ends in.
    fn value(&mut self) -> Result<String, Unclosed> {
        let mut value = String::new();
        loop {
            self.skip_while(|c| c != '\n' && c.is_ascii_whitespace());
            let line = self.line;
            match self.rest.peek() {
                None | Some('\n') => return Ok(value),
                Some('\'') => {
                    self.next();
                    loop {
                        match self.next().ok_or(Unclosed { line })? {
                            '\'' => break,
                            c => value.push(c),
                        }
                    }
                }
                Some('"') => {
                    self.next();
                    loop {
                        match self.next().ok_or(Unclosed { line })? {
                            '"' => break,
                            '\\' => match self.next().ok_or(Unclosed { line })? {
                                '\n' => {}
                                c @ ('"' | '\\' | '`' | '$') => value.push(c),
                                c => value.extend(['\\', c]),
                            },
                            c => value.push(c),
                        }
                    }
                }
                Some(_) => {
                    value.push_str(&self.unquoted());
                    return Ok(value);
                }
            }
        }
    }

    fn unquoted(&mut self) -> String {
        let mut value = String::new();
        // White space at the end is dropped, unless a backslash has kept it.
        let mut kept = 0;
        while let Some(c) = self.next_if(|c| c != '\n') {
            if c == '\\' {
                // A file from Windows has `\r\n`.
                if self.rest.peek() == Some(&'\r') {
                    self.next();
                }
                match self.next() {
                    None | Some('\n') => {}
                    Some(c) => {
                        value.push(c);
                        kept = value.len();
                    }
                }
            } else {
                value.push(c);
                if !c.is_ascii_whitespace() {
                    kept = value.len();
                }
            }
        }
        value.truncate(kept);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> String {
        let mut file = EnvFile::parse(&format!("A={text}\nB=after\n")).unwrap();
        assert_eq!(file.assignments.len(), 2, "{file:?}");
        assert_eq!(file.assignments[1], ("B".to_owned(), "after".to_owned()));
        file.assignments.swap_remove(0).1
    }

    /// As systemd.exec(5) describes them.
    #[test]
    fn values_are_read_as_systemd_reads_them() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("  two  words \t\r", "two  words"),
            ("a#b ; c", "a#b ; c"),
            ("it's \"so\"", "it's \"so\""),
            (r"a\ \\b\n", r"a \bn"),
            ("end\\ ", "end "),
            ("one \\\ntwo", "one two"),
            ("one\\\r\ntwo", "onetwo"),
            ("'single \\ \"quoted\"\nlines '  ", "single \\ \"quoted\"\nlines "),
            (r#""a \"b\" \\ \$HOME \` \n""#, r#"a "b" \ $HOME ` \n"#),
            ("\"one \\\ntwo\nthree\"", "one two\nthree"),
            ("'a'\"b\"c", "abc"),
            ("a=b=c", "a=b=c"),
        ] {
            assert_eq!(value(text), expected, "{text:?}");
        }
    }

    #[test]
    fn names_may_have_white_space_around_them_and_comments_are_whole_lines() {
        let file = EnvFile::parse("\u{feff}# A=1\n; B=2\n\n  C = 3\n\t# D=4\nE_1=5").unwrap();
        let expected = [("C", "3"), ("E_1", "5")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(file, EnvFile { assignments: expected.into(), skipped: Vec::new() });
    }

    #[test]
    fn a_line_without_effect_is_returned_with_its_number() {
        let file = EnvFile::parse("A='1\n2'\nexport B=3\nC: 4\n5=6\nD-E=7\n").unwrap();
        let skipped = |line, reason| Skipped { line, reason };
        assert_eq!(file.assignments.len(), 1);
        assert_eq!(
            file.skipped,
            [
                skipped(3, Reason::Export),
                skipped(4, Reason::NoAssignment),
                skipped(5, Reason::NoName),
                skipped(6, Reason::NoName)
            ]
        );
    }

    #[test]
    fn a_quotation_mark_that_is_never_closed_is_named_by_its_line() {
        for text in ["A=1\nB=\"x\nC=2\n", "A=1\nB='x\nC=2\n", "A=1\nB=\"x\\"] {
            assert_eq!(EnvFile::parse(text), Err(Unclosed { line: 2 }), "{text:?}");
        }
    }
}
