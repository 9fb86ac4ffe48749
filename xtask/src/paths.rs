//! Where things are in the work tree.

use std::path::{Path, PathBuf};

/// The root of the work tree that this program was built from.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// Images that are made here; kept between runs.
pub(crate) fn images() -> PathBuf {
    root().join("target/images")
}

/// Cargo tools that are not installed on the machine.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// The quickstart's cache, registry and logs; made anew by each run.
pub(crate) fn quickstart() -> PathBuf {
    root().join("target/quickstart")
}

/// The benchmark's files, peers and results; kept between runs.
pub(crate) fn bench() -> PathBuf {
    root().join("target/bench")
}
