//! Steps that remain once the files of a plan are in place.

use std::path::Path;

use crate::configure::files::{LIVEKIT, WRANGLER, in_directory};
use crate::configure::homeserver_mode::REGISTRATION;
use crate::configure::key_pair::KeyPair;
use crate::configure::livekit;
use crate::configure::own_machine::{CADDY, ENV_FILE, NGINX, TRAEFIK};
use crate::configure::plan::{Hosting, Plan};
use crate::configure::secrets::{New, SECRETS_FILE};

/// Lists the steps as text, for files in `directory`; `doctor` is the doctor's command.
pub(super) fn after_writing(plan: &Plan, pair: &KeyPair, new: New, directory: &Path, doctor: &str) -> String {
    let mut steps = what_is_new(plan, new, directory);
    if plan.is_on_livekit_cloud() {
        steps += &format!("{}\n", livekit::console(plan, Some(pair)));
    }
    let secrets = match plan.hosting() {
        Hosting::Cloudflare => {
            steps += &to_deploy(plan, directory);
            format!("--sfu-url {} --secrets-file {}", plan.sfu_url(), in_directory(directory, SECRETS_FILE))
        }
        Hosting::OwnMachine => {
            steps += &to_start(directory);
            format!("--env-file {}", in_directory(directory, ENV_FILE))
        }
    };
    if plan.homeserver_mode().is_some() {
        let registration = in_directory(directory, REGISTRATION);
        steps += &format!("\n{registration} belongs on the homeserver. Keep it secret.\n");
    }
    steps += &format!(
        "\nand, with the SFU and the homeserver restarted and the announcement in place:\n\n  {doctor} {} {secrets}\n",
        doctor_arguments(plan)
    );
    if pair.is_short() {
        steps += "\nThe secret has fewer than 32 characters, and LiveKit complains about that.\n";
    }
    steps
}

/// Says which secrets are new, and how those of a deployment that is there already are kept.
fn what_is_new(plan: &Plan, New { pair, tokens }: New, directory: &Path) -> String {
    let (fragment, registration) = (in_directory(directory, LIVEKIT), in_directory(directory, REGISTRATION));
    let (what, needed_by, files) = match (pair, tokens) {
        (true, true) => (
            "The pair of API key and secret and the tokens of homeserver mode are new",
            format!("the SFU needs the pair, of {fragment}, and the homeserver the tokens, of {registration}"),
            format!("{fragment} and {registration}"),
        ),
        (true, false) => {
            ("The pair of API key and secret is new", format!("the SFU needs it, of {fragment}"), fragment)
        }
        (false, true) => (
            "The tokens of homeserver mode are new",
            format!("the homeserver needs them, of {registration}"),
            registration,
        ),
        (false, false) => return String::new(),
    };
    let secrets = match plan.hosting() {
        Hosting::Cloudflare => in_directory(directory, SECRETS_FILE),
        Hosting::OwnMachine => in_directory(directory, ENV_FILE),
    };
    format!(
        "{what}: {needed_by}. A deployment that is there already has others, in whose place these would be, and calls fail \
         until all know them. To keep the others, replace {secrets} by the file of that deployment, delete {files}, and run \
         this again.\n\n"
    )
}

fn to_deploy(plan: &Plan, directory: &Path) -> String {
    let (config, secrets) = (in_directory(directory, WRANGLER), in_directory(directory, SECRETS_FILE));
    let mut steps = format!("To deploy:\n\n  npm ci\n  npx wrangler deploy -c {config} --secrets-file {secrets}\n");
    if plan.route().is_below_path() {
        steps += "\nThen, in Cloudflare's dashboard, set the route to fail closed (the worker's settings, Domains & Routes), \
                  which wrangler can't express. Otherwise requests beyond a day's limit go to the server behind it.\n";
    }
    steps
}

fn to_start(directory: &Path) -> String {
    let path = |name| in_directory(directory, name);
    let (env_file, nginx, caddy, traefik) = (path(ENV_FILE), path(NGINX), path(CADDY), path(TRAEFIK));
    format!(
        "To start it, once executable and unit are installed (docs/guides/own-machine.md#with-systemd):\n\n  sudo install -m \
         600 {env_file} /etc/matrixrtc-edge.env\n  sudo systemctl restart matrixrtc-edge\n\nor in a container, with \
         `--env-file {env_file}`. Put {nginx}, {caddy} or {traefik} into the configuration of your proxy, and reload it.\n"
    )
}

/// Lists the steps as text, for printed fragments.
pub(super) fn after_printing(plan: &Plan) -> String {
    let mut steps = String::new();
    if plan.is_on_livekit_cloud() {
        steps += &format!("{}\n", livekit::console(plan, None));
    }
    steps += "No secret is printed, and nothing is stored: what is printed ends up in logs. --write DIR (--write . for this \
              directory) writes all of this as files, with the secrets in files for you alone, and says what to do \
              with them.\n";
    steps
}

fn doctor_arguments(plan: &Plan) -> String {
    let first = plan.homeservers().split(',').next().map(str::trim).filter(|name| *name != "*");
    let server_name = plan.homeserver_mode().map_or(first.unwrap_or("example.com"), |name| name.as_str());
    format!("{} --server-name {server_name}", plan.service_url())
}
