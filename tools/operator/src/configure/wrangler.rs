//! Wrangler's configuration of a deployment: the repository's, with the plan's values.
//!
//! # How it works
//!
//! - The repository's `wrangler.toml` is the template: its build, bindings, migrations and comments are kept.
//! - The plan adds routes and variables, and closes the ways past them: `workers.dev` and preview URLs.
//! - The worker is placed beside the SFU where the plan says so, and by Cloudflare's measurements elsewhere.
//! - Where the file is there already, what its operator has added stays: variables, the worker's name, observability,
//!   limits, and settings that the template lacks. What is replaced is said.
//! - Rate limits count together in all workers of an account that have the same id, so each deployment gets ids of its
//!   own, derived from its URL: they are the same in each run.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use toml_edit::visit_mut::{VisitMut, visit_table_mut};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use crate::configure::files::{BEFORE, in_directory};
use crate::configure::placement::Placement;
use crate::configure::plan::{JURISDICTION, Plan, SANITY_CHECKS};
use crate::configure::secrets::{AS_TOKEN, HS_TOKEN, KEY, KEYS, SECRET};
use crate::doctor::ServiceUrl;

/// Configuration that completes one that may be there.
pub(super) struct Completed {
    /// Content of the file.
    pub(super) content: String,
    /// Message that says what of the file that was there is kept, and what isn't.
    pub(super) note: Option<String>,
}

/// Renders the configuration, as a file in the repository at `root`.
///
/// # Errors
///
/// The repository's configuration can't be read.
pub(super) fn render(plan: &Plan, root: &Path) -> Result<String> {
    let mut wrangler = template(root)?;
    configure(&mut wrangler, plan);
    Ok(wrangler.to_string())
}

/// Renders the configuration as the file `name` in `directory`, with what one that is there has in addition.
///
/// # Errors
///
/// The repository's configuration or the one that is there can't be read, or the directory can't be found.
pub(super) fn complete(plan: &Plan, root: &Path, directory: &Path, name: &str) -> Result<Completed> {
    let find = |path: &Path| path.canonicalize().with_context(|| format!("can't find {}", path.display()));
    let (root, path) = (find(root)?, directory.join(name));
    let is_elsewhere = find(directory)? != root;
    let configured = |mut wrangler: DocumentMut| {
        configure(&mut wrangler, plan);
        if is_elsewhere {
            make_paths_absolute(&mut wrangler, &root);
        }
        wrangler
    };
    let template = template(&root)?;
    if !path.exists() {
        return Ok(Completed { content: configured(template).to_string(), note: None });
    }
    let there = read(&path)?;
    let completed = configured(completed(template.clone(), &there, plan));
    let content = completed.to_string();
    let note = Changes::of(&there, &configured(template), &completed).note(&in_directory(directory, name));
    Ok(Completed { content, note })
}

/// Reads the repository's configuration.
fn template(root: &Path) -> Result<DocumentMut> {
    let mut wrangler = read(&root.join(TEMPLATE))?;
    // The trailing comment describes variables to add to the template itself.
    wrangler.set_trailing("");
    Ok(wrangler)
}

fn read(path: &Path) -> Result<DocumentMut> {
    let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    text.parse().with_context(|| format!("can't read {}", path.display()))
}

