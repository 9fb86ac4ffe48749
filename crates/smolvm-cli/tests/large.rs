//! A real image of several hundred MiB from a real server: whole, once, and in little memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use smolvm_testkit::content::sha256_hex;
use smolvm_testkit::{Nginx, require_nginx, skip};

/// The most memory that a pull may take, in KiB.
const MAX_RESIDENT: u64 = 48 << 10;

/// Runs its arguments and prints, in KiB, the most memory that they took (`getrusage(2)`).
const MEASURE: &str = "import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print('resident', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)";

/// The image that `cargo xtask images` makes of a Debian tree, where it has made it.
fn large_image() -> Option<PathBuf> {
    let images = PathBuf::from(std::env::var_os("SMOLVM_TEST_IMAGES")?);
    Some(images.join("debian-large")).filter(|image| image.join("rootfs.ext4").is_file())
}

fn registry(image: &Path, nginx: &Nginx) -> String {
    let fields = |(kind, file)| {
        let digest = sha256_hex(&fs_err::read(image.join(file)).unwrap());
        let url = nginx.url(&format!("/{file}"));
        format!("{kind}_url = \"{url}\"\n{kind}_sha256 = \"{digest}\"\n")
    };
    let assets = [("kernel", "vmlinuz"), ("initrd", "initrd.img"), ("rootfs", "rootfs.ext4")];
    let fields = assets.map(fields).concat();
    format!("[images.debian-large]\n{fields}")
}

#[test]
fn a_large_image_in_little_memory() {
    if !require_nginx() {
        return;
    }
    let Some(image) = large_image() else {
        skip("SMOLVM_TEST_IMAGES has no debian-large; `cargo xtask images` makes it, as root");
        return;
    };
    let nginx = Nginx::start(&image);
    let home = tempfile::tempdir().unwrap();
    let registry_file = home.path().join("registry.toml");
    fs_err::write(&registry_file, registry(&image, &nginx)).unwrap();
    let output = Command::new("python3")
        .args(["-c", MEASURE, env!("CARGO_BIN_EXE_smolvm"), "image", "pull", "debian-large"])
        .args(["--json", "--cache-dir"])
        .arg(home.path().join("cache"))
        .arg("--registry")
        .arg(&registry_file)
        .env("HOME", home.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");

    let resident = stderr.rsplit_once("resident ").unwrap().1.trim().parse::<u64>().unwrap();
    assert!(resident < MAX_RESIDENT, "{resident} KiB of memory were used");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let assets = report["images"][0]["assets"].as_array().unwrap();
    assert_eq!(assets.len(), 3);
    for (asset, file) in assets.iter().zip(["vmlinuz", "initrd.img", "rootfs.ext4"]) {
        let published = fs_err::read(image.join(file)).unwrap();
        let cached = fs_err::read(asset["path"].as_str().unwrap()).unwrap();
        assert!(cached == published, "{file} has other bytes");
        assert_eq!(asset["received"], published.len());
    }
    let log = nginx.stop();
    assert_eq!(log.len(), 3, "one transfer for each asset: {log:?}");
    assert!(log.iter().all(|line| line.status == 200 && line.range.is_none()), "{log:?}");
}
