//! Variables that nobody reads, and the names that were meant.

use matrixrtc_edge::config::VARIABLES;

use crate::variables::table::TABLE;

/// Returns whether the worker or the executable reads a variable of this name.
pub fn is_known(name: &str) -> bool {
    known().any(|known| known == name)
}

/// Whether a variable that isn't known is likely meant for this program: it has the prefix of its variables, or all but
/// the name of one.
pub fn is_meant_for_us(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) || similarity(&upper, nearest(name)) >= ALIKE
}

/// Returns the known name that is nearest to an unknown one, if any is near.
pub fn nearest(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase().replace('-', "_");
    let longer = known().filter(|known| known.len() > upper.len() && known.starts_with(&upper)).min_by_key(|k| k.len());
    // A prefix that all have in common would make all of them alike.
    let distance = |known: &str| match (upper.strip_prefix(PREFIXES[0]), known.strip_prefix(PREFIXES[0])) {
        (Some(upper), Some(known)) => strsim::normalized_damerau_levenshtein(upper, known),
        _ => strsim::normalized_damerau_levenshtein(&upper, known),
    };
    // `LIVEKIT` alone is the beginning of all.
    longer.filter(|_| upper.len() > PREFIXES[0].len().saturating_add(2)).or_else(|| {
        let (known, near) =
            known().map(|known| (known, distance(known))).max_by(|(_, one), (_, other)| one.total_cmp(other))?;
        (near >= NEAR).then_some(known)
    })
}

fn similarity(name: &str, nearest: Option<&str>) -> f64 {
    nearest.map_or(0.0, |nearest| strsim::normalized_damerau_levenshtein(name, nearest))
}

fn known() -> impl Iterator<Item = &'static str> {
    VARIABLES.into_iter().chain(TABLE.iter().map(|variable| variable.name))
}

const PREFIXES: [&str; 2] = ["LIVEKIT_", "MATRIXRTC_EDGE_"];
/// Of 1, for names whose prefix is known.
const NEAR: f64 = 0.6;
/// Of 1, for names without one: a letter or two.
const ALIKE: f64 = 0.85;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_was_meant_is_found() {
        for (name, meant) in [
            ("LIVEKIT_SANITY_CHECK_INTERVAL", "LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS"),
            ("LIVEKIT_FULL_ACCESS_HOMESERVER", "LIVEKIT_FULL_ACCESS_HOMESERVERS"),
            ("LIVEKIT_FULLACCESS_HOMESERVERS", "LIVEKIT_FULL_ACCESS_HOMESERVERS"),
            ("LIVEKIT_API_SECRET", "LIVEKIT_SECRET"),
            ("LIVEKIT_LOGLEVEL", "LIVEKIT_LOG_LEVEL"),
            ("LIVKIT_URL", "LIVEKIT_URL"),
            ("LIVEKIT_SECERT", "LIVEKIT_SECRET"),
            ("LIVEKIT-URL", "LIVEKIT_URL"),
            ("livekit_url", "LIVEKIT_URL"),
            ("MATRIXRTC_EDGE_ADDRESS", "MATRIXRTC_EDGE_ADDR"),
        ] {
            assert!(!is_known(name) && is_meant_for_us(name), "{name}");
            assert_eq!(nearest(name), Some(meant), "{name}");
        }
    }

    #[test]
    fn other_programs_variables_are_none_of_ours() {
        for name in ["PATH", "HOME", "DATABASE_URL", "STATE", "KEY", "SECRET", "LIVE", "RUNTIME_DIRECTORY", "URL"] {
            assert!(!is_meant_for_us(name), "{name}");
        }
        assert!(is_meant_for_us("LIVEKIT_EGRESS_TEMPLATE") && nearest("LIVEKIT_EGRESS_TEMPLATE").is_none());
    }
}
