use std::fmt;

/// The platform's rate limiting binding, for one whose clock stands still: so many requests of each key, and no more.
///
/// It refuses what the platform's refuses: any option but a `key`, and a key that is no text. It logs the keys.
pub enum RateLimiter {
    /// So many of each key.
    Allowing(u32),
    /// Fails whenever it is asked.
    Failing,
    /// Never answers.
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
