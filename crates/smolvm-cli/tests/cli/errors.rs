//! What goes wrong, in the words that the user reads.

use smolvm_testkit::{Fault, Route};

use crate::site::{Site, assert_prints, kernel, rootfs};

/// Behaviour 38: the documented message with what there is, and the near miss.
#[test]
fn unknown_image() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull nonexistent-image"), @"");
    assert_prints!(site.run("image pull helo"), @"");
}

/// Behaviour 37: no such name is used, and nothing is created for it.
#[test]
fn malformed_names() {
    let site = Site::new();
    let long = "a".repeat(129);
    for name in [
        "..",
        "a/b",
        "/etc",
        ".x",
        "a\n",
        "a\u{1b}[31m",
        "NUL",
        &long,
        "",
        "  ",
    ] {
        for command in ["pull", "inspect", "path", "pin", "verify", "rm"] {
            let finished = site.finish(&mut site.command(["image", command, "--", name]));
            assert_eq!(finished.code, Some(2), "{command} {name:?}: {finished}");
            assert!(!finished.stderr.contains('\u{1b}'), "{finished}");
        }
    }
    assert!(!site.cache("").exists());
    assert_prints!(site.finish(&mut site.command(["image", "pull", ""])), @"");
    assert_prints!(site.run("image pull ../x"), @"");
}

/// Behaviour 39: refused as a whole, with file, line and column.
#[test]
fn bad_registry_file() {
    let site = Site::with_dev();
    site.append_to_registry("[images.other]\nkernel_ur = \"http://h/k\"");
    assert_prints!(site.run("image list"), @"");
    site.forget_registry();
    assert_prints!(site.run("image list --registry missing.toml"), @"");
}

/// Behaviour 24: a miss is an immediate error that says what is missing.
#[test]
fn offline() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull dev --offline"), @"");
    let mut command = site.command(["image", "pull", "dev"]);
    assert_eq!(
        site.finish(command.env("SMOLVM_OFFLINE", "yes")).code,
        Some(5)
    );
    assert!(site.server.requests().is_empty());
    for off in ["", "0", "false"] {
        let mut command = site.command(["image", "pull", "dev"]);
        assert_eq!(
            site.finish(command.env("SMOLVM_OFFLINE", off)).code,
            Some(0),
            "{off:?}"
        );
    }
    assert_eq!(
        site.run("--offline image pull dev").code,
        Some(0),
        "a hit needs no network"
    );
}

/// Behaviour 4: a mismatch names the URL and both digests.
#[test]
fn mismatch() {
    let site = Site::with_dev();
    site.serve("/rootfs", Route::new(rootfs()).fault(Fault::FlipByteAt(7)));
    assert_prints!(site.run("image pull dev"), @"");
    assert!(!site.cache("dev/rootfs.ext4").exists());
}

/// Behaviour 13: a definite refusal is not tried again.
#[test]
fn not_found() {
    let site = Site::with_dev();
    site.serve("/rootfs", Route::new(rootfs()).fault(Fault::Status(404)));
    assert_prints!(site.run("image pull dev"), @"");
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
    assert_prints!(finished, @"");
}

/// Behaviour 18: nothing larger than allowed is taken.
#[test]
fn larger_than_allowed() {
    let site = Site::with_dev();
    assert_prints!(site.run("image pull dev --quiet --max-size 1MiB"), @"");
}

#[test]
fn others_are_done_and_the_first_failure_is_the_code() {
    let site = Site::with_dev();
    let finished = site.run("image pull nope dev .. --quiet");
    assert_prints!(finished, @"");
    assert!(site.cache("dev/rootfs.ext4").exists());
}
