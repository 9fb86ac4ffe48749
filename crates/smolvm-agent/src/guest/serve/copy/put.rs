//! [`Put`]: files that the host copies into the guest.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use smolvm_protocol::{
    Entry, EntryKind, EntryPath, Failure, FailureKind, ProtocolError, ReceiveWindow, Reply,
    Request, Stream,
};

use super::super::channel::{Channel, Flow, Replies};
use super::super::failure::{failed, failure, io_failure, shown};
use super::directory::{Directory, NewFile};
use crate::sys::poll::Events;

/// A copy into the guest.
///
/// The path is what the copy is called then, and not a directory to put it into. Directories that
/// lead there are made. A file or link takes the place of a file or link; a directory is joined
/// with one that is there, which keeps its mode; anything else that is in the way is a failure.
/// Below the path no link is followed. A file is written under another name first, so that nobody
/// sees half of it. All belongs to root.
pub(in super::super) struct Put {
    path: PathBuf,
    window: ReceiveWindow,
    /// What the first entry has opened; nothing else can come before.
    root: Option<Root>,
    /// The file whose content comes now.
    file: Option<(NewFile, String)>,
    /// The directories that were made, around the last entry. They get their modes and times when
    /// nothing more is put into them.
    made: Vec<Entry>,
    /// The directory that was last looked up.
    last: Option<(Vec<u8>, Rc<Directory>)>,
}

/// What the root of the copy is.
enum Root {
    /// A directory, in which the other entries have their places.
    Directory(Rc<Directory>),
    /// A file or link: there are no other entries.
    Single,
}

impl Put {
    /// Waits for what is to be at `path`; one that is not absolute begins at the root directory.
    pub(in super::super) fn start(path: &[u8]) -> Self {
        Self {
            path: Path::new("/").join(OsStr::from_bytes(path)),
            window: ReceiveWindow::default(),
            root: None,
            file: None,
            made: Vec::new(),
            last: None,
        }
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Failure> {
        self.finish_file()?;
        self.finish_directories(Some(&entry.path))?;
        let is_root = entry.path == EntryPath::root();
        match &self.root {
            None if is_root => self.make_root(entry),
            Some(Root::Directory(_)) if !is_root => {
                let (directory, name) = self.parent(&entry.path)?;
                let shown = self.shown(&entry.path);
                if self.make(&directory, &name, &entry, &shown)? {
                    self.made.push(entry);
                }
                Ok(())
            }
            _ => Err(failure(FailureKind::Other, "a copy begins with its root, which is one")),
        }
    }

    /// Makes the first entry.
    fn make_root(&mut self, entry: Entry) -> Result<(), Failure> {
        let shown = self.shown(&entry.path);
        let error = |error| io_failure(&shown, &error);
        if let EntryKind::Directory = entry.kind {
            match fs::metadata(&self.path) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(in_the_way(&shown, "no directory")),
                Err(_) => {
                    fs::create_dir_all(&self.path).map_err(error)?;
                    self.made.push(entry);
                }
            }
            let directory = Directory::open(&self.path).map_err(error)?;
            self.root = Some(Root::Directory(Rc::new(directory)));
            return Ok(());
        }
        if self.path.is_dir() {
            return Err(in_the_way(&shown, "a directory"));
        }
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(in_the_way(&shown, "a directory"));
        };
        fs::create_dir_all(parent).map_err(error)?;
        let directory = Rc::new(Directory::open(parent).map_err(error)?);
        let name = name.as_bytes().to_vec();
        self.make(&directory, &name, &entry, &shown)?;
        self.root = Some(Root::Single);
        Ok(())
    }

    /// Makes an entry in its directory. Returns whether that is a directory that was not there.
    fn make(
        &mut self,
        directory: &Rc<Directory>,
        name: &[u8],
        entry: &Entry,
        shown: &str,
    ) -> Result<bool, Failure> {
        let error = |error| io_failure(shown, &error);
        let found = directory.look(name).map_err(error)?;
        match (&entry.kind, found) {
            (EntryKind::Directory, None) => {
                directory.create_directory(name).map_err(error)?;
                return Ok(true);
            }
            (EntryKind::Directory, Some(found)) if found.is_dir() => {}
            (EntryKind::Directory, Some(_)) => return Err(in_the_way(shown, "no directory")),
            (_, Some(found)) if found.is_dir() => return Err(in_the_way(shown, "a directory")),
            (EntryKind::File(_), _) => {
                let file = NewFile::create(Rc::clone(directory), name).map_err(error)?;
                let file = file.with_attributes(entry.mode, entry.modified);
                self.file = Some((file, shown.to_owned()));
            }
            (EntryKind::Symlink(target), _) => {
                directory.replace_by_link(name, target, entry.modified).map_err(error)?;
            }
        }
        Ok(false)
    }

    /// The directory that `path` is in, and its name there.
    fn parent(&mut self, path: &EntryPath) -> Result<(Rc<Directory>, Vec<u8>), Failure> {
        let path = path.as_bytes();
        let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        Ok((self.directory(parent)?, name.to_vec()))
    }

    fn directory(&mut self, path: &[u8]) -> Result<Rc<Directory>, Failure> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(directory));
        }
        let Some(Root::Directory(root)) = &self.root else {
            return Err(failure(FailureKind::Other, "the root of the copy is no directory"));
        };
        let mut directory = Rc::clone(root);
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let entered = directory.enter(name);
            directory = Rc::new(entered.map_err(|error| {
                let place = self.path.join(OsStr::from_bytes(path));
                io_failure(place.display(), &error)
            })?);
        }
        self.last = Some((path.to_vec(), Rc::clone(&directory)));
        Ok(directory)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.file {
            Some((file, shown)) => file.write_all(bytes).map_err(|error| io_failure(shown, &error)),
            None => Err(failure(FailureKind::Other, "there is data without a file that it is of")),
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.root.is_none() {
            return Err(failure(FailureKind::Other, "nothing was sent to be copied"));
        }
        self.finish_file()?;
        self.finish_directories(None)
    }

    fn finish_file(&mut self) -> Result<(), Failure> {
        match self.file.take() {
            Some((file, shown)) => file.finish().map_err(|error| io_failure(shown, &error)),
            None => Ok(()),
        }
    }

    /// Finishes the directories that were made and do not lead to the next entry.
    fn finish_directories(&mut self, next: Option<&EntryPath>) -> Result<(), Failure> {
        while let Some(entry) =
            self.made.pop_if(|made| next.is_none_or(|next| !leads_to(&made.path, next)))
        {
            let directory = self.directory(entry.path.as_bytes())?;
            directory
                .set_attributes(entry.mode, entry.modified)
                .map_err(|error| io_failure(self.shown(&entry.path), &error))?;
        }
        Ok(())
    }

    fn shown(&self, path: &EntryPath) -> String {
        match path.as_bytes() {
            b"" => self.path.display().to_string(),
            path => format!("{}/{}", self.path.display(), shown(path)),
        }
    }
}

