//! The supervisor as its library, a VMM, a guest and clients see it: real processes, sockets and
//! signals.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod bridge;
mod client;
mod clients;
mod directories;
mod guest;
mod hostile;
mod jail;
mod launch;
mod ownership;
mod rig;
mod succession;
mod vsock;
