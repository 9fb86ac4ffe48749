//! The files by which the guest's programs look up names.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::Path;

/// A file that is larger is left alone.
const LIMIT: u64 = 256 * 1024;

/// Has names looked up at `servers`, in `/etc/resolv.conf`.
///
/// A root file system often brings the file of the machine that it was made on, whose servers the
/// guest cannot reach: they are replaced, and whatever else the file says stays. A link to a file
/// that names servers is left alone: something in the guest cares for it.
pub(super) fn set_servers(servers: &[IpAddr]) -> io::Result<()> {
    set_servers_in(Path::new("/etc/resolv.conf"), servers)
}

/// Says in `/etc/hosts` what the guest itself is called, unless it says so already.
pub(super) fn set_host(address: IpAddr, name: Option<&str>) -> io::Result<()> {
    set_host_in(Path::new("/etc/hosts"), address, name)
}

fn set_servers_in(path: &Path, servers: &[IpAddr]) -> io::Result<()> {
    if servers.is_empty() {
        return Ok(());
    }
    let old = read(path)?.unwrap_or_default();
    let is_server = |line: &&str| line.split_whitespace().next() == Some("nameserver");
    if path.is_symlink() && old.lines().any(|line| is_server(&line)) {
        return Ok(());
    }
    let mut new = String::new();
    for line in old.lines().filter(|line| !is_server(line)) {
        new.push_str(line);
        new.push('\n');
    }
    for server in servers {
        // Writing to a string does not fail.
        let _ = writeln!(new, "nameserver {server}");
    }
    if new == old { Ok(()) } else { replace(path, &new) }
}

fn set_host_in(path: &Path, address: IpAddr, name: Option<&str>) -> io::Result<()> {
    const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
    let old = read(path)?.unwrap_or_default();
    let mut new = if old.trim().is_empty() { LOCALHOST.to_owned() } else { old.clone() };
    if let Some(name) = name
        && !names(&new).any(|known| known == name)
    {
        if !new.ends_with('\n') {
            new.push('\n');
        }
        let _ = writeln!(new, "{address}\t{name}");
    }
    if new == old { Ok(()) } else { replace(path, &new) }
}

/// The names that have addresses.
fn names(hosts: &str) -> impl Iterator<Item = &str> {
    let entries = hosts.lines().map(|line| line.split('#').next().unwrap_or(line));
    entries.flat_map(|entry| entry.split_whitespace().skip(1))
}

/// The text of a file; `None` where there is none, or a link to none.
fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Puts a file in the place of what is there, if only a link to nowhere.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("smolvm-new");
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&new, text)?;
    fs::rename(&new, path).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const SERVERS: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 2, 3))];

    #[test]
    fn servers_of_another_machine_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("etc/resolv.conf");
        set_servers_in(&file, &SERVERS).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 10.0.2.3\n");
        fs::write(&file, "search lan\nnameserver 127.0.0.53\noptions ndots:2\n").unwrap();
        set_servers_in(&file, &SERVERS).unwrap();
        let new = "search lan\noptions ndots:2\nnameserver 10.0.2.3\n";
        assert_eq!(fs::read_to_string(&file).unwrap(), new);
        set_servers_in(&file, &[]).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), new);
        assert_eq!(fs::read_dir(dir.path().join("etc")).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_replaced_only_if_it_leads_to_no_servers() {
        let dir = tempfile::tempdir().unwrap();
        let (link, managed) = (dir.path().join("resolv.conf"), dir.path().join("managed"));
        symlink("managed", &link).unwrap();
        fs::write(&managed, "nameserver 127.0.0.53\n").unwrap();
        set_servers_in(&link, &SERVERS).unwrap();
        assert!(link.is_symlink());
        fs::remove_file(&managed).unwrap();
        set_servers_in(&link, &SERVERS).unwrap();
        assert!(!link.is_symlink());
        assert_eq!(fs::read_to_string(&link).unwrap(), "nameserver 10.0.2.3\n");
    }

    #[test]
    fn a_guest_knows_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        set_host_in(&file, SERVERS[0], Some("vm")).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(
            names(&text).collect::<Vec<_>>(),
            ["localhost", "localhost", "ip6-localhost", "ip6-loopback", "vm"]
        );
        set_host_in(&file, SERVERS[0], Some("vm")).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        fs::write(&file, "127.0.1.1 vm # not other").unwrap();
        set_host_in(&file, SERVERS[0], Some("other")).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, "127.0.1.1 vm # not other\n10.0.2.3\tother\n");
    }
}
