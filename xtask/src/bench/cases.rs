//! The cases: what is fetched from where, by whom.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use super::contender::Contender;
use super::disks;
use super::files::{self, Content, MIB};
use super::link::{Link, Quality};
use super::loop_mount::LoopMount;
use super::ours::{self, Ours};
use super::peers::{self, Peers};
use super::rig::{Download, Rig, downloads};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// Nothing is cached: 30 and 300 MiB from nginx on loopback.
    Cold,
    /// The same with 30 and 1024 MiB.
    ColdLarge,
    /// A line that limits each connection to 20 MB/s.
    Limited,
    /// A line with a round trip of 50 ms.
    Latency,
    /// The files of `cold` over TLS.
    Tls,
    /// Everything is cached, and every byte is hashed.
    WarmAlways,
    /// Everything is cached, and what has not changed is not hashed.
    WarmChanged,
    /// One image of 1 and 29 MiB; the next ones differ in the size alone.
    #[value(name = "size-30")]
    Size30,
    #[value(name = "size-100")]
    Size100,
    #[value(name = "size-300")]
    Size300,
    #[value(name = "size-1024")]
    Size1024,
    /// One image of 1 and 4 MiB.
    Images1,
    /// Eight of them.
    Images8,
    /// Sixty-four of them.
    Images64,
    /// 32 processes that want the same image at once.
    Processes32,
    /// 30 MiB and a root file system of 1024 MiB, of which 896 are zeros.
    Sparse,
    /// 90 % of the larger file is there from an earlier transfer.
    Resume,
    /// `smolvm image path`, the start-up of the program.
    Path,
    /// A VM's own disk, of an image of 64 MiB; the next ones differ in the size alone.
    #[value(name = "disk-64")]
    Disk64,
    #[value(name = "disk-1024")]
    Disk1024,
    #[value(name = "disk-4096")]
    Disk4096,
}

/// A case that is ready to be measured.
pub(crate) struct Prepared {
    pub(crate) title: String,
    /// Ours first.
    pub(crate) contenders: Vec<Contender>,
    /// Programs by their names, of which the first is held against the second, too.
    pub(crate) pairs: Vec<[String; 2]>,
    /// Where the bytes on the wire are counted.
    pub(crate) link: Option<Link>,
    /// A file system that is there as long as the case.
    _mount: Option<LoopMount>,
    /// Whether the case is about room on the disk.
    pub(crate) shows_disk: bool,
}

/// The rate of one limited connection, in bytes a second.
const LIMIT: u64 = 20_000_000;

const ROUND_TRIP: Duration = Duration::from_millis(50);

impl Case {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Makes what the case needs; nothing of this is measured.
    pub(crate) fn prepare(self, rig: &Rig) -> Result<Prepared> {
        match self {
            Self::Cold => cold(rig),
            Self::ColdLarge => cold_large(rig),
            Self::Limited => limited(rig),
            Self::Latency => latency(rig),
            Self::Tls => tls(rig),
            Self::WarmAlways => warm_always(rig),
            Self::WarmChanged => warm_changed(rig),
            Self::Size30 => size(rig, 30),
            Self::Size100 => size(rig, 100),
            Self::Size300 => size(rig, 300),
            Self::Size1024 => size(rig, 1024),
            Self::Images1 => images(rig, 1),
            Self::Images8 => images(rig, 8),
            Self::Images64 => images(rig, 64),
            Self::Processes32 => processes(rig, 32),
            Self::Sparse => sparse(rig),
            Self::Resume => resume(rig),
            Self::Path => path(rig),
            Self::Disk64 => disks::prepare(rig, 64),
            Self::Disk1024 => disks::prepare(rig, 1024),
            Self::Disk4096 => disks::prepare(rig, 4096),
        }
    }
}

impl Prepared {
    pub(crate) fn new(title: &str, contenders: Vec<Contender>) -> Self {
        let (title, pairs) = (title.to_owned(), Vec::new());
        Self { title, contenders, pairs, link: None, _mount: None, shows_disk: false }
    }

    /// Keeps a file system for what is done on it.
    pub(crate) fn on(self, mount: LoopMount) -> Self {
        Self { _mount: Some(mount), ..self }
    }

    /// Holds others against each other, too.
    fn with_pairs(mut self, pairs: &[[&str; 2]]) -> Self {
        self.pairs = pairs.iter().map(|pair| pair.map(str::to_owned)).collect();
        self
    }
}

/// A kernel of 30 MiB and a root file system.
fn pair(rig: &Rig, rootfs_mib: u64) -> Result<Vec<Content>> {
    let kernel = files::noise(&rig.files, 1, 30 * MIB)?;
    Ok(vec![kernel, files::noise(&rig.files, 2, rootfs_mib * MIB)?])
}

