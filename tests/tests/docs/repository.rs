//! The files of a repository, and what is wrong with their references.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::comments::comments;
use crate::page::{Kind, Reference, anchors, references};

/// All files by their paths from the root, with the texts of those that are Markdown or Rust.
pub struct Repository(BTreeMap<PathBuf, String>);

impl Repository {
    /// Reads what is below `root`, apart from what tools put there.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    if !entry.file_name().to_str().is_some_and(|name| OF_TOOLS.contains(&name)) {
                        folders.push(path);
                    }
                    continue;
                }
                let text =
                    if is_markdown(&path) || is_rust(&path) { fs::read_to_string(&path)? } else { String::new() };
                files.insert(path.strip_prefix(root).unwrap_or(&path).to_owned(), text);
            }
        }
        Ok(Self(files))
    }

    /// A made-up one.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect())
    }

    /// Whether there is a file, or a folder, at that path.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        self.0.keys().any(|file| file.starts_with(path))
    }

    /// Everything that is wrong, by file and line: `path:line: problem`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (path, text) in &self.0 {
            let mut found: Vec<(usize, String)> = Vec::new();
            if is_markdown(path) {
                let wrong = |reference: Reference| Some((reference.line, self.problem_in_page(path, &reference)?));
                found.extend(references(text).into_iter().filter_map(wrong));
            } else if is_rust(path) {
                for comment in comments(text) {
                    let wrong = |reference: Reference| {
                        Some((comment.line + reference.line - 1, self.problem_in_comment(&reference)?))
                    };
                    found.extend(references(&comment.text).into_iter().filter_map(wrong));
                }
            }
            found.extend(numbered_sections(text));
            found.sort_by_key(|(line, _)| *line);
            problems.extend(found.into_iter().map(|(line, problem)| format!("{}:{line}: {problem}", path.display())));
        }
        problems
    }

    fn problem_in_page(&self, page: &Path, reference: &Reference) -> Option<String> {
        match &reference.kind {
            Kind::Link(url) if has_scheme(url) => problem_of_url(url),
            Kind::Link(link) if link.starts_with('/') => Some(format!("not a relative link: {link}")),
            Kind::Link(link) => match link.split_once('#') {
                Some(("", anchor)) => self.problem_of(page, Some(anchor)),
                with_anchor => {
                    let (target, anchor) = with_anchor.map_or((link.as_str(), None), |(t, a)| (t, Some(a)));
                    match resolved(page.parent().unwrap_or(Path::new("")), target) {
                        Some(path) => self.problem_of(&path, anchor),
                        None => Some(format!("{target} leads out of the repository")),
                    }
                }
            },
            Kind::Code(code) => self.problem_of_span(code),
            Kind::Undefined(label) => Some(format!("nothing defines the reference [{label}]")),
        }
    }

    fn problem_in_comment(&self, reference: &Reference) -> Option<String> {
        match &reference.kind {
            Kind::Link(url) if has_scheme(url) => problem_of_url(url),
            Kind::Link(link) if page_named_by(link).is_some() => {
                Some(format!("a page is named in a code span here, `docs/…md#anchor`, not linked: {link}"))
            }
            // Paths of Rust, which rustdoc checks.
            Kind::Link(_) | Kind::Undefined(_) => None,
            Kind::Code(code) => self.problem_of_span(code),
        }
    }

    /// A code span may name a page, from the root.
    fn problem_of_span(&self, code: &str) -> Option<String> {
        let (path, anchor) = page_named_by(code)?;
        self.problem_of(Path::new(path), anchor)
    }

    fn problem_of(&self, path: &Path, anchor: Option<&str>) -> Option<String> {
        if !self.has(path) {
            return Some(format!("{} isn't there", path.display()));
        }
        let anchor = anchor?;
        let has_anchor = is_markdown(path) && self.0.get(path).is_some_and(|text| anchors(text).contains(anchor));
        (!has_anchor).then(|| format!("{} has no heading with the anchor #{anchor}", path.display()))
    }
}

/// The page, and the anchor in it, that a text such as `docs/protocol.md#errors` names; `None` for any other text.
fn page_named_by(text: &str) -> Option<(&str, Option<&str>)> {
    let (path, anchor) = text.split_once('#').map_or((text, None), |(path, anchor)| (path, Some(anchor)));
    let stem = path.strip_suffix(".md")?;
    let is_path = !stem.is_empty() && stem.chars().all(|c| c.is_alphanumeric() || matches!(c, '/' | '-' | '_' | '.'));
    is_path.then_some((path, anchor))
}

fn problem_of_url(url: &str) -> Option<String> {
    let is_web = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    (!is_web).then(|| format!("not an http or https URL: {url}"))
}

fn has_scheme(link: &str) -> bool {
    let scheme = link.split_once(':').map_or("", |(scheme, _)| scheme);
    // `crate::path` is Rust's.
    !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric()) && !link.contains("::")
}

/// `target` as seen from `folder`; `None` where that isn't in the repository.
fn resolved(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut path = folder.to_owned();
    for component in Path::new(target).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// A reference such as "section 2.2" names nothing that a reader can follow, and is wrong after the next section is added.
fn numbered_sections(text: &str) -> impl Iterator<Item = (usize, String)> {
    (1..).zip(text.lines()).flat_map(|(line, content)| {
        content.split(SECTION).skip(1).filter_map(move |rest| {
            let number: String = rest.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            let number = number.trim_end_matches('.');
            (!number.is_empty()).then(|| (line, format!("a numbered section is no reference: {SECTION}{number}")))
        })
    })
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// The section sign, which this file mustn't have before a digit itself.
const SECTION: char = '\u{a7}';
/// Folders that hold no files of the repository.
const OF_TOOLS: [&str; 7] = [".git", ".pytest_cache", ".wrangler", "__pycache__", "build", "node_modules", "target"];
