//! A test suite with a VM for each test: that of a backup script, which is run as root and may
//! break whatever it likes.
//!
//! In a crate of your own this is a file under `tests/`, with `smolvm` among the
//! `dev-dependencies`:
//!
//! ```console
//! cargo test --test test_fixture
//! ```

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::path::Path;
use std::sync::LazyLock;

use smolvm::{ImageManager, ImageSource, LocalImage, NetworkMode, Registry, Vm, VmConfig};

/// The image of all tests: fetched and verified by the first.
static IMAGE: LazyLock<LocalImage> = LazyLock::new(|| {
    let (registry, name) = match env::var_os("SMOLVM_TEST_IMAGES") {
        // This project's own tests have no network.
        Some(images) => (Registry::from_iter([tiny(Path::new(&images))]), "tiny"),
        None => (Registry::layered(&[]).unwrap(), "hello"),
    };
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("images");
    let manager = ImageManager::builder().registry(registry).cache_dir(cache).build().unwrap();
    manager.ensure_image(name).unwrap()
});

/// An image of files that are there.
fn tiny(images: &Path) -> ImageSource {
    let url = |file: &str| format!("file://{}/debian-tiny/{file}", images.display());
    ImageSource::builder("tiny")
        .kernel(&url("vmlinuz"), None)
        .initrd(&url("initrd.img"), None)
        .rootfs(&url("rootfs.ext4"), None)
        .build()
        .unwrap()
}

/// A VM with the script, and with something to back up. It is gone when the test ends, whichever
/// way; a test that fails can print its `console_log()`.
fn machine() -> Vm {
    let config = VmConfig::new(&IMAGE.kernel_path, &IMAGE.rootfs_path)
        .mem_size_mib(256)
        .network(NetworkMode::None);
    let vm = Vm::boot(config).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/test_fixture/backup.sh");
    vm.copy_to(script, "/root/backup.sh").unwrap();
    vm.run("mkdir /data && echo precious > /data/file").unwrap();
    vm
}

#[test]
fn a_backup_has_the_data() {
    let machine = machine();
    let result = machine.run("sh /root/backup.sh /data /backup").unwrap();
    assert_eq!(result.exit_code, 0, "{}", result.stderr());
    assert_eq!(machine.run("cat /backup/data/file").unwrap().stdout(), "precious\n");
}

#[test]
fn a_backup_is_not_overwritten() {
    let machine = machine();
    machine.run("mkdir /backup && echo older > /backup/file").unwrap();
    let result = machine.run("sh /root/backup.sh /data /backup").unwrap();
    assert_eq!((result.exit_code, &*result.stderr()), (1, "/backup is there already\n"));
    assert_eq!(machine.run("cat /backup/file").unwrap().stdout(), "older\n");
}
