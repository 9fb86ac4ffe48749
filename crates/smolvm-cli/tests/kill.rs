//! The real binary, killed at random moments, against a server that counts what it sent.
//!
//! `SMOLVM_TEST_KILLS` sets the number of kills, `SMOLVM_TEST_SEED` repeats a run.

#![expect(clippy::unwrap_used, reason = "what is around a test may panic as the test may")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use smolvm_testkit::content::{noise, sha256_hex};
use smolvm_testkit::{Fault, Numbers, Route, Server};

const KERNEL: usize = 2 << 20;
const ROOTFS: usize = 24 << 20;

/// Slow enough that most kills hit a transfer, fast enough that a few runs finish one.
const BYTES_PER_SECOND: u64 = 48 << 20;

struct Site {
    server: Server,
    home: tempfile::TempDir,
    /// Path on the server, name in the cache, digest.
    assets: [(&'static str, &'static str, String); 2],
}

impl Site {
    fn new() -> Self {
        let server = Server::start();
        let home = tempfile::tempdir().unwrap();
        let serve = |path, bytes: Vec<u8>| {
            let digest = sha256_hex(&bytes);
            let throttle = Fault::Throttle { bytes_per_second: BYTES_PER_SECOND };
            server.route(path, Route::new(bytes).etag(&format!("\"{digest}\"")).fault(throttle));
            digest
        };
        let assets = [
            ("/kernel", "vmlinux.bin", serve("/kernel", noise(1, KERNEL))),
            ("/rootfs", "rootfs.ext4", serve("/rootfs", noise(2, ROOTFS))),
        ];
        let registry = format!(
            "[images.x]\nkernel_url = \"{}\"\nkernel_sha256 = \"{}\"\nrootfs_url = \"{}\"\nrootfs_sha256 = \"{}\"\n",
            server.url("/kernel"),
            assets[0].2,
            server.url("/rootfs"),
            assets[1].2,
        );
        fs_err::write(home.path().join("registry.toml"), registry).unwrap();
        Self { server, home, assets }
    }

    fn pull(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smolvm"));
        command
            .env_clear()
            .env("HOME", self.home.path())
            .args(["--quiet", "--cache-dir"])
            .arg(self.cache())
            .arg("--registry")
            .arg(self.home.path().join("registry.toml"))
            .args(["image", "pull", "x"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("cache")
    }

    /// Whether the image is there; a file under a final name that is not whole and right fails.
    fn is_whole(&self) -> bool {
        let there = self.assets.iter().filter(|(_, name, digest)| {
            let path = self.cache().join("x").join(name);
            let Ok(bytes) = fs_err::read(&path) else { return false };
            assert_eq!(sha256_hex(&bytes), *digest, "{} holds wrong bytes", path.display());
            true
        });
        there.count() == self.assets.len()
    }

    /// The bytes that a killed transfer of an asset has left on disk.
    fn left_of(&self, digest: &str) -> u64 {
        let files = listing(&self.cache().join(".state/partial"));
        let of_asset = files.iter().filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.contains(digest) && !name.contains(".json")
        });
        of_asset.map(|path| path.metadata().map_or(0, |file| file.len())).sum()
    }
}

fn listing(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// How often to kill.
fn kills() -> u64 {
    std::env::var("SMOLVM_TEST_KILLS").map_or(300, |number| number.parse().unwrap())
}

/// Where the ranges of the requests after the first `answered` begin; 0 for a request for everything.
fn offsets_asked(server: &Server, path: &str, answered: usize) -> Vec<u64> {
    let offset = |request: &smolvm_testkit::Request| {
        let range = request.header("Range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    };
    server.requests_for(path)[answered..]
        .iter()
        .map(|request| offset(request).unwrap_or(0))
        .collect()
}

/// Behaviour 11: killed at any moment, every final name is absent or whole and right; the next
/// run continues from the bytes it has; in the end nothing is left.
#[test]
fn killed_at_random_moments() {
    let (kills, mut numbers) = (kills(), Numbers::of_this_run());
    let site = Site::new();
    let (mut on_disk, mut asked_again, mut finished) = (0, 0, 0);
    for _ in 0..kills {
        let left: Vec<u64> =
            site.assets.iter().map(|(_, _, digest)| site.left_of(digest)).collect();
        let answered: Vec<usize> =
            site.assets.iter().map(|(path, ..)| site.server.requests_for(path).len()).collect();
        let mut run = site.pull().stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(numbers.below(150_000)));
        run.kill().unwrap();
        run.wait().unwrap();
        for (index, (path, ..)) in site.assets.iter().enumerate() {
            if let Some(offset) = offsets_asked(&site.server, path, answered[index]).first() {
                on_disk += left[index];
                asked_again += left[index].saturating_sub(*offset);
            }
        }
        if site.is_whole() {
            finished += 1;
            // The next one goes on from nothing, but for what the killed one may have left.
            fs_err::remove_dir_all(site.cache().join("x")).unwrap();
        }
    }
    println!(
        "{finished} images finished; {on_disk} bytes were there to continue from, {asked_again} of them were asked for again"
    );
    assert!(finished > 0 || kills < 50, "no run came to an end: the test shows too little");
    assert!(on_disk > 0, "no kill hit a transfer: the test shows nothing");
    assert!(asked_again * 10 <= on_disk, "less than 90 % of the bytes were used again");

    let last = site.pull().output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    assert!(site.is_whole());
    assert_eq!(listing(&site.cache().join(".state/partial")), [] as [PathBuf; 0]);
    let names =
        ["image.json", "rootfs.ext4", "vmlinux.bin"].map(|name| site.cache().join("x").join(name));
    assert_eq!(listing(&site.cache().join("x")), names);
}

/// Behaviour 30: 32 processes that ask for the same image transfer each asset once.
#[test]
fn thirty_two_processes() {
    let site = Site::new();
    let runs: Vec<_> =
        (0..32).map(|_| site.pull().stderr(Stdio::piped()).spawn().unwrap()).collect();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(site.is_whole());
    assert_eq!(site.server.bytes_sent_for("/kernel"), KERNEL as u64);
    assert_eq!(site.server.bytes_sent_for("/rootfs"), ROOTFS as u64);
    assert_eq!(listing(&site.cache().join(".state/partial")), [] as [PathBuf; 0]);
}
