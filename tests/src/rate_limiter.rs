use std::fmt;

/// Rate limiting binding of the platform with a window that never ends: a number of requests for each key, and no more.
///
/// Like the platform's it refuses any option but `key`, and a key that is no text. It logs the keys.
pub enum RateLimiter {
    /// Admits this many of each key.
    Allowing(u32),
    /// Fails for each request.
    Failing,
    /// Never responds.
    Stalled,
}

impl fmt::Display for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self {
            Self::Allowing(limit) => &format!("return {{ success: count <= {limit} }};"),
            Self::Failing => "throw new Error('no limits today');",
            Self::Stalled => "return new Promise(() => {});",
        };
        write!(
            f,
            "const counts = new Map();
export default () => ({{
  async limit(options) {{
    if (Object.keys(options).join() !== 'key' || typeof options.key !== 'string') throw new Error('invalid options');
    const count = (counts.get(options.key) ?? 0) + 1;
    counts.set(options.key, count);
    console.log(`counted ${{options.key}}`);
    {outcome}
  }},
}});
"
        )
    }
}
