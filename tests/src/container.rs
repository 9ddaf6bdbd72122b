use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use flate2::read::GzDecoder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tar::Archive;
use tempfile::TempDir;
use xtask::release::{architecture::Architecture, image};

use crate::{Deployment, Package};

/// Unpacked image, as `cargo xtask release` writes it, with the packaged executable.
///
/// Its programs run in namespaces of their own, with the image as their read-only root. That needs root; in a user
/// namespace, they run as its root instead of the image's user.
pub struct Container {
    directory: TempDir,
    config: Value,
}

/// Running program of the image. Dropping it kills it.
pub struct RunningContainer(Child);

impl Container {
    /// Makes the image, and unpacks its layers as a runtime does.
    ///
    /// To be called before the test has entered a network of its own: the authorities come from a registry.
    pub fn of(package: &Package) -> Self {
        let executable = fs::read(package.path()).expect("the package");
        // The released executable does without.
        let beside_glibc = (!package.is_released()).then_some("libgcc_s.so.1");
        let libraries: Vec<_> = image::LIBRARIES.into_iter().chain(beside_glibc).collect();
        let image =
            image::archive(Architecture::HERE, &executable, &libraries).unwrap_or_else(|error| panic!("{error:#}"));
        let files = files(&image.content);
        let json = |path: &str| -> Value { serde_json::from_slice(&files[path]).expect("JSON") };
        let manifest = &json("manifest.json")[0];
        let directory = TempDir::new().expect("a temporary directory");
        let container = Self { config: json(manifest["Config"].as_str().unwrap())["config"].clone(), directory };
        let root = container.root();
        for layer in manifest["Layers"].as_array().unwrap() {
            let mut layer = Archive::new(GzDecoder::new(files[layer.as_str().unwrap()].as_slice()));
            layer.set_preserve_permissions(true);
            layer.set_preserve_ownerships(!container.user().is_empty());
            layer.unpack(&root).expect("a layer");
        }
        for mounted in ["proc", "dev"] {
            fs::create_dir(root.join(mounted)).expect("the image has none");
        }
        // Traversed by the image's user.
        fs::set_permissions(container.directory.path(), PermissionsExt::from_mode(0o755)).expect("my directory");
        container
    }

    /// Starts its program in the calling thread's network, with the variables of `deployment`.
    pub fn start(&self, deployment: &Deployment) -> RunningContainer {
        let root = self.root();
        fs::copy(deployment.trusted(), root.join("ca.pem")).expect("my directory");
        for file in ["hosts", "resolv.conf"] {
            fs::copy(Path::new("/etc").join(file), root.join("etc").join(file)).expect("my directory");
        }
        let entry_point = self.config["Entrypoint"][0].as_str().unwrap();
        let mut command = self.command(&[entry_point, "--trust-ca", "/ca.pem"]);
        let log = fs::File::create(self.log()).expect("my directory");
        command.envs(deployment.env()).stdout(log.try_clone().expect("my file")).stderr(log);
        RunningContainer(command.spawn().expect("unshare can be started"))
    }

    /// Runs its health check.
    pub fn health_check(&self) -> Output {
        let words: Vec<_> = self.config["Healthcheck"]["Test"].as_array().unwrap().iter().collect();
        assert_eq!(words[0], "CMD");
        let words: Vec<_> = words[1..].iter().map(|word| word.as_str().unwrap()).collect();
        self.command(&words).output().expect("unshare can be started")
    }

    /// Output of its program.
    pub fn output(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-e", "-c", RUN]).arg(self.root());
        command.arg(self.user()).args(words).env_clear().stdin(Stdio::null());
        for variable in self.config["Env"].as_array().unwrap() {
            let (name, value) = variable.as_str().unwrap().split_once('=').unwrap();
            command.env(name, value);
        }
        command
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The image's user, or nothing where there is no such user.
    fn user(&self) -> &str {
        let user = self.config["User"].as_str().unwrap();
        let id = user.split_once(':').unwrap().0.parse().unwrap();
        let probe = self.directory.path().join("probe");
        fs::write(&probe, "").expect("my directory");
        if chown(&probe, Some(id), Some(id)).is_ok() { user } else { "" }
    }
}

impl Drop for RunningContainer {
    fn drop(&mut self) {
        // The program is the first of its namespace, which ends with it. The kernel forgets whom to kill with `unshare` when
        // the program changes its user.
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        for child in fs::read_to_string(children).unwrap_or_default().split_whitespace() {
            // Fails only if it has ended already.
            let _ = child.parse().map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn files(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = Archive::new(tar);
    let files = archive.entries().expect("an archive").map(|entry| {
        let mut entry = entry.expect("an entry");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("an entry");
        (entry.path().expect("a path").to_string_lossy().into_owned(), content)
    });
    files.collect()
}

/// Arguments: the root, the user, the program and its arguments. Only the state can be written.
const RUN: &str = r#"
PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$0 user=$1
shift
mount --bind "$root" "$root"
mount --bind "$root/state" "$root/state"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
exec env PATH=/usr/local/bin "$(command -v chroot)" ${user:+--userspec="$user"} "$root" "$@"
"#;
