use std::fmt;

/// Binding to a secret in the Secrets Store, whose value is read by a call.
pub struct StoredSecret {
    value: String,
    failures: u32,
}

impl StoredSecret {
    /// Creates one with this value.
    pub fn new(value: &str) -> Self {
        Self { value: value.to_owned(), failures: 0 }
    }

    /// Creates one that fails the first reads, this many times.
    pub fn failing_at_first(mut self, times: u32) -> Self {
        self.failures = times;
        self
    }
}

impl fmt::Display for StoredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failures, value) = (self.failures, serde_json::Value::from(self.value.as_str()));
        write!(
            f,
            "let failures = {failures};
export default () => ({{
  async get() {{
    if (failures-- > 0) throw new Error('the Secrets Store is away');
    return {value};
  }},
}});
"
        )
    }
}
