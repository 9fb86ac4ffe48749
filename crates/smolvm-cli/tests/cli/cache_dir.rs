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
