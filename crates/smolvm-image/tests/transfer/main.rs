//! What `ensure_image` makes of real servers that misbehave: whatever they do, the bytes under a
//! final name are the right ones or there are none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, in the functions that it calls as well"
)]

mod bytes;
mod child;
mod connections;
mod content;
mod digests;
mod encodings;
mod environment;
mod fault_compositions;
mod files;
mod lengths;
mod limits;
mod nginx;
mod offline;
mod parts;
mod progress;
mod ranges;
mod redirects;
mod refresh;
mod resume;
mod retries;
mod scene;
mod squid;
mod stale_caches;
mod tls;