/// Adds to the template what `there` has in addition, or has otherwise: all but the parts of the version and of the plan.
fn completed(mut template: DocumentMut, there: &DocumentMut, plan: &Plan) -> DocumentMut {
    let mut kept = there.as_table().clone();
    for key in OF_VERSION.iter().chain(&OF_PLAN) {
        kept.remove(key);
    }
    // The secrets file has them, and wrangler refuses a name that is there twice.
    if let Some(vars) = kept.get_mut("vars").and_then(Item::as_table_like_mut) {
        let tokens: &[&str] = if plan.homeserver_mode().is_some() { &[AS_TOKEN, HS_TOKEN] } else { &[] };
        for secret in [KEY, SECRET, KEYS].iter().chain(tokens) {
            vars.remove(secret);
        }
    }
    take_over(template.as_table_mut(), &kept);
    let limits = there.get("ratelimits").and_then(Item::as_array_of_tables);
    for limit in
        template.get_mut("ratelimits").and_then(Item::as_array_of_tables_mut).into_iter().flat_map(|all| all.iter_mut())
    {
        let name = |limit: &Table| limit.get("name").and_then(Item::as_str).map(str::to_owned);
        let same = limits.and_then(|limits| limits.iter().find(|there| name(there) == name(limit)));
        if let Some(simple) = same.and_then(|there| there.get("simple")) {
            limit["simple"] = simple.clone();
        }
    }
    template
}

/// Sets the entries of `there`, and leaves all others.
fn take_over(table: &mut dyn TableLike, there: &dyn TableLike) {
    for (key, item) in there.iter() {
        match (table.get_mut(key), item.as_table_like()) {
            (Some(present), Some(there)) if present.is_table_like() => {
                if let Some(table) = present.as_table_like_mut() {
                    take_over(table, there);
                }
            }
            (Some(present), _) if text(present) == text(item) => {}
            (Some(present), _) => *present = item.clone(),
            (None, _) => {
                let mut item = item.clone();
                Unplaced.visit_item_mut(&mut item);
                // With the comment before it.
                match there.key(key) {
                    Some(key) => table.entry_format(key).or_insert(item),
                    None => table.entry(key).or_insert(item),
                };
            }
        }
    }
}

/// Takes the places in the file that they come from away from tables, so that they follow the others.
struct Unplaced;

impl VisitMut for Unplaced {
    fn visit_table_mut(&mut self, table: &mut Table) {
        table.set_position(None);
        visit_table_mut(self, table);
    }
}

/// Differences between a configuration that was there and the one in its place.
struct Changes {
    /// Entries that only the one that was there has so.
    kept: Vec<String>,
    /// Entries that it had otherwise.
    replaced: Vec<String>,
    /// Jurisdiction before and after, if it changes.
    jurisdiction: Option<[String; 2]>,
    /// Whether anything changes.
    any: bool,
}

impl Changes {
    /// Compares `there` with what is written in its place, and with what would be written if it weren't there.
    fn of(there: &DocumentMut, fresh: &DocumentMut, written: &DocumentMut) -> Self {
        let entries_of = |document: &DocumentMut| {
            let mut all = BTreeMap::new();
            entries(document.as_table(), "", &mut all);
            all
        };
        let (fresh, written, any) = (entries_of(fresh), entries_of(written), there.to_string() != written.to_string());
        let there = entries_of(there);
        let (kept, replaced): (Vec<_>, Vec<_>) =
            there.iter().filter(|entry| !is_in(&fresh, *entry)).partition(|entry| is_in(&written, *entry));
        let names = |entries: Vec<(&String, &String)>| {
            entries.into_iter().map(|(path, _)| path.trim_start_matches("vars.").to_owned()).collect()
        };
        let of = |entries: &BTreeMap<String, String>| {
            entries.get(&format!("vars.{JURISDICTION}")).cloned().unwrap_or_else(|| String::from("none"))
        };
        let jurisdiction = Some([of(&there), of(&written)]).filter(|[before, after]| before != after);
        Self { kept: names(kept), replaced: names(replaced), jurisdiction, any }
    }

    /// Message about the file `name`, if there is anything to say.
    fn note(&self, name: &str) -> Option<String> {
        let mut sentences = Vec::new();
        if !self.kept.is_empty() {
            sentences.push(format!("{name} was there. Kept of it: {}.", self.kept.join(", ")));
        }
        if !self.replaced.is_empty() {
            sentences.push(format!("Changed in {name}, or left out: {}.", self.replaced.join(", ")));
        }
        if self.any {
            sentences.push(format!("As it was before, it is in {name}.{BEFORE}."));
        }
        if let Some([before, after]) = &self.jurisdiction {
            sentences.push(format!(
                "{JURISDICTION} was {before} and is {after}: objects have other ids in a jurisdiction, so no request finds the \
                 leaves that are delegated when this is deployed."
            ));
        }
        (!sentences.is_empty()).then(|| sentences.join("\n"))
    }
}

