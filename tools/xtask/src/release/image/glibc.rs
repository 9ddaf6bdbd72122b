//! glibc on the machine that makes an image: its own, or that of its package for cross-compilers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Architecture;

/// glibc for a processor.
pub(super) struct Glibc {
    pub(super) architecture: Architecture,
}

impl Glibc {
    /// Returns the name of the program that loads others.
    pub(super) fn loader(&self) -> &'static str {
        match self.architecture {
            Architecture::X86_64 => "ld-linux-x86-64.so.2",
            Architecture::Aarch64 => "ld-linux-aarch64.so.1",
        }
    }

    /// Returns the path of a library here, and its path in the image.
    ///
    /// # Errors
    ///
    /// It isn't installed.
    pub(super) fn library(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        let multiarch = format!("{}-linux-gnu", self.architecture.name());
        if self.architecture == Architecture::HERE {
            let dirs =
                [Path::new("/lib64"), &Path::new("/lib").join(&multiarch), Path::new("/usr/lib64"), Path::new("/lib")];
            let mut paths = dirs.iter().map(|dir| dir.join(name));
            let path = paths.find(|path| path.exists()).with_context(|| format!("this machine has no {name}"))?;
            return Ok((path.clone(), path));
        }
        let from = Path::new("/usr").join(&multiarch).join("lib").join(name);
        if !from.exists() {
            bail!("{} is missing: install Debian's package {}", from.display(), self.package());
        }
        let dir = match (name == self.loader(), self.architecture) {
            (true, Architecture::X86_64) => PathBuf::from("/lib64"),
            (true, Architecture::Aarch64) => PathBuf::from("/lib"),
            (false, _) => Path::new("/lib").join(multiarch),
        };
        Ok((from, dir.join(name)))
    }

    /// Returns the path of its licence here.
    pub(super) fn licence(&self) -> PathBuf {
        Path::new("/usr/share/doc").join(self.package()).join("copyright")
    }

    /// Returns the name of its package, in Debian and Ubuntu.
    fn package(&self) -> String {
        match self.architecture {
            Architecture::HERE => String::from("libc6"),
            other => format!("libc6-{}-cross", other.oci_name()),
        }
    }
}
