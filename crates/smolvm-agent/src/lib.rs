//! The agent: the program inside the guest that runs commands for the host.
//!
//! Its source is the file tree under `src/guest`, which needs nothing but `std` and
//! `smolvm-protocol`; a build script compiles it to one static program, and [`PROGRAM`] holds that.

/// The agent as an executable file for the guest.
pub static PROGRAM: &[u8] = include_bytes!(env!("SMOLVM_AGENT_PROGRAM"));
