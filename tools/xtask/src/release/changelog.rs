//! A version's section of the changelog, and whether the version may be released.

use anyhow::{Context, Result, bail, ensure};

/// Returns the text under the heading of `version`, which is released by `tag` if one is given.
///
/// # Errors
///
/// The tag is another version's, the changelog has no section of this version, or a tagged one has no date.
pub(super) fn checked_section<'a>(changelog: &'a str, version: &str, tag: Option<&str>) -> Result<&'a str> {
    if let Some(tag) = tag {
        ensure!(tag == format!("v{version}"), "the tag is {tag}, but Cargo.toml has the version {version}");
    }
    let (date, section) = section(changelog, version)?;
    if tag.is_some() {
        ensure!(is_date(date), "CHANGELOG.md says of {version}: {date}, where a tagged version has its date");
    }
    ensure!(!section.is_empty(), "the section of {version} in CHANGELOG.md is empty");
    Ok(section)
}

/// Returns what follows the version in its heading, and the text below it.
fn section<'a>(changelog: &'a str, version: &str) -> Result<(&'a str, &'a str)> {
    let mut sections = changelog.split("\n## ").skip(1);
    let newest = sections.next().context("CHANGELOG.md has no version")?;
    let (heading, text) = newest.split_once('\n').unwrap_or((newest, ""));
    match heading.split_once(" - ") {
        Some((name, date)) if name == version => Ok((date.trim(), text.trim())),
        _ => bail!("the newest version in CHANGELOG.md is {heading}, but Cargo.toml has {version}"),
    }
}

/// Returns whether it is one like `2026-11-28`.
fn is_date(text: &str) -> bool {
    let parts: Vec<_> =
        text.split('-').map(|part| (part.len(), part.bytes().all(|byte| byte.is_ascii_digit()))).collect();
    parts == [(4, true), (2, true), (2, true)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGELOG: &str = "# Changelog\n\n## 0.2.0 - 2026-11-28\n\n- New.\n\n## 0.1.0 - 2026-01-01\n\n- Old.\n";

    #[test]
    fn the_section_of_the_tagged_version_is_returned() {
        for tag in [Some("v0.2.0"), None] {
            assert_eq!(checked_section(CHANGELOG, "0.2.0", tag).unwrap(), "- New.");
        }
    }

    #[test]
    fn a_tag_a_changelog_and_a_version_that_disagree_are_refused() {
        let unreleased = CHANGELOG.replace("2026-11-28", "Unreleased");
        assert!(checked_section(&unreleased, "0.2.0", None).is_ok());
        for (changelog, version, tag, part) in [
            (CHANGELOG, "0.2.0", "v0.1.0", "the tag is v0.1.0"),
            (CHANGELOG, "0.2.0", "0.2.0", "the tag is 0.2.0"),
            (CHANGELOG, "0.1.0", "v0.1.0", "newest version in CHANGELOG.md is 0.2.0"),
            (CHANGELOG, "0.3.0", "v0.3.0", "newest version in CHANGELOG.md is 0.2.0"),
            (&unreleased, "0.2.0", "v0.2.0", "Unreleased"),
            ("# Changelog\n\n## 0.2.0 - 2026-11-28\n", "0.2.0", "v0.2.0", "is empty"),
            ("# Changelog\n", "0.2.0", "v0.2.0", "no version"),
        ] {
            let error = checked_section(changelog, version, Some(tag)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
