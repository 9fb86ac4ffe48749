//! Where the cache is, as the options and variables say.

use crate::site::Site;

/// Behaviour 42: blank is the default and never the current directory.
#[test]
fn blank_is_the_default() {
    for (option, variable) in
        [(Some(""), None), (Some("  "), None), (None, Some("")), (Some(""), Some("/x"))]
    {
        let site = Site::with_dev();
        let elsewhere = site.home("elsewhere");
        fs_err::create_dir(&elsewhere).unwrap();
        let mut command = site.command(["image", "pull", "dev"]);
        command.args(option.map(|value| format!("--cache-dir={value}")));
        command.envs(variable.map(|value| ("SMOLVM_CACHE_DIR", value)));
        let finished = site.finish(command.current_dir(&elsewhere));
        assert_eq!(finished.code, Some(0), "{option:?} {variable:?}: {finished}");
        assert!(site.cache("dev/rootfs.ext4").exists());
        assert_eq!(fs_err::read_dir(&elsewhere).unwrap().count(), 0);
    }
}

#[test]
fn the_option_wins_over_the_variable() {
    let site = Site::with_dev();
    let mut command = site.command(["image", "pull", "dev", "--cache-dir", "one"]);
    assert_eq!(site.finish(command.env("SMOLVM_CACHE_DIR", "two")).code, Some(0));
    assert!(site.home("one/dev/rootfs.ext4").exists() && !site.home("two").exists());
    let mut command = site.command(["image", "pull", "dev"]);
    assert_eq!(site.finish(command.env("SMOLVM_CACHE_DIR", "two")).code, Some(0));
    assert!(site.home("two/dev/rootfs.ext4").exists());
}

/// Behaviour 42: `~` is the home directory, `~nobody` fails by name.
#[test]
fn tildes() {
    let site = Site::with_dev();
    let mut command = site.command(["image", "pull", "dev", "--cache-dir", "~/my cache"]);
    assert_eq!(site.finish(&mut command).code, Some(0));
    assert!(site.home("my cache/dev/rootfs.ext4").exists());
    let mut command = site.command(["image", "list", "--cache-dir", "~no-such-user/x"]);
    let finished = site.finish(&mut command);
    assert_eq!(finished.code, Some(2), "{finished}");
    assert!(finished.stderr.contains("~no-such-user/x"), "{finished}");
}

/// Behaviour 9: looking creates nothing.
#[test]
fn looking_creates_nothing() {
    let site = Site::with_dev();
    for line in [
        "image list",
        "image inspect dev",
        "image path dev",
        "image verify",
        "image rm dev",
        "image prune",
    ] {
        site.run(line);
        assert!(!site.cache("").exists(), "{line}");
    }
}

/// Behaviours 40 and 43: a planted link is named and not followed, the other images are listed, and
/// `rm` removes the link alone.
#[test]
fn a_link_for_an_image() {
    let site = Site::with_dev();
    assert_eq!(site.run("image pull dev").code, Some(0));
    let outside = site.home("outside");
    fs_err::create_dir(&outside).unwrap();
    fs_err::write(outside.join("vmlinux.bin"), "precious").unwrap();
    fs_err::os::unix::fs::symlink(&outside, site.cache("hello")).unwrap();

    let list = site.run("image list");
    assert_eq!(list.code, Some(1), "{list}");
    assert!(list.stderr.contains("/.smolvm/images/hello is a symbolic link"), "{list}");
    assert!(list.stdout.contains("dev "), "{list}");
    assert_eq!(site.run("image pull hello --attempts 1").code, Some(1));
    assert_eq!(site.run("image rm hello").code, Some(0));
    assert!(!site.cache("hello").exists());
    assert_eq!(fs_err::read_to_string(outside.join("vmlinux.bin")).unwrap(), "precious");
}
