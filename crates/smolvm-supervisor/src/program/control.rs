//! What the supervisor and the library that started it tell each other over the control socket.
//!
//! A message is its length (32 bits, little-endian, of what follows), one byte that says which
//! message it is, and texts that each end with a zero byte.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::str::FromStr;

pub use super::setting::{Access, Setting};

/// What the library says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Start these programs, each when the one before it is ready; the last is the VMM. The
    /// answer: [`Report::Launched`] or [`Report::Failed`].
    Launch(Vec<Program>),
    /// End the VMM at once. The answer comes when it has ended: [`Report::Ended`].
    Kill,
    /// End everything, remove the VM's directories and exit. The answer: [`Report::Deleted`].
    Delete,
}

/// What the supervisor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// First of all: the VM's directories are there and belong to this supervisor.
    Ready,
    /// First of all, and the end: there is such a VM already, or it is supervised already.
    Exists,
    /// First of all, and the end: there is no such VM to adopt.
    NotFound,
    /// It could not be done; why, for people.
    Failed(String),
    /// The VMM runs, as this process.
    Launched(u32),
    /// The VMM has ended.
    Ended(How),
    /// Nothing is left of the VM.
    Deleted,
}

/// A program to start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// Its arguments. The first is the program itself: a path, or a name to look for in `PATH`.
    pub arguments: Vec<OsString>,
    /// For a program beside the VMM, the Unix socket that it listens on when it is ready; without
    /// one it is ready at once. For the VMM, the Unix socket that leads to its guest's vsock, by
    /// which the agent is reached; without one it is reached by a descriptor.
    pub socket: Option<PathBuf>,
    /// What else it is started with.
    pub settings: Vec<Setting>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It exited with this code.
    Exit(i32),
    /// A signal of this number ended it.
    Signal(i32),
}

/// The other side broke the rules of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Finds the messages in a stream of bytes.
#[derive(Debug, Default)]
pub struct Messages {
    buffer: Vec<u8>,
}

/// The longest message in bytes. The arguments of a VMM are a few KiB.
const MAX_MESSAGE: usize = 1024 * 1024;

impl Program {
    /// The VMM: these are its arguments.
    pub fn vmm(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self::helper(arguments, None)
    }

    /// A VMM that passes on to its guest's vsock what connects to `socket`, as Firecracker does.
    pub fn vmm_with_vsock(
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        socket: PathBuf,
    ) -> Self {
        Self::helper(arguments, socket)
    }

    /// A program beside the VMM, which is ready when it listens on `socket`.
    pub fn helper(
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
        socket: impl Into<Option<PathBuf>>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { arguments, socket: socket.into(), settings: Vec::new() }
    }

    /// The same, started with this as well.
    #[must_use]
    pub fn with(mut self, setting: Setting) -> Self {
        self.settings.push(setting);
        self
    }
}

impl Messages {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole order, or `None` until more is pushed.
    pub fn next_order(&mut self) -> Result<Option<Order>, Malformed> {
        self.next()?.map(|message| Order::decode(&message)).transpose()
    }

    /// The next whole report, or `None` until more is pushed.
    pub fn next_report(&mut self) -> Result<Option<Report>, Malformed> {
        self.next()?.map(|message| Report::decode(&message)).transpose()
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, Malformed> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| Malformed)?;
        if length > MAX_MESSAGE {
            return Err(Malformed);
        }
        let Some(message) = rest.get(..length) else {
            return Ok(None);
        };
        let message = message.to_vec();
        self.buffer.drain(..4 + length);
        Ok(Some(message))
    }
}

impl Order {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Launch(programs) => {
                let mut texts = Vec::new();
                for program in programs {
                    texts.push(OsString::from(program.arguments.len().to_string()));
                    texts.push(OsString::from(program.settings.len().to_string()));
                    texts.push(program.socket.clone().unwrap_or_default().into_os_string());
                    texts.extend(program.settings.iter().map(Setting::encode));
                    texts.extend(program.arguments.iter().cloned());
                }
                message(b'l', &texts)
            }
            Self::Kill => message(b'k', &[]),
            Self::Delete => message(b'd', &[]),
        }
    }

    fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let (kind, mut texts) = split(message)?;
        match kind {
            b'l' => {
                let mut programs = Vec::new();
                while let Some(count) = texts.next() {
                    let count = parse(&count)?;
                    let setting_count: usize = parse(&texts.next().ok_or(Malformed)?)?;
                    let socket = texts.next().ok_or(Malformed)?;
                    let settings = texts.by_ref().take(setting_count);
                    let settings = settings.map(|setting| Setting::decode(&setting));
                    let settings = settings.collect::<Result<Vec<_>, _>>()?;
                    let arguments = texts.by_ref().take(count).collect::<Vec<_>>();
                    if count == 0 || arguments.len() != count || settings.len() != setting_count {
                        return Err(Malformed);
                    }
                    let socket = (!socket.is_empty()).then(|| PathBuf::from(socket));
                    programs.push(Program { arguments, socket, settings });
                }
                Ok(Self::Launch(programs))
            }
            b'k' => Ok(Self::Kill),
            b'd' => Ok(Self::Delete),
            _ => Err(Malformed),
        }
    }
}

