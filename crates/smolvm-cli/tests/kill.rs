//! The real binary, killed at random moments, against a server that counts what it sent.
//!
//! `SMOLVM_TEST_KILLS` sets the number of kills, `SMOLVM_TEST_SEED` repeats a run.

#![expect(clippy::unwrap_used, reason = "what is around a test may panic as the test may")]

use std::ops::Range;
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
        Self::with(BYTES_PER_SECOND)
    }

    /// Each connection brings so many bytes a second.
    fn with(bytes_per_second: u64) -> Self {
        let server = Server::start();
        let home = tempfile::tempdir().unwrap();
        let serve = |path, bytes: Vec<u8>| {
            let digest = sha256_hex(&bytes);
            let throttle = Fault::Throttle { bytes_per_second };
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

    /// The bytes that a killed transfer of an asset has left on disk to go on from.
    fn left_of(&self, digest: &str) -> Vec<Range<u64>> {
        let files = listing(&self.cache().join(".state/partial"));
        let left = files.iter().flat_map(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let extension = name.rsplit('.').next().unwrap_or_default();
            match extension {
                _ if !name.contains(digest) => Vec::new(),
                "json" | "new" | "parts" => Vec::new(),
                "log" => recorded(&fs_err::read(path).unwrap()),
                _ => std::iter::once(0..path.metadata().unwrap().len()).collect(),
            }
        });
        left.collect()
    }
}

/// The parts that the log of a file tells of: entries of 24 bytes, each with a beginning and an end.
fn recorded(log: &[u8]) -> Vec<Range<u64>> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    log.chunks_exact(24).map(|entry| number(&entry[..8])..number(&entry[8..16])).collect()
}

fn sum(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// The bytes that two lists have in common.
fn common(some: &[Range<u64>], others: &[Range<u64>]) -> u64 {
    let pairs = some.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
    let common =
        pairs.map(|(one, other)| one.end.min(other.end).saturating_sub(one.start.max(other.start)));
    common.sum()
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

/// What the requests after the first `answered` ask for, of so many bytes.
fn asked(server: &Server, path: &str, answered: usize, size: u64) -> Vec<Range<u64>> {
    let range = |request: &smolvm_testkit::Request| {
        let (first, last) = request.header("Range")?.strip_prefix("bytes=")?.split_once('-')?;
        let end = if last.is_empty() { size } else { last.parse::<u64>().ok()? + 1 };
        Some(first.parse().ok()?..end)
    };
    let requests = &server.requests_for(path)[answered..];
    requests.iter().map(|request| range(request).unwrap_or(0..size)).collect()
}

/// Behaviour 11: killed at any moment, every final name is absent or whole and right; the next
/// run continues from the bytes it has; in the end nothing is left.
#[test]
fn killed_at_random_moments() {
    let (kills, mut numbers) = (kills(), Numbers::of_this_run());
    let site = Site::new();
    let (mut on_disk, mut asked_again, mut finished) = (0, 0, 0);
    for _ in 0..kills {
        let left: Vec<_> = site.assets.iter().map(|(_, _, digest)| site.left_of(digest)).collect();
        let answered: Vec<usize> =
            site.assets.iter().map(|(path, ..)| site.server.requests_for(path).len()).collect();
        let mut run = site.pull().stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(numbers.below(150_000)));
        run.kill().unwrap();
        run.wait().unwrap();
        for (index, (path, ..)) in site.assets.iter().enumerate() {
            let length = if index == 0 { KERNEL } else { ROOTFS } as u64;
            let asked = asked(&site.server, path, answered[index], length);
            if !asked.is_empty() {
                on_disk += sum(&left[index]);
                asked_again += common(&asked, &left[index]);
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

/// Behaviour 11: of what came over several connections, the next run fetches what is not on record,
/// and hardly anything is not that has come.
#[test]
fn killed_while_several_connections_bring_one_file() {
    let mut numbers = Numbers::of_this_run();
    let (mut missed, mut continued, mut finished, kills) = (0, 0, 0, kills().div_ceil(25));
    // So slow that more connections are opened, each of which brings little between two looks.
    let site = Site::with(4_000_000);
    let (path, _, digest) = &site.assets[1];
    for _ in 0..kills {
        let (left, answered) = (sum(&site.left_of(digest)), site.server.requests_for(path).len());
        let mut run = site.pull().stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(200_000 + numbers.below(500_000)));
        run.kill().unwrap();
        run.wait().unwrap();
        let came: u64 =
            site.server.requests_for(path)[answered..].iter().map(|asked| asked.body_bytes).sum();
        if site.is_whole() {
            finished += 1;
            assert!(
                left + came <= ROOTFS as u64 + (1 << 20),
                "{left} bytes were there, {came} came"
            );
            fs_err::remove_dir_all(site.cache().join("x")).unwrap();
            continue;
        }
        let now = sum(&site.left_of(digest));
        assert!(now >= left, "{left} bytes were on record, and then {now}");
        continued += u64::from(left > 0);
        missed += (left + came).saturating_sub(now);
    }
    println!("{kills} kills: {continued} went on, {finished} finished, {missed} bytes were lost");
    assert!(continued > 0, "no run went on from another: the test shows nothing");
    assert!(missed <= kills * (1 << 20), "{missed} bytes had come and were not on record");
    let last = site.pull().output().unwrap();
    assert!(last.status.success(), "{}", String::from_utf8_lossy(&last.stderr));
    assert!(site.is_whole());
    assert_eq!(listing(&site.cache().join(".state/partial")), [] as [PathBuf; 0]);
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
    for (path, length) in [("/kernel", KERNEL as u64), ("/rootfs", ROOTFS as u64)] {
        let sent = site.server.bytes_sent_for(path);
        // Where several connections are used, what was under way on one whose rest another has taken
        // over comes twice. A second transfer would be all of it.
        assert!((length..length + length / 4).contains(&sent), "{path}: {sent} of {length}");
    }
    assert_eq!(listing(&site.cache().join(".state/partial")), [] as [PathBuf; 0]);
}
