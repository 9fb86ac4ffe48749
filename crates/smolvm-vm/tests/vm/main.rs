//! Virtual machines that really boot, under whatever this host has, with real images.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod alpine;
mod arm64;
#[path = "../outer/backend.rs"]
mod backend;
mod boots;
mod commands;
mod disks;
mod egress;
mod failures;
mod files;
mod firecracker;
mod images;
mod in_use;
mod kernels;
mod lifecycle;
mod networks;
#[path = "../outer/mod.rs"]
mod outer;
mod owner;
mod privileges;
mod remains;
mod snapshots;
