//! Fuzz targets for everything that parses bytes from outside.
//!
//! How it works:
//! - [`TARGETS`] lists them; `fuzz/fuzz_targets/` has a libFuzzer program for each, built with the feature `fuzzing`;
//! - a target calls the parsers with its input, and asserts what holds for every input: an accepted value is
//!   well-formed and within its bounds, and an error quotes no secret;
//! - inputs are text wherever the format is: headers are lines before the body, so that a seed can be read and written
//!   by hand;
//! - a test runs all seeds of `fuzz/corpus/` through their targets, so that `cargo test` guards what fuzzing has found.
//!
//! Neither the deployed worker nor any other build has this module: it needs the feature, or a test.

mod answers;
mod engine;
mod names;
mod requests;
mod stored;
mod webhooks;

use delegated_leaves::RoomCommand;

pub use self::answers::{cache_headers, delayed_event_answers, discovery, homeserver_answers, sfu_answers, well_known};
pub use self::engine::engine;
pub use self::names::{configuration, identifiers, paths};
pub use self::requests::{client_bodies, homeserver_bodies};
pub use self::stored::stored;
pub use self::webhooks::{webhook_event, webhook_header, webhook_signed};

/// A function that panics if the input shows a mistake.
pub type Target = fn(&[u8]);

/// All targets with their names.
pub const TARGETS: [(&str, Target); 16] = [
    ("cache_headers", cache_headers),
    ("client_bodies", client_bodies),
    ("configuration", configuration),
    ("delayed_event_answers", delayed_event_answers),
    ("discovery", discovery),
    ("engine", engine),
    ("homeserver_answers", homeserver_answers),
    ("homeserver_bodies", homeserver_bodies),
    ("identifiers", identifiers),
    ("paths", paths),
    ("sfu_answers", sfu_answers),
    ("stored", stored),
    ("webhook_event", webhook_event),
    ("webhook_header", webhook_header),
    ("webhook_signed", webhook_signed),
    ("well_known", well_known),
];

/// Splits off the first line, a header's value say, which has to be UTF-8. The rest is a body.
fn first_line(data: &[u8]) -> Option<(&str, &[u8])> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&data[..end]).ok()?, &data[end + 1..]))
}

/// Asserts that the room's object reads a command as the worker has sent it.
fn assert_crosses_to_the_object(command: &RoomCommand) {
    let json = serde_json::to_string(command).unwrap_or_default();
    assert_eq!(serde_json::from_str::<RoomCommand>(&json).ok().as_ref(), Some(command));
}

/// A text that seeds have in place of secrets. No error and no log line may show it.
const SECRET: &str = "hush";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_seed_of_the_corpus_is_read_without_panic() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        for (name, target) in TARGETS {
            let mut seeds = 0;
            for seed in std::fs::read_dir(corpus.join(name)).unwrap() {
                target(&std::fs::read(seed.unwrap().path()).unwrap());
                seeds += 1;
            }
            assert!(seeds > 0, "{name} has no seeds");
        }
    }

    #[test]
    fn every_target_has_its_program() {
        let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let programs: BTreeSet<_> = std::fs::read_dir(programs)
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(programs, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn inputs_that_are_empty_or_long_are_read_without_panic() {
        for (_, target) in TARGETS {
            for input in [&b""[..], b"\n", b"\n\n\n", &[b'['; 70_000], &[0xff; 300], &[b'\n'; 70_000]] {
                target(input);
            }
        }
    }
}
