//! [`Pool`]: the addresses of guests with a tap device, two for each, and who has which.
//!
//! A slot of the pool is a file; who holds its lock has its addresses, and loses them by ending, by
//! whatever means. The files stay, as all files that are locked do.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::egress::Network;

/// The pool, with its lock held: one process at a time gives slots out and changes the host's rules.
#[derive(Debug)]
pub struct Pool {
    directory: PathBuf,
    _lock: File,
}

/// A slot that is taken, until it is dropped.
#[derive(Debug)]
pub struct Slot {
    /// Its number.
    pub number: u16,
    _lock: File,
}

/// The name of the host's table of rules, and of the file that is there as long as the table is.
pub const TABLE: &str = "smolvm";
/// What the names of the host's ends of guests' links begin with. The rules are about devices of
/// such names.
pub(crate) const DEVICES: &str = "smolvm";
const TABLE_FILE: &str = "table";
const LOCK: &str = "lock";
/// How many slots there are at most.
const MOST: u32 = 4096;

impl Pool {
    /// Opens the pool that is kept in a directory, which is made; waits for its lock.
    pub fn open(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).recursive(true).create(directory)?;
        let lock = open(&directory.join(LOCK))?;
        lock.lock()?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    /// Takes the first slot that is free and not `refused`. `None`: all are taken.
    pub fn take(
        &self,
        network: Addresses,
        refused: impl Fn(u16) -> bool,
    ) -> io::Result<Option<Slot>> {
        for number in 0..network.slots() {
            let file = open(&self.directory.join(number.to_string()))?;
            match file.try_lock() {
                Ok(()) if !refused(number) => return Ok(Some(Slot { number, _lock: file })),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The network that the host's table is made for, where there is one.
    #[must_use]
    pub fn table(&self) -> Option<String> {
        fs::read_to_string(self.directory.join(TABLE_FILE)).ok()
    }

    /// Says that the host's table is about to be made, for this network.
    pub fn set_table(&self, network: &str) -> io::Result<()> {
        fs::write(self.directory.join(TABLE_FILE), network)
    }

    /// Whether somebody has a slot.
    #[must_use]
    pub fn is_used(&self) -> bool {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.filter(|entry| is_slot(&entry.file_name())).any(|entry| {
            let file = File::open(entry.path());
            file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
        })
    }
}

/// Removes the host's table where no guest needs it any more: after the last one's end, or what a
/// process that was killed has left. `nft` is the program. The kernel may take a moment to remove a
/// guest's device: that is waited for as long as `patience`, else the table stays.
pub fn tidy(directory: &Path, nft: &Path, patience: Duration) -> io::Result<()> {
    if !directory.join(TABLE_FILE).exists() {
        return Ok(());
    }
    let pool = Pool::open(directory)?;
    if pool.is_used() || pool.table().is_none() {
        return Ok(());
    }
    let deadline = Instant::now() + patience;
    while devices()?.iter().any(|device| device.starts_with(DEVICES)) {
        // A guest whose keeper was killed may run all the same, and the table is against it.
        if Instant::now() > deadline {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let mut delete = Command::new(nft);
    delete.args(["delete", "table", "inet", TABLE]).stdin(Stdio::null());
    // It fails where the table is gone, as after another network namespace's end.
    delete.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    fs::remove_file(directory.join(TABLE_FILE))
}

/// The names of the devices in the network namespace of the calling thread.
pub(crate) fn devices() -> io::Result<Vec<String>> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    let names = table.lines().filter_map(|line| line.split_once(':'));
    Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
}

fn is_slot(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// The network that the pool's addresses are from.
#[derive(Debug, Clone, Copy)]
pub struct Addresses(Network);

impl Addresses {
    /// Reads a network of at least two addresses, such as `10.87.0.0/16`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let network: Network = text.parse().ok()?;
        (network.prefix <= 31 && text.contains('/')).then_some(Self(network))
    }

    pub(crate) fn network(self) -> Network {
        self.0
    }

    /// How many slots it has.
    fn slots(self) -> u16 {
        let pairs = 1_u64 << (31 - self.0.prefix);
        u16::try_from(pairs.min(MOST.into())).unwrap_or(u16::MAX)
    }

    /// The address that stands between the guest of a slot and everything else.
    #[must_use]
    pub fn gateway(self, slot: u16) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.0.address.to_bits() + 2 * u32::from(slot))
    }

    /// The address of the guest of a slot.
    #[must_use]
    pub fn guest(self, slot: u16) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.gateway(slot).to_bits() + 1)
    }
}

/// The bits of a network that a slot's two addresses are.
pub const SLOT_PREFIX: u8 = 31;

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("smolvm-pool-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_slot_has_addresses_of_its_own() {
        let pool = Addresses::parse("10.87.0.0/16").unwrap();
        assert_eq!(pool.slots(), 4096);
        assert_eq!(pool.gateway(0).to_string(), "10.87.0.0");
        assert_eq!(pool.guest(200).to_string(), "10.87.1.145");
        assert_eq!(Addresses::parse("10.87.0.0/30").unwrap().slots(), 2);
        for none in ["10.87.0.0/32", "10.87.0.0", "x/16", ""] {
            assert!(Addresses::parse(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_slot_is_free_again_when_its_holder_is_gone() {
        let directory = directory("slots");
        let network = Addresses::parse("10.87.0.0/30").unwrap();
        let pool = Pool::open(&directory).unwrap();
        let take = || pool.take(network, |_| false).unwrap().map(|slot| (slot.number, slot));
        let (first, second) = (take().unwrap(), take().unwrap());
        assert_eq!((first.0, second.0), (0, 1));
        assert!(take().is_none());
        drop(first);
        assert_eq!(take().unwrap().0, 0);
        assert!(pool.take(network, |number| number == 0).unwrap().is_none());
        assert!(pool.is_used());
        drop(second);
        assert!(!pool.is_used());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn nothing_is_tidied_as_long_as_somebody_needs_it() {
        let directory = directory("tidy");
        let network = Addresses::parse("10.87.0.0/30").unwrap();
        tidy(&directory, Path::new("/nowhere/nft"), Duration::ZERO).unwrap();
        assert!(!directory.exists());
        let pool = Pool::open(&directory).unwrap();
        pool.set_table("10.87.0.0/30").unwrap();
        let slot = pool.take(network, |_| false).unwrap();
        drop(pool);
        tidy(&directory, Path::new("/nowhere/nft"), Duration::ZERO).unwrap();
        drop(slot);
        assert!(tidy(&directory, Path::new("/nowhere/nft"), Duration::ZERO).is_err());
        tidy(&directory, Path::new("true"), Duration::ZERO).unwrap();
        assert!(!directory.join(TABLE_FILE).exists());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
