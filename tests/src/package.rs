use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use standalone::log::Log;
use standalone::workerd::Launch;
use tar::Archive;
use xtask::workspace;

/// Packaged executable, `matrixrtc-edge`.
#[derive(Clone, Debug)]
pub struct Package {
    path: PathBuf,
    is_released: bool,
}

/// Running executable. Dropping it kills it.
pub(crate) struct RunningPackage {
    child: Child,
    addr: SocketAddr,
}

impl Package {
    /// Returns the result of `cargo xtask package`, or, with the variable `RELEASED_ARCHIVE`, the executable of that
    /// archive, which `cargo xtask release` has made. Prints which of them it is.
    pub fn made() -> Self {
        static MADE: OnceLock<Package> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let root = workspace::root().expect("the repository");
            let made = match env::var_os("RELEASED_ARCHIVE") {
                Some(archive) => Self::released(&root, &root.join(archive)),
                None => {
                    let path = xtask::package::existing(&root).unwrap_or_else(|error| panic!("{error:#}"));
                    Self { path, is_released: false }
                }
            };
            // Not captured, unlike the output of a test.
            let _ = writeln!(io::stderr(), "tests run the executable {}", made.path.display());
            made
        });
        made.clone()
    }

    /// Unpacks an archive, as its README says.
    fn released(root: &Path, archive: &Path) -> Self {
        let directory = workspace::target_directory(root).expect("the directory of builds").join("released");
        if directory.exists() {
            fs::remove_dir_all(&directory).expect("what was unpacked before");
        }
        let content = File::open(archive).unwrap_or_else(|error| panic!("{}: {error}", archive.display()));
        Archive::new(GzDecoder::new(content)).unpack(&directory).expect("an archive");
        let name = archive.file_name().expect("a file").to_string_lossy();
        let folder = name.strip_suffix(".tar.gz").expect("the name of a released archive");
        Self { path: directory.join(folder).join("matrixrtc-edge"), is_released: true }
    }

    /// Copies it to another path, as in an upgrade.
    pub fn copied_to(&self, path: &Path) -> Self {
        fs::copy(&self.path, path).expect("a copy of the package");
        Self { path: path.to_owned(), ..*self }
    }

    /// Path of the executable.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is of a released archive.
    pub(crate) fn is_released(&self) -> bool {
        self.is_released
    }

    /// Runs it with these arguments and nothing in its environment, until it ends by itself.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        Command::new(&self.path).args(arguments).env_clear().output().expect("the package can be started")
    }

    /// Starts the service by `launch`, and waits until it reports that it listens.
    pub(crate) fn start(&self, launch: &Launch) -> RunningPackage {
        let Log::File(path) = &launch.log else { panic!("a test has its log in a file") };
        let log = File::options().create(true).append(true).open(path).expect("the log");
        let already_there = log.metadata().expect("the log").len();
        let child = self
            .command(launch)
            .stdout(log.try_clone().expect("the log"))
            .stderr(log)
            .spawn()
            .expect("the package can be started");
        let mut running = RunningPackage { child, addr: launch.addr };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read(path).expect("the log");
            let news = String::from_utf8_lossy(&text[usize::try_from(already_there).unwrap()..]).into_owned();
            if let Some((addr, _)) = news.split_once(LISTENING).and_then(|(_, rest)| rest.split_once('"')) {
                running.addr = addr.parse().expect("an address");
                return running;
            }
            let ended = running.try_wait();
            assert!(ended.is_none() && Instant::now() < deadline, "the package doesn't start: {ended:?}\n{news}");
            thread::sleep(POLL);
        }
    }

    /// Builds the command line of an operator, with nothing else in the environment.
    pub(crate) fn command(&self, launch: &Launch) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--addr").arg(launch.addr.to_string()).arg("--state").arg(&launch.state);
        for pem in &launch.trust_ca {
            command.arg("--trust-ca").arg(pem);
        }
        command.env_clear().envs(&launch.env);
        command
    }
}

impl RunningPackage {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is my child")
    }

    /// Sends SIGKILL to the executable alone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    pub(crate) fn terminate(&self) {
        let pid = i32::try_from(self.pid()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it can be signalled");
    }
}

impl Drop for RunningPackage {
    fn drop(&mut self) {
        // Fails only if it has ended already. workerd ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const LISTENING: &str = r#""msg":"listening","url":"http://"#;
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
