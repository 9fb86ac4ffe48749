//! The table of exit codes in `smolvm --help` and docs/cli.md.

use smolvm_testkit::{Fault, Route};

use crate::site::{Site, rootfs};

#[test]
fn every_code_but_the_interruption() {
    let site = Site::with_dev();
    let check = |line: &str, code| {
        let finished = site.run(line);
        assert_eq!(finished.code, Some(code), "{line}: {finished}");
    };
    check("image list", 0);
    check("--version", 0);
    check("image path dev", 1);
    check("image list --registry missing.toml", 1);
    check("image nonsense", 2);
    check("image pull", 2);
    check("image pull ..", 2);
    check("image pull dev --attempts 0", 2);
    check("image pull dev --max-size lots", 2);
    check("image list --quiet --verbose", 2);
    check("image pull nope", 3);
    check("image inspect nope", 3);
    check("image pull dev --offline", 5);

    site.serve("/rootfs", Route::new(rootfs()).fault(Fault::FlipByteAt(0)));
    check("image pull dev", 4);
    site.serve("/rootfs", Route::new(rootfs()).fault(Fault::CutAt(100)));
    check("image pull dev --attempts 1", 5);
    assert_eq!(site.server.hits("/rootfs"), 2, "one attempt each");
    site.serve("/rootfs", Route::new(rootfs()).fault(Fault::stall_at(100)));
    check("image pull dev --attempts 1 --stall-timeout 1", 5);
}
