use std::fmt;

use crate::Service;

/// Namespace of the real rooms' objects, of which the first requests for each command fail as on the platform's edge.
/// Announcements (`wake`) don't fail.
///
/// Like the platform's, a stub that has failed fails for ever. It logs each request.
pub struct FailingObjects {
    properties: &'static str,
    when: When,
    times: u32,
}

/// When a request fails.
#[derive(Clone, Copy)]
enum When {
    /// Before the object has it.
    Before,
    /// After the object has answered it.
    After,
    /// From this request on it doesn't: there is no response. Announcements have none where there is none at all.
    Never { from: u32 },
}

impl FailingObjects {
    /// Fails these first requests of each command on the way to the object, as where an object is just reset.
    pub fn reset(times: u32) -> Self {
        Self { properties: "{ durableObjectReset: true, retryable: true }", when: When::Before, times }
    }

    /// Loses the answers to these first requests of each command, whose effect is stored.
    pub fn losing_answers(times: u32) -> Self {
        Self { properties: "{ durableObjectReset: true }", when: When::After, times }
    }

    /// Fails every request for want of capacity.
    pub fn overloaded() -> Self {
        Self { properties: "{ overloaded: true, retryable: true }", when: When::Before, times: u32::MAX }
    }

    /// Fails the first request of each command, and then doesn't respond any more.
    pub fn stalled() -> Self {
        Self { properties: "{ retryable: true }", when: When::Never { from: 2 }, times: u32::MAX }
    }

    /// Responds to no request, announcements included.
    pub fn silent() -> Self {
        Self { properties: "{}", when: When::Never { from: 1 }, times: u32::MAX }
    }

    /// Number of requests with a command of this kind so far.
    pub fn requests(service: &Service, command: &str) -> usize {
        let expected = format!("{REQUEST}{command}");
        service.log().foreign_lines().iter().filter(|line| **line == expected).count()
    }
}

impl fmt::Display for FailingObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { properties, when, times } = self;
        let failure = match when {
            When::Before => "fails = true;".to_owned(),
            When::After => "await (await stub.fetch(url, init)).text(); fails = true;".to_owned(),
            When::Never { from } => format!("if (count >= {from}) return new Promise(() => {{}}); fails = true;"),
        };
        let announcement = match when {
            When::Never { from: 1 } => "return new Promise(() => {});",
            _ => "return stub.fetch(url, init);",
        };
        write!(
            f,
            "const counts = new Map();
export default ({{ ROOMS }}) => {{
  class DurableObjectNamespace {{
    idFromName(name) {{ return ROOMS.idFromName(name); }}
    get(id, options) {{
      const stub = ROOMS.get(id, options);
      let fails = false;
      return {{
        async fetch(url, init) {{
          const command = JSON.parse(init.body);
          const name = typeof command === 'string' ? command : Object.keys(command)[0];
          console.log('{REQUEST}' + name);
          if (name === 'wake') {{ {announcement} }}
          const count = (counts.get(init.body) ?? 0) + 1;
          counts.set(init.body, count);
          if (count <= {times}) {{ {failure} }}
          if (fails) throw Object.assign(new Error('{CAUSE}'), {properties});
          return stub.fetch(url, init);
        }},
      }};
    }}
  }}
  return new DurableObjectNamespace();
}};
"
        )
    }
}

/// Module with the worker's own objects, all of which are reset at once when so many leaves have been delegated, as by
/// a deployment. Answers take some time, so that many are lost.
pub struct ResetAfter(pub u32);

impl ResetAfter {
    /// Number of objects that were reset.
    pub fn resets(service: &Service) -> usize {
        service.log().foreign_lines().iter().filter(|line| *line == RESET).count()
    }
}

impl fmt::Display for ResetAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(delegations) = self;
        write!(
            f,
            "import worker, {{ Room as Deployed }} from 'index.js';
export default worker;
let delegations = 0;
let version = 0;
export class Room extends Deployed {{
  version = version;
  async fetch(request) {{
    const command = await request.clone().json();
    if (command.delegate !== undefined && ++delegations === {delegations}) version++;
    if (this.version !== version) {{
      console.log('{RESET}');
      this.ctx.abort(new Error('{CAUSE}'));
    }}
    const answer = await super.fetch(request);
    await scheduler.wait(50);
    return answer;
  }}
}};
"
        )
    }
}

/// Namespace of the real rooms' objects, of another version than the worker.
pub enum ObjectsOfOtherVersion {
    /// They don't know the worker's commands.
    Earlier,
    /// The worker, which is later, has added fields to its commands.
    WithoutSomeFields,
    /// They answer as the worker doesn't know it.
    Later,
}

impl fmt::Display for ObjectsOfOtherVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exchange = match self {
            Self::Earlier => {
                "return stub.fetch(url, { ...init, body: init.body.replace('delegate', 'delegate_in_another_way') });"
            }
            Self::WithoutSomeFields => {
                "const body = init.body.replace('{\"room\"', '{\"of_a_later_version\":{\"is\":1},\"room\"');
          if (body === init.body && body !== '\"wake\"') throw new Error('a command of another form');
          return stub.fetch(url, { ...init, body });"
            }
            Self::Later => {
                "const { status } = await stub.fetch(url, init);
          return new Response('{\"recorded\":{\"at\":1}}', { status });"
            }
        };
        write!(
            f,
            "export default ({{ ROOMS }}) => {{
  class DurableObjectNamespace {{
    idFromName(name) {{ return ROOMS.idFromName(name); }}
    get(id, options) {{
      const stub = ROOMS.get(id, options);
      return {{
        async fetch(url, init) {{
          console.log('{REQUEST}' + init.body.split('\"')[1]);
          {exchange}
        }},
      }};
    }}
  }}
  return new DurableObjectNamespace();
}};
"
        )
    }
}

const REQUEST: &str = "request to an object: ";
const RESET: &str = "an object is reset";
const CAUSE: &str = "Durable Object reset because its code was updated.";
