//! workerd's configuration: which modules, which bindings, and which addresses the worker may reach.

use std::{
    fmt::{self, Write},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{Launch, Modules};

/// Writes the configuration and the modules it embeds below the state directory, and answers the configuration's path.
///
/// The modules are copies, so that a build made meanwhile doesn't change a running worker.
pub(super) fn write(launch: &Launch, modules: &Modules) -> Result<PathBuf> {
    let dir = launch.state.join("workerd");
    let objects = launch.state.join("objects");
    for dir in [&dir, &objects] {
        fs::create_dir_all(dir).with_context(|| format!("can't create {}", dir.display()))?;
    }
    let copy = |from: &Path, name: &str| {
        fs::copy(from, dir.join(name)).with_context(|| format!("can't copy {} to {}", from.display(), dir.display()))
    };
    copy(&modules.script, SCRIPT)?;
    if let Some(wasm) = &modules.wasm {
        copy(wasm, WASM)?;
    }
    for (name, module) in &modules.bindings {
        copy(module, &binding_module(name))?;
    }
    let mut certificates = Vec::new();
    for path in &launch.trust_ca {
        let pem = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        let found = certificates_in(&pem);
        if found.is_empty() {
            bail!("{} holds no certificate in PEM", path.display());
        }
        certificates.extend(found);
    }
    let config = Config {
        address: launch.addr.to_string(),
        has_wasm: modules.wasm.is_some(),
        objects: fs::canonicalize(&objects).context("can't resolve the state directory")?,
        certificates,
        variables: launch.env.keys().map(String::as_str).collect(),
        made_bindings: modules.bindings.keys().map(String::as_str).collect(),
        private_homeservers: launch.env.get(ALLOW_PRIVATE).is_some_and(|value| value == "true"),
    };
    let path = dir.join("config.capnp");
    fs::write(&path, config.to_string()).with_context(|| format!("can't write {}", path.display()))?;
    Ok(path)
}

/// What varies in the configuration; displayed, it is Cap'n Proto text.
struct Config<'a> {
    address: String,
    has_wasm: bool,
    objects: PathBuf,
    certificates: Vec<String>,
    variables: Vec<&'a str>,
    made_bindings: Vec<&'a str>,
    private_homeservers: bool,
}

impl fmt::Display for Config<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = Tls(&self.certificates);
        let callers_name = if self.private_homeservers { r#""public", "private""# } else { r#""public""# };
        writeln!(f, "using Workerd = import \"/workerd/workerd.capnp\";")?;
        writeln!(f, "const config :Workerd.Config = (")?;
        writeln!(f, "  services = [")?;
        writeln!(f, "    (name = \"worker\", worker = .worker),")?;
        writeln!(f, "    (name = \"internet\", network = (allow = [{callers_name}], tlsOptions = {tls})),")?;
        writeln!(f, "    (name = \"configured\", network = (allow = [\"public\", \"private\"], tlsOptions = {tls})),")?;
        let objects = Text(&self.objects.to_string_lossy()).to_string();
        writeln!(f, "    (name = \"objects\", disk = (path = {objects}, writable = true)),")?;
        writeln!(f, "  ],")?;
        if !self.made_bindings.is_empty() {
            writeln!(f, "  extensions = [(modules = [")?;
            for name in &self.made_bindings {
                let module = Text(&binding_module(name)).to_string();
                writeln!(f, "    (name = {module}, internal = true, esModule = embed {module}),")?;
            }
            writeln!(f, "  ])],")?;
        }
        writeln!(
            f,
            "  sockets = [(name = \"http\", address = {}, http = (), service = \"worker\")],",
            Text(&self.address)
        )?;
        writeln!(f, ");")?;
        writeln!(f, "const worker :Workerd.Worker = (")?;
        writeln!(f, "  compatibilityDate = \"{COMPATIBILITY_DATE}\",")?;
        writeln!(f, "  modules = [")?;
        writeln!(f, "    (name = \"{SCRIPT}\", esModule = embed \"{SCRIPT}\"),")?;
        if self.has_wasm {
            writeln!(f, "    (name = \"{WASM}\", wasm = embed \"{WASM}\"),")?;
        }
        writeln!(f, "  ],")?;
        writeln!(f, "  globalOutbound = \"internet\",")?;
        writeln!(f, "  bindings = [")?;
        writeln!(f, "    (name = \"CONFIGURED\", service = \"configured\"),")?;
        for name in &self.variables {
            let name = Text(name);
            writeln!(f, "    (name = {name}, fromEnvironment = {name}),")?;
        }
        for object in DURABLE_OBJECTS.iter().filter(|object| !self.made_bindings.contains(&object.binding)) {
            writeln!(f, "    {object},")?;
        }
        for name in &self.made_bindings {
            let module = Text(&binding_module(name)).to_string();
            write!(f, "    (name = {}, wrapped = (moduleName = {module}, innerBindings = [", Text(name))?;
            for object in DURABLE_OBJECTS {
                write!(f, "{object}, ")?;
            }
            writeln!(f, "])),")?;
        }
        writeln!(f, "  ],")?;
        writeln!(f, "  durableObjectNamespaces = [")?;
        for object in DURABLE_OBJECTS {
            let (class, binding) = (object.class, object.binding);
            writeln!(f, "    (className = \"{class}\", uniqueKey = \"{binding}\", enableSql = true),")?;
        }
        writeln!(f, "  ],")?;
        writeln!(f, "  durableObjectStorage = (localDisk = \"objects\"),")?;
        writeln!(f, ");")
    }
}

