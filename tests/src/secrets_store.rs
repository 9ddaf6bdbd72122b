use std::fmt;

/// A binding to a secret in the Secrets Store: its value is asked for.
pub struct StoredSecret {
    value: String,
    failures: u32,
}

impl StoredSecret {
    /// One with this value.
    pub fn new(value: &str) -> Self {
        Self { value: value.to_owned(), failures: 0 }
    }

    /// One that can't be read at first, so many times.
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
