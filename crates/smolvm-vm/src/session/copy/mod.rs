//! Copying files into the guest ([`into`]) and out of it ([`out`]).

mod destination;
mod into;
mod out;

use std::path::Path;
use std::time::Duration;

use super::error::SessionError;

/// How long the guest may say nothing in the middle of a copy. There is no limit on the whole.
const STALL: Duration = Duration::from_secs(30);

/// The bytes of a path in the guest, checked as far as the host can.
fn guest_path(path: &Path) -> Result<Vec<u8>, SessionError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    let refused = |reason| SessionError::InvalidGuestPath { path: path.to_owned(), reason };
    if bytes.is_empty() {
        return Err(refused("it is empty"));
    }
    if bytes.contains(&0) {
        return Err(refused("it contains a NUL"));
    }
    if bytes.len() > smolvm_protocol::EntryPath::MAX {
        return Err(refused("it is longer than any path"));
    }
    Ok(bytes.to_vec())
}
