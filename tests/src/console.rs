use std::fmt;

use serde_json::Value;

use crate::Service;

/// Module before the worker's own that writes down what the console is given.
pub struct ConsoleSpy;

/// Call of a method of the console.
#[derive(Clone, Debug)]
pub struct ConsoleCall {
    /// Name of the method.
    pub method: String,
    /// Its argument: an object, or a text.
    pub given: Value,
}

impl ConsoleSpy {
    /// Returns the calls so far.
    pub fn calls(service: &Service) -> Vec<ConsoleCall> {
        let lines = service.log().lines().into_iter();
        let call = |line: Value| {
            Some(ConsoleCall { method: line["console"].as_str()?.to_owned(), given: line["given"].clone() })
        };
        lines.filter_map(|line| call(line.0)).collect()
    }
}

impl fmt::Display for ConsoleSpy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "import worker from 'index.js';
export { Room } from 'index.js';
export default worker;
for (const method of ['debug', 'log', 'warn', 'error']) {
  const write = console[method].bind(console);
  console[method] = (given, ...rest) => {
    if (rest.length > 0) throw new Error('more than one value');
    write(JSON.stringify({ console: method, given }));
  };
}
",
        )
    }
}
