//! How fast the parts are that every fetch and every start goes through: the hash, the detection of
//! holes, the parsing of a registry.
//!
//! ```sh
//! cargo bench --package smolvm-image
//! ```
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot run says so by panicking")]

// What is private to the crate is measured as it is. Its tests are compiled, too, and not run.
#[allow(
    dead_code,
    unused_imports,
    reason = "which of its functions are used depends on what is built"
)]
#[path = "../src/holes.rs"]
mod holes;

use std::fmt::Write as _;
use std::io::Write as _;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use smolvm_image::{Digest, Registry};

/// What is received, written and hashed at once, in bytes.
const BUFFER: usize = 256 << 10;

const BLOCK: usize = 4096;

/// Out of how many blocks so many are zeros.
#[derive(Debug, Clone, Copy)]
enum Zeros {
    None,
    /// About as many as in a real root file system.
    Third,
    All,
}

fn main() {
    divan::main();
}

#[divan::bench(args = [BLOCK, BUFFER, 16 << 20])]
fn hash(bencher: Bencher<'_, '_>, size: usize) {
    let bytes = noise(size);
    bencher.counter(BytesCount::new(size)).bench(|| Digest::of(divan::black_box(&bytes)));
}

/// Detection, and writing what is no hole into the page cache.
#[divan::bench(args = [Zeros::None, Zeros::Third, Zeros::All])]
fn holes_and_write(bencher: Bencher<'_, '_>, zeros: Zeros) {
    let mut bytes = noise(BUFFER);
    for (number, block) in bytes.chunks_mut(BLOCK).enumerate() {
        if matches!(zeros, Zeros::All) || (matches!(zeros, Zeros::Third) && number % 3 == 0) {
            block.fill(0);
        }
    }
    let file = tempfile::tempfile().unwrap();
    bencher
        .counter(BytesCount::new(BUFFER))
        .bench(|| holes::append(&file, divan::black_box(&bytes), 0).unwrap());
}

#[divan::bench(args = [1, 64, 1024])]
fn registry(bencher: Bencher<'_, '_>, images: usize) {
    let mut text = String::new();
    for image in 0..images {
        let digest = "0123456789abcdef".repeat(4);
        write!(
            text,
            "[images.image-{image}]\n\
             kernel_url = \"https://example.org/{image}/vmlinux\"\nkernel_sha256 = \"{digest}\"\n\
             rootfs_url = \"https://example.org/{image}/rootfs.ext4\"\nrootfs_sha256 = \"{digest}\"\n"
        )
        .unwrap();
    }
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    bencher.counter(ItemsCount::new(images)).bench(|| Registry::load(file.path()).unwrap());
}

/// Bytes in which no block is zeros.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(size).collect()
}
