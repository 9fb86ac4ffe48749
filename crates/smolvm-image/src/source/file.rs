//! `file:` URLs: a path on this machine.

use std::fs::Metadata;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Answer, Ask, Failure, Opened, Parts, Retry, Validators};
use crate::transfer::TransferError;

pub(super) fn open(path: &Path, ask: &Ask<'_>) -> Result<Answer, Failure> {
    let failed = |source: io::Error| Failure {
        error: TransferError::File { path: path.to_owned(), source },
        retry: Retry::Never,
    };
    // NONBLOCK: a FIFO without a writer would wait for one.
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut file =
        std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let version = version_of(&metadata);
    if ask.unless.is_some_and(|known| known.etag.as_ref() == Some(&version)) {
        return Ok(Answer::Unchanged);
    }
    let same = ask.if_range.is_none_or(|known| known == version);
    let continues = ask.offset > 0 && same && ask.offset <= metadata.len();
    let end = ask.end.filter(|_| continues);
    let wanted = end.map_or(u64::MAX, |end| end.saturating_sub(ask.offset));
    if continues {
        file.seek(SeekFrom::Start(ask.offset)).map_err(failed)?;
    }
    Ok(Answer::Body(Opened {
        continues,
        total: Some(metadata.len()),
        ends_surely: true,
        parts: Parts::Unknown,
        from_cache: false,
        validators: Validators {
            etag: Some(version.clone()),
            last_modified: None,
            if_range: Some(version.clone()),
        },
        body: Box::new(Steady { file, path: path.to_owned(), version }.take(wanted)),
    }))
}

/// What changes when the file does.
fn version_of(metadata: &Metadata) -> String {
    format!(
        "\"{:x}-{:x}-{:x}-{:x}.{:x}\"",
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    )
}

/// Reads a file and fails as soon as it was changed since it was opened.
struct Steady {
    file: std::fs::File,
    path: PathBuf,
    version: String,
}

impl Read for Steady {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        // After every read: the last one is known by the size, there is no other at the end.
        if version_of(&self.file.metadata()?) != self.version {
            return Err(io::Error::other(TransferError::Changed { path: self.path.clone() }));
        }
        Ok(count)
    }
}
