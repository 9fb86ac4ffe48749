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
    assert_prints!(site.run("image verify dev"), @"
    exit: 4
    ----- stdout -----
    dev: kernel: verified
    dev: rootfs: damaged: its SHA-256 digest is b16dd56872dc83ac403a135725fa85513af782f4a6ef22e3800cb1d0566bc813, not cf1401704569deba30be116f440b29fc49ca4dfad48c2246c0a032313c11e82a
    ----- stderr -----
    error: 'dev' is damaged (rootfs). Repair it: smolvm image pull dev
    ");
    assert_ne!(fs_err::read(site.cache("dev/rootfs.ext4")).unwrap(), rootfs());
}

/// Behaviours 6 and 28: one changed byte is found, and that asset alone is fetched again.
#[test]
fn pull_repairs_it() {
    let site = damaged();
    assert_prints!(site.run("image pull dev"), @"
    exit: 0
    ----- stdout -----
    dev: ready in [HOME]/.smolvm/images/dev
      kernel  cached      48.8 KiB  pinned
      rootfs  repaired     3.0 MiB  pinned
    ----- stderr -----
    warning: [HOME]/.smolvm/images/dev/rootfs.ext4 cannot be used: its SHA-256 digest is b16dd56872dc83ac403a135725fa85513af782f4a6ef22e3800cb1d0566bc813, not cf1401704569deba30be116f440b29fc49ca4dfad48c2246c0a032313c11e82a
    dev: rootfs: fetching, 3.0 MiB
    dev: rootfs: received 3.0 MiB in [TIME]
    ");
    assert_eq!(fs_err::read(site.cache("dev/rootfs.ext4")).unwrap(), rootfs());
    assert_eq!((site.server.hits("/kernel"), site.server.hits("/rootfs")), (1, 2));
}
