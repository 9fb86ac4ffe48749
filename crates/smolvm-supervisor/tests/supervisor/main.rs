//! The supervisor as its library, a VMM, a guest and clients see it: real processes, sockets and
//! signals.

mod client;
mod clients;
mod directories;
mod guest;
mod hostile;
mod launch;
mod ownership;
mod rig;
