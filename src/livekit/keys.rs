//! The API keys that this service shares with the SFU.
//!
//! How it works:
//! - the configuration has one key, or several in `LIVEKIT_KEYS`; the first signs, all of them verify webhooks, so
//!   that keys can be rotated without an interruption;
//! - a key remembers the last token for CreateRoom, which names no room and serves every client for five minutes;
//! - printing a key shows neither name nor secret.

use std::cell::RefCell;

use jwt_compact::alg::Hs256Key;

/// One API key with its secret.
#[derive(Clone)]
pub struct ApiKey {
    /// The name of the key: `iss` of the tokens it signs.
    pub name: String,
    /// The secret, as HMAC key.
    pub secret: Hs256Key,
    pub(super) for_rooms: LastToken,
}

/// All configured keys: the first signs, each verifies webhooks.
#[derive(Clone)]
pub struct ApiKeys {
    signing: ApiKey,
    others: Vec<ApiKey>,
}

impl ApiKeys {
    /// Returns a single key. White space around name and secret, such as a final line feed, is ignored. `None` when
    /// either is empty.
    pub fn single(name: &str, secret: &str) -> Option<Self> {
        Some(Self { signing: ApiKey::parse(name, secret)?, others: Vec::new() })
    }

    /// Parses `key: secret` lines; the first signs. `None` when a line is no such pair, or there is none.
    pub fn from_lines(text: &str) -> Option<Self> {
        let mut keys = (text.lines().map(str::trim).filter(|line| !line.is_empty()))
            .map(|line| line.split_once(':').and_then(|(name, secret)| ApiKey::parse(name, secret)));
        Some(Self { signing: keys.next()??, others: keys.collect::<Option<_>>()? })
    }

    /// Returns the key that signs.
    pub fn signing(&self) -> &ApiKey {
        &self.signing
    }

    /// Returns the key of this name.
    pub fn named(&self, name: &str) -> Option<&ApiKey> {
        std::iter::once(&self.signing).chain(&self.others).find(|key| key.name == name)
    }
}

impl ApiKey {
    /// Returns the key `name` with its secret.
    pub fn new(name: &str, secret: &str) -> Self {
        Self { name: name.to_owned(), secret: Hs256Key::new(secret.as_bytes()), for_rooms: LastToken::default() }
    }

    fn parse(name: &str, secret: &str) -> Option<Self> {
        let (name, secret) = (name.trim(), secret.trim());
        (!name.is_empty() && !secret.is_empty()).then(|| Self::new(name, secret))
    }
}

/// The last token signed for CreateRoom.
#[derive(Clone, Default)]
pub struct LastToken(RefCell<Option<(u64, String)>>);

impl LastToken {
    /// Returns the last token if it was minted less than five minutes before `now_ms`, or else the result of `mint`.
    pub fn get_or<E>(&self, now_ms: u64, mint: impl FnOnce() -> Result<String, E>) -> Result<String, E> {
        if let Some((minted_ms, token)) = &*self.0.borrow()
            && now_ms.checked_sub(*minted_ms).is_some_and(|age| age < REUSED_FOR_MS)
        {
            return Ok(token.clone());
        }
        let token = mint()?;
        self.0.replace(Some((now_ms, token.clone())));
        Ok(token)
    }
}

const REUSED_FOR_MS: u64 = 300_000;

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_line_signs_and_every_line_is_found() {
        let keys = ApiKeys::from_lines("\n new: s3cret: with colon \r\nold:secret\n\n").unwrap();
        assert_eq!(keys.signing().name, "new");
        assert!(keys.named("old").is_some() && keys.named("new").is_some() && keys.named("other").is_none());
    }

    #[test]
    fn half_a_pair_is_refused() {
        for text in ["", "\n", "key", "key:", ": secret", "good: secret\nbad"] {
            assert!(ApiKeys::from_lines(text).is_none(), "{text:?}");
        }
        assert!(ApiKeys::single(" ", "secret").is_none() && ApiKeys::single("key", "\n").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "[a: \\n\\PC]{0,60}") {
            let _ = ApiKeys::from_lines(&text);
        }
    }
}
