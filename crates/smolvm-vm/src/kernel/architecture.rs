//! The processors that guests are made for.

use std::env;
use std::fmt;

/// The architecture of a kernel or a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// 64-bit x86, also called amd64.
    X86_64,
    /// 64-bit Arm, also called arm64.
    Aarch64,
}

impl Architecture {
    /// This host's; `None` where it is one that no guest can be made for.
    pub(crate) fn of_host() -> Option<Self> {
        match env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// What Rust, Linux and QEMU call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// The program that runs commands in its guests, where this build has one.
    pub(crate) fn agent(self) -> Option<&'static [u8]> {
        smolvm_agent::program_for(self.name())
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
