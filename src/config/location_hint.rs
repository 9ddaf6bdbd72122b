//! `LIVEKIT_LOCATION_HINT`.

/// Region in which objects that don't exist yet are created ([Durable Objects, "Provide a location
/// hint"](https://developers.cloudflare.com/durable-objects/reference/data-location/#provide-a-location-hint)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocationHint(&'static str);

impl LocationHint {
    /// Every region that the platform knows.
    pub const ALL: [&str; 11] =
        ["wnam", "enam", "sam", "weur", "eeur", "apac", "apac-ne", "apac-se", "oc", "afr", "me"];

    /// Parses the platform's name of a region.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|region| *region == text).map(Self)
    }

    /// Returns the platform's name of the region.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}
