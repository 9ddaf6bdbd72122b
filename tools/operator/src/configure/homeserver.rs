//! Fragment for Synapse's `homeserver.yaml`: delayed events, their rate limit, the announcement and, in homeserver mode,
//! the registration file and its features.

use crate::configure::homeserver_mode::{REGISTRATION, quoted};
use crate::configure::plan::Plan;
use crate::doctor::announcement;

/// Renders the fragment for `plan`.
pub(super) fn fragment(plan: &Plan) -> String {
    let features: &[&str] = match plan.homeserver_mode() {
        Some(_) => &["msc4143_enabled", "msc4502_enabled", "msc4512_enabled"],
        None => &["msc4143_enabled"],
    };
    let mut yaml = String::from(MERGE);
    if plan.homeserver_mode().is_some() {
        yaml += &format!("app_service_config_files:\n  - {}\n\n", quoted(&format!("/path/to/{REGISTRATION}")));
    }
    yaml += &format!(
        "# Delayed leaves. The service restarts those of all users from one address: one in five seconds\n# for each \
         participant whose client chooses a delay of ten seconds.\nmax_event_delay_duration: 24h\n{RATE_LIMIT}:\n  \
         per_second: {PER_SECOND}\n  burst_count: {BURST_COUNT}\n\nexperimental_features:\n"
    );
    for feature in features {
        yaml += &format!("  {feature}: true\n");
    }
    yaml += "\n# The announcement. An empty list keeps clients from reading .well-known/matrix/client.\nmatrix_rtc:\n  \
             transports:\n";
    let entry = plan.announced();
    let lines = ["type", "url", announcement::SERVICE_KEY].into_iter().filter_map(|key| Some((key, entry.get(key)?)));
    for (n, (key, value)) in lines.enumerate() {
        let indent = if n == 0 { "    - " } else { "      " };
        yaml += &format!("{indent}{key}: {value}\n");
    }
    yaml
}

const MERGE: &str = "# Merge this into homeserver.yaml: what belongs below a key that is there already (experimental_features, \
                     say)\n# goes below that one. Of two keys of the same name Synapse takes the last, without a word.\n\n";
/// Synapse's rate limit for restarting and sending delayed events; by address for requests without a login.
pub(super) const RATE_LIMIT: &str = "rc_delayed_event_mgmt";
/// Enough for 250 participants with a delay of ten seconds. The default is 1.
const PER_SECOND: u32 = 50;
/// The default is 5.
const BURST_COUNT: u32 = 500;
/// Name of the fragment.
pub(super) const HOMESERVER: &str = "homeserver-fragment.yaml";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configure::Route;
    use matrixrtc_edge::matrix::ids::server_name::ServerName;
    use serde_json::{Value, json};

    fn plan() -> Plan {
        let route = Route::below_path("rtc.example.com/livekit/jwt").unwrap();
        Plan::new(route, String::from("wss://sfu.example.com"), String::from("example.com"), None).unwrap()
    }

    fn read(plan: &Plan) -> Value {
        serde_yaml_ng::from_str(&fragment(plan)).unwrap()
    }

    #[test]
    fn the_service_is_announced_and_its_restarts_are_let_through() {
        let wanted = json!({
            "max_event_delay_duration": "24h",
            "rc_delayed_event_mgmt": { "per_second": 50, "burst_count": 500 },
            "experimental_features": { "msc4143_enabled": true },
            "matrix_rtc": {
                "transports": [{ "type": "livekit", "livekit_service_url": "https://rtc.example.com/livekit/jwt" }],
            },
        });
        assert_eq!(read(&plan()), wanted);
    }

    #[test]
    fn in_homeserver_mode_one_entry_has_both_keys() {
        let server_name = ServerName::parse("example.com").unwrap();
        let wanted = json!({
            "app_service_config_files": ["/path/to/matrixrtc-registration.yaml"],
            "max_event_delay_duration": "24h",
            "rc_delayed_event_mgmt": { "per_second": 50, "burst_count": 500 },
            "experimental_features": { "msc4143_enabled": true, "msc4502_enabled": true, "msc4512_enabled": true },
            "matrix_rtc": {
                "transports": [{
                    "type": "livekit",
                    "url": "wss://sfu.example.com",
                    "livekit_service_url": "https://rtc.example.com/livekit/jwt",
                }],
            },
        });
        assert_eq!(read(&plan().in_homeserver_mode(server_name)), wanted);
    }
}
