//! [`Prepared`]: a command with everything that the kernel wants to know: files, environment, user.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Display;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use smolvm_protocol::{Exec, Failure, FailureKind, Program};

use super::super::failure::{failure, io_failure, shown};
use super::super::users::{User, Users};
use super::busybox;
use crate::sys::launch::{Launch, LaunchError, Restored, Step};
use crate::sys::process::ProcessGroup;

/// A command that is ready to start.
pub(super) struct Prepared<'a> {
    exec: &'a Exec,
    user: User,
    /// Where the program may be.
    programs: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directories: Vec<CString>,
}

/// Where programs are looked for unless the command's environment says otherwise.
const PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl<'a> Prepared<'a> {
    /// Looks up whatever `exec` names.
    pub(super) fn new(exec: &'a Exec) -> Result<Self, Failure> {
        let users = Users::read();
        let user = match &exec.user {
            None => users.root(),
            Some(who) => users.find(who).ok_or_else(|| no_such_user(who))?,
        };
        let environment = environment(exec, &user)?;
        let path = environment.get(b"PATH".as_slice()).map_or(PATH, Vec::as_slice);
        let (programs, arguments) = match &exec.program {
            Program::Arguments(arguments) => {
                let name = arguments.first().ok_or_else(|| {
                    failure(FailureKind::NotFound, "there is no program without a name")
                })?;
                (candidates(name, path)?, c_strings(arguments)?)
            }
            Program::Shell(line) => {
                let mut programs = vec![c"/bin/sh".to_owned()];
                programs.append(&mut candidates(b"sh", path)?);
                programs.extend(busybox::PATHS.iter().map(|&path| path.to_owned()));
                let arguments = [b"sh".as_slice(), b"-c", line];
                (programs, arguments.into_iter().map(c_string).collect::<Result<_, _>>()?)
            }
        };
        let directories = match &exec.cwd {
            Some(directory) => vec![c_string(directory)?],
            None => vec![c_string(&user.home)?, c"/".to_owned()],
        };
        let environment = environment.iter().map(|(name, value)| {
            let variable = [name, b"=".as_slice(), value].concat();
            c_string(&variable)
        });
        let environment = environment.collect::<Result<_, _>>()?;
        Ok(Self { exec, user, programs, arguments, environment, directories })
    }

    /// The number of the user that it runs as.
    pub(super) fn user(&self) -> u32 {
        self.user.credentials.user
    }

    /// Starts it with these streams, of which the first may be a terminal.
    pub(super) fn start(
        &self,
        streams: [BorrowedFd<'_>; 3],
        terminal: bool,
        restored: Restored,
    ) -> Result<ProcessGroup, Failure> {
        let launch = Launch {
            programs: &self.programs,
            arguments: &self.arguments,
            environment: &self.environment,
            directories: &self.directories,
            streams,
            terminal,
            credentials: &self.user.credentials,
            restored,
        };
        let error = match launch.start() {
            Ok(group) => return Ok(group),
            Err(error) => error,
        };
        if let Some(busybox) = self.applet_of(&error) {
            return Launch { programs: &[busybox], ..launch }
                .start()
                .map_err(|error| self.failure(&error));
        }
        Err(self.failure(&error))
    }

    /// A guest may have nothing but a busybox, without a link for each program that it can be.
    /// Whoever says where programs are is taken at his word.
    fn applet_of(&self, error: &LaunchError) -> Option<CString> {
        let is_absent =
            error.step == Step::Execute && error.error.kind() == io::ErrorKind::NotFound;
        match &self.exec.program {
            Program::Arguments(arguments) if is_absent && !self.has_path() => {
                busybox::with_applet(arguments.first()?)
            }
            _ => None,
        }
    }

    fn has_path(&self) -> bool {
        self.exec.env.iter().any(|(name, _)| name == b"PATH")
    }

    fn failure(&self, LaunchError { step, error }: &LaunchError) -> Failure {
        const E2BIG: i32 = 7;
        const ENOEXEC: i32 = 8;
        match step {
            Step::Process => io_failure("the guest cannot make another process", error),
            Step::Terminal => io_failure("the command cannot have a terminal", error),
            Step::Credentials => {
                let who = shown(&self.user.name);
                io_failure(format_args!("the command cannot run as `{who}`"), error)
            }
            Step::Directory => {
                let directory = self.exec.cwd.as_deref().unwrap_or(&self.user.home);
                let message = format_args!("{}: {error}", shown(directory));
                failure(FailureKind::WorkingDirectory, message)
            }
            Step::Execute => match (error.kind(), error.raw_os_error()) {
                (io::ErrorKind::NotFound, _) => failure(FailureKind::NotFound, self.absent()),
                (_, Some(E2BIG)) => failure(FailureKind::Limit, self.named(error)),
                (_, Some(ENOEXEC)) => failure(
                    FailureKind::NotExecutable,
                    self.named(
                        "neither a program for this machine nor a script that begins with #!",
                    ),
                ),
                _ => failure(FailureKind::NotExecutable, self.named(error)),
            },
        }
    }

    fn absent(&self) -> String {
        if let Program::Shell(_) = &self.exec.program {
            return "the guest has no shell: no /bin/sh, no `sh` in PATH, and no busybox; name the \
                    program and its arguments instead"
                .to_owned();
        }
        // The kernel says the same where the program is there, but not what it needs.
        let exists = |path: &&CString| {
            let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes()));
            path.metadata().is_ok()
        };
        match self.programs.iter().find(exists) {
            Some(path) => format!(
                "{}: it exists, but the interpreter or loader that it names does not",
                shown(path.as_bytes())
            ),
            None => self.named("no such program in the guest"),
        }
    }

    fn named(&self, what: impl Display) -> String {
        let name = self.arguments.first().map_or(b"".as_slice(), |name| name.as_bytes());
        format!("{}: {what}", shown(name))
    }
}

