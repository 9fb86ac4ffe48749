//! Who uses an image: directories that need it as long as they exist, by a note of their makers,
//! and processes that hold its files, as far as this user may look.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dir::{Dir, Inode};
use super::leavings::is_abandoned;
use super::store::{self, Store};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::report::ImageUser;

/// Separates the image's name from the rest; no name has it.
const SEPARATOR: char = '@';

/// What a note is called while it is written.
const TEMPORARY: &str = ".new";

/// A note that is larger, in bytes, is none of ours.
const MAX_SIZE: u64 = 64 << 10;

/// A directory that needs an image.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// Its absolute path.
    directory: PathBuf,
    /// What it is, lest another of that name be taken for it.
    device: u64,
    inode: u64,
}

impl Note {
    fn of(directory: &Path) -> io::Result<Self> {
        let metadata = fs_err::metadata(directory)?;
        let directory = directory.to_owned();
        Ok(Self { directory, device: metadata.dev(), inode: metadata.ino() })
    }

    /// Whether the directory is still there, or nobody can say that it is not.
    fn holds(&self) -> bool {
        match self.directory.metadata() {
            Ok(metadata) => (metadata.dev(), metadata.ino()) == (self.device, self.inode),
            Err(error) => {
                !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
        }
    }
}

/// Notes that an image is needed as long as a directory exists. `false`: it cannot be noted, since
/// the cache cannot be written to.
pub(crate) fn note(root: &Path, image: &str, directory: &Path) -> Result<bool, ImageError> {
    let Some((state, modes)) = store::open_state(root)? else { return Ok(false) };
    let notes = match state.ensure_dir(store::IN_USE, modes.dir) {
        Err(ImageError::Io { source, .. }) if cannot_be_written(&source) => return Ok(false),
        notes => notes?,
    };
    for (name, note) in notes_of(&notes, image)? {
        if !note.is_some_and(|note| note.holds()) {
            let _ = notes.unlink(&name);
        }
    }
    let unique = Digest::of(directory.as_os_str().as_encoded_bytes()).to_string();
    let name = format!("{image}{SEPARATOR}{}", &unique[..16]);
    let write = || -> io::Result<()> {
        let text = serde_json::to_vec(&Note::of(directory)?).map_err(io::Error::other)?;
        let temporary = format!("{name}{TEMPORARY}");
        notes.unlink(&temporary)?;
        notes.create_new(&temporary, modes.partial)?.write_all(&text)?;
        notes.rename(&temporary, &notes, &name)
    };
    match write() {
        Ok(()) => Ok(true),
        Err(error) if cannot_be_written(&error) => Ok(false),
        Err(error) => Err(ImageError::io(&notes.path_of(&name), "write", error)),
    }
}

fn cannot_be_written(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// The directories that need an image.
pub(super) fn directories(store: &Store, image: &str) -> Result<Vec<PathBuf>, ImageError> {
    let notes = store.in_use.as_ref().map_or(Ok(Vec::new()), |notes| notes_of(notes, image))?;
    let notes = notes.into_iter().filter_map(|(_, note)| note.filter(Note::holds));
    Ok(notes.map(|note| note.directory).collect())
}

/// Forgets who needs an image.
pub(super) fn forget(store: &Store, image: &str) {
    let Some(notes) = &store.in_use else { return };
    for (name, _) in notes_of(notes, image).unwrap_or_default() {
        let _ = notes.unlink(&name);
    }
}

/// The notes of directories that are gone, or of images that are.
pub(super) fn stale(store: &Store) -> Result<Vec<String>, ImageError> {
    let Some(notes) = &store.in_use else { return Ok(Vec::new()) };
    let mut names = notes.names()?;
    names.retain(|name| {
        if name.ends_with(TEMPORARY) {
            return is_abandoned(notes, name);
        }
        let is_there = image_of(name).is_some_and(|image| store.root.inode_of(image).is_some());
        !is_there || !read(notes, name).is_some_and(|note| note.holds())
    });
    Ok(names)
}

/// The image that a note is of.
fn image_of(note: &str) -> Option<&str> {
    note.rsplit_once(SEPARATOR).map(|(image, _)| image)
}

/// The notes of an image; `None` for one that says nothing.
fn notes_of(notes: &Dir, image: &str) -> Result<Vec<(String, Option<Note>)>, ImageError> {
    let names = notes.names()?.into_iter();
    let names = names.filter(|name| image_of(name) == Some(image) && !name.ends_with(TEMPORARY));
    let with_note = |name: String| {
        let note = read(notes, &name);
        (name, note)
    };
    Ok(names.map(with_note).collect())
}

fn read(notes: &Dir, name: &str) -> Option<Note> {
    let mut text = Vec::new();
    notes.open_file(name).ok()??.take(MAX_SIZE).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// The processes that hold a lock on one of these files, as far as this user may look.
pub(super) fn processes(files: &[Inode]) -> Vec<ImageUser> {
    let mut users = Vec::new();
    for entry in fs_err::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if holds_one_of(&entry.path(), files) {
            let program = fs_err::read_to_string(entry.path().join("comm")).unwrap_or_default();
            users.push(ImageUser::Process { process, program: program.trim_end().to_owned() });
        }
    }
    users
}

fn holds_one_of(process: &Path, files: &[Inode]) -> bool {
    // Other users' processes do not show theirs.
    let Ok(descriptors) = fs_err::read_dir(process.join("fd")) else { return false };
    descriptors.flatten().any(|descriptor| {
        let Ok(metadata) = fs_err::metadata(descriptor.path()) else { return false };
        // Which descriptions have a lock is said in `proc_pid_fdinfo(5)`.
        let info = process.join("fdinfo").join(descriptor.file_name());
        files.contains(&Inode::at(&metadata))
            && fs_err::read_to_string(info).is_ok_and(|info| info.contains("FLOCK"))
    })
}
