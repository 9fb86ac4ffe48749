//! `file:` URLs: copied like anything else, and never waited for.

use std::path::Path;
use std::sync::{Once, mpsc};
use std::time::Duration;

use smolvm_image::{ErrorKind, Event, FetchOptions, ImageError, ImageManager, TransferError};
use smolvm_testkit::content::sha256_hex;

use crate::bytes::{Bytes, noise};
use crate::scene::{Scene, failure, received};

/// More than is read at once.
const LARGE: usize = 16 << 20;

/// Begins a copy and cancels it when some bytes were copied; says how many are kept.
fn cancel_copy(scene: &Scene, manager: &ImageManager) -> u64 {
    scene.cancel_when(manager, |event| match event {
        Event::Progress { done: 0, .. } => {
            // So that the next report is due with the next bytes.
            std::thread::sleep(Duration::from_millis(100));
            false
        }
        Event::Progress { .. } => true,
        _ => false,
    });
    let kept = scene.partial_length().unwrap();
    assert!(0 < kept && kept < LARGE as u64, "{kept} bytes were copied");
    kept
}

fn url_of(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// A file is copied, verified and from then on a hit, and nothing happens to the file itself.
#[test]
fn a_file_is_copied_and_verified() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a kernel");
    let kernel = noise(100, 100_000);
    fs_err::write(&path, &kernel).unwrap();
    let url = url_of(&temp.path().join("a%20kernel"));
    for pin in [None, Some(sha256_hex(&kernel))] {
        let scene = Scene::new();
        assert_eq!(scene.fetch(&url, pin.as_deref()).unwrap(), kernel);
        fs_err::rename(&path, temp.path().join("gone")).unwrap();
        assert_eq!(scene.fetch(&url, pin.as_deref()).unwrap(), kernel, "a hit needs no file");
        fs_err::rename(temp.path().join("gone"), &path).unwrap();
    }
    assert_eq!(Bytes::from(fs_err::read(&path).unwrap()), kernel);
}

/// Behaviour 4: wrong bytes of a file are a mismatch.
#[test]
fn wrong_bytes_of_a_file_are_a_mismatch() {
    let (scene, file) = (Scene::new(), tempfile::NamedTempFile::new().unwrap());
    fs_err::write(file.path(), noise(100, 100_000)).unwrap();
    let error = scene.fetch(&url_of(file.path()), Some(&sha256_hex(b"x"))).unwrap_err();
    assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
    scene.assert_nothing_is_left();
}

/// Behaviour 11: a copy ends soon after it was cancelled, and the next run goes on from there if
/// the file is still the same.
#[test]
fn a_cancelled_copy_goes_on_in_the_next_run() {
    let (scene, file) = (Scene::new(), tempfile::NamedTempFile::new().unwrap());
    let kernel = noise(101, LARGE);
    fs_err::write(file.path(), &kernel).unwrap();
    let url = url_of(file.path());
    let manager = scene.builder(&url, None).build().unwrap();
    let kept = cancel_copy(&scene, &manager);
    scene.events();
    assert_eq!(scene.ensure(&manager).unwrap(), kernel);
    assert_eq!(received(&scene.events()), Some(LARGE as u64 - kept));
}

/// Behaviour 14: a file that was replaced between two runs is copied anew.
#[test]
fn a_file_that_was_replaced_is_copied_anew() {
    let (scene, file) = (Scene::new(), tempfile::NamedTempFile::new().unwrap());
    fs_err::write(file.path(), noise(101, LARGE)).unwrap();
    let url = url_of(file.path());
    let manager = scene.builder(&url, None).build().unwrap();
    cancel_copy(&scene, &manager);
    let new = noise(102, LARGE);
    fs_err::write(file.path(), &new).unwrap();
    assert_eq!(scene.ensure(&manager).unwrap(), new);
    assert_eq!(scene.leavings(), []);
}

