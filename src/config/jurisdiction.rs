//! `LIVEKIT_JURISDICTION`.

/// Jurisdiction within which objects run and are stored ([Durable Objects, "Restrict Durable Objects to a
/// jurisdiction"](https://developers.cloudflare.com/durable-objects/reference/data-location/#restrict-durable-objects-to-a-jurisdiction)).
/// A name stands for another object in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jurisdiction(&'static str);

impl Jurisdiction {
    /// Every jurisdiction that the platform knows.
    pub const ALL: [&str; 3] = ["eu", "fedramp", "us"];

    /// Parses the platform's name of a jurisdiction.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|jurisdiction| *jurisdiction == text).map(Self)
    }

    /// Returns the platform's name of the jurisdiction.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}
