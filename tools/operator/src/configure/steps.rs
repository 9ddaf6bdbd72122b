//! Steps that remain once the files of a plan are in place.

use std::path::Path;

use crate::configure::files::{WRANGLER, in_directory};
use crate::configure::homeserver_mode::REGISTRATION;
use crate::configure::plan::Plan;

/// Lists the steps as text, for files in `directory` or for printed ones.
pub(super) fn steps(plan: &Plan, directory: Option<&Path>) -> String {
    let (config, wrangler) = match directory {
        Some(directory) => {
            let file = in_directory(directory, WRANGLER);
            (format!(" -c {file}"), file)
        }
        None => (String::new(), String::from("wrangler.toml")),
    };
    let mut steps = format!("Then, with {wrangler} in place:\n\n  npm ci\n  npx wrangler deploy{config}\n");
    for secret in plan.secrets() {
        steps += &format!("  npx wrangler secret put {secret}{config}\n");
    }
    let first = plan.homeservers().split(',').next().map(str::trim).filter(|name| *name != "*");
    let server_name = match plan.homeserver_mode() {
        Some(mode) => {
            steps += &format!(
                "\nThe tokens to put are in {}, which belongs on the homeserver. Keep it secret.\n",
                directory.map_or_else(|| String::from(REGISTRATION), |directory| in_directory(directory, REGISTRATION))
            );
            mode.server_name().as_str()
        }
        None => first.unwrap_or("example.com"),
    };
    steps += &format!(
        "\nand, with the SFU and the homeserver restarted and the announcement in place, with {} in the environment:\n\n  \
         cargo xtask doctor {} --server-name {server_name} --sfu-url {}",
        and(&plan.secrets()),
        plan.service_url(),
        plan.sfu_url()
    );
    steps
}

/// Joins names: `A, B and C`.
fn and(names: &[&str]) -> String {
    match names {
        [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}
