//! The agent: the program inside the guest that runs commands for the host.
//!
//! Its source is the file tree under `src/guest`, which needs nothing but `std` and
//! `smolvm-protocol`; a build script compiles it to one static program, and [`PROGRAM`] holds that.
//! Where the standard library for it is installed, there is one for guests of the other
//! architecture, too ([`program_for`]).

/// The agent as an executable file for a guest of this host's architecture.
pub static PROGRAM: &[u8] = include_bytes!(env!("SMOLVM_AGENT_PROGRAM"));

/// The same for others; empty where there is none.
static FOREIGN: &[(&str, &[u8])] = &[
    ("x86_64", include_bytes!(env!("SMOLVM_AGENT_X86_64_PROGRAM"))),
    ("aarch64", include_bytes!(env!("SMOLVM_AGENT_AARCH64_PROGRAM"))),
];

/// The agent for guests of `architecture`, as [`std::env::consts::ARCH`] names it; `None` where
/// this build has none: the standard library for `<architecture>-unknown-linux-musl` was not
/// installed.
///
/// ```
/// assert!(smolvm_agent::program_for(std::env::consts::ARCH).is_some());
/// assert!(smolvm_agent::program_for("pdp11").is_none());
/// ```
#[must_use]
pub fn program_for(architecture: &str) -> Option<&'static [u8]> {
    if architecture == std::env::consts::ARCH {
        return Some(PROGRAM);
    }
    let (_, program) = FOREIGN.iter().find(|(name, _)| *name == architecture)?;
    (!program.is_empty()).then_some(*program)
}
