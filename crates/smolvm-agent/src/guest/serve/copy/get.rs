//! [`Get`]: files that are copied out of the guest.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata, ReadDir};
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use smolvm_protocol::{
    Entry, EntryKind, EntryPath, Failure, FailureKind, HEADER, ProtocolError, Reply, Request,
    SendWindow, Stream,
};

use super::super::channel::{Channel, Flow, Replies};
use super::super::failure::{failed, failure, io_failure, shown};
use super::directory::Directory;
use crate::sys::poll::Events;

/// A copy out of the guest.
///
/// A link that the host names itself is followed; those below it are copied as links. Sockets are
/// left out, as they are nothing without the process that listens. Of devices and fifos there is
/// no copy either: the rest is copied, and the answer is a failure that names the first of them.
pub(in super::super) struct Get {
    path: PathBuf,
    window: SendWindow,
    /// The directories that the walk is in, from the outermost in.
    walk: Vec<Level>,
    /// The file whose content is sent now.
    file: Option<(File, EntryPath)>,
    /// What comes next, if its turn has come but there is not enough credit for it.
    next: Option<Found>,
    /// The first that cannot be copied, and how many there are.
    left_out: Option<(String, u32)>,
}

/// A directory of the walk.
struct Level {
    directory: Directory,
    entries: ReadDir,
    /// Where it is below the root of the copy.
    path: Vec<u8>,
}

/// Something to send.
struct Found {
    entry: Entry,
    /// What it takes of the window.
    cost: usize,
    content: Content,
}

/// What follows an entry.
enum Content {
    Nothing,
    File(File),
    Directory(Level),
}

impl Get {
    /// Begins to copy `path`; one that is not absolute begins at the root directory.
    pub(in super::super) fn start(path: &[u8]) -> Result<Self, Failure> {
        let path = Path::new("/").join(OsStr::from_bytes(path));
        let error = |error| io_failure(path.display(), &error);
        let real = fs::canonicalize(&path).map_err(error)?;
        let metadata = fs::symlink_metadata(&real).map_err(error)?;
        let root = Vec::new();
        let next = if metadata.is_dir() {
            let directory = Directory::open(&real).map_err(error)?;
            Found::directory(directory, root, &metadata)
        } else if let (true, Some(parent), Some(name)) =
            (metadata.is_file(), real.parent(), real.file_name())
        {
            let parent = Directory::open(parent).map_err(error)?;
            Found::file(&parent, name.as_bytes(), &root)
        } else {
            let message = format_args!("{}: {} cannot be copied", path.display(), kind(&metadata));
            return Err(failure(FailureKind::Unsupported, message));
        };
        let next = Some(next.map_err(error)?);
        let window = SendWindow::default();
        Ok(Self { path, window, walk: Vec::new(), file: None, next, left_out: None })
    }

    /// Sends the next part, as far as there is credit. Returns whether that was the last.
    fn send_next(&mut self, replies: &mut Replies<'_>) -> Result<bool, Failure> {
        if let Some((file, path)) = &mut self.file {
            let count = match file.read(replies.buffer(self.window.available())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
                read => read.map_err(|error| {
                    io_failure(shown_below(&self.path, path.as_bytes()), &error)
                })?,
            };
            if count == 0 {
                self.file = None;
            } else {
                self.sent(count)?;
                replies.send_read(Stream::Stdout, count);
            }
            return Ok(false);
        }
        let Some(found) = self.next.take() else {
            return self.look_for_next();
        };
        if found.cost > self.window.available() {
            self.next = Some(found);
            return Ok(false);
        }
        self.sent(found.cost)?;
        match found.content {
            Content::Nothing => {}
            Content::File(file) => self.file = Some((file, found.entry.path.clone())),
            Content::Directory(level) => self.walk.push(level),
        }
        replies.send(&Reply::Entry(found.entry));
        Ok(false)
    }

    fn sent(&mut self, length: usize) -> Result<(), Failure> {
        self.window.sent(length).map_err(|error| failure(FailureKind::Other, error))
    }

    /// Goes on with the walk. Returns whether it has come to its end.
    fn look_for_next(&mut self) -> Result<bool, Failure> {
        let Some(level) = self.walk.last_mut() else {
            return Ok(true);
        };
        let Some(entry) = level.entries.next() else {
            self.walk.pop();
            return Ok(false);
        };
        let in_directory = shown_below(&self.path, &level.path);
        let name = entry.map_err(|error| io_failure(&in_directory, &error))?.file_name();
        let name = name.as_bytes();
        let mut path = level.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let shown = shown_below(&self.path, &path);
        match Found::look(&level.directory, name, path) {
            Ok(Ok(found)) => self.next = Some(found),
            Ok(Err(metadata)) if metadata.file_type().is_socket() => {}
            Ok(Err(metadata)) => {
                let first = || (format!("{shown} ({})", kind(&metadata)), 0);
                self.left_out.get_or_insert_with(first).1 += 1;
            }
            // It was removed in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_failure(shown, &error)),
        }
        Ok(false)
    }

