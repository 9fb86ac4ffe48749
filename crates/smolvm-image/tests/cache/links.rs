//! Symbolic links that somebody planted in the cache: none is followed, to read or to write.

use std::path::PathBuf;

use smolvm_image::{FetchOptions, ImageError, ImageManager};

use super::bench::{Bench, Part, Pins, Published, assert_nothing_left, manager_of};
use super::tree::{Canary, remove_any};

/// A bench with an image in its cache, and a canary with the bytes of its kernel.
struct Scene {
    bench: Bench,
    image: Published,
    manager: ImageManager,
    canary: Canary,
}

impl Scene {
    fn new(pins: Pins) -> Self {
        let bench = Bench::new();
        let image = bench.publish("hello", 1);
        let manager = bench.manager([image.source(pins)]);
        manager.ensure_image("hello").unwrap();
        let canary = Canary::new(bench.directory(), &image.kernel.bytes);
        Self { bench, image, manager, canary }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.bench.cache().join(".state").join(name)
    }

    fn assert_link_refused(&self, error: &ImageError, path: &std::path::Path) {
        assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        self.canary.assert_untouched();
    }
}

/// Behaviour 40: a link in the place of an image's directory.
#[test]
fn a_link_for_an_image() {
    let scene = Scene::new(Pins::With);
    let path = scene.bench.cache().join("hello");
    // With what the pins ask for behind it: it is the link that is refused.
    for (file, part) in scene.image.parts() {
        fs_err::write(scene.canary.directory.join(file), &part.bytes).unwrap();
    }
    let canary = Canary::new(scene.bench.directory(), &scene.image.kernel.bytes);
    let scene = Scene { canary, ..scene };
    scene.canary.plant_directory_link(&path);

    let manager = &scene.manager;
    assert!(!manager.is_cached("hello"));
    assert!(manager.locate("hello").is_err());
    scene.assert_link_refused(&manager.ensure_image("hello").unwrap_err(), &path);
    scene.assert_link_refused(&manager.verify("hello", &FetchOptions::new()).unwrap_err(), &path);
    scene.assert_link_refused(&manager.inspect("hello").unwrap_err(), &path);
    assert!(manager.cached_names().unwrap().is_empty());
    manager.prune(false, &FetchOptions::new()).unwrap();
    scene.canary.assert_untouched();
}

/// Behaviours 40 and 7: a link in the place of an asset, to a file with the very bytes.
#[test]
fn a_link_for_an_asset() {
    for pins in Pins::BOTH {
        let scene = Scene::new(pins);
        let path = scene.bench.file("hello", "vmlinux.bin");
        scene.canary.plant_file_link(&path);
        assert!(!scene.manager.is_cached("hello"));
        assert!(!scene.manager.verify("hello", &FetchOptions::new()).unwrap().cached);
        scene.canary.assert_untouched();

        scene.manager.ensure_image("hello").unwrap();
        scene.image.assert_in(&scene.bench.cache());
        assert_eq!(scene.bench.server.hits(&scene.image.kernel.path), 2);
        scene.canary.assert_untouched();
    }
}

/// Behaviour 40: links in the place of the record and of its temporary file.
#[test]
fn links_for_the_record() {
    for name in ["image.json", ".image.json.new"] {
        let scene = Scene::new(Pins::Without);
        let path = scene.bench.file("hello", name);
        scene.canary.plant_file_link(&path);
        remove_any(&scene.bench.file("hello", "rootfs.ext4"));
        scene.manager.ensure_image("hello").unwrap();
        scene.image.assert_in(&scene.bench.cache());
        assert!(scene.bench.file("hello", "image.json").symlink_metadata().unwrap().is_file());
        scene.canary.assert_untouched();
    }
}

/// Behaviour 40: links under every name that a transfer uses.
#[test]
fn links_for_partial_files() {
    let key = |part: &Part| format!("sha256-{}", part.digest());
    for suffix in [
        "",
        ".json",
        ".json.new",
        ".link",
        ".0123456789abcdef.part",
        ".0123456789abcdef.json",
        ".0123456789abcdef.parts",
        ".0123456789abcdef.log",
    ] {
        let scene = Scene::new(Pins::With);
        // To a file, and to nothing: what is written through that one would be seen, too.
        let (kernel, rootfs) = (key(&scene.image.kernel), key(&scene.image.rootfs));
        scene.canary.plant_file_link(&scene.state("partial").join(kernel + suffix));
        let dangling = scene.canary.directory.join("new");
        let link = scene.state("partial").join(rootfs + suffix);
        fs_err::os::unix::fs::symlink(dangling, link).unwrap();
        for (file, _) in scene.image.parts() {
            remove_any(&scene.bench.file("hello", file));
        }
        scene.manager.ensure_image("hello").unwrap();
        scene.image.assert_in(&scene.bench.cache());
        assert_nothing_left(&scene.bench.cache());
        scene.canary.assert_untouched();
    }
}

