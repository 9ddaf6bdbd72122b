//! Rate limits (`docs/protocol.md#rate-limits`): by address before the first request to an upstream, by user after
//! verification.
//!
//! How it works:
//! - the platform counts, with two optional bindings; without a binding there is no limit;
//! - an IPv4 address counts by itself, IPv6 addresses count by their /64, which one household has;
//! - the second limit counts requests of one verified user, from any address;
//! - a limiter that fails or takes longer than 1 s limits nothing, because calls matter more; the log reports it once
//!   per isolate.
//!
//! The bindings in `wrangler.toml`, with the second one likewise:
//!
//! ```toml
//! [[ratelimits]]
//! name = "RATE_LIMIT_BY_ADDRESS"
//! namespace_id = "771402301"
//! simple = { limit = 300, period = 10 }
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use js_sys::futures::JsFuture;
use js_sys::{Object, Promise, Reflect};
use serde_json::json;
use thiserror::Error;
use wasm_bindgen::prelude::*;
use worker::Env;

use crate::fetch::Deadline;
use crate::log::{Level, Log};
use crate::matrix::ids::user_id::UserId;

/// Rate limiters of the platform, for the duration of one request.
pub struct RateLimits<'a> {
    /// The environment that has the bindings.
    pub env: &'a Env,
    /// The log of the request.
    pub log: &'a Log,
}

impl RateLimits<'_> {
    /// Counts a request from `client`. Called before anything is sent on its behalf.
    pub async fn check_address(&self, client: &ClientAddress) -> Result<(), OverLimit> {
        match self.is_within(BY_ADDRESS, &client.to_string()).await {
            true => Ok(()),
            false => {
                self.log.write(Level::Debug, "address over its rate limit", json!({"address": client.to_string()}));
                Err(OverLimit::Address)
            }
        }
    }

    /// Counts a request of `user`, whose identity has been verified.
    pub async fn check_user(&self, user: &UserId) -> Result<(), OverLimit> {
        match self.is_within(BY_USER, user.as_str()).await {
            true => Ok(()),
            false => Err(OverLimit::User(user.clone())),
        }
    }

    /// A limiter that fails limits nothing: calls matter more.
    async fn is_within(&self, name: &'static str, key: &str) -> bool {
        let binding = Reflect::get(self.env, &name.into()).ok().filter(JsValue::is_object);
        let Some(binding) = binding else { return true };
        let outcome = Deadline::after(TIMEOUT).bound(binding.unchecked_into::<RateLimiter>().admits(key)).await;
        let cause = match outcome {
            Some(Ok(admitted)) => return admitted,
            Some(Err(_)) => "it failed",
            None => "no answer in time",
        };
        self.log.write_once(Level::Warn, "rate limiter unavailable", json!({"binding": name, "cause": cause}));
        true
    }
}

/// The limit that a request exceeds.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OverLimit {
    /// The limit of the address.
    #[error("too many requests from one address")]
    Address,
    /// The limit of the user.
    #[error("too many requests of {0}")]
    User(UserId),
}

impl OverLimit {
    /// Seconds after which the client may try again.
    pub const RETRY_AFTER_S: u32 = 10;
}

/// Client address for counting: an IPv4 address, or the IPv6 network of a household.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// Parses `CF-Connecting-IP`, the address that the edge received the request from.
    pub fn parse(header: &str) -> Option<Self> {
        match header.trim().parse::<IpAddr>().ok()?.to_canonical() {
            IpAddr::V4(address) => Some(Self(address.into())),
            // The owner of one address of a /64 has all of them.
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Some(Self(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()))
            }
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(network) => write!(f, "{network}/64"),
        }
    }
}

#[wasm_bindgen]
extern "C" {
    type RateLimiter;

    #[wasm_bindgen(method, catch)]
    fn limit(this: &RateLimiter, options: &Object) -> Result<Promise, JsValue>;
}

impl RateLimiter {
    async fn admits(&self, key: &str) -> Result<bool, JsValue> {
        let options = Object::new();
        Reflect::set(&options, &"key".into(), &key.into())?;
        let outcome = JsFuture::from(self.limit(&options)?).await?;
        Reflect::get(&outcome, &"success".into())?.as_bool().ok_or(JsValue::UNDEFINED)
    }
}

const BY_ADDRESS: &str = "RATE_LIMIT_BY_ADDRESS";
const BY_USER: &str = "RATE_LIMIT_BY_USER";
const TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        for (header, counted) in [
            ("93.184.216.34", "93.184.216.34"),
            (" 93.184.216.34 ", "93.184.216.34"),
            ("::ffff:93.184.216.34", "93.184.216.34"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ] {
            assert_eq!(ClientAddress::parse(header).map(|client| client.to_string()).as_deref(), Some(counted));
        }
        for header in ["", "unknown", "93.184.216.34, 10.0.0.1", "[2001:db8::1]", "93.184.216.34:443"] {
            assert_eq!(ClientAddress::parse(header), None, "{header}");
        }
    }

    #[test]
    fn what_clients_and_operators_are_told_is_what_is_deployed() {
        let (wrangler, guide) = (include_str!("../wrangler.toml"), include_str!("../docs/guides/cloudflare.md"));
        for (binding, limit, promise) in
            [(BY_ADDRESS, 300, "300 requests from one address"), (BY_USER, 30, "30 of one user")]
        {
            let deployed = wrangler.split("[[ratelimits]]").find(|entry| entry.contains(&format!("\"{binding}\"")));
            let simple = format!("simple = {{ limit = {limit}, period = {} }}", OverLimit::RETRY_AFTER_S);
            assert!(deployed.is_some_and(|entry| entry.contains(&simple)), "{binding}");
            assert!(guide.contains(promise), "{binding}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(header in "[0-9a-f:.]{0,40}|\\PC{0,20}") {
            let _ = ClientAddress::parse(&header);
        }
    }
}
