//! The program that keeps a VMM in a jail: Firecracker's own `jailer` makes another user of it,
//! whose root is a file system in memory, and this gives it what belongs in there.
//!
//! It is the first process of a namespace of processes, and of one of mounts: when it ends, because
//! the supervisor has ended or has been killed, the kernel ends everything in there, and nothing of
//! the jail is left to unmount. The jailer's change of user undoes what ends other VMMs with their
//! supervisor, and it closes what they inherit.

mod build;
mod line;
mod plan;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

pub(crate) use self::line::Line;
pub use self::plan::*;
use crate::arguments::FIRST_OWN;
use crate::poll::PollSet;
use crate::signals::Signals;
use crate::sys::{self, Preparation};

/// The name of the jail, as the jailer has it. There is no other in its directory.
const NAME: &str = "smolvm";

/// How much of what the VMM says is taken at once.
const AT_ONCE: usize = 16 * 1024;

/// What happens in the life of a jail.
#[derive(Debug, Clone, Copy)]
enum Token {
    Line,
    Signals,
    Log,
}

/// A jail with a VMM in it.
struct Keeper {
    line: UnixStream,
    signals: Signals,
    vmm: Child,
    /// What the VMM says of itself.
    log: File,
    copies: Vec<File>,
    /// Where its memory is mounted.
    memory: PathBuf,
}

/// Keeps a VMM in a jail until it ends. `arguments` are those of a [`Jail`]; standard input is the
/// line to the supervisor, standard output the guest's console.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<()> {
    sys::set_name(b"smolvm-jail\0\0\0\0\0");
    let line = UnixStream::from(sys::duplicate(0, FIRST_OWN)?);
    line.set_nonblocking(true)?;
    let null = File::open("/dev/null")?;
    sys::place(null.as_fd(), 0, false)?;
    let jail = Jail::decode(arguments).ok_or(io::ErrorKind::InvalidInput)?;
    let signals = Signals::catch()?;
    match Keeper::start(&jail, line, signals) {
        Ok(keeper) => keeper.keep(),
        Err(error) => {
            // The last line that is said is what its owner is told.
            eprintln!("cannot make the jail: {error}");
            std::process::exit(1);
        }
    }
}

impl Keeper {
    fn start(jail: &Jail, line: UnixStream, signals: Signals) -> io::Result<Self> {
        let built = build::build(jail)?;
        let mut command = Command::new(&jail.jailer);
        let user = jail.user.to_string();
        command.args(["--id", NAME, "--uid", &user, "--gid", &user]);
        command.arg("--exec-file").arg(&jail.program);
        command.arg("--chroot-base-dir").arg(&jail.sockets);
        command.arg("--resource-limit").arg(format!("fsize={}", jail.file_size));
        command.arg("--resource-limit").arg(format!("no-file={}", jail.open_files));
        command.arg("--").args(&jail.arguments);
        command.stdin(Stdio::null()).current_dir("/");
        sys::prepare_child(&mut command, Preparation::default());
        let vmm = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", jail.jailer.display()))
        })?;
        Ok(Self {
            line,
            signals,
            vmm,
            log: built.log,
            copies: built.copies,
            memory: jail.sockets.clone(),
        })
    }

    /// Returns when the VMM has ended, and everything else with it.
    fn keep(mut self) -> io::Result<()> {
        loop {
            let mut set = PollSet::new();
            set.add(&self.line, Token::Line, true, false);
            set.add(&self.signals, Token::Signals, true, false);
            set.add(&self.log, Token::Log, true, false);
            for (token, _) in set.wait(None)? {
                match token {
                    Token::Line => self.hear()?,
                    Token::Log => {
                        self.pass_on();
                    }
                    Token::Signals => {
                        // The first of a namespace does not end by a signal that it sends itself.
                        let told = self.signals.take();
                        let told = told.then(|| ExitStatus::from_raw(sys::SIGTERM));
                        if let Some(status) = told.or(self.vmm.try_wait()?) {
                            while self.pass_on() {}
                            line::tell(&self.line, status);
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Hears that the guest runs, or that the supervisor is gone.
    fn hear(&mut self) -> io::Result<()> {
        match self.line.read(&mut [0]) {
            Ok(1..) => {
                for copy in self.copies.drain(..) {
                    let _ = copy.set_len(0);
                }
                // Whatever is mounted on the host is not to be in use by this. A host whose root
                // is the one that its kernel began with keeps that.
                let _ = sys::change_root(&self.memory);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Ok(0) | Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Passes on some of what the VMM has said; whether there was any.
    fn pass_on(&mut self) -> bool {
        let mut buffer = [0; AT_ONCE];
        match self.log.read(&mut buffer) {
            Ok(count @ 1..) => {
                let _ = io::stderr().write_all(&buffer[..count]);
                true
            }
            _ => false,
        }
    }
}
