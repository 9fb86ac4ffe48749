//! What the cache promises, shown through [`ImageManager`](smolvm_image::ImageManager) with real
//! servers, real files and real other processes. One module for each group of promises.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, also in the functions that tests share"
)]

mod adoption;
mod bench;
mod concurrency;
mod damage;
mod disk_space;
mod hits;
mod holding;
mod in_use;
mod kills;
mod links;
mod log_capture;
mod open;
mod other_process;
mod policy;
mod pruning;
mod registry_changes;
mod removal;
mod reports;
mod sharing;
mod tree;
