//! Boots a made image under an emulator alone, for the tests of the images.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::{self, tied_command};
use crate::term;

/// What is booted.
pub(crate) struct Guest {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// What the kernel is told.
    pub(crate) boot_args: String,
}

/// What the guest did.
pub(crate) struct Booted {
    /// The line that was waited for.
    pub(crate) line: String,
}

/// A guest that has not said its line by then never will.
const DEADLINE: Duration = Duration::from_mins(1);

/// Boots `guest` until it prints a line with `wanted` in it and ends. All that
/// it prints goes to the file `console`.
///
/// The files are only read: what the guest writes to its disk is thrown away.
pub(crate) fn boot(guest: &Guest, wanted: &str, console: &Path) -> Result<Booted> {
    let mut qemu = tied_command("qemu-system-x86_64");
    qemu.args(["-M", "microvm", "-accel", "tcg", "-cpu", "max", "-m", "512"]);
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu.args(["-display", "none", "-serial", "stdio"]);
    qemu.arg("-kernel").arg(&guest.kernel).arg("-initrd").arg(&guest.initrd);
    qemu.arg("-drive").arg(disk(&guest.rootfs)).args(["-device", "virtio-blk-device,drive=root"]);
    qemu.arg("-append").arg(boot_args(&guest.boot_args));
    term::command(&command::describe(&qemu));

    let started = Instant::now();
    let mut qemu = qemu
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the emulator; `cargo xtask setup` installs it")?;
    let output = qemu.stdout.take().context("the emulator has no output")?;
    let mut running = Running(qemu);
    let lines = read_lines(output, fs_err::File::create(console)?);
    let line = wait_for(&lines, wanted, started);
    let line = line.with_context(|| last_words(console))?;
    let status = running.wait_until(started + DEADLINE)?;
    if !status {
        bail!("the emulator failed after the guest's line; see {}", console.display());
    }
    Ok(Booted { line })
}

/// The disk, with what is written to it kept aside and thrown away.
fn disk(rootfs: &Path) -> OsString {
    let mut drive = OsString::from("id=root,if=none,format=raw,snapshot=on,file=");
    // A comma ends a value; two stand for one.
    drive.push(rootfs.to_string_lossy().replace(',', ",,"));
    drive
}

/// What the init of the images made here reads: the machine ends by itself.
const GREET_AND_RESET: &str = "smolvm.test=hello-and-reset";

/// An emulated clock counts unevenly, so that a kernel that measures it may
/// wait forever; this one is told the rate.
fn boot_args(image_says: &str) -> String {
    let words = format!("{image_says} {GREET_AND_RESET}");
    match clock_khz() {
        Some(khz) => format!("{words} tsc_early_khz={khz}"),
        None => words,
    }
}

/// The rate of this machine's time stamp counter, which the emulator shows the
/// guest: the nominal one where the processor's name tells it, else the
/// current one.
fn clock_khz() -> Option<u64> {
    let cpuinfo = fs_err::read_to_string("/proc/cpuinfo").ok()?;
    let value = |key: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim())
    };
    let nominal = value("model name")
        .and_then(|name| name.split_once("@ ")?.1.strip_suffix("GHz")?.trim().parse::<f64>().ok())
        .map(|ghz| ghz * 1e6);
    let current = || Some(value("cpu MHz")?.parse::<f64>().ok()? * 1e3);
    // A rate is positive and far below what an integer holds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a frequency in kHz"
    )]
    nominal.or_else(current).map(|khz| khz as u64)
}

/// Copies the console to a file and passes its lines on.
fn read_lines(output: ChildStdout, mut copy: fs_err::File) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            // Both can only fail when nobody needs them any more.
            let _ = copy.write_all(&line);
            let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    });
    lines
}

fn wait_for(lines: &Receiver<String>, wanted: &str, started: Instant) -> Result<String> {
    loop {
        let left = DEADLINE.saturating_sub(started.elapsed());
        match lines.recv_timeout(left) {
            Ok(line) if line.contains(wanted) => return Ok(line),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => {
                bail!("the guest did not say `{wanted}` within {} s", DEADLINE.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the guest ended without saying `{wanted}`")
            }
        }
    }
}

fn last_words(console: &Path) -> String {
    const LINES: usize = 15;
    let text = fs_err::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].join("\n    ");
    format!("the end of {}:\n    {last}\n", console.display())
}

/// An emulator that is ended when nobody waits for it any more.
struct Running(Child);

impl Running {
    /// Waits until the emulator has ended; whether it did well.
    fn wait_until(&mut self, deadline: Instant) -> Result<bool> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.success());
            }
            if Instant::now() > deadline {
                bail!("the guest said its line, but the machine goes on");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;
    use crate::images::{BOOT_ARGS, INITRD, KERNEL, ROOTFS, digest_of};

    /// Boots a made image; `None` where there is none.
    fn boot_made(name: &str, change: impl FnOnce(&mut Guest)) -> Option<Result<Booted>> {
        let Some(images) = env::var_os("SMOLVM_TEST_IMAGES") else {
            smolvm_testkit::skip("SMOLVM_TEST_IMAGES names no directory with images");
            return None;
        };
        let dir = Path::new(&images).join(name);
        let mut guest = Guest {
            kernel: dir.join(KERNEL),
            initrd: dir.join(INITRD),
            rootfs: dir.join(ROOTFS),
            boot_args: BOOT_ARGS.to_owned(),
        };
        change(&mut guest);
        let scratch = tempfile::tempdir().unwrap();
        Some(boot(&guest, "Hello from SmolVM!", &scratch.path().join("console.log")))
    }

    #[test]
    fn the_small_image_greets_from_its_root_file_system() {
        if let Some(booted) = boot_made("debian-tiny", |_| {}) {
            let line = booted.unwrap().line;
            assert!(line.ends_with("-cloud-amd64, root on ext4"), "{line}");
        }
    }

    #[test]
    fn the_large_image_greets_and_its_file_stays_as_it_was() {
        let mut disk = PathBuf::new();
        let mut before = String::new();
        let booted = boot_made("debian-large", |guest| {
            disk.clone_from(&guest.rootfs);
            before = digest_of(&disk).unwrap();
        });
        if let Some(booted) = booted {
            assert!(booted.unwrap().line.ends_with("root on ext4"));
            assert_eq!(digest_of(&disk).unwrap(), before);
        }
    }

    #[test]
    fn a_guest_that_does_not_boot_is_reported_with_its_last_words() {
        let booted = boot_made("debian-tiny", |guest| {
            guest.boot_args.push_str(" root=/dev/none");
        });
        if let Some(booted) = booted {
            let error = format!("{:#}", booted.err().unwrap());
            assert!(error.contains("cannot mount /dev/none"), "{error}");
            assert!(error.contains("ended without saying"), "{error}");
        }
    }
}
