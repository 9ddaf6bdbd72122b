//! Links and anchors of all documents, and of the comments in Rust sources (`CONTRIBUTING.md#links`).
//!
//! How it works:
//! - [`Repository`] is a list of paths, with the text of Markdown and Rust files; here the real one, in the tests below one made up;
//! - [`page`] parses Markdown into what it refers to, and into the anchors that GitHub gives its headings;
//! - [`comments`] takes comments out of Rust sources, to be parsed as Markdown, as rustdoc does;
//! - links to other sites are checked for their form only: no test depends on the internet.

#![allow(clippy::unwrap_used, reason = "a test program")]

mod comments;
mod page;
mod repository;

use std::path::Path;

use crate::repository::Repository;

#[test]
fn every_reference_resolves() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let repository = Repository::read(root).unwrap();
    assert!(repository.has("README.md") && repository.has("docs/protocol.md"), "this isn't the repository");

    let problems = repository.problems();

    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn the_readme_stays_short() {
    let readme = include_str!("../../../README.md");
    assert!(readme.lines().count() <= 200, "{} lines: the rest belongs into a guide", readme.lines().count());
}

/// The problems of a repository that consists of these files.
fn problems_of(files: &[(&str, &str)]) -> Vec<String> {
    Repository::of(files).problems()
}

#[test]
fn references_that_resolve_are_no_problem() {
    let page = "# A page\n\n[itself](#a-page) [up](../README.md) [an anchor](../README.md#two-words) [a folder](..)\n\
                [a site](https://example.com/x#y) `docs/page.md#a-page` ![a picture](picture.png)\n\n\
                [by reference][r]\n\n[r]: ../README.md#two-words\n";
    let source =
        "//! See `docs/page.md#a-page` and [a site](https://example.com).\n\n/// [A type](Self::x), `README.md`.\n";
    let files =
        [("README.md", "Two *words*\n===\n"), ("docs/page.md", page), ("docs/picture.png", ""), ("src/lib.rs", source)];

    assert_eq!(problems_of(&files), [""; 0]);
}

#[test]
fn a_missing_file_or_anchor_is_found_with_its_line() {
    let page =
        "# A page\n\n[no file](other.md)\n[no anchor](#b-page), [none there](../README.md#no)\n\n`docs/none.md#x`\n";
    let files = [("README.md", "# Title\n"), ("docs/page.md", page)];

    let expected = [
        "docs/page.md:3: docs/other.md isn't there",
        "docs/page.md:4: docs/page.md has no heading with the anchor #b-page",
        "docs/page.md:4: README.md has no heading with the anchor #no",
        "docs/page.md:6: docs/none.md isn't there",
    ];
    assert_eq!(problems_of(&files), expected);
}

#[test]
fn comments_in_rust_are_held_to_the_same() {
    let source = [
        "//! See `docs/page.md#gone`",
        "//! and `docs/gone.md`.",
        "",
        "fn f() {",
        "    // As in `docs/page.md#a-page`,",
        "    // not [there](docs/page.md).",
        "}",
    ]
    .join("\n");
    let files = [("docs/page.md", "# A page\n"), ("src/lib.rs", source.as_str())];

    let expected = [
        "src/lib.rs:1: docs/page.md has no heading with the anchor #gone",
        "src/lib.rs:2: docs/gone.md isn't there",
        "src/lib.rs:6: a page is named in a code span here, `docs/…md#anchor`, not linked: docs/page.md",
    ];
    assert_eq!(problems_of(&files), expected);
}

#[test]
fn a_reference_out_of_the_repository_or_without_a_target_is_found() {
    let page = "[a](/etc/passwd) [b](../up.md) [c](http://) [d](ftp://example.com) [e][nowhere]\n";

    let expected = [
        "page.md:1: not a relative link: /etc/passwd",
        "page.md:1: ../up.md leads out of the repository",
        "page.md:1: not an http or https URL: http://",
        "page.md:1: not an http or https URL: ftp://example.com",
        "page.md:1: nothing defines the reference [nowhere]",
    ];
    assert_eq!(problems_of(&[("page.md", page)]), expected);
}

#[test]
fn a_numbered_section_is_no_reference() {
    let section = "\u{a7}2.2";
    let (page, source) =
        (format!("# P\n\nSee {section}.\n"), format!("fn f() {{}}\n/// ({section} of the protocol)\n"));

    let problems = problems_of(&[("page.md", &page), ("src/lib.rs", &source)]);

    let expected = ["page.md:3: a numbered section", "src/lib.rs:2: a numbered section"];
    assert_eq!(problems, expected.map(|problem| format!("{problem} is no reference: {section}")));
}

#[test]
fn code_is_not_taken_for_references() {
    let page = "# P\n\n```md\n[a](b.md) `docs/c.md`\n```\n\n`[a](b.md)` `*.md` `a b.md`\n";
    let source = "const TEXT: &str = \"[a](b.md) `docs/c.md`\";\n";

    assert_eq!(problems_of(&[("page.md", page), ("src/lib.rs", source)]), [""; 0]);
}
