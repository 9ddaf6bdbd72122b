//! The SFU's part: a fragment of its configuration, or for LiveKit Cloud the settings of its console.

use crate::configure::homeserver_mode::quoted;
use crate::configure::key_pair::KeyPair;
use crate::configure::plan::Plan;
use crate::doctor::livekit_cloud::CONSOLE;

/// Renders the fragment with this pair, or without a pair for printing.
///
/// LiveKit refuses to start without `keys` and without `api_key`, so what is left out there can't be taken for done.
pub(super) fn fragment(plan: &Plan, pair: Option<&KeyPair>) -> String {
    let url = quoted(&plan.service_url().at(WEBHOOKS));
    let (keys, api_key) = match (pair, plan.sfu_key()) {
        (Some(pair), _) => {
            let key = quoted(pair.key());
            (format!("keys:\n  {key}: {}\n", quoted(pair.secret())), format!("  api_key: {key}\n"))
        }
        (None, Some(key)) => {
            let key = quoted(key);
            (format!("# keys: the pair of {key}, as it is there already\n"), format!("  api_key: {key}\n"))
        }
        (None, None) => (
            String::from("# keys: a pair of API key and secret, which --write makes\n"),
            String::from("  # api_key: that API key\n"),
        ),
    };
    format!(
        "{MERGE}{keys}\nroom:\n  auto_create: false\n\nwebhook:\n{api_key}  urls:\n    - {url}\n  # Half of the requests, with \
         LiveKit 1.13.5 or newer; earlier versions may refuse these lines.\n  filter_params:\n    \
         include_events:\n{EVENTS}"
    )
}

/// Settings of LiveKit Cloud's console, as a step for the operator.
pub(super) fn console(plan: &Plan, pair: Option<&KeyPair>) -> String {
    let key = pair.map(KeyPair::key).or(plan.sfu_key()).unwrap_or("the API key of LIVEKIT_KEY");
    format!(
        "In the project's settings at {CONSOLE}, since LiveKit Cloud takes no file:\n\n  Webhooks: create one with the \
         URL {}, signed with {key}\n  Rooms: switch off that they are created when a participant joins\n",
        plan.service_url().at(WEBHOOKS)
    )
}

const MERGE: &str = "# Merge this into the SFU's configuration: what belongs below a key that is there already (keys, room, \
                     webhook)\n# goes below that one. LiveKit refuses a second key of the same name.\n";
const WEBHOOKS: &str = "/sfu_webhook";
/// Webhooks that the service needs.
const EVENTS: &str = "      - participant_joined\n      - participant_left\n      - participant_connection_aborted\n      \
                      - room_finished\n";
