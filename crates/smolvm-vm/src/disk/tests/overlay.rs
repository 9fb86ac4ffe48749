//! The qcow2 files that we write, judged and written to by QEMU.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tempfile::tempdir;

use super::fixture::{EVERYTHING, Image, MIB, overlay_over, qemu_tool, request};
use crate::disk::{IsolatedDisk, Isolation, Request, isolate};

fn make(image: &Image, vm: &Path, size: Option<u64>) -> IsolatedDisk {
    let request = Request { size, ..request(Some(Isolation::Overlay), EVERYTHING) };
    isolate(image.base(), vm, &request).unwrap()
}

/// Behaviour 44: what a guest writes goes to the overlay, and the image still verifies.
#[test]
fn qemu_reads_the_base_and_writes_the_overlay() {
    let directory = tempdir().unwrap();
    let image = Image::in_directory(directory.path());
    let vm = tempdir().unwrap();
    let disk = make(&image, vm.path(), None);
    let path = disk.path(vm.path());
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 <= 64 << 10);
    let node = overlay_over(&image.path, &path);
    let raw = format!(
        "json:{}",
        serde_json::json!({
            "driver": "raw", "file": {"driver": "file", "filename": image.path},
        })
    );
    let Some(said) = qemu_tool("qemu-img", &["compare", &node, &raw]) else { return };
    assert!(said.contains("identical"), "{said}");

    let all = format!("write -P 0x5a 0 {}", Image::SIZE);
    qemu_tool("qemu-io", &["-c", &all, &node]);
    qemu_tool("qemu-io", &["-c", &format!("read -P 0x5a 0 {}", Image::SIZE), &node]);
    assert_consistent(&path);
    image.assert_untouched();
}

/// Parts of clusters are filled up from the base, and what lies beyond its end is zero.
#[test]
fn a_grown_overlay_has_zeros_beyond_the_base() {
    let directory = tempdir().unwrap();
    let image = Image::in_directory(directory.path());
    let vm = tempdir().unwrap();
    let disk = make(&image, vm.path(), Some(100 * MIB));
    assert_eq!(disk.size, 100 * MIB);
    let path = disk.path(vm.path());
    let node = overlay_over(&image.path, &path);
    let beyond = format!("read -P 0 {} {}", Image::SIZE, 100 * MIB - Image::SIZE);
    let write = "write -P 0x5a 12585000 1000";
    let Some(_) = qemu_tool("qemu-io", &["-c", &beyond, "-c", write, &node]) else { return };

    let whole = vm.path().join("whole.raw");
    qemu_tool("qemu-img", &["convert", "-O", "raw", &node, whole.to_str().unwrap()]);
    let written = super::fixture::read_all(&File::open(&whole).unwrap());
    let mut expected = super::fixture::read_all(&image.file);
    expected.resize(written.len(), 0);
    expected[12_585_000..12_586_000].fill(0x5a);
    assert!(written == expected);
    assert_consistent(&path);
    image.assert_untouched();
}

/// Sizes on both sides of what one entry and one cluster of the L1 table map.
#[test]
fn every_size_makes_a_sound_file() {
    const L2: u64 = 512 * MIB;
    const CLUSTER: u64 = L2 * 8192;
    let directory = tempdir().unwrap();
    let image = Image::in_directory(directory.path());
    let sizes =
        [L2, L2 + 512, CLUSTER, CLUSTER + 512, 3 * CLUSTER + 1024, crate::disk::qcow2::MAX_SIZE];
    for size in sizes {
        let vm = tempdir().unwrap();
        let disk = make(&image, vm.path(), Some(size));
        let path = disk.path(vm.path());
        let arguments = ["info", "--output=json", path.to_str().unwrap()];
        let Some(info) = qemu_tool("qemu-img", &arguments) else { return };
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["virtual-size"], size);
        assert_eq!(info["format"], "qcow2");
        assert_eq!(info["format-specific"]["data"]["corrupt"], false);
        assert_eq!(info.get("backing-filename"), None);
        let last = format!("write -P 0x5a {} 512", size - 512);
        qemu_tool("qemu-io", &["-c", &last, &overlay_over(&image.path, &path)]);
        assert_consistent(&path);
    }
}

fn assert_consistent(overlay: &Path) {
    let said = qemu_tool("qemu-img", &["check", "-f", "qcow2", overlay.to_str().unwrap()]);
    if let Some(said) = said {
        assert!(said.contains("No errors were found"), "{said}");
    }
}
