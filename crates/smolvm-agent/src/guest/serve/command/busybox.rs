//! Finding busybox, in which a guest may have all of its programs.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use crate::sys::launch::{Credentials, Launch, Restored};

/// Where busybox usually is.
pub(super) const PATHS: &[&CStr] =
    &[c"/bin/busybox", c"/usr/bin/busybox", c"/sbin/busybox", c"/busybox"];

/// A busybox, and the names of what it can be, a line for each.
struct Busybox {
    path: &'static CStr,
    applets: Vec<u8>,
}

/// The busybox that can be a program of this name.
pub(super) fn with_applet(name: &[u8]) -> Option<CString> {
    static BUSYBOX: OnceLock<Busybox> = OnceLock::new();
    let busybox = match BUSYBOX.get() {
        Some(busybox) => busybox,
        // A guest may get one later.
        None => Busybox::find().map(|found| BUSYBOX.get_or_init(|| found))?,
    };
    busybox.can_be(name).then(|| busybox.path.to_owned())
}

impl Busybox {
    fn find() -> Option<Self> {
        PATHS.iter().find_map(|path| {
            let exists = Path::new(OsStr::from_bytes(path.to_bytes())).exists();
            let applets = exists.then(|| list(path).ok())??;
            Some(Self { path, applets })
        })
    }

    fn can_be(&self, name: &[u8]) -> bool {
        !name.is_empty() && self.applets.split(|&byte| byte == b'\n').any(|applet| applet == name)
    }
}

/// Asks a busybox what it can be. It answers at once.
fn list(path: &CStr) -> io::Result<Vec<u8>> {
    const LIMIT: u64 = 64 * 1024;
    const SIGKILL: u8 = 9;
    let (reader, writer) = io::pipe()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let launch = Launch {
        programs: &[path.to_owned()],
        arguments: &[c"busybox".to_owned(), c"--list".to_owned()],
        environment: &[],
        directories: &[c"/".to_owned()],
        streams: [null.as_fd(), writer.as_fd(), null.as_fd()],
        terminal: false,
        credentials: &Credentials { user: 0, group: 0, groups: Vec::new() },
        restored: Restored::default(),
    };
    let group = launch.start().map_err(|failed| failed.error)?;
    drop(writer);
    let mut applets = Vec::new();
    let read = reader.take(LIMIT).read_to_end(&mut applets);
    group.signal(SIGKILL);
    group.wait();
    read.map(|_| applets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_applet_is_known_by_its_whole_name() {
        let busybox = Busybox { path: c"/bin/busybox", applets: b"[\ncat\necho\n".to_vec() };
        assert!(busybox.can_be(b"echo") && busybox.can_be(b"["));
        assert!(!busybox.can_be(b"ech") && !busybox.can_be(b"") && !busybox.can_be(b"cat\necho"));
    }
}