fn is_in(entries: &BTreeMap<String, String>, (path, text): (&String, &String)) -> bool {
    entries.get(path) == Some(text)
}

/// Adds all entries of a table, and of the tables in it, by their paths.
fn entries(table: &dyn TableLike, prefix: &str, all: &mut BTreeMap<String, String>) {
    for (key, item) in table.iter() {
        let path = format!("{prefix}{key}");
        match (item.as_table_like(), item.as_array_of_tables()) {
            (Some(table), _) => entries(table, &format!("{path}."), all),
            (None, Some(tables)) => {
                for (n, table) in tables.iter().enumerate() {
                    entries(table, &format!("{path}[{n}]."), all);
                }
            }
            (None, None) => {
                all.insert(path, text(item));
            }
        }
    }
}

/// Text of a value, without the white space and the comments around it.
fn text(item: &Item) -> String {
    match item.as_value().cloned() {
        Some(mut value) => {
            value.decor_mut().clear();
            value.to_string()
        }
        None => item.to_string(),
    }
}

/// Sets what the plan decides.
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
        let there = vars.get(variable).and_then(Item::as_str);
        if there != Some(text.as_str()) && (there.is_none() || variable != SANITY_CHECKS) {
            vars[variable] = value(text);
        }
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
/// Parts that belong to a version of the worker.
const OF_VERSION: [&str; 7] =
    ["main", "compatibility_date", "compatibility_flags", "build", "assets", "durable_objects", "migrations"];
