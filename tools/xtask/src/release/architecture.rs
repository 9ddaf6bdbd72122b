//! The processors that a release is made for.

use clap::ValueEnum;

/// A processor that workerd is published for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Architecture {
    /// 64-bit of Intel and AMD.
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Architecture {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// This machine's.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// Returns the name that Rust and the kernel have for it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Returns the name that Debian and OCI have for it.
    pub(super) fn oci_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Returns the npm package with workerd for it.
    pub(super) fn workerd(self) -> &'static str {
        match self {
            Self::X86_64 => "@cloudflare/workerd-linux-64",
            Self::Aarch64 => "@cloudflare/workerd-linux-arm64",
        }
    }

    /// Returns Rust's name of the target.
    pub(super) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }
}
