//! Damage in the cache is found and repaired, and only there.

use std::os::unix::fs::PermissionsExt;

use crate::site::{Site, assert_prints, rootfs};

/// A site whose cached root file system has one other byte.
fn damaged() -> Site {
    let site = Site::with_dev();
    assert_eq!(site.run("image pull dev").code, Some(0));
    let path = site.cache("dev/rootfs.ext4");
    let mut bytes = rootfs();
    bytes[1_000_000] ^= 1;
    fs_err::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    fs_err::write(&path, bytes).unwrap();
    site
}

#[test]
fn verify_finds_it_and_changes_nothing() {
    let site = damaged();
    assert_prints!(site.run("image verify dev"), @"");
    assert_ne!(
        fs_err::read(site.cache("dev/rootfs.ext4")).unwrap(),
        rootfs()
    );
}

/// Behaviours 6 and 28: one changed byte is found, and that asset alone is fetched again.
#[test]
fn pull_repairs_it() {
    let site = damaged();
    assert_prints!(site.run("image pull dev"), @"");
    assert_eq!(
        fs_err::read(site.cache("dev/rootfs.ext4")).unwrap(),
        rootfs()
    );
    assert_eq!(
        (site.server.hits("/kernel"), site.server.hits("/rootfs")),
        (1, 2)
    );
}
