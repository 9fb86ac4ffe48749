//! Real servers, disks and certificates with composable faults, for the tests of every crate.
//!
//! A test that says "the connection breaks here" starts a [`Server`], gives it a [`Route`] with a
//! [`Fault`], and talks to it over a socket: nothing in here is a mock of the code under test.
//! Everything listens on loopback and ends when its value is dropped.
//!
//! ```
//! use smolvm_testkit::{Fault, Route, Server, content};
//!
//! let server = Server::start();
//! let kernel = content::noise(1, 100_000);
//! server.route(
//!     "/kernel",
//!     Route::new(kernel)
//!         .etag("\"v1\"")
//!         .fault_on(0, Fault::ResetAt(50_000))
//!         .fault_on(1, Fault::IgnoreRange)
//!         .fault_on(1, Fault::Chunked),
//! );
//! assert!(server.url("/kernel").starts_with("http://127.0.0.1:"));
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use this crate, and a test fails by panicking"
)]
#![allow(
    clippy::must_use_candidate,
    reason = "the values are read by tests, which fail by themselves when they forget to look"
)]

mod access_log;
mod authority;
pub mod content;
mod disk;
mod furnished;
mod headers;
mod ledger;
mod listener;
pub mod network;
mod nginx;
mod numbers;
mod proxy;
mod requirement;
mod server;
mod socket;

pub use access_log::LogLine;
pub use authority::Authority;
pub use disk::SmallDisk;
pub use furnished::Furnished;
pub use headers::Headers;
pub use ledger::Request;
pub use nginx::{Nginx, NginxBuilder, require_nginx};
pub use numbers::Numbers;
pub use proxy::{Proxy, ProxyBuilder};
pub use requirement::{REQUIRE_ALL, named_directory, skip, skip_unless_offered};
pub use server::{Fault, Gate, Route, Server};
