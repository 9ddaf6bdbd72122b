//! Markdown, as GitHub and rustdoc read it: what a text refers to, and which anchors its headings have.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use pulldown_cmark::{BrokenLink, Event, LinkType, Options, Parser, Tag, TagEnd};

/// A reference in a text, with the line that it is on, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub struct Reference {
    pub line: usize,
    pub kind: Kind,
}

/// The form of a reference.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// Destination of a link or of an image.
    Link(String),
    /// Content of a code span.
    Code(String),
    /// Label of a link that nothing defines.
    Undefined(String),
}

/// Returns the references in `text`, by line.
pub fn references(text: &str) -> Vec<Reference> {
    let undefined = RefCell::new(Vec::new());
    let note_undefined = |link: BrokenLink<'_>| {
        // A word in brackets is mostly just that.
        if link.link_type != LinkType::Shortcut {
            undefined.borrow_mut().push((link.span, link.reference.to_string()));
        }
        None
    };
    let mut references = Vec::new();
    let mut note = |at: &Range<usize>, kind| references.push(Reference { line: line_of(text, at.start), kind });
    let parser = Parser::new_with_broken_link_callback(text, options(), Some(note_undefined));
    for (event, at) in parser.into_offset_iter() {
        match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                note(&at, Kind::Link(dest_url.into_string()));
            }
            Event::Code(code) => note(&at, Kind::Code(code.into_string())),
            _ => {}
        }
    }
    for (at, label) in undefined.take() {
        note(&at, Kind::Undefined(label));
    }
    references.sort_by_key(|reference| reference.line);
    references
}

/// Returns the anchors of the headings in `text`.
pub fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(text, options()) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::Text(part) | Event::Code(part) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&part);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(heading) = &mut heading {
                    heading.push(' ');
                }
            }
            Event::End(TagEnd::Heading(_)) => {
                let anchor = anchor(&heading.take().unwrap_or_default());
                // The second heading of the same text has -1 at its end.
                let numbered = (1..).map(|n| format!("{anchor}-{n}"));
                let free = std::iter::once(anchor.clone()).chain(numbered).find(|anchor| !anchors.contains(anchor));
                anchors.extend(free);
            }
            _ => {}
        }
    }
    anchors
}

/// Letters, digits, `-` and `_` stay, in lower case; spaces become `-`; the rest is left out.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim().to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset].matches('\n').count() + 1
}

fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS | Options::ENABLE_GFM
}

#[test]
fn anchors_are_those_of_github() {
    for (heading, expected) in [
        ("# Two words", "two-words"),
        ("## LiveKit's server API", "livekits-server-api"),
        ("### `/healthz`", "healthz"),
        ("# What `/healthz` *says*: a [link](x.md)", "what-healthz-says-a-link"),
        ("# snake_case and-dash", "snake_case-and-dash"),
        ("# a -- b & c", "a----b--c"),
        ("# Größe 2", "größe-2"),
        ("Underlined\n---", "underlined"),
    ] {
        assert_eq!(anchors(heading), BTreeSet::from([expected.to_owned()]), "{heading}");
    }
}

#[test]
fn anchors_of_equal_headings_are_numbered() {
    let expected = ["x", "x-1", "x-2", "y"].map(str::to_owned);
    assert_eq!(anchors("# X\n# Y\n# X\n# X\n"), BTreeSet::from(expected));
}
