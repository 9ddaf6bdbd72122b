use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use standalone::log::Log as LogFile;
use standalone::workerd::{Launch, Program};
use tempfile::TempDir;
use xtask::build::Build;
use xtask::{tools, workspace};

use crate::service::Executable;
use crate::{CertificateAuthority, Log, OwnHomeserver, Package, Resolver, Service, Sfu};

/// Worker with its configuration (`docs/protocol.md#configuration`), ready to be started in workerd.
///
/// By default it has the test setup's SFU and resolver, and full access for a homeserver that doesn't exist.
pub struct Deployment {
    addr: SocketAddr,
    env: BTreeMap<String, String>,
    bindings: BTreeMap<String, String>,
    main: Option<String>,
    on_edge: bool,
    trusted: PathBuf,
}

impl Deployment {
    pub(crate) fn new(sfu: &Sfu, resolver: &Resolver, authority: &CertificateAuthority) -> Self {
        let (key, secret) = Sfu::credentials();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (env, bindings) = (BTreeMap::new(), BTreeMap::new());
        Self { addr, env, bindings, main: None, on_edge: false, trusted: authority.pem() }
            .set("LIVEKIT_URL", &sfu.url())
            .set("LIVEKIT_KEY", key)
            .set("LIVEKIT_SECRET", secret)
            .set("LIVEKIT_DNS_OVER_HTTPS_URL", &resolver.url())
            .full_access("nobody.example")
    }

    /// Gives users of these homeservers full access.
    pub fn full_access(self, server_names: &str) -> Self {
        self.set("LIVEKIT_FULL_ACCESS_HOMESERVERS", server_names)
    }

    /// Sets the address, in place of a free port.
    pub fn at(self, addr: SocketAddr) -> Self {
        Self { addr, ..self }
    }

    /// Makes the worker an application service of this homeserver.
    pub fn homeserver_mode(self, homeserver: &OwnHomeserver) -> Self {
        self.set("LIVEKIT_HS_SERVER_NAME", homeserver.server_name())
            .set("LIVEKIT_AS_TOKEN", homeserver.as_token())
            .set("LIVEKIT_HS_TOKEN", homeserver.hs_token())
    }

    /// Sets a variable.
    pub fn set(mut self, variable: &str, value: &str) -> Self {
        self.env.insert(variable.to_owned(), value.to_owned());
        self
    }

    /// Removes a variable.
    pub fn unset(mut self, variable: &str) -> Self {
        self.env.remove(variable);
        self
    }

    /// Binds the result of this ECMAScript module: its default export is called with `env`, which has the real
    /// namespaces of Durable Objects.
    pub fn bind(mut self, name: &str, module: impl std::fmt::Display) -> Self {
        self.env.remove(name);
        self.bindings.insert(name.to_owned(), module.to_string());
        self
    }

    /// Puts this ECMAScript module before the worker's own, which it imports as `index.js`.
    pub fn behind(mut self, module: impl std::fmt::Display) -> Self {
        self.main = Some(module.to_string());
        self
    }

    /// Makes the worker believe that it is on Cloudflare's edge, where no binding leads to private addresses. The global
    /// `fetch` does instead.
    pub fn as_on_the_edge(mut self) -> Self {
        self.on_edge = true;
        self.set("LIVEKIT_ALLOW_PRIVATE_ADDRESSES", "true")
    }

    pub(crate) fn env(&self) -> &BTreeMap<String, String> {
        &self.env
    }

    /// File with the certificate to trust.
    pub(crate) fn trusted(&self) -> &Path {
        &self.trusted
    }

    /// Starts it, and waits until it responds.
    pub fn start(self) -> Service {
        let mut program = production().unwrap_or_else(|error| panic!("{error:#}"));
        let directory = TempDir::new().expect("a temporary directory");
        program.config = with_bindings(&program.config, self.bindings.keys());
        for (name, module) in &self.bindings {
            let file = directory.path().join(format!("{name}.js"));
            fs::write(&file, module).expect("a file in my directory");
            program.modules.push(file);
        }
        if self.on_edge {
            let binding = r#"(name = "CONFIGURED", service = "configured"),"#;
            assert!(program.config.contains(binding), "no binding to leave out");
            program.config = program.config.replacen(binding, "", 1);
        }
        if let Some(module) = &self.main {
            let file = directory.path().join(MAIN);
            fs::write(&file, module).expect("a file in my directory");
            program.modules.push(file);
            let own = r#"(name = "index.js","#;
            assert!(program.config.contains(own), "no module to import");
            program.config =
                program.config.replacen(own, &format!("(name = \"{MAIN}\", esModule = embed \"{MAIN}\"), {own}"), 1);
        }
        let (launch, log) = self.launch_in(directory.path());
        Service::start(launch, Executable::Workerd(program), log, directory)
    }

    /// Starts it from the packaged executable, as on an operator's own machine.
    pub fn start_package(self, package: &Package) -> Service {
        let directory = TempDir::new().expect("a temporary directory");
        let (launch, log) = self.launch_in(directory.path());
        Service::start(launch, Executable::Package(package.clone()), log, directory)
    }

    /// Content of an `EnvironmentFile=` of systemd.
    pub fn environment_file(&self) -> String {
        self.env.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    fn launch_in(self, directory: &Path) -> (Launch, Log) {
        let log = directory.join("log");
        let launch = Launch {
            addr: self.addr,
            state: directory.join("state"),
            trust_ca: vec![self.trusted],
            env: self.env,
            log: LogFile::File(log.clone()),
        };
        (launch, Log::new(log))
    }
}

/// Existing build, with the workerd of the npm packages.
fn production() -> anyhow::Result<Program> {
    let root = workspace::root()?;
    Build::existing(&root)?;
    Ok(Program::in_dir(tools::workerd(&root)?, &Build::dir(&root)))
}

/// Configuration in which these bindings come from modules of their names.
fn with_bindings<'a>(config: &str, names: impl Iterator<Item = &'a String> + Clone) -> String {
    let mut config = config.to_owned();
    for name in names.clone() {
        let made =
            format!(r#"(name = "{name}", wrapped = (moduleName = "{name}.js", innerBindings = [{NAMESPACE}])),"#);
        let variable = format!(r#"(name = "{name}", fromEnvironment = "{name}"),"#);
        config = match name.as_str() {
            "ROOMS" => config.replacen(&format!("{NAMESPACE},"), &made, 1),
            _ if config.contains(&variable) => config.replacen(&variable, &made, 1),
            _ => config.replacen("bindings = [", &format!("bindings = [{made}"), 1),
        };
        assert!(config.contains(&made), "{name} can't be bound");
    }
    let modules = names.map(|name| format!(r#"(name = "{name}.js", internal = true, esModule = embed "{name}.js"), "#));
    let with_modules = format!("extensions = [(modules = [{}])], services = [", modules.collect::<String>());
    config.replace("services = [", &with_modules)
}

const NAMESPACE: &str = r#"(name = "ROOMS", durableObjectNamespace = "Room")"#;
/// Module before the worker's own.
const MAIN: &str = "main.js";
