//! The files that are fetched: noise of given sizes, the same in every run, kept under
//! `target/bench/files`.

use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::images::digest_of;

/// Bytes in a mebibyte.
pub(crate) const MIB: u64 = 1 << 20;

/// A file that a server has.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) path: PathBuf,
    /// Its name below the served directory.
    pub(crate) name: String,
    pub(crate) sha256: String,
}

/// Noise of that many bytes, of its own for each seed.
pub(crate) fn noise(directory: &Path, seed: u64, size: u64) -> Result<Content> {
    let name = format!("noise-{seed}-{size}");
    with_digest(kept(directory, &name, size, |file| write_noise(file, seed, size))?)
}

/// A file of `size` bytes of which one in so many is noise, in so many stretches of equal length,
/// and the rest zeros, as a root file system with room in it has.
pub(crate) fn sparse(directory: &Path, size: u64, one_in: u64, stretches: u64) -> Result<Content> {
    with_digest(sparse_file(directory, size, one_in, stretches)?)
}

/// The same, for those who do not fetch it.
pub(crate) fn sparse_file(
    directory: &Path,
    size: u64,
    one_in: u64,
    stretches: u64,
) -> Result<PathBuf> {
    let step = size / stretches;
    kept(directory, &format!("sparse-{one_in}-{stretches}-{size}"), size, |file| {
        for number in 0..stretches {
            file.seek(SeekFrom::Start(number * step))?;
            write_noise(file, number, step / one_in)?;
        }
        Ok(())
    })
}

/// A file that is made where it is not there.
fn kept(
    directory: &Path,
    name: &str,
    size: u64,
    write: impl FnOnce(&mut BufWriter<fs_err::File>) -> Result<()>,
) -> Result<PathBuf> {
    fs_err::create_dir_all(directory)?;
    let path = directory.join(name);
    if !path.exists() {
        let temporary = directory.join(format!(".{name}"));
        let mut file = BufWriter::with_capacity(1 << 20, fs_err::File::create(&temporary)?);
        write(&mut file)?;
        let file = file.into_inner()?;
        file.set_len(size)?;
        file.sync_all()?;
        fs_err::rename(&temporary, &path)?;
    }
    Ok(path)
}

/// Its digest is kept beside it.
fn with_digest(path: PathBuf) -> Result<Content> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let digest = path.with_file_name(format!(".{name}.sha256"));
    if !digest.exists() {
        fs_err::write(&digest, digest_of(&path)?)?;
    }
    let sha256 = fs_err::read_to_string(&digest)?;
    Ok(Content { path, name, sha256 })
}

/// `SplitMix64`: as incompressible as random bytes, and the same every time.
fn write_noise(file: &mut BufWriter<fs_err::File>, seed: u64, size: u64) -> Result<()> {
    let mut state = seed.wrapping_mul(0xa076_1d64_78bd_642f);
    let mut left = size;
    while left > 0 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bytes = (word ^ (word >> 31)).to_le_bytes();
        let count = left.min(8);
        file.write_all(&bytes[..usize::try_from(count)?])?;
        left -= count;
    }
    Ok(())
}