    fn last(&self) -> Reply {
        match &self.left_out {
            None => Reply::Done,
            Some((first, 1)) => {
                let message = format_args!("all was copied but {first}, of which there is no copy");
                failed(FailureKind::Unsupported, message)
            }
            Some((first, count)) => {
                let message = format_args!(
                    "all was copied but {first} and {} more, of which there is no copy",
                    count - 1
                );
                failed(FailureKind::Unsupported, message)
            }
        }
    }
}

impl Found {
    /// What is under a name; its description alone where that is nothing that can be copied.
    fn look(
        directory: &Directory,
        name: &[u8],
        path: Vec<u8>,
    ) -> io::Result<Result<Self, Metadata>> {
        let Some(metadata) = directory.look(name)? else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let kind = metadata.file_type();
        if kind.is_dir() {
            Self::directory(directory.enter(name)?, path, &metadata).map(Ok)
        } else if kind.is_file() {
            Self::file(directory, name, &path).map(Ok)
        } else if kind.is_symlink() {
            let target = EntryKind::Symlink(directory.link_target(name)?);
            Self::new(&path, target, &metadata, Content::Nothing).map(Ok)
        } else {
            Ok(Err(metadata))
        }
    }

    fn directory(directory: Directory, path: Vec<u8>, metadata: &Metadata) -> io::Result<Self> {
        let entries = directory.list()?;
        let root = path.clone();
        let content = Content::Directory(Level { directory, entries, path });
        Self::new(&root, EntryKind::Directory, metadata, content)
    }

    fn file(directory: &Directory, name: &[u8], path: &[u8]) -> io::Result<Self> {
        let file = directory.open_file(name)?;
        let metadata = file.metadata()?;
        Self::new(path, EntryKind::File(metadata.len()), &metadata, Content::File(file))
    }

    fn new(
        path: &[u8],
        kind: EntryKind,
        metadata: &Metadata,
        content: Content,
    ) -> io::Result<Self> {
        /// Permissions and the three bits before them.
        const MODE: u32 = 0o7777;
        let path = EntryPath::parse(path).map_err(|_| io::ErrorKind::InvalidFilename)?;
        let mode = metadata.mode() & MODE;
        let modified = u64::try_from(metadata.mtime()).unwrap_or(0);
        let entry = Entry { path, kind, mode, modified };
        let mut frame = Vec::new();
        Reply::Entry(entry.clone()).encode(0, &mut frame);
        Ok(Self { entry, cost: frame.len() - HEADER, content })
    }
}

impl Channel for Get {
    fn receive(
        &mut self,
        request: Request,
        _length: usize,
        replies: &mut Replies<'_>,
    ) -> Result<Flow, ProtocolError> {
        match request {
            Request::Credit(Stream::Stdout, bytes) => {
                self.window.credit(bytes)?;
                Ok(Flow::Open)
            }
            Request::Close => {
                let message = "the copy out of the guest was broken off";
                Ok(replies.finish(&failed(FailureKind::Other, message)))
            }
            _ => Err(ProtocolError::Malformed("that is not said during a copy")),
        }
    }

    fn watch(&self, _room: bool, _watch: &mut dyn FnMut(BorrowedFd<'_>, Events, Stream)) {}

    fn ready(&mut self, _stream: Stream, _replies: &mut Replies<'_>) -> Flow {
        Flow::Open
    }

    fn is_busy(&self) -> bool {
        let needed = self.next.as_ref().map_or(1, |found| found.cost);
        self.window.available() >= needed
    }

    fn advance(&mut self, replies: &mut Replies<'_>) -> Flow {
        /// Other work waits for so many parts.
        const PARTS: usize = 32;
        for _ in 0..PARTS {
            if !self.is_busy() || !replies.has_room() {
                break;
            }
            match self.send_next(replies) {
                Ok(false) => {}
                Ok(true) => {
                    replies.send(&Reply::End(Stream::Stdout));
                    return replies.finish(&self.last());
                }
                Err(failure) => return replies.finish(&Reply::Failed(failure)),
            }
        }
        Flow::Open
    }
}

fn shown_below(root: &Path, path: &[u8]) -> String {
    match path {
        b"" => root.display().to_string(),
        path => format!("{}/{}", root.display(), shown(path)),
    }
}

/// What something is that cannot be copied, for people.
fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a fifo"
    } else {
        "a device"
    }
}
