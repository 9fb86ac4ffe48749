//! What is measured in Python: the peers that are Python packages, and our own package. Both are
//! called `smolvm`, so each has an environment of its own.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::environment::Environment;
use super::rig::Download;

/// The peers, in the versions that are measured.
const PEERS: &[&str] = &["pooch==1.9.0", "requests==2.32.5", "smolvm==0.0.36"];

/// What our package is built with and needs, in the versions that it is tested with.
const OWN: &[&str] =
    &["--constraint", "python/requirements.txt", "maturin", "pydantic", "typing-extensions"];

/// Fetches the files that its arguments name, as pooch's documentation shows it.
const POOCH: &str = "\
import sys, pooch
pooch.get_logger().setLevel('ERROR')
directory, *rest = sys.argv[1:]
for name, url, digest in zip(rest[0::3], rest[1::3], rest[2::3]):
    pooch.retrieve(url=url, known_hash='sha256:' + digest, fname=name, path=directory)
";

/// Has an image of the two files, as that package's documentation shows it.
const SMOLVM: &str = "\
import sys
from pathlib import Path
from smolvm import ImageManager, ImageSource
directory, _, kernel, kernel_digest, _, rootfs, rootfs_digest = sys.argv[1:]
source = ImageSource(name='bench', kernel_url=kernel, kernel_sha256=kernel_digest,
                     rootfs_url=rootfs, rootfs_sha256=rootfs_digest)
ImageManager(cache_dir=Path(directory), registry={'bench': source}).ensure_image('bench')
";

/// Has an image again and again, and says how long that takes, as `examples/ensure.rs` does.
const ENSURE: &str = "\
import json, statistics, sys, time
from smolvm.images import ImageManager, load_registry
registry, cache, image, calls, policy = sys.argv[1:]
manager = ImageManager(cache_dir=cache, registry=load_registry(registry), verify=policy)
times, cpu = [], time.process_time()
for _ in range(int(calls)):
    started = time.perf_counter()
    manager.ensure_image(image)
    times.append(time.perf_counter() - started)
cpu = (time.process_time() - cpu) / len(times)
print(json.dumps({'calls': len(times), 'median_seconds': statistics.median(times),
                  'cpu_seconds': cpu}))
";

/// A Python with the peers' packages.
#[derive(Debug, Clone)]
pub(crate) struct PeerPython(Environment);

/// A Python with our package, built as it is released.
#[derive(Debug, Clone)]
pub(crate) struct OwnPython(Environment);

impl PeerPython {
    pub(crate) fn ensure() -> Result<Self> {
        Environment::ensure("venv", PEERS).map(Self)
    }

    pub(crate) fn pooch(&self, files: &[Download], directory: &Path) -> Command {
        self.fetch(POOCH, files, directory)
    }

    /// For exactly two files, a kernel and a root file system.
    pub(crate) fn smolvm(&self, files: &[Download], directory: &Path) -> Command {
        self.fetch(SMOLVM, files, directory)
    }

    fn fetch(&self, text: &str, files: &[Download], directory: &Path) -> Command {
        let mut script = self.0.script(text);
        script.arg(directory);
        for file in files {
            script.args([&file.name, &file.url, &file.sha256]);
        }
        script
    }
}

impl OwnPython {
    /// Builds the package anew if `build`.
    pub(crate) fn ensure(build: bool) -> Result<Self> {
        let environment = Environment::ensure("own-venv", OWN)?;
        if build {
            environment.install_own()?;
        }
        Ok(Self(environment))
    }

    /// Has an image so many times.
    pub(crate) fn ensure_image(
        &self,
        registry: &Path,
        cache: &Path,
        image: &str,
        calls: u32,
        policy: &str,
    ) -> Command {
        let mut script = self.0.script(ENSURE);
        script.arg(registry).arg(cache).args([image, &calls.to_string(), policy]);
        script
    }

    /// Runs one line.
    pub(crate) fn line(&self, text: &str) -> Command {
        self.0.script(text)
    }
}
