//! What goes wrong, in the words that the user reads.

use smolvm_testkit::{Fault, Route};

use crate::site::{Site, assert_prints, kernel, rootfs};

/// Behaviour 38: the documented message with what there is, and the near miss.
#[test]
fn unknown_image() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull nonexistent-image"), @"
    exit: 3
    ----- stdout -----
    ----- stderr -----
    error: Unknown image: 'nonexistent-image'. Available images: dev, hello, quickstart-x86_64
    ");
    assert_prints!(site.run("image pull helo"), @"
    exit: 3
    ----- stdout -----
    ----- stderr -----
    error: Unknown image: 'helo'. Available images: dev, hello, quickstart-x86_64. Did you mean 'hello'?
    ");
}

/// Behaviour 37: no such name is used, and nothing is created for it.
#[test]
fn malformed_names() {
    let site = Site::new();
    let long = "a".repeat(129);
    for name in ["..", "a/b", "/etc", ".x", "a\n", "a\u{1b}[31m", "NUL", &long, "", "  "] {
        for command in ["pull", "inspect", "path", "pin", "verify", "rm"] {
            let finished = site.finish(&mut site.command(["image", command, "--", name]));
            assert_eq!(finished.code, Some(2), "{command} {name:?}: {finished}");
            assert!(!finished.stderr.contains('\u{1b}'), "{finished}");
        }
    }
    assert!(!site.cache("").exists());
    assert_prints!(site.finish(&mut site.command(["image", "pull", ""])), @"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: image name cannot be empty
    ");
    assert_prints!(site.run("image pull ../x"), @r#"
    exit: 2
    ----- stdout -----
    ----- stderr -----
    error: Invalid image name: "../x": a name does not start with a dot
    "#);
}

/// Behaviour 39: refused as a whole, with file, line and column.
#[test]
fn bad_registry_file() {
    let site = Site::with_dev();
    site.append_to_registry("[images.other]\nkernel_ur = \"http://h/k\"");
    assert_prints!(site.run("image list"), @r#"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: [HOME]/.smolvm/registry.toml:8:1: unknown field `kernel_ur`, expected one of `kernel_url`, `kernel_sha256`, `kernel_filename`, `initrd_url`, `initrd_sha256`, `initrd_filename`, `rootfs_url`, `rootfs_sha256`, `rootfs_filename`, `boot_args`
    8 | kernel_ur = "http://h/k"
      | ^
    "#);
    site.forget_registry();
    assert_prints!(site.run("image list --registry missing.toml"), @"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: cannot read the registry file missing.toml: No such file or directory (os error 2). Check its path and permissions
    ");
}

/// Behaviour 24: a miss is an immediate error that says what is missing.
#[test]
fn offline() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull dev --offline"), @"
    exit: 5
    ----- stdout -----
    ----- stderr -----
    error: 'dev' is not in the cache (missing: kernel, rootfs) and the network is off (offline mode). Fetch it once without offline mode, or put the files under [HOME]/.smolvm/images/dev
    ");
    let mut command = site.command(["image", "pull", "dev"]);
    assert_eq!(site.finish(command.env("SMOLVM_OFFLINE", "yes")).code, Some(5));
    assert!(site.server.requests().is_empty());
    for off in ["", "0", "false"] {
        let mut command = site.command(["image", "pull", "dev"]);
        assert_eq!(site.finish(command.env("SMOLVM_OFFLINE", off)).code, Some(0), "{off:?}");
    }
    assert_eq!(site.run("--offline image pull dev").code, Some(0), "a hit needs no network");
}

/// Behaviour 4: a mismatch names the URL and both digests.
#[test]
fn mismatch() {
    let site = Site::with_dev();
    site.serve("/rootfs", Route::new(rootfs()).fault(Fault::FlipByteAt(7)));
    assert_prints!(site.run("image pull dev --quiet"), @"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: the rootfs of 'dev' has the wrong SHA-256 digest
      url:      http://[SERVER]/rootfs
      expected: cf1401704569deba30be116f440b29fc49ca4dfad48c2246c0a032313c11e82a
      actual:   d348bb77be75b54dde5e5b1449274a9f1686a7f4493d9361ff18b452f47f7fc2
    Nothing was installed. Check the digest in the registry with whoever publishes the image; if it is right, the server or something on the way serves other bytes
    ");
    assert!(!site.cache("dev/rootfs.ext4").exists());
}

/// Behaviour 13: a definite refusal is not tried again.
#[test]
fn not_found() {
    let site = Site::with_dev();
    site.serve("/rootfs", Route::new(rootfs()).fault(Fault::Status(404)));
    assert_prints!(site.run("image pull dev --quiet"), @"
    exit: 5
    ----- stdout -----
    ----- stderr -----
    error: cannot fetch the rootfs of 'dev' from http://[SERVER]/rootfs: the server answers 404 Not Found: check the URL in the registry
    ");
    assert_eq!(site.server.hits("/rootfs"), 1);
}

/// Behaviour 29: a page is no image.
#[test]
fn error_page_for_an_unpinned_image() {
    let site = Site::new();
    site.serve("/kernel", Route::new(kernel()));
    site.serve("/rootfs", Route::new(rootfs()).fault(Fault::ErrorPage));
    site.register("loose", false);
    let finished = site.run("image pull loose --quiet");
    assert_prints!(finished, @"
    exit: 4
    ----- stdout -----
    ----- stderr -----
    error: what http://[SERVER]/rootfs serves as the rootfs of 'loose' is an HTML page, not an image. Check the URL
    ");
}

/// Behaviour 18: nothing larger than allowed is taken.
#[test]
fn larger_than_allowed() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull dev --quiet --max-size 1MiB"), @"
    exit: 1
    ----- stdout -----
    ----- stderr -----
    error: cannot fetch the rootfs of 'dev' from http://[SERVER]/rootfs: it is larger than the limit of 1048576 bytes. Raise the limit (--max-size) if that is right
    ");
}

#[test]
fn others_are_done_and_the_first_failure_is_the_code() {
    let site = Site::with_dev();
    let finished = site.run("image pull nope dev .. --quiet");
    assert_prints!(finished, @r#"
    exit: 3
    ----- stdout -----
    ----- stderr -----
    error: Unknown image: 'nope'. Available images: dev, hello, quickstart-x86_64
    error: Invalid image name: "..": a name does not start with a dot
    "#);
    assert!(site.cache("dev/rootfs.ext4").exists());
}
