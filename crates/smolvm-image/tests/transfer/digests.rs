//! Pins: what is compared, what is refused, what is said.

use smolvm_image::{ErrorKind, ImageError, ImageSource, SourceError};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Route, Server};

use crate::bytes::noise;
use crate::scene::{IMAGE, Scene};

/// Behaviour 1: every spelling of a digest verifies, and is a hit afterwards without a request.
#[test]
fn a_pin_in_any_spelling_verifies_and_is_not_fetched_again() {
    let kernel = noise(1, 50_000);
    let hex = sha256_hex(&kernel);
    for pin in [
        hex.to_uppercase(),
        format!("sha256:{hex}"),
        format!("SHA256:{}", hex.to_uppercase()),
        format!("  {hex}\n"),
    ] {
        let (scene, server) = (Scene::new(), Server::start());
        server.route("/kernel", Route::new(kernel.clone()));
        let url = server.url("/kernel");
        assert_eq!(scene.fetch(&url, Some(&pin)).unwrap(), kernel, "{pin:?}");
        assert_eq!(server.hits("/kernel"), 1);
        assert_eq!(scene.fetch(&url, Some(&pin)).unwrap(), kernel, "{pin:?}");
        // The same digest in another spelling is the same pin.
        assert_eq!(scene.fetch(&url, Some(&hex)).unwrap(), kernel, "{pin:?}");
        assert_eq!(server.requests().len(), 1, "{pin:?}");
    }
}

/// Behaviour 2: a pin that is blank or malformed is refused when the image is defined; there is
/// no image that could be fetched without it.
#[test]
fn a_malformed_pin_is_never_read_as_none() {
    let hex = sha256_hex(b"x");
    let server = Server::start();
    for pin in ["", "   ", "\n", "sha256:", &hex[1..], &format!("{hex}0"), &hex.replace('a', "g")] {
        let built = ImageSource::builder(IMAGE)
            .kernel(&server.url("/kernel"), Some(pin))
            .rootfs(&server.url("/rootfs"), None)
            .build();
        match built {
            Err(SourceError::Digest { field, .. }) => assert_eq!(field, "kernel_sha256"),
            other => panic!("{pin:?}: {other:?}"),
        }
    }
    assert!(server.requests().is_empty());
}

/// Behaviour 3: without a pin the digest that was seen is recorded, and damage that comes later
/// is found by it.
#[test]
fn without_a_pin_later_damage_is_found() {
    let (scene, server) = (Scene::new(), Server::start());
    let kernel = noise(2, 50_000);
    server.route("/kernel", Route::new(kernel.clone()));
    let manager = scene.builder(&server.url("/kernel"), None).build().unwrap();
    assert_eq!(scene.ensure(&manager).unwrap(), kernel);
    let report = manager.inspect(IMAGE).unwrap();
    let recorded = report.assets.iter().find_map(|asset| asset.digest).unwrap();
    assert_eq!(recorded.to_string(), sha256_hex(&kernel));

    assert_eq!(scene.ensure(&manager).unwrap(), kernel);
    assert_eq!(server.hits("/kernel"), 1);

    let mut damaged = kernel.clone();
    damaged[25_000] ^= 1;
    fs_err::remove_file(scene.kernel_path()).unwrap();
    fs_err::write(scene.kernel_path(), damaged).unwrap();
    assert_eq!(scene.ensure(&manager).unwrap(), kernel);
    assert_eq!(server.hits("/kernel"), 2);
}

/// Behaviour 4: a mismatch names the URL and both digests, and leaves nothing.
#[test]
fn a_mismatch_names_everything_and_leaves_nothing() {
    let (scene, server) = (Scene::new(), Server::start());
    let (found, wanted) = (noise(3, 50_000), noise(4, 50_000));
    server.route("/kernel", Route::new(found.clone()));
    let url = server.url("/kernel");
    let error = scene.fetch(&url, Some(&sha256_hex(&wanted))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification);
    let ImageError::Mismatch { expected, actual, .. } = &error else { panic!("{error}") };
    assert_eq!(expected.to_string(), sha256_hex(&wanted));
    assert_eq!(actual.to_string(), sha256_hex(&found));
    let message = error.to_string();
    for part in [url.as_str(), IMAGE, &sha256_hex(&wanted), &sha256_hex(&found)] {
        assert!(message.contains(part), "{message}");
    }
    scene.assert_nothing_is_left();
}

/// Behaviour 4: what was cached under an earlier pin stays when the bytes of a later one are
/// wrong.
#[test]
fn a_mismatch_leaves_the_earlier_version() {
    let (scene, server) = (Scene::new(), Server::start());
    let (old, new) = (noise(5, 50_000), noise(6, 50_000));
    server.route("/kernel", Route::new(old.clone()));
    let url = server.url("/kernel");
    scene.fetch(&url, Some(&sha256_hex(&old))).unwrap();
    let error = scene.fetch(&url, Some(&sha256_hex(&new))).unwrap_err();
    assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
    assert_eq!(scene.kernel(), Some(old));
    assert_eq!(scene.leavings(), []);
}
