//! Copying files into the guest ([`into`]) and out of it ([`out`]), as `cp -r` does.

mod budget;
mod destination;
mod guest_path;
mod into;
mod out;
mod replacement;
mod source;

use std::time::Duration;

pub use budget::CopyLimits;

/// How long the guest may say nothing in the middle of a copy. There is no limit on the whole.
const STALL: Duration = Duration::from_mins(1);
