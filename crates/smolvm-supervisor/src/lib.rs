//! The supervisor: the process beside each virtual machine that ends it when its owner is gone.
//!
//! Its source is the file tree under `src/program`, which needs nothing but `std` and
//! `smolvm-protocol`; a build script compiles it to one static program, and [`PROGRAM`] holds that,
//! so that a library in anybody's process can start it without anything being installed.

/// The supervisor as an executable file for this host.
pub static PROGRAM: &[u8] = include_bytes!(env!("SMOLVM_SUPERVISOR_PROGRAM"));
