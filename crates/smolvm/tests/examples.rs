//! Every program under `examples/`, run as a user runs it. (`measure` and
//! `ensure` are for developers.)

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use smolvm_testkit::skip;
use tempfile::TempDir;

/// A home directory whose registry has a real image, `tiny`.
struct Home(TempDir);

impl Home {
    /// `None`, said aloud, where there are no images.
    fn new() -> Option<Self> {
        let Some(images) = std::env::var_os("SMOLVM_TEST_IMAGES") else {
            skip("SMOLVM_TEST_IMAGES names no directory with images");
            return None;
        };
        let images = Path::new(&images).join("debian-tiny");
        let home = tempfile::tempdir().unwrap();
        fs_err::create_dir(home.path().join(".smolvm")).unwrap();
        let url = |file: &str| format!("\"file://{}/{file}\"", images.display());
        let registry = format!(
            "[images.tiny]\nkernel_url = {}\ninitrd_url = {}\nrootfs_url = {}\n",
            url("vmlinuz"),
            url("initrd.img"),
            url("rootfs.ext4"),
        );
        fs_err::write(home.path().join(".smolvm/registry.toml"), registry).unwrap();
        Some(Self(home))
    }

    fn image(&self, file: &str) -> PathBuf {
        self.0.path().join(".smolvm/images/tiny").join(file)
    }

    /// What an example prints about the image.
    fn run(&self, example: &str) -> String {
        self.run_with(example, &["tiny".as_ref()])
    }

    fn run_with(&self, example: &str, arguments: &[&OsStr]) -> String {
        let output = Command::new(binary(example))
            .args(arguments)
            .env("HOME", self.0.path())
            .env_remove("SMOLVM_CACHE_DIR")
            .env_remove("SMOLVM_REGISTRY")
            .output()
            .unwrap();
        let (out, err) =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).into();
        assert!(output.status.success(), "{out}\n{err}");
        out
    }
}

/// Cargo builds the examples for the tests of their package.
fn binary(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().parent().unwrap().join("examples").join(example);
    assert!(path.is_file(), "{} is not there: cargo build --examples makes it", path.display());
    path
}

#[test]
fn each_example_is_run_here() {
    let here = include_str!("examples.rs");
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in fs_err::read_dir(directory).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        let elsewhere = ["ensure", "measure", "test_fixture"];
        assert!(
            elsewhere.contains(&name.as_str())
                || here.contains(&format!("run(\"{name}\")"))
                || here.contains(&format!("run_with(\"{name}\"")),
            "{name} is not run"
        );
    }
}

#[test]
fn complete() {
    let Some(home) = Home::new() else { return };
    let expected = format!(
        "Available images:\n  [✗] hello\n  [✗] quickstart-x86_64\n  [✗] tiny\n\n\
         Using image: tiny\n  Kernel: {}\n  Rootfs: {}\n\n\
         VM started with IP: 10.0.2.15\nOutput: Hello from SmolVM!\n",
        home.image("vmlinux.bin").display(),
        home.image("rootfs.ext4").display(),
    );
    assert_eq!(home.run("complete"), expected);
}

#[test]
fn untrusted() {
    let Some(home) = Home::new() else { return };
    let printed = home.run("untrusted");
    let lines: Vec<_> = printed.lines().collect();
    let [sum, mistake, endless, flood, around, network] = lines[..] else { panic!("{printed}") };
    assert_eq!(sum, "a sum: exit code 0: 42");
    assert!(mistake.starts_with("a mistake: exit code 1: cat: "), "{mistake}");
    assert_eq!(endless, "an endless loop: ended after 3s; so far: thinking");
    assert!(flood.starts_with("a flood: ended: ") && flood.contains("100000 bytes"), "{flood}");
    assert_eq!([around, network], ["a look around: exit code 0: 65534", "lo"]);
}

#[test]
fn ten() {
    let Some(home) = Home::new() else { return };
    assert_eq!(home.run("ten"), "The VMs have read: 0 1 2 3 4 5 6 7 8 9\n");
}

#[test]
fn progress() {
    let Some(home) = Home::new() else { return };
    assert_eq!(home.run("progress"), format!("{}\n", home.image("rootfs.ext4").display()));
    assert!(home.image("rootfs.ext4").is_file());
}

#[test]
fn disks() {
    let Some(home) = Home::new() else { return };
    home.run("progress");
    let (kernel, rootfs) = (home.image("vmlinux.bin"), home.image("rootfs.ext4"));
    let vms = home.0.path().join("vms");
    let arguments = [kernel.as_ref(), rootfs.as_ref(), vms.as_ref(), "2".as_ref(), "copy".as_ref()];
    let printed = home.run_with("disks", &arguments);
    assert!(printed.starts_with("{\"calls\": 2, \"median_seconds\": 0."), "{printed}");
    assert_eq!(
        fs_err::read_dir(vms)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count(),
        0
    );
}
