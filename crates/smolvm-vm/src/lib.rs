//! Boot cached images in microVMs and run commands in them.

#![allow(dead_code, reason = "removed as soon as the parts are joined")]

mod accel;
mod backend;
mod disk;
mod initrd;
mod kernel;
mod network;
pub mod session;
