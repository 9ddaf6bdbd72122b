//! Files of a plan: fragments to print, or whole files to write where the rest is known.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::configure::homeserver::{self, HOMESERVER};
use crate::configure::homeserver_mode::{REGISTRATION, quoted};
use crate::configure::plan::{Plan, SECRETS};
use crate::doctor::announcement;

/// Files with their content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files(Vec<File>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    name: &'static str,
    /// Use of the file, for the operator.
    purpose: String,
    content: String,
    /// Whether it contains secrets.
    secret: bool,
}

impl Files {
    /// Renders fragments to add to existing files.
    #[must_use]
    pub fn to_print(plan: &Plan) -> Self {
        let mut wrangler = DocumentMut::new();
        configure(&mut wrangler, plan);
        let purpose = "routes before the first [section], and [vars] anywhere";
        Self::of(File::new("wrangler.toml", purpose, wrangler.to_string()), plan)
    }

    /// Renders files for `directory`. Wrangler's configuration is complete: that of the repository at `root`, with
    /// the plan's values.
    ///
    /// # Errors
    ///
    /// The repository's configuration can't be read, or the directory can't be created.
    pub fn for_directory(plan: &Plan, root: &Path, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("can't create {}", directory.display()))?;
        let template = root.join("wrangler.toml");
        let text = fs::read_to_string(&template).with_context(|| format!("can't read {}", template.display()))?;
        let mut wrangler: DocumentMut = text.parse().with_context(|| format!("can't read {}", template.display()))?;
        // The trailing comment describes variables to add to the template itself.
        wrangler.set_trailing("");
        configure(&mut wrangler, plan);
        let root = root.canonicalize().with_context(|| format!("can't find {}", root.display()))?;
        if directory.canonicalize().with_context(|| format!("can't find {}", directory.display()))? != root {
            make_paths_absolute(&mut wrangler, &root);
        }
        Ok(Self::of(File::new(WRANGLER, "for `wrangler … -c`", wrangler.to_string()), plan))
    }

    fn of(wrangler: File, plan: &Plan) -> Self {
        let purpose = "to be added to Synapse's homeserver.yaml; for other homeservers see docs/guides/announcing.md";
        let homeserver = File::new(HOMESERVER, purpose, homeserver::fragment(plan));
        let mut files = vec![wrangler, livekit(plan), well_known(plan), homeserver];
        if let Some(mode) = plan.homeserver_mode() {
            let purpose = "for the homeserver; keep it secret";
            let registration = File::new(REGISTRATION, purpose, mode.registration(plan.service_url()));
            files.push(File { secret: true, ..registration });
        }
        Self(files)
    }

    /// Writes the files and returns their paths. Files with the same content stay untouched.
    ///
    /// # Errors
    ///
    /// A file exists with other content, in which case none is written; or one can't be written.
    pub fn write(&self, directory: &Path) -> Result<Vec<PathBuf>> {
        let paths: Vec<_> = self.0.iter().map(|file| directory.join(file.name)).collect();
        let mut missing = Vec::new();
        for (file, path) in self.0.iter().zip(&paths) {
            if !path.exists() {
                missing.push((file, path));
            } else if !fs::read(path).is_ok_and(|there| there == file.content.as_bytes()) {
                bail!("{} exists with other content: move it away first", path.display());
            }
        }
        for (file, path) in missing {
            file.write(path).with_context(|| format!("can't write {}", path.display()))?;
        }
        Ok(paths)
    }

    /// Content of the file of that name.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|file| file.name == name).map(|file| file.content.as_str())
    }
}

impl File {
    fn new(name: &'static str, purpose: &str, content: String) -> Self {
        Self { name, purpose: purpose.to_owned(), content, secret: false }
    }

    /// Creates the file. Only its owner can read a file with secrets.
    fn write(&self, path: &Path) -> std::io::Result<()> {
        let mode = if self.secret { 0o600 } else { 0o666 };
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(self.content.as_bytes())
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, File { name, purpose, content, .. }) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}── {name}: {purpose}\n\n{content}")?;
        }
        Ok(())
    }
}

/// Adds the plan's routes and variables, and the flag that each deployment needs.
fn configure(wrangler: &mut DocumentMut, plan: &Plan) {
    let mut flags = wrangler.get("compatibility_flags").and_then(Item::as_array).cloned().unwrap_or_default();
    if !flags.iter().any(|flag| flag.as_str() == Some(STRICTLY_PUBLIC)) {
        flags.push(STRICTLY_PUBLIC);
    }
    wrangler["compatibility_flags"] = value(flags);
    let mut routes = Array::new();
    routes.push(plan.route().wrangler_route());
    wrangler["routes"] = value(routes);
    let vars = wrangler.entry("vars").or_insert(Item::Table(Table::new()));
    for (variable, text) in plan.vars() {
        vars[variable] = value(text);
    }
}

/// Makes paths absolute, for a configuration outside of the repository at `root`.
fn make_paths_absolute(wrangler: &mut DocumentMut, root: &Path) {
    let absolute = |path: &str| value(root.join(path).display().to_string());
    if let Some(main) = wrangler.get("main").and_then(Item::as_str) {
        wrangler["main"] = absolute(main);
    }
    if wrangler.contains_key("build") {
        wrangler["build"]["cwd"] = value(root.display().to_string());
        if let Some(build) = wrangler["build"].as_table_mut() {
            build.remove("watch_dir");
        }
    }
}

fn livekit(plan: &Plan) -> File {
    let [key, secret] = SECRETS;
    let key = quoted(plan.sfu_key().unwrap_or(&format!("the same as {key}")));
    let secret = quoted(&format!("the same as {secret}"));
    let url = quoted(&plan.service_url().at("/sfu_webhook"));
    let content = format!(
        "keys:\n  {key}: {secret}\n\nroom:\n  auto_create: false\n\nwebhook:\n  api_key: {key}\n  urls:\n    - {url}\n  \
         # Half of the requests, with LiveKit 1.13.5 or newer; earlier versions may refuse these lines.\n  \
         filter_params:\n    include_events:\n{EVENTS}"
    );
    let purpose = "for the SFU's configuration; `livekit-server generate-keys` makes a key and a secret";
    File::new(LIVEKIT, purpose, content)
}

fn well_known(plan: &Plan) -> File {
    let mut content = format!("{:#}", announcement::fragment(&plan.announced()));
    content.push('\n');
    let purpose =
        "to be added to https://(server name)/.well-known/matrix/client, served with `Access-Control-Allow-Origin: *`";
    File::new(WELL_KNOWN, purpose, content)
}

/// Path of a file as the user can type it in the present directory.
pub(super) fn in_directory(directory: &Path, file: &str) -> String {
    directory.join(file).display().to_string()
}

/// Without this compatibility flag, requests to names of the worker's own zone go past Cloudflare to the origin server.
const STRICTLY_PUBLIC: &str = "global_fetch_strictly_public";
/// Webhooks that the service needs.
const EVENTS: &str = "      - participant_joined\n      - participant_left\n      - participant_connection_aborted\n      \
                      - room_finished\n";
/// Complete configuration of wrangler.
pub(super) const WRANGLER: &str = "wrangler.production.toml";
/// Fragment of the SFU's configuration.
const LIVEKIT: &str = "livekit-fragment.yaml";
/// Fragment of the announcement on the homeserver's domain.
const WELL_KNOWN: &str = "well-known-fragment.json";