/// Parts that the plan decides; of the rate limits, it is their ids.
const OF_PLAN: [&str; 6] = ["route", "routes", "placement", "workers_dev", "preview_urls", "ratelimits"];
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

    const TEMPLATE_TEXT: &str = "name = \"edge\"\nmain = \"build/index.js\"\ncompatibility_date = \"2026-10-01\"\n\n\
        [observability]\nenabled = true\nredact_query_string = true\n\n[placement]\nmode = \"smart\"\n\n\
        [[ratelimits]]\nname = \"RATE_LIMIT_BY_USER\"\nnamespace_id = \"1\"\nsimple = { limit = 30, period = 10 }\n";

    fn plan() -> Plan {
        let route = crate::configure::Route::custom_domain("rtc.example.com").unwrap();
        Plan::new(route, String::from("wss://sfu.example.com"), String::from("example.com"), None).unwrap()
    }

    /// Completes a file in a directory with the template, and returns it as a document and as text, with the note.
    fn complete(there: Option<&str>, plan: &Plan) -> Result<(DocumentMut, String, String)> {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(TEMPLATE), TEMPLATE_TEXT).unwrap();
        if let Some(there) = there {
            fs::write(directory.path().join("there.toml"), there).unwrap();
        }
        let Completed { content, note } = super::complete(plan, directory.path(), directory.path(), "there.toml")?;
        Ok((content.parse().unwrap(), content, note.unwrap_or_default()))
    }

    #[test]
    fn what_is_written_stays_as_it_is_when_it_is_completed() {
        let (_, content, note) = complete(None, &plan()).unwrap();
        assert_eq!(note, "");
        let (_, again, note) = complete(Some(&content), &plan()).unwrap();
        assert_eq!((again, note), (content, String::new()));
    }

    #[test]
    fn what_an_operator_has_added_is_kept_and_said() {
        let (_, content, _) = complete(None, &plan()).unwrap();
        let there = content
            .replace("name = \"edge\"", "name = \"mine\"\n# Ours.\naccount_id = \"1234\"")
            .replace("enabled = true\n", "enabled = true\nhead_sampling_rate = 0.1\n")
            .replace("limit = 30", "limit = 90")
            .replace("_SECONDS = \"60\"", "_SECONDS = \"300\"")
            + "# For the debugging of May.\nLIVEKIT_LOG_LEVEL = \"debug\" # not for long\nLIVEKIT_JURISDICTION = \"eu\"\n\n\
               [[tail_consumers]]\nservice = \"logs\"\n";
        let (written, content, note) = complete(Some(&there), &plan()).unwrap();

        assert_eq!(written["name"].as_str(), Some("mine"));
        assert!(content.contains("# Ours.\naccount_id = \"1234\"\n"), "{content}");
        assert_eq!(written["observability"]["head_sampling_rate"].as_float(), Some(0.1));
        assert_eq!(written["ratelimits"][0]["simple"]["limit"].as_integer(), Some(90));
        assert_eq!(written["vars"]["LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS"].as_str(), Some("300"));
        assert_eq!(written["vars"]["LIVEKIT_JURISDICTION"].as_str(), Some("eu"));
        assert_eq!(written["tail_consumers"][0]["service"].as_str(), Some("logs"));
        assert!(
            content.contains("# For the debugging of May.\nLIVEKIT_LOG_LEVEL = \"debug\" # not for long\n"),
            "{content}"
        );
        for kept in ["name", "account_id", "head_sampling_rate", "ratelimits[0].simple.limit", "LIVEKIT_LOG_LEVEL"] {
            assert!(note.contains(kept), "{kept}: {note}");
        }
        assert!(!note.contains("Changed") && !note.contains("debug"), "{note}");
        let (_, again, _) = complete(Some(&content), &plan()).unwrap();
        assert_eq!(again, content);
    }

    #[test]
    fn what_the_plan_and_the_version_decide_is_replaced_and_said() {
        let there = "name = \"edge\"\nmain = \"old.js\"\nroute = \"old.example.com/*\"\n\n[observability]\nenabled = true\n\n\
                     [vars]\nLIVEKIT_URL = \"wss://old.example.com\"\nLIVEKIT_SECRET = \"nobody-may-see\"\n";
        let (written, _, note) = complete(Some(there), &plan()).unwrap();

        assert_eq!(written["main"].as_str(), Some("build/index.js"));
        assert!(written.get("route").is_none() && written["vars"].get("LIVEKIT_SECRET").is_none());
        assert_eq!(written["vars"]["LIVEKIT_URL"].as_str(), Some("wss://sfu.example.com"));
        assert_eq!(written["observability"]["redact_query_string"].as_bool(), Some(true));
        let replaced = "there.toml, or left out: main, route, LIVEKIT_SECRET, LIVEKIT_URL.";
        assert!(note.contains(replaced) && note.contains("there.toml.before") && !note.contains("nobody"), "{note}");
    }

    #[test]
    fn another_jurisdiction_is_said_with_what_it_means() {
        let (_, content, _) = complete(None, &plan().in_jurisdiction(Some(String::from("eu")))).unwrap();
        assert!(content.contains("LIVEKIT_JURISDICTION = \"eu\""), "{content}");
        let (_, kept, note) = complete(Some(&content), &plan()).unwrap();
        assert!(kept == content && note.contains("LIVEKIT_JURISDICTION") && !note.contains("other ids"), "{note}");
        let (_, _, note) = complete(Some(&content), &plan().in_jurisdiction(Some(String::from("us")))).unwrap();
        assert!(note.contains("LIVEKIT_JURISDICTION was \"eu\" and is \"us\": objects have other ids"), "{note}");
    }

    #[test]
    fn a_file_that_is_not_toml_is_an_error_that_names_it() {
        let error = complete(Some("mine"), &plan()).unwrap_err();
        assert!(error.to_string().contains("there.toml"), "{error}");
    }
}
