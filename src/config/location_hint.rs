//! `LIVEKIT_LOCATION_HINT`.

/// Where on earth objects are made that aren't there yet
/// ([Durable Objects, "Provide a location hint"](https://developers.cloudflare.com/durable-objects/reference/data-location/#provide-a-location-hint)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocationHint(&'static str);

impl LocationHint {
    /// Every region that the platform knows.
    pub const ALL: [&str; 9] = ["wnam", "enam", "sam", "weur", "eeur", "apac", "oc", "afr", "me"];

    /// Parses the platform's name of a region.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|region| *region == text).map(Self)
    }

    /// The platform's name of the region.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}