/// Which certificates are trusted.
struct Tls<'a>(&'a [String]);

impl fmt::Display for Tls<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(trustBrowserCas = true, trustedCertificates = [")?;
        for certificate in self.0 {
            write!(f, "{}, ", Text(certificate))?;
        }
        f.write_str("])")
    }
}

/// A string, quoted.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                c if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// A Durable Object namespace of the worker.
struct DurableObject {
    binding: &'static str,
    class: &'static str,
}

impl fmt::Display for DurableObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(name = \"{}\", durableObjectNamespace = \"{}\")", self.binding, self.class)
    }
}

/// The file, and the name, of the module that makes a binding.
fn binding_module(binding: &str) -> String {
    format!("{binding}.js")
}

/// The certificates of a PEM file, one by one; everything between them is left out.
fn certificates_in(pem: &str) -> Vec<String> {
    pem.split(PEM_BEGIN)
        .skip(1)
        .filter_map(|rest| Some(format!("{PEM_BEGIN}{}{PEM_END}\n", rest.split_once(PEM_END)?.0)))
        .collect()
}

/// Keep in step with `wrangler.toml`; a test does.
const COMPATIBILITY_DATE: &str = "2026-10-01";
/// As `wrangler.toml` binds them.
const DURABLE_OBJECTS: &[DurableObject] = &[DurableObject { binding: "ROOMS", class: "Room" }];
const ALLOW_PRIVATE: &str = "LIVEKIT_ALLOW_PRIVATE_ADDRESSES";
const SCRIPT: &str = "index.js";
const WASM: &str = "index_bg.wasm";
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config<'static> {
        Config {
            address: "127.0.0.1:0".to_owned(),
            has_wasm: true,
            objects: "/state \"x\"".into(),
            certificates: vec![],
            variables: vec!["LIVEKIT_URL"],
            made_bindings: vec![],
            private_homeservers: false,
        }
    }

    #[test]
    fn homeservers_have_public_addresses_unless_the_configuration_says_otherwise() {
        let public = r#"(name = "internet", network = (allow = ["public"], "#;
        let private = r#"(name = "internet", network = (allow = ["public", "private"], "#;

        assert!(config().to_string().contains(public));
        assert!(Config { private_homeservers: true, ..config() }.to_string().contains(private));
    }

    #[test]
    fn variables_are_bound_by_name_only() {
        assert!(config().to_string().contains(r#"(name = "LIVEKIT_URL", fromEnvironment = "LIVEKIT_URL")"#));
    }

    #[test]
    fn a_made_binding_takes_the_place_of_one_of_the_same_name() {
        let config = Config { made_bindings: vec!["ROOMS"], ..config() }.to_string();

        let namespace = r#"(name = "ROOMS", durableObjectNamespace = "Room")"#;
        assert_eq!(config.matches(namespace).count(), 1);
        assert!(config.contains(&format!(r#"wrapped = (moduleName = "ROOMS.js", innerBindings = [{namespace}, "#)));
        assert!(config.contains(r#"(name = "ROOMS.js", internal = true, esModule = embed "ROOMS.js")"#));
    }

    #[test]
    fn strings_are_quoted() {
        assert_eq!(Text("a \"b\" \\ c\nd\u{7}é").to_string(), r#""a \"b\" \\ c\nd\x07é""#);
    }

    #[test]
    fn every_certificate_of_a_file_is_trusted() {
        let pem = format!("# a comment\n{PEM_BEGIN}\nAAAA\n{PEM_END}\ntext\n{PEM_BEGIN}\nBBBB\n{PEM_END}\n");

        let found = certificates_in(&pem);

        assert_eq!(found, [format!("{PEM_BEGIN}\nAAAA\n{PEM_END}\n"), format!("{PEM_BEGIN}\nBBBB\n{PEM_END}\n")]);
        assert!(certificates_in("no certificate").is_empty());
    }

    #[test]
    fn workerd_runs_with_the_compatibility_date_that_is_deployed() {
        let wrangler = include_str!("../../../../wrangler.toml");

        assert!(wrangler.contains(&format!("compatibility_date = \"{COMPATIBILITY_DATE}\"")));
    }
}