impl Channel for Put {
    fn receive(
        &mut self,
        request: Request,
        length: usize,
        replies: &mut Replies<'_>,
    ) -> Result<Flow, ProtocolError> {
        let result = match request {
            Request::Data(bytes) => {
                self.window.received(length)?;
                self.data(&bytes)
            }
            Request::Entry(entry) => {
                self.window.received(length)?;
                self.entry(entry)
            }
            Request::End => match self.end() {
                Ok(()) => return Ok(replies.finish(&Reply::Done)),
                failed => failed,
            },
            Request::Close => {
                let message = "the copy into the guest was broken off";
                return Ok(replies.finish(&failed(FailureKind::Other, message)));
            }
            _ => return Err(ProtocolError::Malformed("that is not said during a copy")),
        };
        if let Err(failure) = result {
            return Ok(replies.finish(&Reply::Failed(failure)));
        }
        if let Some(credit) = self.window.consumed(length) {
            replies.send(&Reply::Credit(credit));
        }
        Ok(Flow::Open)
    }

    fn watch(&self, _room: bool, _watch: &mut dyn FnMut(BorrowedFd<'_>, Events, Stream)) {}

    fn ready(&mut self, _stream: Stream, _replies: &mut Replies<'_>) -> Flow {
        Flow::Open
    }
}

/// Whether what is at `path` is in the directory.
fn leads_to(directory: &EntryPath, path: &EntryPath) -> bool {
    match directory.as_bytes() {
        b"" => true,
        directory => {
            path.as_bytes().strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
        }
    }
}

fn in_the_way(path: &str, what: impl Display) -> Failure {
    failure(FailureKind::Exists, format_args!("{path}: there is {what} under that name already"))
}
