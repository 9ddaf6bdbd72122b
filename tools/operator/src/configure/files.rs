//! Files of a plan: to print, without secrets, or to write.
//!
//! # How it works
//!
//! - Secrets are in files that only their owner can read, and never printed.
//! - A file that exists with other content is never overwritten, and then no other is written either. The exceptions are
//!   completed: the secrets file, whose values are in the new content, and wrangler's configuration, whose content before
//!   is kept beside it.

use std::{
    fmt,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::configure::homeserver::{self, HOMESERVER};
use crate::configure::homeserver_mode::{self, REGISTRATION};
use crate::configure::livekit;
use crate::configure::own_machine::{self, CADDY, ENV_FILE, NGINX, TRAEFIK};
use crate::configure::plan::{Hosting, Plan};
use crate::configure::route::Route;
use crate::configure::secrets::{SECRETS_FILE, Secrets, SecretsFile};
use crate::configure::wrangler::{self, Completed};
use crate::doctor::announcement;

/// Files with their content.
#[derive(Clone, PartialEq, Eq)]
pub struct Files(Vec<File>);

#[derive(Clone, PartialEq, Eq)]
struct File {
    name: &'static str,
    /// Use of the file, for the operator.
    purpose: &'static str,
    content: String,
    access: Access,
    /// Message about the file that was there.
    note: Option<String>,
}

/// Rule for a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Everybody may read it.
    Public,
    /// Likewise, and its content completes that of a file that exists, which is kept under another name.
    PublicCompleted,
    /// It contains secrets, and is for its owner.
    Owner,
    /// Likewise, and its content completes that of a file that exists.
    OwnerCompleted,
}

impl Files {
    /// Renders files without secrets. Wrangler's configuration is that of the repository at `root`, with the plan's
    /// values.
    ///
    /// # Errors
    ///
    /// The repository's configuration can't be read, or a value can't be in an environment file.
    pub fn to_print(plan: &Plan, root: &Path) -> Result<Self> {
        let of_host = match plan.hosting() {
            Hosting::Cloudflare => vec![wrangler_file(wrangler::render(plan, root)?)],
            Hosting::OwnMachine => own_machine_files(plan, None)?,
        };
        Ok(Self::of(plan, None, of_host))
    }

    /// Renders files for `directory`, with `secrets`, which complete those of the secrets file in `there`.
    ///
    /// # Errors
    ///
    /// The repository's configuration can't be read, the directory can't be created, or the secrets file has other
    /// secrets.
    pub fn for_directory(
        plan: &Plan,
        secrets: &Secrets,
        there: SecretsFile,
        root: &Path,
        directory: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("can't create {}", directory.display()))?;
        let of_host = match plan.hosting() {
            Hosting::Cloudflare => {
                let content = there.with(secrets).with_context(|| in_directory(directory, SECRETS_FILE))?;
                let purpose = "for `wrangler deploy --secrets-file`";
                // The first to be written: a pair that another file has is never lost.
                let secrets = File { access: Access::OwnerCompleted, ..File::new(SECRETS_FILE, purpose, content) };
                let Completed { content, note } = wrangler::complete(plan, root, directory, WRANGLER)?;
                vec![secrets, File { access: Access::PublicCompleted, note, ..wrangler_file(content) }]
            }
            Hosting::OwnMachine => {
                there.with(secrets).with_context(|| in_directory(directory, ENV_FILE))?;
                own_machine_files(plan, Some(secrets))?
            }
        };
        Ok(Self::of(plan, Some(secrets), of_host))
    }

    /// Renders what is the same on every host, after what isn't.
    fn of(plan: &Plan, secrets: Option<&Secrets>, of_host: Vec<File>) -> Self {
        let access = if secrets.is_some() { Access::Owner } else { Access::Public };
        let mut files = of_host;
        if !plan.is_on_livekit_cloud() {
            let content = livekit::fragment(plan, secrets.map(|secrets| &secrets.pair));
            files.push(File { access, ..File::new(LIVEKIT, "to be merged into the SFU's configuration", content) });
        }
        files.push(well_known(plan));
        let purpose =
            "to be merged into Synapse's homeserver.yaml; for other homeservers see docs/guides/announcing.md";
        files.push(File::new(HOMESERVER, purpose, homeserver::fragment(plan)));
        if let Some(server_name) = plan.homeserver_mode() {
            let tokens = secrets.and_then(|secrets| secrets.tokens.as_ref());
            let content = homeserver_mode::registration(server_name, plan.service_url(), tokens);
            let purpose = "for the homeserver; keep it secret";
            files.push(File { access, ..File::new(REGISTRATION, purpose, content) });
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
            let is_same = fs::read(path).is_ok_and(|there| there == file.content.as_bytes());
            if path.exists() && !is_same && !file.access.completes() {
                bail!("{} exists with other content: move it away first", path.display());
            }
            if !is_same {
                missing.push((file, path));
            }
        }
        for (file, path) in missing {
            file.write(path).with_context(|| format!("can't write {}", path.display()))?;
        }
        for (_, path) in self.0.iter().zip(&paths).filter(|(file, _)| file.access.is_secret()) {
            let closed = fs::set_permissions(path, Permissions::from_mode(OWNER_ONLY));
            closed.with_context(|| format!("can't close {} to others", path.display()))?;
        }
        Ok(paths)
    }

    /// Messages about files that were there.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|file| file.note.as_deref())
    }

    /// Content of the file of that name.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|file| file.name == name).map(|file| file.content.as_str())
    }
}