fn cold(rig: &Rig) -> Result<Prepared> {
    let files = downloads(&rig.plain.address(), &pair(rig, 300)?);
    let ours = Ours::new(rig, "cold", &files)?;
    let peers = Peers { rig, files, certificate: None };
    let contenders = vec![
        ours.pull(),
        peers.curl(),
        peers.curl_parallel(),
        peers.curl_then_openssl(),
        peers.curl_tee_openssl(),
        peers.aria2c(),
        peers.aria2c_checked(),
        peers.wget(),
        peers.pooch(),
        peers.python_smolvm(),
    ];
    Ok(Prepared::new("cold, 30 + 300 MiB, nginx on loopback", contenders))
}

fn cold_large(rig: &Rig) -> Result<Prepared> {
    let content = pair(rig, 1024)?;
    let files = downloads(&rig.plain.address(), &content);
    let ours = Ours::new(rig, "cold-large", &files)?;
    let peers = Peers { rig, files, certificate: None };
    let contenders = vec![
        ours.pull(),
        peers::openssl(&paths_of(&content)),
        peers.curl(),
        peers.curl_parallel(),
        peers.curl_then_openssl(),
    ];
    Ok(Prepared::new("cold, 30 + 1024 MiB, nginx on loopback", contenders))
}

fn limited(rig: &Rig) -> Result<Prepared> {
    let quality = Quality { bytes_per_second: Some(LIMIT), ..Quality::default() };
    let link = Link::start(rig.server()?, quality)?;
    let files = downloads(&link.url(), &pair(rig, 300)?);
    let ours = Ours::new(rig, "limited", &files)?;
    let peers = Peers { rig, files, certificate: None };
    let contenders = vec![ours.pull(), peers.aria2c(), peers.aria2c_checked()];
    let title = "cold, 30 + 300 MiB, each connection limited to 20 MB/s";
    Ok(Prepared { link: Some(link), ..Prepared::new(title, contenders) })
}

fn latency(rig: &Rig) -> Result<Prepared> {
    let link =
        Link::start(rig.server()?, Quality { round_trip: ROUND_TRIP, ..Quality::default() })?;
    let files = downloads(&link.url(), &pair(rig, 300)?);
    let ours = Ours::new(rig, "latency", &files)?;
    let peers = Peers { rig, files, certificate: None };
    let contenders = vec![ours.pull(), peers.curl(), peers.curl_parallel(), peers.aria2c()];
    let title = "cold, 30 + 300 MiB, a round trip of 50 ms";
    Ok(Prepared { link: Some(link), ..Prepared::new(title, contenders) })
}

fn tls(rig: &Rig) -> Result<Prepared> {
    let files = downloads(&rig.secure.address(), &pair(rig, 300)?);
    let ours = Ours::new(rig, "tls", &files)?;
    let peers = Peers { rig, files, certificate: Some(rig.certificate.clone()) };
    let contenders = vec![
        ours.pull(),
        peers.curl(),
        peers.curl_parallel(),
        peers.curl_then_openssl(),
        peers.aria2c(),
        peers.wget(),
    ];
    Ok(Prepared::new("cold, 30 + 300 MiB, TLS", contenders))
}

fn warm_always(rig: &Rig) -> Result<Prepared> {
    let content = pair(rig, 300)?;
    let files = downloads(&rig.plain.address(), &content);
    let ours = Ours::new(rig, "warm", &files)?.filled()?;
    let contenders = vec![
        ours.pull_cached("always"),
        peers::openssl(&paths_of(&content)),
        ours.call_cached_once("always"),
        ours.call_cached("always", 5),
        ours.python_cached_once("always"),
        ours.python_cached("always", 5),
    ];
    let title = "warm, 30 + 300 MiB, every byte hashed";
    let pairs = [
        [ours::RUST_IN_PROCESS, peers::OPENSSL],
        [ours::PYTHON_IN_PROCESS, peers::OPENSSL],
        [ours::PYTHON_IN_PROCESS, ours::RUST_IN_PROCESS],
    ];
    Ok(Prepared::new(title, contenders).with_pairs(&pairs))
}

