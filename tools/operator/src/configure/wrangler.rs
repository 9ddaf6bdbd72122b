//! Wrangler's configuration of a deployment: the repository's, with the plan's values.
//!
//! # How it works
//!
//! - The repository's `wrangler.toml` is the template: its build, bindings, migrations and comments are kept.
//! - The plan adds routes and variables, and closes the ways past them: `workers.dev` and preview URLs.
//! - The worker is placed beside the SFU where the plan says so, and by Cloudflare's measurements elsewhere.
//! - Rate limits count together in all workers of an account that have the same id, so each deployment gets ids of its
//!   own, derived from its URL: they are the same in each run.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::configure::placement::Placement;
use crate::configure::plan::Plan;
use crate::doctor::ServiceUrl;

/// Renders the configuration, as a file in `directory`, or in the repository at `root`.
///
/// # Errors
///
/// The repository's configuration can't be read, or the directory can't be found.
pub(super) fn render(plan: &Plan, root: &Path, directory: Option<&Path>) -> Result<String> {
    let template = root.join(TEMPLATE);
    let text = fs::read_to_string(&template).with_context(|| format!("can't read {}", template.display()))?;
    let mut wrangler: DocumentMut = text.parse().with_context(|| format!("can't read {}", template.display()))?;
    // The trailing comment describes variables to add to the template itself.
    wrangler.set_trailing("");
    configure(&mut wrangler, plan);
    if let Some(directory) = directory {
        let root = root.canonicalize().with_context(|| format!("can't find {}", root.display()))?;
        if directory.canonicalize().with_context(|| format!("can't find {}", directory.display()))? != root {
            make_paths_absolute(&mut wrangler, &root);
        }
    }
    Ok(wrangler.to_string())
}

/// Applies the plan.
fn configure(wrangler: &mut DocumentMut, plan: &Plan) {
    let mut flags = wrangler.get("compatibility_flags").and_then(Item::as_array).cloned().unwrap_or_default();
    if !flags.iter().any(|flag| flag.as_str() == Some(STRICTLY_PUBLIC)) {
        flags.push(STRICTLY_PUBLIC);
    }
    wrangler["compatibility_flags"] = value(flags);
    wrangler["workers_dev"] = value(false);
    wrangler["preview_urls"] = value(false);
    let mut routes = Array::new();
    routes.push(plan.route().wrangler_route());
    wrangler["routes"] = value(routes);
    let (key, text) = match plan.placement() {
        Placement::Hostname(name) => ("hostname", name.as_str()),
        Placement::Host(authority) => ("host", authority.as_str()),
        Placement::Smart => ("mode", "smart"),
    };
    let mut placement = Table::new();
    placement[key] = value(text);
    if let Some(there) = wrangler.get("placement").and_then(Item::as_table) {
        *placement.decor_mut() = there.decor().clone();
        placement.set_position(there.position());
    }
    wrangler["placement"] = Item::Table(placement);
    for limit in
        wrangler.get_mut("ratelimits").and_then(Item::as_array_of_tables_mut).into_iter().flat_map(|all| all.iter_mut())
    {
        let id = limit.get("name").and_then(Item::as_str).map(|name| rate_limit_id(plan.service_url(), name));
        if let Some(id) = id {
            limit["namespace_id"] = value(id);
        }
    }
    let vars = wrangler.entry("vars").or_insert(Item::Table(Table::new()));
    for (variable, text) in plan.vars() {
        vars[variable] = value(text);
    }
}

/// Id of a rate limit: nine digits that depend on the service's URL and the limit's name only.
fn rate_limit_id(service: &ServiceUrl, name: &str) -> String {
    let digest = Sha256::digest(format!("{} {name}", service.as_str()));
    let number = digest.iter().take(4).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
    (100_000_000 + number % 900_000_000).to_string()
}

/// Makes paths absolute, for a configuration outside of the repository at `root`.
fn make_paths_absolute(wrangler: &mut DocumentMut, root: &Path) {
    let absolute = |path: &str| value(root.join(path).display().to_string());
    if let Some(main) = wrangler.get("main").and_then(Item::as_str) {
        wrangler["main"] = absolute(main);
    }
    if let Some(assets) = wrangler.get("assets").and_then(|assets| assets.get("directory")).and_then(Item::as_str) {
        wrangler["assets"]["directory"] = absolute(assets);
    }
    if wrangler.contains_key("build") {
        wrangler["build"]["cwd"] = value(root.display().to_string());
        if let Some(build) = wrangler["build"].as_table_mut() {
            build.remove("watch_dir");
        }
    }
}

const TEMPLATE: &str = "wrangler.toml";
/// Without this compatibility flag, requests to names of the worker's own zone go past Cloudflare to the origin server.
const STRICTLY_PUBLIC: &str = "global_fetch_strictly_public";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_rate_limits_are_stable_and_of_the_deployment() {
        let id = |url: &str, name: &str| rate_limit_id(&ServiceUrl::parse(url).unwrap(), name);
        let ids = [
            id("https://rtc.example.com", "RATE_LIMIT_BY_ADDRESS"),
            id("https://rtc.example.com", "RATE_LIMIT_BY_USER"),
            id("https://rtc.example.org", "RATE_LIMIT_BY_USER"),
        ];
        assert_eq!(ids, ["781880130", "341319029", "526216795"]);
        assert!(ids.iter().all(|id| id.len() == 9 && id.parse::<u32>().is_ok()));
    }
}
