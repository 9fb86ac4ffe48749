//! A log that is bounded: when the file is full it becomes the older one, and a new one begins.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use crate::sys;

/// The file, and beside it an older one with `.1` at the end of its name.
pub(crate) struct Log {
    path: PathBuf,
    limit: u64,
    file: Option<(File, u64)>,
}

/// What a process writes, on its way to a [`Log`].
pub(crate) struct Pump {
    pipe: PipeReader,
    last_line: Vec<u8>,
    /// Whether nobody writes to it any more.
    pub(crate) is_over: bool,
}

/// The most bytes of a last line that are kept.
const MAX_LINE: usize = 1024;
/// How many bytes are taken at once, so that who writes much does not keep others waiting.
const AT_ONCE: usize = 64 * 1024;

impl Log {
    /// A log of at most `limit` bytes a file.
    pub(crate) fn new(path: PathBuf, limit: u64) -> Self {
        Self { path, limit, file: None }
    }

    /// Appends to it. What cannot be written (the disk is full) is lost: nobody would be helped
    /// if the VM ended for it.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Ok((mut file, length)) = self.open() else { return };
            let room = usize::try_from(self.limit.saturating_sub(length)).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            let written = file.write_all(now);
            let length = length + now.len() as u64;
            self.file = Some((file, length));
            if written.is_err() || (length >= self.limit && self.rotate().is_err()) {
                return;
            }
            bytes = later;
        }
    }

    fn open(&mut self) -> io::Result<(File, u64)> {
        if let Some(open) = self.file.take() {
            return Ok(open);
        }
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        let mut older = OsString::from(&self.path);
        older.push(".1");
        fs::rename(&self.path, older)
    }
}

impl Pump {
    pub(crate) fn new(pipe: PipeReader) -> io::Result<Self> {
        sys::set_nonblocking(pipe.as_fd())?;
        Ok(Self { pipe, last_line: Vec::new(), is_over: false })
    }

    /// Takes some of what is in the pipe. Returns whether that was anything.
    pub(crate) fn run(&mut self, log: &mut Log) -> bool {
        let mut buffer = vec![0; AT_ONCE];
        match self.pipe.read(&mut buffer) {
            Ok(count) if count > 0 => {
                log.append(&buffer[..count]);
                self.remember(&buffer[..count]);
                true
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                false
            }
            _ => {
                self.is_over = true;
                false
            }
        }
    }

    /// Takes what is left in the pipe of a process that has ended.
    pub(crate) fn drain(&mut self, log: &mut Log) {
        // A child of that process may write on without end.
        for _ in 0..64 {
            if !self.run(log) {
                return;
            }
        }
    }

    /// The last line that was not empty.
    pub(crate) fn last_line(&self) -> String {
        let mut lines = self.last_line.split(|&byte| byte == b'\n');
        let line = lines.rfind(|line| !line.trim_ascii().is_empty());
        String::from_utf8_lossy(line.unwrap_or_default()).trim().to_owned()
    }

    fn remember(&mut self, bytes: &[u8]) {
        self.last_line.extend_from_slice(&bytes[bytes.len().saturating_sub(MAX_LINE)..]);
        let surplus = self.last_line.len().saturating_sub(MAX_LINE);
        self.last_line.drain(..surplus);
    }
}

impl AsFd for Pump {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
