//! Sessions with agents of the tests' own, behind real sockets: most of them hostile.

mod broken_replies;
mod cancelled;
mod flood;
mod guest;
mod handshakes;
mod hostile_copies;
mod ports;
mod processes;
mod seeds;
mod silence;
