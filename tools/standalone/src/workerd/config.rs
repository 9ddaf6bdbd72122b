//! workerd's configuration: `workerd.capnp`, and the files that it embeds.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use operator::variables::files;

use super::{Launch, Program};

/// The configuration of the worker in workerd alone, as Cap'n Proto text.
pub const CONFIG: &str = include_str!("workerd.capnp");

/// Writes the configuration, copies of the modules, and the trusted certificates below the state directory.
///
/// They are copies, so that workerd never reads half of a build that is just being made.
pub(super) fn write(launch: &Launch, program: &Program) -> Result<()> {
    let dir = dir(launch);
    for dir in [&assets(launch), &objects(launch)] {
        fs::create_dir_all(dir).with_context(|| format!("can't create {}", dir.display()))?;
    }
    let write = |name: &str, content: &str| {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| format!("can't write {}", path.display()))
    };
    let assets = assets(launch);
    for (files, dir) in [(&program.modules, &dir), (&program.assets, &assets)] {
        for file in files {
            let name = file.file_name().with_context(|| format!("{} has no name", file.display()))?;
            fs::copy(file, dir.join(name))
                .with_context(|| format!("can't copy {} to {}", file.display(), dir.display()))?;
        }
    }
    write(CONFIG_FILE, &program.config)?;
    let mut certificates = Vec::new();
    for path in &launch.trust_ca {
        certificates.extend(read_certificates(path)?);
    }
    let mut embedded = String::new();
    for (number, certificate) in certificates.iter().enumerate() {
        let name = format!("trusted-{number}.pem");
        write(&name, certificate)?;
        embedded += &format!("embed \"{name}\", ");
    }
    write("trusted.capnp", &format!("const certificates :List(Text) = [{embedded}];\n"))
}

/// Reads the certificates of a PEM file, of which it has one at least.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<String>> {
    let pem = fs::read_to_string(path)
        .map_err(|error| anyhow!("--trust-ca {} can't be read: {error}{}", path.display(), files::remedy(&error)))?;
    let found = certificates_in(&pem);
    if found.is_empty() {
        bail!("--trust-ca {} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)", path.display());
    }
    Ok(found)
}

/// Returns workerd's arguments for the files of [`write()`].
pub(super) fn arguments(launch: &Launch) -> Result<Vec<OsString>> {
    let private = launch.env.get(ALLOW_PRIVATE).is_some_and(|value| value == "true");
    let directory = |name: &str, path: PathBuf| -> Result<OsString> {
        let mut argument = OsString::from(format!("{name}="));
        argument.push(fs::canonicalize(path).context("can't resolve the state directory")?);
        Ok(argument)
    };
    Ok(vec![
        "serve".into(),
        dir(launch).join(CONFIG_FILE).into(),
        if private { "withPrivateAddresses" } else { "config" }.into(),
        "--socket-addr".into(),
        format!("http={}", launch.addr).into(),
        "--directory-path".into(),
        directory("objects", objects(launch))?,
        "--directory-path".into(),
        directory("assets", assets(launch))?,
    ])
}

fn dir(launch: &Launch) -> PathBuf {
    launch.state.join("workerd")
}

fn assets(launch: &Launch) -> PathBuf {
    dir(launch).join("assets")
}

fn objects(launch: &Launch) -> PathBuf {
    launch.state.join("objects")
}

/// Returns the certificates of a PEM file, one by one, without the text between them.
fn certificates_in(pem: &str) -> Vec<String> {
    pem.split(PEM_BEGIN)
        .skip(1)
        .filter_map(|rest| Some(format!("{PEM_BEGIN}{}{PEM_END}\n", rest.split_once(PEM_END)?.0)))
        .collect()
}

const CONFIG_FILE: &str = "workerd.capnp";
const ALLOW_PRIVATE: &str = "LIVEKIT_ALLOW_PRIVATE_ADDRESSES";
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use matrixrtc_edge::config::VARIABLES;

    use super::*;

    #[test]
    fn every_variable_of_the_worker_is_bound_by_name_only() {
        for name in VARIABLES {
            assert!(CONFIG.contains(&format!(r#"(name = "{name}", fromEnvironment = "{name}"),"#)), "{name}");
        }
        assert_eq!(CONFIG.matches("fromEnvironment").count(), VARIABLES.len());
    }

    #[test]
    fn both_configurations_keep_memory_small() {
        assert_eq!(CONFIG.matches(":Workerd.Config = ").count(), 2);
        assert_eq!(CONFIG.matches("  v8Flags = .v8Flags,\n").count(), 2);
    }

    #[test]
    fn every_certificate_of_a_file_is_trusted() {
        let pem = format!("# a comment\n{PEM_BEGIN}\nAAAA\n{PEM_END}\ntext\n{PEM_BEGIN}\nBBBB\n{PEM_END}\n");

        let found = certificates_in(&pem);

        assert_eq!(found, [format!("{PEM_BEGIN}\nAAAA\n{PEM_END}\n"), format!("{PEM_BEGIN}\nBBBB\n{PEM_END}\n")]);
        assert!(certificates_in("no certificate").is_empty());
    }

    #[test]
    fn workerd_runs_with_the_compatibility_date_and_flags_that_are_deployed() {
        let wrangler = include_str!("../../../../wrangler.toml");
        for (deployed, here) in
            [("compatibility_date", "compatibilityDate"), ("compatibility_flags", "compatibilityFlags")]
        {
            let value = wrangler.lines().find_map(|line| line.strip_prefix(deployed)?.strip_prefix(" = ")).unwrap();
            assert!(CONFIG.contains(&format!("  {here} = {value},\n")), "{here} isn't {value}");
        }
    }
}
