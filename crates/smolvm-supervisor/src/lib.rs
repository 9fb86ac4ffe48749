//! The supervisor: the process beside each virtual machine that ends it when its owner is gone.
//!
//! Its source is the file tree under `src/program`, which needs nothing but `std` and
//! `smolvm-protocol`; a build script compiles it to one static program, and [`PROGRAM`] holds that,
//! so that a library in anybody's process can start it without anything being installed.
//!
//! Whoever starts it speaks [`control`] with it and reads its [`state`]. What a guest may reach is
//! an [`egress::Egress`] on both sides.

#[path = "program/control.rs"]
pub mod control;
#[path = "program/egress.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
pub mod egress;
#[path = "program/hex.rs"]
mod hex;
#[path = "program/jail/plan.rs"]
#[allow(dead_code, reason = "the program uses all of it")]
pub mod jail;
#[path = "program/pool.rs"]
#[allow(dead_code, clippy::disallowed_methods, reason = "the program that shares it has no fs_err")]
pub mod pool;
#[path = "program/setting.rs"]
mod setting;
#[path = "program/state.rs"]
#[allow(clippy::disallowed_methods, reason = "the program that shares it has no fs_err")]
pub mod state;

/// The supervisor as an executable file for this host.
///
/// Its arguments: the directory of the VM's state; the directory of its sockets; `owned`,
/// `detached` or `adopt`; the number of a descriptor that refers to the owner's process (or `-`);
/// and the numbers of descriptors of files for the VMM, which gets them as 10, 11 and so on. Its
/// standard input is the [`control`] socket.
pub static PROGRAM: &[u8] = include_bytes!(env!("SMOLVM_SUPERVISOR_PROGRAM"));
