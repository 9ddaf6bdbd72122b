use std::env;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use tar::Archive;
use tempfile::TempDir;
use xtask::build::Build;
use xtask::{release, workspace};

/// Unpacked archive of the worker, as `cargo xtask release` makes it of the existing build, with its npm packages.
pub struct ReleasedWorker {
    directory: TempDir,
    folder: PathBuf,
}

impl ReleasedWorker {
    /// Unpacks it into an empty directory, and installs its npm packages from the registry or npm's cache.
    ///
    /// To be called before the test has entered a network of its own.
    pub fn installed() -> Self {
        let root = workspace::root().expect("the repository");
        let build = Build::existing(&root).unwrap_or_else(|error| panic!("{error:#}"));
        let archive = release::worker::archive(&root, &build).unwrap_or_else(|error| panic!("{error:#}"));
        let directory = TempDir::new().expect("a temporary directory");
        Archive::new(GzDecoder::new(archive.content.as_slice())).unpack(&directory).expect("a tar archive");
        let folder = directory.path().join(archive.name.trim_end_matches(".tar.gz"));
        let programs = directory.path().join("programs");
        std::fs::create_dir(&programs).expect("my directory");
        let node = root.join("node_modules/node/bin/node");
        for (name, program) in [("node", node), ("npm", found("npm")), ("sh", found("sh"))] {
            symlink(program, programs.join(name)).expect("my directory");
        }
        let worker = Self { directory, folder };
        let installed = worker.run(["ci", "--prefer-offline", "--no-audit", "--no-fund"]);
        assert!(installed.status.success(), "{installed:?}");
        worker
    }

    /// Folder that the archive holds.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs npm in the folder.
    pub fn run<const N: usize>(&self, arguments: [&str; N]) -> Output {
        self.npm().args(arguments).output().expect("npm can be started")
    }

    /// npm in the folder, with the pinned Node, itself and a shell in its `PATH`.
    pub(crate) fn npm(&self) -> Command {
        let mut command = Command::new(self.directory.path().join("programs/npm"));
        command
            .current_dir(&self.folder)
            .env("PATH", self.directory.path().join("programs"))
            .env("WRANGLER_SEND_METRICS", "false");
        command
    }
}

/// Path of a program, as the shell finds it.
fn found(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut paths = env::split_paths(&path).map(|dir| dir.join(name));
    paths.find(|path| path.exists()).unwrap_or_else(|| panic!("there is no {name}"))
}
