use std::fmt;

use crate::Service;

/// Namespace of the real rooms' objects, behind a binding that logs each object that is requested, with its options.
///
/// Like the platform's, and unlike workerd's, it has jurisdictions.
pub struct TalkativeNamespace;

impl TalkativeNamespace {
    /// Options of each object that was requested, as JSON, in order.
    pub fn options(service: &Service) -> Vec<String> {
        let lines = service.log().foreign_lines();
        lines.iter().filter_map(|line| Some(line.split_once(HANDED_OUT)?.1.to_owned())).collect()
    }

    /// Jurisdiction of each object that was requested, in order; empty where there was none.
    pub fn jurisdictions(service: &Service) -> Vec<String> {
        let lines = service.log().foreign_lines();
        lines.iter().filter_map(|line| Some(line.split_once(WITHIN)?.1.to_owned())).collect()
    }
}

impl fmt::Display for TalkativeNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "export default ({{ ROOMS }}) => {{
  class DurableObjectNamespace {{
    #jurisdiction;
    constructor(jurisdiction) {{ this.#jurisdiction = jurisdiction; }}
    jurisdiction(name) {{
      if (name === 'fedramp') throw new TypeError('this account has no such jurisdiction');
      return new DurableObjectNamespace(name);
    }}
    idFromName(name) {{ return ROOMS.idFromName(this.#jurisdiction + name); }}
    get(id, options) {{
      console.log('{WITHIN}' + this.#jurisdiction);
      console.log('{HANDED_OUT}' + JSON.stringify(options ?? null));
      return ROOMS.get(id, options);
    }}
  }}
  return new DurableObjectNamespace('');
}};
"
        )
    }
}

const HANDED_OUT: &str = "object with options ";
const WITHIN: &str = "object within ";
