//! Whether a program listens on its Unix socket yet, without connecting to it: some programs
//! serve one connection and no more.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The flag of a socket that accepts connections, as `/proc/net/unix` shows it.
const ACCEPTS: &[u8] = b"00010000";

/// Whether there is a socket at this path that accepts connections.
pub(crate) fn is_listening(socket: &Path) -> bool {
    if !socket.exists() {
        return false;
    }
    let Ok(table) = fs::read("/proc/net/unix") else {
        return true;
    };
    state_in(&table, socket.as_os_str().as_bytes()).unwrap_or(true)
}

/// What the table says of the path: `Num RefCount Protocol Flags Type St Inode Path`. `None` when
/// it is not in there, for example since it was bound under another name.
fn state_in(table: &[u8], path: &[u8]) -> Option<bool> {
    let mut found = None;
    for line in table.split(|&byte| byte == b'\n') {
        let Some(fields) = line.strip_suffix(path).and_then(|line| line.strip_suffix(b" ")) else {
            continue;
        };
        let flags = fields.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).nth(3);
        found = Some(found == Some(true) || flags == Some(ACCEPTS));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_that_listens_is_seen_without_a_connection() {
        let path = std::env::temp_dir().join(format!("smolvm-listening-{}", std::process::id()));
        assert!(!is_listening(&path));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(is_listening(&path));
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn one_that_is_bound_alone_does_not_listen() {
        let table = b"Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff: 00000002 00000000 00000000 0001 01 1234 /run/a.sock\n\
            ffff: 00000002 00000000 00010000 0001 01 1235 /run/b.sock\n\
            ffff: 00000003 00000000 00000000 0001 03 1236 /run/b.sock\n";
        assert_eq!(state_in(table, b"/run/a.sock"), Some(false));
        assert_eq!(state_in(table, b"/run/b.sock"), Some(true));
        assert_eq!(state_in(table, b"b.sock"), None);
    }
}