fn warm_changed(rig: &Rig) -> Result<Prepared> {
    let files = downloads(&rig.plain.address(), &pair(rig, 300)?);
    let ours = Ours::new(rig, "warm-changed", &files)?.filled()?;
    let contenders = vec![
        ours.pull_cached("changed"),
        peers::nothing(),
        ours.call_cached_once("changed"),
        ours.call_cached("changed", 1000),
        ours.python_cached_once("changed"),
        ours.python_cached("changed", 1000),
        ours.python_import(),
        ours.python_start(),
    ];
    let title = "warm, 30 + 300 MiB, what has not changed is not hashed";
    let pairs = [
        [ours::PYTHON_WHOLE, ours::PYTHON_START],
        [ours::PYTHON_IN_PROCESS, ours::RUST_IN_PROCESS],
    ];
    Ok(Prepared::new(title, contenders).with_pairs(&pairs))
}

/// An image of so many MiB, all but one of them in the root file system.
fn size(rig: &Rig, mib: u64) -> Result<Prepared> {
    let kernel = files::noise(&rig.files, 3, MIB)?;
    let content = vec![kernel, files::noise(&rig.files, 4, (mib - 1) * MIB)?];
    let files = downloads(&rig.plain.address(), &content);
    let ours = Ours::new(rig, &format!("size-{mib}"), &files)?;
    let peers = Peers { rig, files, certificate: None };
    let contenders = vec![ours.pull(), peers.curl(), peers.curl_then_openssl()];
    Ok(Prepared::new(&format!("cold, one image of {mib} MiB"), contenders))
}

fn images(rig: &Rig, count: u64) -> Result<Prepared> {
    let mut content = Vec::new();
    for number in 0..count {
        content.push(files::noise(&rig.files, 100 + 2 * number, MIB)?);
        content.push(files::noise(&rig.files, 101 + 2 * number, 4 * MIB)?);
    }
    let files = downloads(&rig.plain.address(), &content);
    let ours = Ours::new(rig, &format!("images-{count}"), &files)?;
    let peers = Peers { rig, files, certificate: None };
    let contenders = vec![ours.pull(), peers.curl(), peers.curl_parallel()];
    let title = format!("cold, images of 1 + 4 MiB in one process: {count}");
    Ok(Prepared::new(&title, contenders))
}

fn processes(rig: &Rig, count: usize) -> Result<Prepared> {
    let files = downloads(&rig.plain.address(), &pair(rig, 300)?);
    let ours = Ours::new(rig, "processes", &files)?;
    let once = Peers { rig, files, certificate: None }.curl();
    let contenders = vec![ours.pull_at_once(count), once, ours.pull()];
    let title =
        format!("cold, 30 + 300 MiB, {count} processes at once; the others are one process");
    Ok(Prepared::new(&title, contenders))
}

fn sparse(rig: &Rig) -> Result<Prepared> {
    let kernel = files::noise(&rig.files, 1, 30 * MIB)?;
    let content = vec![kernel, files::sparse(&rig.files, 1024 * MIB, 8, 512)?];
    let files = downloads(&rig.plain.address(), &content);
    let ours = Ours::new(rig, "sparse", &files)?;
    let peers = Peers { rig, files, certificate: None };
    let contenders = vec![ours.pull(), peers.curl(), peers.curl_then_openssl()];
    let title = "cold, 30 MiB + 1024 MiB of which 896 are zeros";
    Ok(Prepared { shows_disk: true, ..Prepared::new(title, contenders) })
}

fn resume(rig: &Rig) -> Result<Prepared> {
    let content = pair(rig, 300)?;
    let (whole, part) = (300 * MIB, 270 * MIB);
    let link = Link::start(rig.server()?, Quality::default())?;
    let files = downloads(&link.url(), &content);
    let ours = Ours::new(rig, "resume", &files)?;
    let partial = ours.broken_off(|| link.cut_after(Some(part)), || link.cut_after(None))?;
    let rootfs: Vec<Download> = files[1..].to_vec();
    let peers = Peers { rig, files: rootfs, certificate: None };
    let contenders = vec![
        ours.pull_after(&partial),
        peers.curl_continued(&content[1].path, part),
        peers.curl_continued_then_openssl(&content[1].path, part),
        peers.wget_continued(&content[1].path, part),
    ];
    let title =
        format!("continued at {} of {} MiB; 30 MiB beside it are there", part / MIB, whole / MIB);
    Ok(Prepared { link: Some(link), ..Prepared::new(&title, contenders) })
}

fn path(rig: &Rig) -> Result<Prepared> {
    let files = downloads(&rig.plain.address(), &pair(rig, 300)?);
    let ours = Ours::new(rig, "path", &files)?.filled()?;
    let contenders = vec![ours.path(), peers::nothing(), ours.version()];
    Ok(Prepared::new("start-up: `smolvm image path`", contenders))
}

fn paths_of(content: &[Content]) -> Vec<PathBuf> {
    content.iter().map(|file| Path::to_owned(&file.path)).collect()
}