/// Behaviour 40: links in the place of locks. A hit needs no lock; a fetch is refused by name.
#[test]
fn links_for_locks() {
    for lock in ["image-hello".to_owned(), "kernel".to_owned()] {
        let scene = Scene::new(Pins::With);
        let name =
            if lock == "kernel" { format!("sha256-{}", scene.image.kernel.digest()) } else { lock };
        let path = scene.state("locks").join(name);
        scene.canary.plant_file_link(&path);
        scene.manager.ensure_image("hello").unwrap();
        remove_any(&scene.bench.file("hello", "vmlinux.bin"));
        scene.assert_link_refused(&scene.manager.ensure_image("hello").unwrap_err(), &path);
    }
}

/// Behaviour 40: links in the place of the cache's own directories.
#[test]
fn links_for_the_state() {
    for name in ["", "partial", "locks", "version"] {
        let scene = Scene::new(Pins::With);
        let path =
            if name.is_empty() { scene.bench.cache().join(".state") } else { scene.state(name) };
        if name == "version" {
            scene.canary.plant_file_link(&path);
        } else {
            scene.canary.plant_directory_link(&path);
        }
        scene.manager.ensure_image("hello").unwrap();
        remove_any(&scene.bench.file("hello", "vmlinux.bin"));
        scene.assert_link_refused(&scene.manager.ensure_image("hello").unwrap_err(), &path);
        scene.assert_link_refused(
            &scene.manager.prune(false, &FetchOptions::new()).unwrap_err(),
            &path,
        );
        scene.assert_link_refused(
            &scene.manager.remove("hello", &FetchOptions::new()).unwrap_err(),
            &path,
        );
    }
}

/// Behaviour 40: a record that points out of the cache is no way to get at other files.
#[test]
fn a_record_that_points_elsewhere() {
    let scene = Scene::new(Pins::With);
    let forged = scene.bench.file("hello", "image.json");
    let record = fs_err::read_to_string(&forged).unwrap();
    let outside = scene.canary.file.to_string_lossy();
    for name in [&*outside, "../../canary/file", "..", "."] {
        remove_any(&forged);
        fs_err::write(&forged, record.replace("vmlinux.bin", name)).unwrap();
        remove_any(&scene.bench.file("hello", "vmlinux.bin"));
        let other = Published { name: "other".to_owned(), ..scene.image.clone() };
        let manager = scene.bench.manager([other.source(Pins::With)]);
        let asked = scene.bench.server.hits(&scene.image.kernel.path);
        manager.inspect("hello").unwrap();
        manager.ensure_image("other").unwrap();
        assert_eq!(scene.bench.server.hits(&scene.image.kernel.path), asked + 1, "{name}");
        remove_any(&scene.bench.cache().join("other"));
        scene.canary.assert_untouched();
    }
}

/// Behaviour 43: `remove` takes a link away, never what it points to, also deep in an image.
#[test]
fn remove_takes_links_and_not_their_targets() {
    let scene = Scene::new(Pins::With);
    let directory = scene.bench.cache().join("hello");
    scene.canary.plant_directory_link(&directory.join("planted"));
    scene.canary.plant_directory_link(&directory.join("deep/er/planted"));
    scene.canary.plant_file_link(&directory.join("vmlinux.bin"));
    assert!(scene.manager.remove("hello", &FetchOptions::new()).unwrap().existed);
    assert!(directory.symlink_metadata().is_err());
    scene.canary.assert_untouched();

    scene.canary.plant_directory_link(&directory);
    assert!(scene.manager.remove("hello", &FetchOptions::new()).unwrap().existed);
    assert!(directory.symlink_metadata().is_err());
    scene.canary.assert_untouched();
}

/// Behaviour 43: so does `prune`, for unregistered images and for leavings.
#[test]
fn prune_takes_links_and_not_their_targets() {
    let scene = Scene::new(Pins::With);
    let directory = scene.bench.cache().join("hello");
    scene.canary.plant_directory_link(&directory.join("planted"));
    scene.canary.plant_directory_link(&scene.state("partial").join("planted"));
    let key = format!("sha256-{}", scene.image.kernel.digest());
    scene.canary.plant_file_link(&scene.state("partial").join(&key));
    scene.canary.plant_file_link(&scene.state("partial").join(key + ".0.part"));

    let nobody = manager_of(&scene.bench.cache(), []);
    let listed = nobody.prune(true, &FetchOptions::new()).unwrap();
    scene.canary.assert_untouched();
    assert!(directory.exists());
    assert_eq!(nobody.prune(false, &FetchOptions::new()).unwrap(), listed);
    assert!(!directory.exists());
    assert_nothing_left(&scene.bench.cache());
    scene.canary.assert_untouched();
}
