//! Copying files into the guest ([`put`]) and out of it ([`get`]).

mod directory;
pub(super) mod get;
pub(super) mod put;
