//! [`Init`]: the image's init, the first process of the guest: what it is, and how it is asked to
//! end the machine.

use std::fs;
use std::path::Path;

use crate::sys::process;

/// The first process, where it is the image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Init {
    /// The agent has not made room for it yet.
    NotStarted,
    Systemd,
    Busybox,
    /// A program that listens to `reboot`: sysvinit and the like.
    Program,
    /// A script, which nobody can ask anything.
    Script,
}

impl Init {
    /// What the first process is.
    pub(super) fn of_guest() -> Self {
        let first = fs::read_link("/proc/1/exe").unwrap_or_default();
        // They are the same file, whatever it is called by now.
        if fs::read_link("/proc/self/exe").is_ok_and(|own| own == first) {
            return Self::NotStarted;
        }
        let command = fs::read("/proc/1/cmdline").unwrap_or_default();
        Self::recognise(&first, &command)
    }

    /// By its program and its arguments, each of which ends with NUL.
    fn recognise(program: &Path, command: &[u8]) -> Self {
        const SHELLS: &[&str] = &["sh", "bash", "dash", "ash", "busybox"];
        let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let called = command.split(|&byte| byte == 0).next().unwrap_or_default();
        let called = called.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        match name {
            "systemd" => Self::Systemd,
            "busybox" if called == b"init" || called == b"linuxrc" => Self::Busybox,
            _ if SHELLS.contains(&name) => Self::Script,
            _ => Self::Program,
        }
    }

    /// Asks it to end all that it has started, and then the machine. That is a restart: a machine
    /// may have no power switch, and the host has made sure that it does not start again.
    /// Returns whether it can be asked.
    pub(super) fn ask_for_end(self) -> bool {
        const SIGTERM: u8 = 15;
        /// `SIGRTMIN+5`: systemd starts `reboot.target`.
        const SIGRTMIN_5: u8 = 39;
        match self {
            Self::Systemd => process::signal_first(SIGRTMIN_5),
            // It runs what its inittab says of the end, then restarts.
            Self::Busybox => process::signal_first(SIGTERM),
            Self::Program | Self::Script | Self::NotStarted => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_is_known_by_its_program() {
        let recognise = |program: &str, command: &str| {
            Init::recognise(Path::new(program), command.replace(' ', "\0").as_bytes())
        };
        assert_eq!(recognise("/usr/lib/systemd/systemd", "/sbin/init"), Init::Systemd);
        assert_eq!(recognise("/bin/busybox", "/sbin/init "), Init::Busybox);
        assert_eq!(recognise("/bin/busybox", "init"), Init::Busybox);
        assert_eq!(recognise("/bin/busybox", "/bin/sh /sbin/init "), Init::Script);
        assert_eq!(recognise("/usr/bin/dash", "/bin/sh /init"), Init::Script);
        assert_eq!(recognise("/usr/sbin/init", "init [2] "), Init::Program);
    }
}
