//! `smolvm vm cp`: files between this host and a VM.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::Serialize;
use smolvm::VmId;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;

/// Where something is.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Here(&'a Path),
    InVm(&'a str, &'a Path),
}

#[derive(Serialize)]
struct Copied<'a> {
    id: &'a str,
}

pub(super) fn run(
    session: &Session<'_>,
    source: &OsString,
    destination: &OsString,
) -> Result<Exit, Failure> {
    let id = match (place(source), place(destination)) {
        (Place::Here(from), Place::InVm(id, to)) => {
            session.vms()?.open(id)?.copy_to(from, to)?;
            id
        }
        (Place::InVm(id, from), Place::Here(to)) => {
            session.vms()?.open(id)?.copy_from(from, to)?;
            id
        }
        _ => {
            let message = "one of the two must be in a VM, as ID:path, and one on this host. A path of this host with a colon in it is written with a slash before: ./a:b";
            return Err(Failure::usage(message.to_owned()));
        }
    };
    session.output.json(&Copied { id }, None);
    Ok(Exit::Done)
}

/// `ID:path` is in a VM, as long as what is before the colon could be an id.
fn place(text: &OsStr) -> Place<'_> {
    let bytes = text.as_bytes();
    let in_vm = || {
        let at = bytes.iter().position(|&byte| byte == b':')?;
        let id = std::str::from_utf8(&bytes[..at]).ok()?;
        id.parse::<VmId>().ok()?;
        Some(Place::InVm(id, Path::new(OsStr::from_bytes(&bytes[at + 1..]))))
    };
    in_vm().unwrap_or(Place::Here(Path::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let place = |text: &'static str| super::place(OsStr::new(text));
        assert_eq!(place("my-vm:/etc"), Place::InVm("my-vm", Path::new("/etc")));
        assert_eq!(place("./my-vm:/etc"), Place::Here(Path::new("./my-vm:/etc")));
        assert_eq!(place("/a:b"), Place::Here(Path::new("/a:b")));
        assert_eq!(place("plain"), Place::Here(Path::new("plain")));
    }
}
