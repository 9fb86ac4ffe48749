//! Offline mode: the network is never used, and a miss says so.

use smolvm_image::{AssetKind, ErrorKind, ImageError};
use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Route, Server};

use crate::bytes::noise;
use crate::scene::{IMAGE, Scene};

/// Behaviour 24: a miss is an immediate error that says that the network is off, what is missing
/// and where it belongs.
#[test]
fn a_miss_says_what_is_missing() {
    let (scene, server) = (Scene::new(), Server::start());
    server.route("/kernel", Route::new(noise(120, 1000)));
    let manager = scene.builder(&server.url("/kernel"), None).offline(true).build().unwrap();
    for options in [scene.options(), scene.options().refresh(true)] {
        let error = scene.ensure_with(&manager, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network);
        let ImageError::Offline { image, missing, directory } = &error else { panic!("{error}") };
        assert_eq!((image.as_str(), missing.as_slice()), (IMAGE, &[AssetKind::Kernel][..]));
        assert_eq!(*directory, scene.cache().join(IMAGE));
        let message = error.to_string();
        assert!(message.contains("offline") && message.contains("kernel"), "{message}");
    }
    assert!(server.requests().is_empty());
    scene.assert_nothing_is_left();
}

/// Behaviours 5 and 24: a hit is a hit, refresh or not; damage is a miss.
#[test]
fn a_hit_needs_no_network_and_damage_is_a_miss() {
    let (scene, server) = (Scene::new(), Server::start());
    let kernel = noise(120, 100_000);
    server.route("/kernel", Route::new(kernel.clone()));
    let url = server.url("/kernel");
    for pin in [None, Some(sha256_hex(&kernel))] {
        scene.fetch(&url, pin.as_deref()).unwrap();
        let asked = server.requests().len();
        let manager = scene.builder(&url, pin.as_deref()).offline(true).build().unwrap();
        assert_eq!(scene.ensure(&manager).unwrap(), kernel);
        assert_eq!(scene.ensure_with(&manager, &scene.options().refresh(true)).unwrap(), kernel);

        let mut damaged = kernel.clone();
        damaged[0] ^= 1;
        fs_err::remove_file(scene.kernel_path()).unwrap();
        fs_err::write(scene.kernel_path(), damaged).unwrap();
        let error = scene.ensure(&manager).unwrap_err();
        assert!(matches!(error, ImageError::Offline { .. }), "{error}");
        assert_eq!(server.requests().len(), asked);
    }
}
