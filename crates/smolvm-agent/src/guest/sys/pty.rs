//! Pseudo-terminals.

use std::ffi::{c_int, c_ushort};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;

use super::check;
use super::descriptor::{IoctlRequest, ioctl};

/// A terminal's two ends.
#[derive(Debug)]
pub(crate) struct Pty {
    /// What the agent reads and writes, without waiting.
    pub(crate) master: File,
    /// What the command takes for a terminal.
    pub(crate) terminal: File,
}

/// `struct winsize`.
#[repr(C)]
struct Size {
    rows: c_ushort,
    columns: c_ushort,
    pixels: [c_ushort; 2],
}

const O_NOCTTY: c_int = 0o400;
const O_NONBLOCK: c_int = 0o4000;

impl Pty {
    /// Makes a terminal of this size.
    ///
    /// # Errors
    ///
    /// Where the guest has no `/dev/ptmx`, or `/dev/pts` is not mounted.
    pub(crate) fn open(rows: u16, columns: u16) -> io::Result<Self> {
        const TIOCSPTLCK: IoctlRequest = 0x4004_5431;
        // A request is unsigned or an `int`, by the C library; the bits are the same.
        #[cfg(not(target_env = "musl"))]
        const TIOCGPTN: IoctlRequest = 0x8004_5430;
        #[cfg(target_env = "musl")]
        const TIOCGPTN: IoctlRequest = 0x8004_5430_u32.cast_signed();

        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let master = options.custom_flags(O_NOCTTY | O_NONBLOCK).open("/dev/ptmx")?;
        let unlock: c_int = 0;
        let mut number: c_int = 0;
        // SAFETY: the request reads an `int` from the pointer, which is to one.
        check(unsafe { ioctl(master.as_raw_fd(), TIOCSPTLCK, &raw const unlock) })?;
        // SAFETY: the request writes an `int` to the pointer, which is to one.
        check(unsafe { ioctl(master.as_raw_fd(), TIOCGPTN, &raw mut number) })?;
        let terminal = options.custom_flags(O_NOCTTY).open(format!("/dev/pts/{number}"))?;
        resize(&master, rows, columns)?;
        Ok(Self { master, terminal })
    }
}

/// Gives a terminal another size; what runs in its foreground is told.
pub(crate) fn resize(master: &File, rows: u16, columns: u16) -> io::Result<()> {
    const TIOCSWINSZ: IoctlRequest = 0x5414;
    let size = Size { rows, columns, pixels: [0; 2] };
    // SAFETY: the request reads a `struct winsize` from the pointer, which is to one.
    check(unsafe { ioctl(master.as_raw_fd(), TIOCSWINSZ, &raw const size) })?;
    Ok(())
}

/// The character by which the line of a terminal says its end (`VEOF`, usually Ctrl-D).
pub(crate) fn end_character(master: &File) -> u8 {
    /// `struct termios` of the kernel: four words of flags, the discipline, the characters.
    #[repr(C)]
    struct Settings {
        flags: [u32; 4],
        discipline: u8,
        characters: [u8; 19],
    }
    const TCGETS: IoctlRequest = 0x5401;
    const VEOF: usize = 4;
    const CONTROL_D: u8 = 4;
    let mut settings = Settings { flags: [0; 4], discipline: 0, characters: [0; 19] };
    // SAFETY: the request writes a `struct termios` of the kernel to the pointer, which is to one.
    match check(unsafe { ioctl(master.as_raw_fd(), TCGETS, &raw mut settings) }) {
        Ok(_) => settings.characters[VEOF],
        Err(_) => CONTROL_D,
    }
}
