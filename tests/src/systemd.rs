use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use xtask::workspace;

use crate::Package;

/// Unit of the package, under a systemd of its own, which is process 1 of a namespace and runs no other unit, in the
/// network of the calling thread.
pub struct Systemd {
    namespace: Child,
    directory: TempDir,
}

impl Systemd {
    /// Reason for which systemd can't run here, if there is one.
    pub fn unavailable() -> Option<String> {
        if !Path::new(SYSTEMD).exists() {
            return Some(format!("there is no {SYSTEMD}"));
        }
        // In a user namespace there are no users for DynamicUser=.
        let users = fs::read_to_string("/proc/self/uid_map").expect("my users");
        (!users.contains("4294967295")).then(|| String::from("it takes root"))
    }

    /// Unit file of the repository.
    pub fn unit() -> PathBuf {
        workspace::root().expect("the repository").join("tools/standalone").join(UNIT)
    }

    /// Boots with the unit, the package at the unit's path, `environment` for its `EnvironmentFile=`, and certificates
    /// to trust.
    ///
    /// Only their paths are set beside the unit: its restrictions stay as they are.
    pub fn boot(package: &Package, environment: &str, trusted: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let (units, programs) = (path("units"), path("bin"));
        fs::create_dir_all(units.join(format!("{UNIT}.d"))).expect("a directory");
        fs::create_dir(&programs).expect("a directory");
        fs::copy(Self::unit(), units.join(UNIT)).expect("the unit");
        package.copied_to(&programs.join("matrixrtc-edge"));
        fs::copy(trusted, programs.join("trusted.pem")).expect("certificates");
        fs::write(path("environment"), environment).expect("a file");
        let drop_in = format!(
            "[Service]\nEnvironmentFile=\nEnvironmentFile={}\nExecStart=\nExecStart=/usr/local/bin/matrixrtc-edge --trust-ca /usr/local/bin/trusted.pem\nStandardOutput=append:{}\nStandardError=inherit\n",
            path("environment").display(),
            path("log").display(),
        );
        fs::write(units.join(format!("{UNIT}.d/test.conf")), drop_in).expect("a file");
        for target in ["sysinit", "basic", "shutdown", "network-online"] {
            fs::write(units.join(format!("{target}.target")), "[Unit]\nDefaultDependencies=no\n").expect("a file");
        }
        fs::write(path("console"), "").expect("a file");
        let namespace = Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount", "--cgroup", "--ipc", "--uts", "sh", "-e", "-c", BOOT])
            .args([SYSTEMD, UNIT])
            .current_dir(directory.path())
            .env("SYSTEMD_UNIT_PATH", &units)
            // No unit of this machine is started.
            .env("SYSTEMD_GENERATOR_PATH", path("none"))
            .env("SYSTEMD_ENVIRONMENT_GENERATOR_PATH", path("none"))
            .env("container", "namespace")
            .stdin(Stdio::null())
            .spawn()
            .expect("the program `unshare` (package util-linux)");
        Self { namespace, directory }
    }

    /// Output of `systemctl`.
    pub fn systemctl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        let Some(process_1) = self.process_1() else { panic!("systemd hasn't been started: {}", self.console()) };
        Command::new("nsenter")
            .args(["--target", &process_1, "--mount", "--pid", "systemctl", "--no-ask-password"])
            .args(arguments)
            .output()
            .expect("the program `nsenter` (package util-linux)")
    }

    /// Returns a property of the unit.
    pub fn property(&self, name: &str) -> String {
        let outcome = self.systemctl(["show", "--value", "--property", name, UNIT]);
        String::from_utf8_lossy(&outcome.stdout).trim().to_owned()
    }

    /// Waits until a property of the unit has this value.
    pub async fn has(&self, property: &str, value: &str) {
        let poll = async {
            while self.process_1().is_none() || self.property(property) != value {
                sleep(POLL).await;
            }
        };
        let in_time = timeout(PATIENCE, poll).await.is_ok();
        assert!(in_time, "{property} isn't {value} but {}: {}", self.property(property), self.console());
    }

    /// Returns a line of `/proc/…/status` of each process of the unit, whose names begin with `matrixrtc-edge` and
    /// `workerd`.
    pub fn status_of_processes(&self, field: &str) -> Vec<String> {
        let processes = self.processes();
        let status = |pid: &String| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let value = |status: String| status.lines().find_map(|line| Some(line.strip_prefix(field)?.trim().to_owned()));
        processes.iter().map(status).filter_map(value).collect()
    }

    /// Returns the process ids of the unit, on this machine.
    pub fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut parents: Vec<String> = self.process_1().into_iter().collect();
        while let Some(parent) = parents.pop() {
            let children = children(&parent);
            found.extend(children.clone());
            parents.extend(children);
        }
        found
    }

    fn process_1(&self) -> Option<String> {
        children(&self.namespace.id().to_string()).pop()
    }

    /// Output of systemd and the service.
    fn console(&self) -> String {
        let read = |name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        read("console") + &read("log")
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {}\n{}", self.property("ActiveState"), self.property("NRestarts"), self.console());
        }
        // With it, process 1 is killed, and with that one everything in the namespace.
        let _ = self.namespace.kill();
        let _ = self.namespace.wait();
    }
}

fn children(pid: &str) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(str::to_owned).collect()
}

const UNIT: &str = "matrixrtc-edge.service";
const SYSTEMD: &str = "/lib/systemd/systemd";
/// Directories that systemd writes to end with the namespace; the kernel's settings stay out of its reach.
const BOOT: &str = r#"
mount --make-rprivate /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
if mountpoint -q /sys/fs/cgroup; then umount -R /sys/fs/cgroup; fi
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind bin /usr/local/bin
mount --bind console /dev/console
exec "$0" --system --unit="$1" --log-target=console --show-status=0
"#;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
