//! What came over several connections ahead of the rest is of use to the next run.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use smolvm_image::{
    CancelToken, FetchOptions, ImageError, ImageManager, ImageManagerBuilder, Leaving,
};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Fault, Gate, Route, Server};

use crate::bytes::{Bytes, noise};
use crate::scene::Scene;

const LENGTH: usize = (20 << 20) + 12_345;

/// Bytes that the held answer and the one that takes over half of its part may be short of.
const HELD: u64 = 5 << 19;

/// A run that was broken off when one part in the middle was missing.
struct BrokenOff {
    scene: Scene,
    server: Server,
    content: Bytes,
    pin: Option<String>,
}

impl BrokenOff {
    /// Holds the first answer to a request for a part until all the rest has come.
    fn new(pinned: bool) -> Self {
        let (scene, server, gate) = (Scene::new(), Server::start(), Gate::new());
        let content = noise(1, LENGTH);
        let pin = pinned.then(|| sha256_hex(&content));
        let slow = Fault::Throttle { bytes_per_second: 12_000_000 };
        let route = Route::new(content.clone()).etag("\"v1\"");
        server.route("/kernel", route.fault(slow).fault_on(1, Fault::HoldAt(1, gate)));
        let this = Self { scene, server, content, pin };
        let (manager, cancel) = (this.builder().build().unwrap(), CancelToken::new());
        let options = this.scene.options().cancel(&cancel);
        std::thread::scope(|scope| {
            let running = scope.spawn(|| this.scene.ensure_with(&manager, &options));
            let patience = Instant::now() + Duration::from_mins(1);
            while this.recorded() + HELD < LENGTH as u64 {
                assert!(Instant::now() < patience && !running.is_finished(), "it does not get on");
                std::thread::sleep(Duration::from_millis(5));
            }
            cancel.cancel();
            let result = running.join().unwrap();
            assert!(matches!(result, Err(ImageError::Cancelled)), "{result:?}");
        });
        this
    }

    fn builder(&self) -> ImageManagerBuilder {
        self.scene.builder(&self.server.url("/kernel"), self.pin.as_deref())
    }

    fn left(&self, extension: &str) -> Option<PathBuf> {
        let names = self.scene.leavings().into_iter().map(|(name, _)| name);
        let name = names.into_iter().find(|name| name.ends_with(extension))?;
        Some(self.scene.cache().join(".state/partial").join(name))
    }

    /// The bytes that the log tells of: entries of 24 bytes, each with a beginning and an end.
    fn recorded(&self) -> u64 {
        let log = self.left(".log").and_then(|path| fs_err::read(path).ok()).unwrap_or_default();
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        log.chunks_exact(24).map(|entry| number(&entry[8..16]) - number(&entry[..8])).sum()
    }

    /// Runs once more; gives back how many bytes came for it.
    fn go_on(&self) -> u64 {
        self.go_on_with(&self.builder().build().unwrap())
    }

    fn go_on_with(&self, manager: &ImageManager) -> u64 {
        // What the server still writes for the earlier requests is not counted.
        let earlier = self.server.hits("/kernel");
        let kernel = self.scene.ensure(manager).unwrap();
        assert!(kernel == self.content, "the bytes are others");
        assert_eq!(self.scene.leavings(), []);
        self.server.requests_for("/kernel")[earlier..].iter().map(|asked| asked.body_bytes).sum()
    }
}

/// Behaviour 11: the next run asks for what is missing, and for nothing else.
#[test]
fn the_next_run_asks_for_what_is_missing_alone() {
    for pinned in [true, false] {
        let run = BrokenOff::new(pinned);
        let missing = LENGTH as u64 - run.recorded();
        assert!(missing > 0);
        assert_eq!(run.go_on(), missing, "pinned: {pinned}");
    }
}

/// Behaviour 14: what is left of another version is of no use.
#[test]
fn parts_of_another_version_are_not_put_together() {
    let run = BrokenOff::new(false);
    let other = noise(2, LENGTH);
    run.server.route("/kernel", Route::new(other.clone()).etag("\"v2\""));
    let kernel = run.scene.ensure(&run.builder().build().unwrap()).unwrap();
    assert!(kernel == other);
    assert_eq!(run.scene.leavings(), []);
}

/// Without a pin nothing vouches for parts that may have been lost with the power; with one, the
/// pin does.
#[test]
fn after_another_boot_only_a_pin_vouches_for_parts() {
    for pinned in [true, false] {
        let run = BrokenOff::new(pinned);
        let note = run.left(".json").unwrap();
        let text = fs_err::read_to_string(&note).unwrap();
        let boot = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        fs_err::write(&note, text.replace(boot.trim(), "another")).unwrap();
        let came = run.go_on();
        assert_eq!(came >= LENGTH as u64, !pinned, "{came}");
    }
}

/// Behaviour 11: parts that were damaged between two runs cost a second try, never the image.
#[test]
fn damaged_parts_are_found_by_the_pin() {
    let run = BrokenOff::new(true);
    let file = run.left(".parts").unwrap();
    let mut bytes = fs_err::read(&file).unwrap();
    bytes[LENGTH - 100_000] ^= 1;
    fs_err::write(&file, bytes).unwrap();
    assert!(run.go_on() > LENGTH as u64);
}

/// What the log does not tell of is fetched, whatever is in the file.
#[test]
fn a_log_that_is_cut_or_gone_costs_bytes_alone() {
    for (kept, pinned) in [(0, true), (0, false), (200, true), (200, false)] {
        let run = BrokenOff::new(pinned);
        let log = run.left(".log").unwrap();
        let bytes = fs_err::read(&log).unwrap();
        fs_err::write(&log, &bytes[..kept]).unwrap();
        // Where a killed process wrote what it could not note any more.
        let file = run.left(".parts").unwrap();
        let mut bytes = fs_err::read(&file).unwrap();
        let count = bytes.len();
        bytes[count - 50_000..].fill(9);
        fs_err::write(&file, bytes).unwrap();
        assert!(run.go_on() > HELD);
    }
}

/// Behaviour 14: a server that has lost its ranges sends everything.
#[test]
fn a_server_without_ranges_sends_everything_once_more() {
    let run = BrokenOff::new(true);
    let route = Route::new(run.content.clone()).etag("\"v1\"").fault(Fault::IgnoreRange);
    run.server.route("/kernel", route);
    assert_eq!(run.go_on(), LENGTH as u64);
}

/// Behaviour 11: the gaps need no more than one connection at a time.
#[test]
fn one_connection_fills_the_gaps() {
    let run = BrokenOff::new(true);
    let missing = LENGTH as u64 - run.recorded();
    let manager = run.builder().connections(1).build().unwrap();
    assert_eq!(run.go_on_with(&manager), missing);
}

/// Behaviour 36: nobody wants it any more.
#[test]
fn parts_that_nobody_goes_on_with_are_pruned() {
    let run = BrokenOff::new(true);
    let manager = run.builder().build().unwrap();
    let pruned = manager.prune(false, &FetchOptions::new()).unwrap();
    let parts = pruned.items.iter().find(|item| item.what == Leaving::Partial).unwrap();
    assert!(parts.freed_bytes > LENGTH as u64 / 2, "{pruned:?}");
    assert_eq!(run.scene.leavings(), []);
}