impl Report {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = |text: String| vec![OsString::from(text.replace('\0', " "))];
        match self {
            Self::Ready => message(b'R', &[]),
            Self::Exists => message(b'X', &[]),
            Self::NotFound => message(b'N', &[]),
            Self::Failed(why) => message(b'F', &text(why.clone())),
            Self::Launched(process) => message(b'L', &text(process.to_string())),
            Self::Ended(how) => message(b'E', &text(how.to_string())),
            Self::Deleted => message(b'D', &[]),
        }
    }

    fn decode(message: &[u8]) -> Result<Self, Malformed> {
        let (kind, mut texts) = split(message)?;
        let mut text = || texts.next().ok_or(Malformed);
        match kind {
            b'R' => Ok(Self::Ready),
            b'X' => Ok(Self::Exists),
            b'N' => Ok(Self::NotFound),
            b'F' => Ok(Self::Failed(text()?.to_string_lossy().into_owned())),
            b'L' => Ok(Self::Launched(parse(&text()?)?)),
            b'E' => Ok(Self::Ended(parse(&text()?)?)),
            b'D' => Ok(Self::Deleted),
            _ => Err(Malformed),
        }
    }
}

fn message(kind: u8, texts: &[OsString]) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, kind];
    for text in texts {
        message.extend_from_slice(text.as_bytes());
        message.push(0);
    }
    // What does not fit is refused by the other side.
    let length = u32::try_from(message.len() - 4).unwrap_or(u32::MAX);
    message[..4].copy_from_slice(&length.to_le_bytes());
    message
}

fn split(message: &[u8]) -> Result<(u8, impl Iterator<Item = OsString>), Malformed> {
    let (&kind, texts) = message.split_first().ok_or(Malformed)?;
    if texts.last().is_some_and(|&last| last != 0) {
        return Err(Malformed);
    }
    let texts = texts.split_inclusive(|&byte| byte == 0);
    Ok((kind, texts.map(|text| OsString::from_vec(text[..text.len() - 1].to_vec()))))
}

pub(crate) fn parse<T: FromStr>(text: &OsStr) -> Result<T, Malformed> {
    text.to_str().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

impl From<ExitStatus> for How {
    fn from(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        match status.code() {
            Some(code) => Self::Exit(code),
            None => Self::Signal(status.signal().unwrap_or_default()),
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(formatter, "exit {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
        }
    }
}

impl FromStr for How {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (how, number) = text.split_once(' ').ok_or(Malformed)?;
        let number = number.parse().map_err(|_| Malformed)?;
        match how {
            "exit" => Ok(Self::Exit(number)),
            "signal" => Ok(Self::Signal(number)),
            _ => Err(Malformed),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a message on the control socket is malformed")
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let orders = [
            Order::Launch(vec![
                Program::helper(["passt", "--socket", ""], PathBuf::from("/run/net.sock")),
                Program::vmm(["qemu-system-x86_64"])
                    .with(Setting::Network { device: "tap0".to_owned() })
                    .with(Setting::Tap { number: 8, name: "tap0".into() })
                    .with(Setting::File {
                        number: 12,
                        access: Access::Write,
                        path: "/a directory/disk".into(),
                    })
                    .with(Setting::User { number: 7, groups: vec![] })
                    .with(Setting::User { number: 7, groups: vec![8, 9] })
                    .with(Setting::Group {
                        path: "/sys/fs/cgroup/a b".into(),
                        limits: vec![
                            ("pids.max".into(), "64".into()),
                            ("cpu.max".into(), "100000 100000".into()),
                        ],
                    })
                    .with(Setting::FileSize(1 << 40))
                    .with(Setting::OpenFiles(64))
                    .with(Setting::Init)
                    .with(Setting::Succeeds(*b"sixteen bytes \0\xff")),
            ]),
            Order::Kill,
            Order::Delete,
        ];
        let reports = [
            Report::Ready,
            Report::Exists,
            Report::NotFound,
            Report::Failed("no such file".into()),
            Report::Launched(4711),
            Report::Ended(How::Exit(3)),
            Report::Ended(How::Signal(9)),
            Report::Deleted,
        ];
        let mut messages = Messages::default();
        let mut heard = Vec::new();
        for byte in orders.iter().flat_map(Order::encode) {
            messages.push(&[byte]);
            heard.extend(messages.next_order().unwrap());
        }
        assert_eq!(heard, orders);
        for report in reports {
            messages.push(&report.encode());
            assert_eq!(messages.next_report(), Ok(Some(report)));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused: &[&[u8]] = &[
            b"",
            b"?",
            b"l1\0",
            b"l0\x000\0\0",
            b"l2\x000\0\0a\0",
            b"l1\x002\0\0network\0",
            b"l1\x001\0\0tap x y\0a\0",
            b"l1\x001\0\0succeeds 00112233445566778899aabbccddee+f\0a\0",
            b"l1\x001\0\0succeeds 00\0a\0",
            b"l9999999999999999999\0\0",
            b"kx",
        ];
        for message in refused {
            let mut messages = Messages::default();
            messages.push(&u32::try_from(message.len()).unwrap().to_le_bytes());
            messages.push(message);
            assert_eq!(messages.next_order(), Err(Malformed), "{}", message.escape_ascii());
        }
        let mut messages = Messages::default();
        messages.push(&u32::MAX.to_le_bytes());
        assert_eq!(messages.next_order(), Err(Malformed));
    }
}
