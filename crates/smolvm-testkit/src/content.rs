//! Bytes to serve: deterministic noise that does not compress, and digests of it.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// `len` bytes that look random and are the same for the same `seed`, so that a failure can be
/// reproduced and two seeds never agree by accident.
///
/// ```
/// use smolvm_testkit::content::noise;
///
/// assert_eq!(noise(7, 10), noise(7, 20)[..10]);
/// assert_ne!(noise(7, 10), noise(8, 10));
/// ```
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    // SplitMix64: one multiplication chain for eight bytes keeps hundreds of MiB affordable in
    // a debug build.
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The SHA-256 digest of `bytes`, as 64 lower-case hex digits.
///
/// ```
/// let digest = smolvm_testkit::content::sha256_hex(b"");
/// assert!(digest.starts_with("e3b0c442"));
/// ```
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes all");
        hex
    })
}