impl File {
    fn new(name: &'static str, purpose: &'static str, content: String) -> Self {
        Self { name, purpose, content, access: Access::Public, note: None }
    }

    /// Creates the file, or replaces the one that it completes as a whole.
    fn write(&self, path: &Path) -> io::Result<()> {
        let create = |path: &Path, mode: u32| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            file.write_all(self.content.as_bytes())?;
            file.sync_all()
        };
        match self.access {
            Access::Public => create(path, 0o666),
            Access::Owner => create(path, OWNER_ONLY),
            Access::PublicCompleted | Access::OwnerCompleted => {
                let new = with_suffix(path, "new");
                if new.exists() {
                    fs::remove_file(&new)?;
                }
                create(&new, if self.access.is_secret() { OWNER_ONLY } else { 0o666 })?;
                if path.exists() && !self.access.is_secret() {
                    fs::copy(path, with_suffix(path, BEFORE))?;
                }
                fs::rename(&new, path)
            }
        }
    }
}

impl Access {
    fn is_secret(self) -> bool {
        matches!(self, Self::Owner | Self::OwnerCompleted)
    }

    fn completes(self) -> bool {
        matches!(self, Self::PublicCompleted | Self::OwnerCompleted)
    }
}

/// Leaves out the content of files with secrets.
impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, File { name, purpose, content, access, .. }) in self.0.iter().enumerate() {
            let content = if access.is_secret() { "(secret)\n" } else { content };
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}── {name}: {purpose}\n\n{content}")?;
        }
        Ok(())
    }
}

fn wrangler_file(content: String) -> File {
    File::new(WRANGLER, "in the repository, for `wrangler … -c`", content)
}

fn own_machine_files(plan: &Plan, secrets: Option<&Secrets>) -> Result<Vec<File>> {
    let access = if secrets.is_some() { Access::Owner } else { Access::Public };
    let purpose = "the service's configuration, for /etc/matrixrtc-edge.env";
    let env_file = File { access, ..File::new(ENV_FILE, purpose, own_machine::env_file(plan, secrets)?) };
    let proxy = |name, purpose, render: fn(&Route) -> String| File::new(name, purpose, render(plan.route()));
    Ok(vec![
        env_file,
        proxy(NGINX, "for nginx", own_machine::nginx),
        proxy(CADDY, "or for Caddy", own_machine::caddy),
        proxy(TRAEFIK, "or for Traefik", own_machine::traefik),
    ])
}

fn well_known(plan: &Plan) -> File {
    let mut content = format!("{:#}", announcement::fragment(&plan.announced()));
    content.push('\n');
    let purpose = "to be merged into https://(server name)/.well-known/matrix/client, served with `Access-Control-Allow-Origin: *`";
    File::new(WELL_KNOWN, purpose, content)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    PathBuf::from(path)
}

/// Path of a file as the user can type it in the present directory.
pub(super) fn in_directory(directory: &Path, file: &str) -> String {
    let path = directory.join(file);
    path.strip_prefix(".").unwrap_or(&path).display().to_string()
}

const OWNER_ONLY: u32 = 0o600;
/// Complete configuration of wrangler.
pub(super) const WRANGLER: &str = "wrangler.production.toml";
/// Suffix of a completed file's content before.
pub(super) const BEFORE: &str = "before";
/// Fragment of the SFU's configuration.
pub(super) const LIVEKIT: &str = "livekit-fragment.yaml";
/// Fragment of the announcement on the homeserver's domain.
const WELL_KNOWN: &str = "well-known-fragment.json";