/// Behaviour 14: a file that changes while it is copied is copied anew.
#[test]
fn a_file_that_changes_while_it_is_copied_is_copied_anew() {
    for new in [noise(102, 100_000), noise(102, 99_999), noise(102, 100_001)] {
        let (scene, file) = (Scene::new(), tempfile::NamedTempFile::new().unwrap());
        fs_err::write(file.path(), noise(101, 100_000)).unwrap();
        let manager = scene.builder(&url_of(file.path()), None).build().unwrap();
        let (path, content, once) = (file.path().to_owned(), new.clone(), Once::new());
        let options = scene.options().on_event(move |_, event| {
            if matches!(event, Event::Progress { done: 0, .. }) {
                once.call_once(|| fs_err::write(&path, &content).unwrap());
            }
        });
        assert_eq!(scene.ensure_with(&manager, &options).unwrap(), new);
        assert_eq!(scene.leavings(), []);
    }
}

/// A file that is missing, no file, or may not exist is a clear error that is not tried again; it
/// is no failure of the network.
#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let fifo = temp.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for path in [temp.path().join("missing"), temp.path().to_owned(), fifo, "/dev/zero".into()] {
        let (told, outcome) = mpsc::channel();
        let url = url_of(&path);
        std::thread::spawn(move || {
            let scene = Scene::new();
            let result = scene.fetch(&url, None);
            scene.assert_nothing_is_left();
            told.send(result)
        });
        // A FIFO that is opened in the plain way waits for a writer without end.
        let result = outcome.recv_timeout(Duration::from_mins(1)).expect("it hangs");
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cache, "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        let (attempts, error) = failure(Err(error));
        assert!(matches!(error, TransferError::File { .. }), "{error}");
        assert_eq!(attempts, 1);
    }
}

/// Behaviour 29: an empty file is no image.
#[test]
fn an_empty_file_is_no_image() {
    let (scene, file) = (Scene::new(), tempfile::NamedTempFile::new().unwrap());
    let error = scene.fetch(&url_of(file.path()), None).unwrap_err();
    assert!(matches!(error, ImageError::NotAnImage { .. }), "{error}");
    scene.assert_nothing_is_left();
}

/// A refresh copies a file that has changed, and only then.
#[test]
fn a_refresh_copies_a_file_that_has_changed() {
    let (scene, file) = (Scene::new(), tempfile::NamedTempFile::new().unwrap());
    let (old, new) = (noise(100, 100_000), noise(101, 100_001));
    fs_err::write(file.path(), &old).unwrap();
    let manager = scene.builder(&url_of(file.path()), None).build().unwrap();
    scene.ensure(&manager).unwrap();
    scene.events();
    assert_eq!(scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap(), old);
    assert_eq!(received(&scene.events()), None);
    fs_err::write(file.path(), &new).unwrap();
    assert_eq!(scene.ensure(&manager).unwrap(), old, "without a refresh it is a hit");
    assert_eq!(scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap(), new);
}

/// Behaviour 14: a file that is written to while it is copied is never a mix of both versions. The
/// first version is cut short by the change, the next attempt has the second one.
#[test]
fn a_file_that_changes_while_it_is_copied() {
    let (scene, file) = (Scene::new(), tempfile::NamedTempFile::new().unwrap());
    let (before, after) = (noise(7, LARGE), noise(8, LARGE));
    fs_err::write(file.path(), &before).unwrap();
    let manager = scene.builder(&url_of(file.path()), None).build().unwrap();
    let (path, bytes, once) = (file.path().to_owned(), after.clone(), Once::new());
    let options = FetchOptions::new().on_event(move |_, event| {
        if matches!(event, Event::Progress { done: 1.., .. }) {
            // In place: the file that is being read gets other bytes.
            once.call_once(|| fs_err::write(&path, &bytes).unwrap());
        } else if matches!(event, Event::Progress { .. }) {
            // So that the next report is due with the next bytes.
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let image = manager.ensure_image_with(&manager.list_available()[0], &options).unwrap();
    assert_eq!(Bytes::from(fs_err::read(image.kernel_path).unwrap()), after);
}
