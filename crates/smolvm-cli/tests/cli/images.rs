//! A day with images: list, pull, path, pin, inspect, verify, rm, prune.

use smolvm_testkit::{Fault, Route};

use crate::site::{Site, assert_prints, kernel, rootfs};

#[test]
fn what_is_not_pinned_is_said_plainly() {
    let site = Site::with_dev();
    site.register("loose", false);
    assert_prints!(site.run("image list"), @"
    exit: 0
    ----- stdout -----
    NAME               CACHED  SIZE ON DISK  PINNED                  SOURCE
    dev                no      -             yes                     http://[SERVER]
    hello              no      -             no pin: kernel, rootfs  https://s3.amazonaws.com
    loose              no      -             no pin: kernel, rootfs  http://[SERVER]
    quickstart-x86_64  no      -             no pin: kernel, rootfs  https://s3.amazonaws.com
    ----- stderr -----
    ");
}

/// Behaviour 5: the second pull asks no server for anything.
#[test]
fn pull_and_pull_again() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull dev"), @"
    exit: 0
    ----- stdout -----
    dev: ready in [HOME]/.smolvm/images/dev
      kernel  fetched    48.8 KiB  pinned
      rootfs  fetched     3.0 MiB  pinned
    ----- stderr -----
    dev: kernel: fetching, 48.8 KiB
    dev: kernel: received 48.8 KiB in [TIME]
    dev: rootfs: fetching, 3.0 MiB
    dev: rootfs: received 3.0 MiB in [TIME]
    ");
    assert_prints!(site.run("image pull dev"), @"
    exit: 0
    ----- stdout -----
    dev: ready in [HOME]/.smolvm/images/dev
      kernel  cached    48.8 KiB  pinned
      rootfs  cached     3.0 MiB  pinned
    ----- stderr -----
    ");
    assert_eq!((site.server.hits("/kernel"), site.server.hits("/rootfs")), (1, 1));
    assert_eq!(fs_err::read(site.cache("dev/vmlinux.bin")).unwrap(), kernel());
    assert_eq!(fs_err::read(site.cache("dev/rootfs.ext4")).unwrap(), rootfs());
    assert_prints!(site.run("image ls"), @"
    exit: 0
    ----- stdout -----
    NAME               CACHED  SIZE ON DISK  PINNED                  SOURCE
    dev                yes     3.1 MiB       yes                     http://[SERVER]
    hello              no      -             no pin: kernel, rootfs  https://s3.amazonaws.com
    quickstart-x86_64  no      -             no pin: kernel, rootfs  https://s3.amazonaws.com
    ----- stderr -----
    ");
}

/// Behaviour 3: an asset without a pin gets a warning.
#[test]
fn pull_of_an_image_without_pins() {
    let site = Site::with_dev();
    site.register("loose", false);
    assert_prints!(site.run("image pull loose"), @"
    exit: 0
    ----- stdout -----
    loose: ready in [HOME]/.smolvm/images/loose
      kernel  fetched    48.8 KiB  no pin
      rootfs  fetched     3.0 MiB  no pin
    ----- stderr -----
    warning: 'loose' has no SHA-256 digest for its kernel and rootfs: what is fetched is not checked against anything, only recorded. To pin it: smolvm image pin loose
    loose: kernel: fetching, 48.8 KiB
    loose: kernel: received 48.8 KiB in [TIME]
    loose: rootfs: fetching, 3.0 MiB
    loose: rootfs: received 3.0 MiB in [TIME]
    ");
}

#[test]
fn quiet_says_nothing() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull dev --quiet"), @"
    exit: 0
    ----- stdout -----
    ----- stderr -----
    ");
    assert_prints!(site.run("-q image verify dev"), @"
    exit: 0
    ----- stdout -----
    ----- stderr -----
    ");
    assert_prints!(site.run("image rm -q dev"), @"
    exit: 0
    ----- stdout -----
    ----- stderr -----
    ");
}

/// Behaviour 32: what another image has already is not fetched.
#[test]
fn the_same_content_is_shared() {
    let site = Site::with_dev();
    site.register("twin", true);
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image pull twin"), @"
    exit: 0
    ----- stdout -----
    twin: ready in [HOME]/.smolvm/images/twin
      kernel  shared with dev    48.8 KiB  pinned
      rootfs  shared with dev     3.0 MiB  pinned
    ----- stderr -----
    ");
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
    assert_eq!(fs_err::read(site.cache("loose/rootfs.ext4")).unwrap(), rootfs());
    assert_eq!(site.run("image pull loose --refresh --sync").code, Some(0));
    assert_eq!(fs_err::read(site.cache("loose/rootfs.ext4")).unwrap(), kernel());
}

#[test]
fn paths_for_scripts() {
    let site = Site::with_dev();
    assert_prints!(site.run("image path dev"), @"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: 'dev' is not in the cache. Fetch it first: smolvm image pull dev
    ");
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image path dev"), @"
    exit: 0
    ----- stdout -----
    kernel=[HOME]/.smolvm/images/dev/vmlinux.bin
    rootfs=[HOME]/.smolvm/images/dev/rootfs.ext4
    ----- stderr -----
    ");
    assert_prints!(site.run("image path dev --asset rootfs"), @"
    exit: 0
    ----- stdout -----
    [HOME]/.smolvm/images/dev/rootfs.ext4
    ----- stderr -----
    ");
    assert_prints!(site.run("image path dev --asset initrd"), @"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: 'dev' has no initrd. See what it has: smolvm image path dev
    ");
}

#[test]
fn a_pin_goes_into_the_registry() {
    let site = Site::new();
    site.serve("/kernel", Route::new(kernel()));
    site.serve("/rootfs", Route::new(rootfs()));
    site.register("loose", false);
    assert_eq!(site.run("image pull loose").code, Some(0));
    let pin = site.finish(&mut site.command(["image", "pin", "loose"]));
    assert_prints!(pin, @r#"
    exit: 0
    ----- stdout -----
    [images."loose"]
    kernel_url = "http://[SERVER]/kernel"
    kernel_sha256 = "1fc460b86e46d0fa07e5432537b3caa8dc73cf019073f684daafab562b2b279b"
    rootfs_url = "http://[SERVER]/rootfs"
    rootfs_sha256 = "cf1401704569deba30be116f440b29fc49ca4dfad48c2246c0a032313c11e82a"
    ----- stderr -----
    "#);
    site.forget_registry();
    site.append_to_registry(&pin.stdout.replace("[SERVER]", &site.server.host()));
    assert_prints!(site.run("image list"), @"
    exit: 0
    ----- stdout -----
    NAME               CACHED  SIZE ON DISK  PINNED                  SOURCE
    hello              no      -             no pin: kernel, rootfs  https://s3.amazonaws.com
    loose              yes     3.1 MiB       yes                     http://[SERVER]
    quickstart-x86_64  no      -             no pin: kernel, rootfs  https://s3.amazonaws.com
    ----- stderr -----
    ");
    assert_eq!(site.run("image pull loose").code, Some(0));
    assert_eq!(site.server.hits("/rootfs"), 1, "the pinned bytes are cached already");
}

#[test]
fn inspect_before_and_after() {
    let site = Site::with_dev();
    assert_prints!(site.run("image inspect dev"), @"
    exit: 0
    ----- stdout -----
    dev
      directory  [HOME]/.smolvm/images/dev
      cached     no
    kernel
      path       [HOME]/.smolvm/images/dev/vmlinux.bin
      url        http://[SERVER]/kernel
      pin        1fc460b86e46d0fa07e5432537b3caa8dc73cf019073f684daafab562b2b279b
      state      missing
    rootfs
      path       [HOME]/.smolvm/images/dev/rootfs.ext4
      url        http://[SERVER]/rootfs
      pin        cf1401704569deba30be116f440b29fc49ca4dfad48c2246c0a032313c11e82a
      state      missing
    ----- stderr -----
    ");
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image inspect dev"), @"
    exit: 0
    ----- stdout -----
    dev
      directory  [HOME]/.smolvm/images/dev
      cached     yes, 3.1 MiB on disk
    kernel
      path       [HOME]/.smolvm/images/dev/vmlinux.bin
      url        http://[SERVER]/kernel
      pin        1fc460b86e46d0fa07e5432537b3caa8dc73cf019073f684daafab562b2b279b
      digest     1fc460b86e46d0fa07e5432537b3caa8dc73cf019073f684daafab562b2b279b
      size       48.8 KiB (50000 bytes)
      fetched    [DATE]
      state      present, not hashed
    rootfs
      path       [HOME]/.smolvm/images/dev/rootfs.ext4
      url        http://[SERVER]/rootfs
      pin        cf1401704569deba30be116f440b29fc49ca4dfad48c2246c0a032313c11e82a
      digest     cf1401704569deba30be116f440b29fc49ca4dfad48c2246c0a032313c11e82a
      size       3.0 MiB (3145728 bytes)
      fetched    [DATE]
      state      present, not hashed
    ----- stderr -----
    ");
}

#[test]
fn verify_all_and_nothing() {
    let site = Site::with_dev();
    assert_prints!(site.run("image verify"), @"
    exit: 0
    ----- stdout -----
    nothing is cached
    ----- stderr -----
    ");
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image verify"), @"
    exit: 0
    ----- stdout -----
    dev: kernel: verified
    dev: rootfs: verified
    ----- stderr -----
    ");
    assert_prints!(site.run("image verify hello"), @"
    exit: 1
    ----- stdout -----
    hello: kernel: missing
    hello: rootfs: missing
    ----- stderr -----
    error: 'hello' is not in the cache. Fetch it first: smolvm image pull hello
    ");
}

#[test]
fn removing_twice_is_no_error() {
    let site = Site::with_dev();
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image rm dev"), @"
    exit: 0
    ----- stdout -----
    dev: removed, 3.1 MiB freed
    ----- stderr -----
    ");
    assert!(!site.cache("dev").exists());
    assert_prints!(site.run("image rm dev"), @"
    exit: 0
    ----- stdout -----
    dev: not in the cache, nothing to remove
    ----- stderr -----
    ");
}

/// Behaviour 36: what `--dry-run` announces is what goes.
#[test]
fn prune_removes_what_no_registry_names() {
    let site = Site::with_dev();
    assert_eq!(site.run("image pull dev").code, Some(0));
    assert_prints!(site.run("image prune"), @"
    exit: 0
    ----- stdout -----
    nothing to prune
    ----- stderr -----
    ");
    site.forget_registry();
    assert_prints!(site.run("image list"), @"
    exit: 0
    ----- stdout -----
    NAME               CACHED  SIZE ON DISK  PINNED                  SOURCE
    dev                yes     3.1 MiB       -                       in no registry
    hello              no      -             no pin: kernel, rootfs  https://s3.amazonaws.com
    quickstart-x86_64  no      -             no pin: kernel, rootfs  https://s3.amazonaws.com
    ----- stderr -----
    ");
    let announced = site.run("image prune --dry-run");
    assert_prints!(announced, @"
    exit: 0
    ----- stdout -----
    would remove unregistered image [HOME]/.smolvm/images/dev (3.1 MiB)
    3.1 MiB would be freed
    ----- stderr -----
    ");
    assert!(site.cache("dev/rootfs.ext4").exists());
    let done = site.run("image prune");
    assert_prints!(done, @"
    exit: 0
    ----- stdout -----
    removed unregistered image [HOME]/.smolvm/images/dev (3.1 MiB)
    3.1 MiB freed
    ----- stderr -----
    ");
    assert_eq!(
        done.stdout.replace("removed", "would remove").lines().next(),
        announced.stdout.lines().next()
    );
    assert!(!site.cache("dev").exists());
}

/// Behaviour 12: a broken transfer goes on, and the user is told.
#[test]
fn retries_are_said() {
    let site = Site::with_dev();
    site.serve("/rootfs", Route::new(rootfs()).etag("\"r\"").fault_on(0, Fault::CutAt(1 << 20)));
    let finished = site.run("image pull dev");
    assert_eq!(finished.code, Some(0), "{finished}");
    assert!(finished.stderr.contains("dev: rootfs: attempt 1 failed: "), "{finished}");
    assert!(site.server.requests_for("/rootfs")[1].header("range").is_some());
}
