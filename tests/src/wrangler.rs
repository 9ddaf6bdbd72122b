use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use toml::{Table, Value};
use xtask::tools::Tools;
use xtask::workspace;
use xtask::wrangler::WranglerDev;

use crate::{Deployment, Log, ReleasedWorker, Service};

/// Differences from `wrangler.toml` in a deployment under `wrangler dev`.
#[derive(Default)]
pub struct Wrangler {
    limits: Vec<(String, i64)>,
    stored_secrets: Vec<(String, Option<String>)>,
}

impl Wrangler {
    /// Sets the rate limit of that name to this many requests a minute, in place of the deployed limit.
    pub fn limit(mut self, binding: &str, requests: i64) -> Self {
        self.limits.push((binding.to_owned(), requests));
        self
    }

    /// Sets a variable's value in wrangler's local Secrets Store.
    pub fn stored_secret(mut self, variable: &str, value: &str) -> Self {
        self.stored_secrets.push((variable.to_owned(), Some(value.to_owned())));
        self
    }

    /// Binds a variable to a secret that isn't in the Secrets Store.
    pub fn missing_secret(mut self, variable: &str) -> Self {
        self.stored_secrets.push((variable.to_owned(), None));
        self
    }

    /// Returns `wrangler.toml` with these differences, for the existing build.
    fn configuration(&self, root: &Path, variables: &Deployment) -> String {
        let file = fs::read_to_string(root.join("wrangler.toml")).expect("wrangler.toml");
        let mut config: Table = file.parse().expect("TOML");
        config.remove("build");
        config.insert("main".to_owned(), root.join("build/index.js").to_string_lossy().as_ref().into());
        config["assets"]["directory"] = root.join("build/assets").to_string_lossy().as_ref().into();
        let limits = config.get_mut("ratelimits").and_then(Value::as_array_mut).expect("[[ratelimits]]");
        for (name, requests) in &self.limits {
            let limit = limits.iter_mut().find(|limit| limit["name"].as_str() == Some(name));
            let simple = limit.expect("a rate limit of that name")["simple"].as_table_mut().expect("a table");
            simple.insert("limit".to_owned(), (*requests).into());
            simple.insert("period".to_owned(), 60.into());
        }
        let secrets: Vec<Value> = self.stored_secrets.iter().map(|(variable, _)| binding(variable).into()).collect();
        config.insert("secrets_store_secrets".to_owned(), secrets.into());
        let is_variable = |name: &String| self.stored_secrets.iter().all(|(stored, _)| stored != name);
        let vars = variables.env().iter().filter(|(name, _)| is_variable(name));
        config.insert("vars".to_owned(), Value::Table(vars.map(|(k, v)| (k.clone(), v.as_str().into())).collect()));
        config.to_string()
    }
}

impl Deployment {
    /// Starts it under `wrangler dev`, and waits until it responds.
    pub fn start_under(self, wrangler: Wrangler) -> Service {
        let directory = TempDir::new().expect("a temporary directory");
        let root = workspace::root().expect("the repository");
        let tools = Tools::set_up(&root).unwrap_or_else(|error| panic!("{error:#}"));
        fs::write(directory.path().join("wrangler.toml"), wrangler.configuration(&root, &self)).expect("my directory");
        let log = directory.path().join("log");
        for (variable, value) in &wrangler.stored_secrets {
            let Some(value) = value else { continue };
            let created = tools
                .wrangler()
                .current_dir(&directory)
                .args(["secrets-store", "secret", "create", STORE, "--name", variable, "--value", value])
                .args(["--scopes", "workers", "--persist-to", "state"])
                .output()
                .expect("wrangler runs");
            assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        }
        let mut command = tools.wrangler();
        command.arg("dev").current_dir(&directory);
        self.start_command(command, log, directory)
    }

    /// Starts it by the released worker's own `npm run dev`, with the variables in its `.dev.vars`, and waits until it
    /// responds.
    pub fn start_released(self, worker: &ReleasedWorker) -> Service {
        let directory = TempDir::new().expect("a temporary directory");
        fs::write(worker.folder().join(".dev.vars"), self.environment_file()).expect("its folder");
        let log = directory.path().join("log");
        let mut command = worker.npm();
        command.args(["run", "dev", "--"]);
        self.start_command(command, log, directory)
    }

    /// Starts `wrangler dev` by a command that passes its arguments on.
    fn start_command(self, command: Command, log: PathBuf, directory: TempDir) -> Service {
        // Every test setup has ports of its own.
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8787));
        let started = WranglerDev::start_command(command, addr, |command| {
            let file = File::create(&log).expect("my directory");
            command
                .args(["--inspector-port", "0", "--persist-to"])
                .arg(directory.path().join("state"))
                .env("NODE_EXTRA_CA_CERTS", self.trusted())
                .env("WRANGLER_LOG_PATH", directory.path().join("wrangler-logs"))
                .env("WRANGLER_REGISTRY_PATH", directory.path().join("wrangler-registry"))
                .stdout(file.try_clone().expect("my file"))
                .stderr(file);
        });
        let log = Log::new(log);
        let answering = started.and_then(|mut wrangler| {
            wrangler.wait_until_it_answers(|| false)?;
            Ok(wrangler)
        });
        match answering {
            Ok(wrangler) => Service::under_wrangler(wrangler, log, directory),
            Err(error) => panic!("{error:#}\n{}", log.text()),
        }
    }
}

fn binding(variable: &str) -> Table {
    [("binding", variable), ("store_id", STORE), ("secret_name", variable)]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

const STORE: &str = "00000000000000000000000000000000";
