//! The real binary against a real server: what it prints, how it ends, what it leaves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cache_dir;
mod errors;
mod exit_codes;
mod fs_verity;
mod help;
mod images;
mod interruption;
mod json;
mod repair;
mod site;
mod snapshots;
mod streams;
mod terminal;
mod vms;
