//! A day with images: list, pull, path, pin, inspect, verify, rm, prune.

use smolvm_testkit::{Fault, Route};

use crate::site::{Site, assert_prints, kernel, rootfs};

#[test]
fn what_is_not_pinned_is_said_plainly() {
    let site = Site::with_dev();
    site.register("loose", false);
    assert_prints!(site.run("image list"), @"");
}

/// Behaviour 5: the second pull asks no server for anything.
#[test]
fn pull_and_pull_again() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull dev"), @"");
    assert_prints!(site.run("image pull dev"), @"");
    assert_eq!(
        (site.server.hits("/kernel"), site.server.hits("/rootfs")),
        (1, 1)
    );
    assert_eq!(
        fs_err::read(site.cache("dev/vmlinux.bin")).unwrap(),
        kernel()
    );
    assert_eq!(
        fs_err::read(site.cache("dev/rootfs.ext4")).unwrap(),
        rootfs()
    );
    assert_prints!(site.run("image ls"), @"");
}

/// Behaviour 3: an asset without a pin gets a warning.
#[test]
fn pull_of_an_image_without_pins() {
    let site = Site::with_dev();
    site.register("loose", false);
    assert_prints!(site.run("image pull loose"), @"");
}

#[test]
fn quiet_says_nothing() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull dev --quiet"), @"");
    assert_prints!(site.run("-q image verify dev"), @"");
    assert_prints!(site.run("image rm -q dev"), @"");
}

/// Behaviour 32: what another image has already is not fetched.
#[test]
fn the_same_content_is_shared() {
    let site = Site::with_dev();
    site.register("twin", true);
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image pull twin"), @"");
    assert_eq!(site.server.hits("/rootfs"), 1);
}

#[test]
fn refresh_fetches_what_changed() {
    let site = Site::new();
    site.serve("/kernel", Route::new(kernel()).etag("\"k\""));
    site.serve("/rootfs", Route::new(rootfs()).etag("\"old\""));
    site.register("loose", false);
    assert_eq!(site.run("image pull loose").code, Some(0));
    site.serve("/rootfs", Route::new(kernel()).etag("\"new\""));
    assert_eq!(site.run("image pull loose").code, Some(0));
    assert_eq!(
        fs_err::read(site.cache("loose/rootfs.ext4")).unwrap(),
        rootfs()
    );
    assert_eq!(site.run("image pull loose --refresh --sync").code, Some(0));
    assert_eq!(
        fs_err::read(site.cache("loose/rootfs.ext4")).unwrap(),
        kernel()
    );
}

#[test]
fn paths_for_scripts() {
    let site = Site::with_dev();
    assert_prints!(site.run("image path dev"), @"");
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image path dev"), @"");
    assert_prints!(site.run("image path dev --asset rootfs"), @"");
    assert_prints!(site.run("image path dev --asset initrd"), @"");
}

#[test]
fn a_pin_goes_into_the_registry() {
    let site = Site::new();
    site.serve("/kernel", Route::new(kernel()));
    site.serve("/rootfs", Route::new(rootfs()));
    site.register("loose", false);
    assert_eq!(site.run("image pull loose").code, Some(0));
    let pin = site.finish(&mut site.command(["image", "pin", "loose"]));
    assert_prints!(pin, @"");
    site.forget_registry();
    site.append_to_registry(&pin.stdout.replace("[SERVER]", &site.server.host()));
    assert_prints!(site.run("image list"), @"");
    assert_eq!(site.run("image pull loose").code, Some(0));
    assert_eq!(
        site.server.hits("/rootfs"),
        1,
        "the pinned bytes are cached already"
    );
}

#[test]
fn inspect_before_and_after() {
    let site = Site::with_dev();
    assert_prints!(site.run("image inspect dev"), @"");
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image inspect dev"), @"");
}

#[test]
fn verify_all_and_nothing() {
    let site = Site::with_dev();
    assert_prints!(site.run("image verify"), @"");
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image verify"), @"");
    assert_prints!(site.run("image verify hello"), @"");
}

#[test]
fn removing_twice_is_no_error() {
    let site = Site::with_dev();
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image rm dev"), @"");
    assert!(!site.cache("dev").exists());
    assert_prints!(site.run("image rm dev"), @"");
}

/// Behaviour 36: what `--dry-run` announces is what goes.
#[test]
fn prune_removes_what_no_registry_names() {
    let site = Site::with_dev();
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image prune"), @"");
    site.forget_registry();
    assert_prints!(site.run("image list"), @"");
    let announced = site.run("image prune --dry-run");
    assert_prints!(announced, @"");
    assert!(site.cache("dev/rootfs.ext4").exists());
    let done = site.run("image prune");
    assert_prints!(done, @"");
    assert_eq!(
        done.stdout
            .replace("removed", "would remove")
            .lines()
            .next(),
        announced.stdout.lines().next()
    );
    assert!(!site.cache("dev").exists());
}

/// Behaviour 12: a broken transfer goes on, and the user is told.
#[test]
fn retries_are_said() {
    let site = Site::with_dev();
    site.serve(
        "/rootfs",
        Route::new(rootfs())
            .etag("\"r\"")
            .fault_on(0, Fault::CutAt(1 << 20)),
    );
    let finished = site.run("image pull dev");
    assert_eq!(finished.code, Some(0), "{finished}");
    assert!(
        finished.stderr.contains("dev: rootfs: attempt 1 failed: "),
        "{finished}"
    );
    assert!(
        site.server.requests_for("/rootfs")[1]
            .header("range")
            .is_some()
    );
}
