//! Tokens with which this service calls the SFU's API (`docs/protocol.md#livekits-server-api`).

use crate::livekit::keys::ApiKey;
use crate::livekit::token::{Grant, MintError};

impl ApiKey {
    /// Returns a token for a request that needs `grant`, valid for at least five minutes.
    pub fn api_token(&self, grant: Grant<'_>, now_ms: u64) -> Result<String, MintError> {
        let mint = || self.mint(None, grant, now_ms, LIFETIME_S);
        match grant {
            Grant::CreateRoom => self.for_rooms.get_or(now_ms, mint),
            _ => mint(),
        }
    }
}

const LIFETIME_S: u32 = 600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::livekit::keys::ApiKeys;

    #[test]
    fn a_token_for_rooms_is_used_again_while_it_is_valid_for_five_minutes() {
        let keys = ApiKeys::single("devkey", "secret").unwrap();
        let token = |now_ms| keys.signing().api_token(Grant::CreateRoom, now_ms).unwrap();

        let first = token(1_700_000_000_000);

        assert_eq!(token(1_700_000_299_999), first);
        let second = token(1_700_000_300_000);
        assert_ne!(second, first);
        assert_ne!(token(1_699_999_999_999), second, "a clock that was set back");
    }

    #[test]
    fn a_token_for_one_room_is_for_one_call() {
        let keys = ApiKeys::single("devkey", "secret").unwrap();
        let token = |room| keys.signing().api_token(Grant::Administer { room }, 1_700_000_000_000).unwrap();

        assert_ne!(token("a"), token("a"));
        assert_ne!(token("a"), token("b"));
    }
}
