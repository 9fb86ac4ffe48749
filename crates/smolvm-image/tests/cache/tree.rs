//! What lies in a directory, to be compared before and after.

use std::collections::BTreeMap;
use std::fs::{File, FileTimes};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use fs_err::os::unix::fs::symlink;
use smolvm_testkit::content::sha256_hex;

/// One thing in a directory: all that somebody could have changed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Type and permissions, as `stat(2)` has them.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) inode: u64,
    pub(crate) modified: (i64, i64),
    /// The digest of a file, the target of a link.
    pub(crate) content: String,
}

impl Entry {
    pub(crate) fn is_dir(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// The permissions, set-id bits included.
    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

/// Everything below a directory, and the directory itself under the empty path.
pub(crate) fn list(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut entries = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_file() {
            sha256_hex(&fs_err::read(&path).unwrap())
        } else if metadata.is_symlink() {
            fs_err::read_link(&path).unwrap().display().to_string()
        } else {
            String::new()
        };
        if metadata.is_dir() {
            todo.extend(fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let entry = Entry {
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            content,
        };
        entries.insert(path.strip_prefix(root).unwrap().to_owned(), entry);
    }
    entries
}

/// Fails, and names what differs, unless everything below a directory is as it was.
pub(crate) fn assert_unchanged(root: &Path, before: &BTreeMap<PathBuf, Entry>) {
    let after = list(root);
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (before, after) = (before.get(name), after.get(name));
        assert_eq!(before, after, "{} was changed", root.join(name).display());
    }
}

/// A directory with a file in it, outside of the cache, for links to point to.
pub(crate) struct Canary {
    pub(crate) directory: PathBuf,
    pub(crate) file: PathBuf,
    before: BTreeMap<PathBuf, Entry>,
}

impl Canary {
    /// Makes one below `parent`, whose file has these bytes.
    pub(crate) fn new(parent: &Path, bytes: &[u8]) -> Self {
        let directory = parent.join("canary");
        fs_err::create_dir_all(&directory).unwrap();
        let file = directory.join("file");
        fs_err::write(&file, bytes).unwrap();
        let before = list(&directory);
        Self { directory, file, before }
    }

    /// Puts a link to the file (or the directory) in the place of what lies at `path`.
    pub(crate) fn plant_file_link(&self, path: &Path) {
        plant(&self.file, path);
    }

    pub(crate) fn plant_directory_link(&self, path: &Path) {
        plant(&self.directory, path);
    }

    pub(crate) fn assert_untouched(&self) {
        assert_unchanged(&self.directory, &self.before);
    }
}

fn plant(target: &Path, path: &Path) {
    remove_any(path);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

/// Removes whatever lies at a path.
pub(crate) fn remove_any(path: &Path) {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs_err::remove_dir_all(path).unwrap(),
        Ok(_) => fs_err::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Flips the lowest bit of the byte at an offset and puts permissions and times back, as a failing
/// disk would.
pub(crate) fn flip_bit(path: &Path, offset: u64) {
    let before = path.metadata().unwrap();
    chmod(path, 0o600);
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    let times = FileTimes::new()
        .set_accessed(before.accessed().unwrap())
        .set_modified(before.modified().unwrap());
    file.set_times(times).unwrap();
    drop(file);
    fs_err::set_permissions(path, before.permissions()).unwrap();
    let after = path.metadata().unwrap();
    assert_eq!(
        (after.len(), after.modified().unwrap()),
        (before.len(), before.modified().unwrap())
    );
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn inode(path: &Path) -> u64 {
    path.metadata().unwrap().ino()
}