fn no_such_user(who: &str) -> Failure {
    let message = format_args!("{who}: no such user in the guest's /etc/passwd");
    failure(FailureKind::NoSuchUser, message)
}

/// What a login would set, and what the host adds.
fn environment(exec: &Exec, user: &User) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Failure> {
    let mut variables = BTreeMap::new();
    let mut set = |name: &[u8], value: &[u8]| variables.insert(name.to_vec(), value.to_vec());
    set(b"PATH", PATH);
    set(b"HOME", &user.home);
    set(b"USER", &user.name);
    set(b"LOGNAME", &user.name);
    set(b"SHELL", &user.shell);
    set(b"LANG", b"C.UTF-8");
    if exec.terminal.is_some() {
        set(b"TERM", b"xterm");
    }
    for (name, value) in &exec.env {
        if name.is_empty() || name.contains(&b'=') {
            let name = shown(name);
            let message = format_args!("`{name}` cannot be the name of an environment variable");
            return Err(failure(FailureKind::Other, message));
        }
        set(name, value);
    }
    Ok(variables)
}

/// Where a program of this name may be, as `execvp` has it.
fn candidates(name: &[u8], path: &[u8]) -> Result<Vec<CString>, Failure> {
    if name.is_empty() || name.contains(&b'/') {
        return Ok(vec![c_string(name)?]);
    }
    let directories = path.split(|&byte| byte == b':');
    let candidates = directories.map(|directory| match directory {
        // The working directory.
        b"" => c_string(&[b"./", name].concat()),
        directory => c_string(&[directory, b"/", name].concat()),
    });
    candidates.collect()
}

fn c_strings(list: &[Vec<u8>]) -> Result<Vec<CString>, Failure> {
    list.iter().map(|bytes| c_string(bytes)).collect()
}

fn c_string(bytes: &[u8]) -> Result<CString, Failure> {
    CString::new(bytes).map_err(|_| {
        let text = shown(bytes);
        failure(
            FailureKind::Other,
            format_args!("`{}` contains a NUL", text.to_string().escape_debug()),
        )
    })
}
