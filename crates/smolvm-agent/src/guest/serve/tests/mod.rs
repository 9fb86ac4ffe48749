//! The serving side as a host sees it: each test talks to an agent in a process of its own, on this
//! machine.

mod commands;
mod confinement;
mod connections;
mod copies;
mod host;
mod hostile;
mod streams;
mod succession;
mod terminals;
