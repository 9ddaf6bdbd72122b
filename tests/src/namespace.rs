use std::fmt;

use crate::Service;

/// Namespace of the real rooms' objects, behind a binding that logs each object that is requested, with its options.
pub struct TalkativeNamespace;

impl TalkativeNamespace {
    /// Options of each object that was requested, as JSON, in order.
    pub fn options(service: &Service) -> Vec<String> {
        let lines = service.log().foreign_lines();
        lines.iter().filter_map(|line| Some(line.split_once(HANDED_OUT)?.1.to_owned())).collect()
    }
}

impl fmt::Display for TalkativeNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "export default ({{ ROOMS }}) => {{
  class DurableObjectNamespace {{
    idFromName(name) {{ return ROOMS.idFromName(name); }}
    get(id, options) {{
      console.log('{HANDED_OUT}' + JSON.stringify(options ?? null));
      return ROOMS.get(id, options);
    }}
  }}
  return new DurableObjectNamespace();
}};
"
        )
    }
}

const HANDED_OUT: &str = "object with options ";
