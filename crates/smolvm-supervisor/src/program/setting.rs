//! [`Setting`]: what a VMM is started with besides its arguments, and its form in a message.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use smolvm_protocol::Nonce;

use super::control::{Malformed, parse};
use super::hex;

/// What a VMM is started with besides its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// It is in the network namespace of the program that was started last before it, and in its
    /// user namespace.
    Network {
        /// The name of a device that is in there: one that is missing is made by whoever is root
        /// and asks for it.
        device: String,
    },
    /// It has the tap device of this name, which is in its network namespace, as a descriptor.
    Tap {
        /// The number of the descriptor.
        number: i32,
        /// The name of the device.
        name: String,
    },
    /// It has a file as a descriptor, open for reading, or for reading and writing, or a copy in
    /// memory of one that it may open again, whoever it runs as, until the agent in the guest
    /// answers; or a socket that listens at a path, or is connected to it.
    File {
        /// The number of the descriptor.
        number: i32,
        /// What it is.
        access: Access,
        /// The path.
        path: PathBuf,
    },
    /// It runs as this user and in no group but that of the same number and these.
    User {
        /// The number of the user.
        number: u32,
        /// The numbers of other groups.
        groups: Vec<u32>,
    },
    /// It is in a cgroup of its own, which is made and removed with it.
    Group {
        /// The directory of the cgroup, whose parent exists.
        path: PathBuf,
        /// The names of files in it and what is written to them, such as `pids.max` and `64`.
        limits: Vec<(String, String)>,
    },
    /// No file that it writes becomes longer than this many bytes.
    FileSize(u64),
    /// It has at most this many open files.
    OpenFiles(u64),
    /// It is the first process of a namespace of processes, all of which end with it. It is told by
    /// its standard input, a socket, what a [`jail`](super::jail) is told.
    Init,
    /// Its guest goes on from a snapshot, at which the session with its agent had this nonce: the
    /// supervisor takes over from the one of that time.
    Succeeds(Nonce),
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A file, open for reading.
    Read,
    /// A file, open for reading and writing.
    Write,
    /// A copy of a file.
    Copy,
    /// A Unix socket that listens.
    Listen,
    /// A Unix socket that is connected.
    Connect,
}

impl Setting {
    pub(super) fn encode(&self) -> OsString {
        match self {
            Self::Network { device } => format!("network {device}").into(),
            Self::Init => "init".into(),
            Self::Tap { number, name } => format!("tap {number} {name}").into(),
            Self::File { number, access, path } => {
                let mut text = OsString::from(format!("{} {number} ", access.word()));
                text.push(path);
                text
            }
            Self::User { number, groups } => {
                let mut text = format!("user {number}");
                for group in groups {
                    text.push(' ');
                    text.push_str(&group.to_string());
                }
                text.into()
            }
            Self::FileSize(bytes) => format!("file-size {bytes}").into(),
            Self::OpenFiles(count) => format!("open-files {count}").into(),
            Self::Succeeds(nonce) => format!("succeeds {}", hex::encode(nonce)).into(),
            Self::Group { path, limits } => {
                let limits = limits.iter().map(|(name, value)| format!("{name}={value}"));
                let limits = limits.collect::<Vec<_>>().join(",").replace(' ', "_");
                let mut text = OsString::from(format!("group {limits} "));
                text.push(path);
                text
            }
        }
    }

    pub(super) fn decode(text: &OsStr) -> Result<Self, Malformed> {
        // A path may hold spaces and be no text.
        let mut words = text.as_bytes().splitn(3, |&byte| byte == b' ').map(OsStr::from_bytes);
        let kind = words.next().and_then(OsStr::to_str).ok_or(Malformed)?;
        let (first, rest) = (words.next(), words.next());
        if let Some(access) = Access::of_word(kind) {
            let (number, path) = (parse(first.ok_or(Malformed)?)?, rest.ok_or(Malformed)?.into());
            return Ok(Self::File { number, access, path });
        }
        if kind == "group" {
            let (limits, path) = (first.and_then(OsStr::to_str), rest.ok_or(Malformed)?.into());
            let limits = limits.ok_or(Malformed)?.split(',').filter(|limit| !limit.is_empty());
            let limits = limits.map(|limit| {
                let (name, value) = limit.split_once('=').ok_or(Malformed)?;
                // A limit of processor time is two numbers.
                Ok((name.to_owned(), value.replace('_', " ")))
            });
            return Ok(Self::Group { path, limits: limits.collect::<Result<_, _>>()? });
        }
        let rest = rest.map(|rest| rest.to_str().ok_or(Malformed)).transpose()?;
        match (kind, first, rest) {
            ("network", Some(device), None) => {
                let device = device.to_str().ok_or(Malformed)?.to_owned();
                Ok(Self::Network { device })
            }
            ("init", None, None) => Ok(Self::Init),
            ("tap", Some(number), Some(name)) => {
                Ok(Self::Tap { number: parse(number)?, name: name.to_owned() })
            }
            ("user", Some(number), groups) => {
                let groups = groups.unwrap_or_default().split_ascii_whitespace();
                let groups = groups.map(|group| group.parse().map_err(|_| Malformed));
                Ok(Self::User { number: parse(number)?, groups: groups.collect::<Result<_, _>>()? })
            }
            ("file-size", Some(bytes), None) => Ok(Self::FileSize(parse(bytes)?)),
            ("open-files", Some(count), None) => Ok(Self::OpenFiles(parse(count)?)),
            ("succeeds", Some(nonce), None) => {
                let nonce = nonce.to_str().and_then(hex::decode).ok_or(Malformed)?;
                Ok(Self::Succeeds(nonce))
            }
            _ => Err(Malformed),
        }
    }
}

impl Access {
    const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Copy, Self::Listen, Self::Connect];

    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Copy => "copy",
            Self::Listen => "listen",
            Self::Connect => "connect",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|access| access.word() == word)
    }
}
