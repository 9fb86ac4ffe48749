//! Finding the programs of e2fsprogs.

use std::path::PathBuf;

/// The program of this name. Debian keeps those where the search path of ordinary users does not
/// lead.
pub(super) fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    directories
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| name.into())
}
