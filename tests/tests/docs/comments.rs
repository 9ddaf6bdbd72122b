//! Comments in Rust sources.

/// Consecutive lines of comments, without their slashes.
#[derive(Debug, PartialEq, Eq)]
pub struct Comment {
    /// Line of the source on which it begins, counted from 1.
    pub line: usize,
    pub text: String,
}

/// Returns the comments of `source` that have lines to themselves, for rustdoc or not.
pub fn comments(source: &str) -> Vec<Comment> {
    let mut comments: Vec<Comment> = Vec::new();
    let mut of_previous_line = None;
    for (line, content) in (1..).zip(source.lines()) {
        let commented = commented(content);
        if let Some((marker, text)) = commented {
            match comments.last_mut() {
                Some(comment) if of_previous_line == Some(marker) => {
                    comment.text.push('\n');
                    comment.text.push_str(text);
                }
                _ => comments.push(Comment { line, text: text.to_owned() }),
            }
        }
        of_previous_line = commented.map(|(marker, _)| marker);
    }
    comments
}

fn commented(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_start();
    let (marker, text) =
        ["///", "//!", "//"].into_iter().find_map(|marker| Some((marker, line.strip_prefix(marker)?)))?;
    Some((marker, text.strip_prefix(' ').unwrap_or(text)))
}

#[test]
fn comments_of_one_kind_belong_together() {
    let source = "//! a\n//! b\n\nfn f() {\n    /// c\n    // d\n    //\n    //  e\n    g(); // f\n}\n";
    let comment = |line, text: &str| Comment { line, text: text.to_owned() };
    assert_eq!(comments(source), [comment(1, "a\nb"), comment(5, "c"), comment(6, "d\n\n e")]);
}
