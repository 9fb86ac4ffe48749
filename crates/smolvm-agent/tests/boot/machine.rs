//! A guest under QEMU, as the tests boot and watch it.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use smolvm_testkit::skip;
use tempfile::TempDir;

use crate::newc;
use crate::session::Session;

/// A guest that has not said or done something by then never will.
const DEADLINE: Duration = Duration::from_mins(3);

/// What is booted.
pub(crate) struct Setup {
    image: PathBuf,
    /// The agent's configuration.
    pub(crate) config: String,
    pub(crate) disks: Vec<Disk>,
    /// QEMU's name for the machine.
    pub(crate) machine: &'static str,
}

/// A disk of the guest.
pub(crate) struct Disk {
    path: PathBuf,
    access: Access,
}

#[derive(PartialEq, Eq)]
enum Access {
    /// What the guest writes goes into the file.
    Kept,
    /// The guest believes to write.
    ThrownAway,
    /// The guest cannot write.
    ReadOnly,
}

/// A guest that runs.
pub(crate) struct Machine {
    qemu: Child,
    console: Receiver<String>,
    said: Vec<String>,
    /// Where the host's end of the agent's channel is.
    channel: PathBuf,
    _files: TempDir,
}

impl Disk {
    pub(crate) fn kept(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::Kept }
    }

    pub(crate) fn read_only(path: &Path) -> Self {
        Self { path: path.to_owned(), access: Access::ReadOnly }
    }
}

impl Setup {
    /// The made image `name` as it is; `None`, with the reason printed, where it cannot be booted.
    pub(crate) fn of_image(name: &str) -> Option<Self> {
        let Some(images) = env::var_os("SMOLVM_TEST_IMAGES") else {
            skip("SMOLVM_TEST_IMAGES names no directory with images");
            return None;
        };
        let image = Path::new(&images).join(name);
        if !image.join("vmlinuz").exists() {
            skip(&format!("there is no image {name}; `cargo xtask images` makes it"));
            return None;
        }
        if let Err(error) = Command::new("qemu-system-x86_64").arg("--version").output() {
            skip(&format!("cannot run qemu-system-x86_64: {error}"));
            return None;
        }
        let disk = Disk { path: image.join("rootfs.ext4"), access: Access::ThrownAway };
        let config = "root=/dev/vda\n".to_owned();
        Some(Self { image, config, disks: vec![disk], machine: "microvm" })
    }

    /// The root file system of the image.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.image.join("rootfs.ext4")
    }

    pub(crate) fn boot(self) -> Machine {
        let files = tempfile::tempdir().unwrap();
        // The image's own comes first, and ends at a multiple of four.
        let mut initrd = fs::read(self.image.join("initrd.img")).unwrap();
        initrd.resize(initrd.len().next_multiple_of(4), 0);
        initrd.extend(newc::with_agent(&self.config));
        let initrd_path = files.path().join("initrd.img");
        fs::write(&initrd_path, initrd).unwrap();
        let channel = files.path().join("agent.sock");

        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-M", self.machine, "-accel", "tcg", "-cpu", "max", "-m", "256"]);
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        qemu.args(["-serial", "stdio", "-kernel"]).arg(self.image.join("vmlinuz"));
        qemu.arg("-initrd").arg(&initrd_path);
        qemu.arg("-append").arg(format!(
            "rdinit=/smolvm/agent console=ttyS0 quiet reboot=t panic=-1 cryptomgr.notests {}",
            clock()
        ));
        let bus = if self.machine.starts_with("microvm") { "device" } else { "pci" };
        for (number, disk) in self.disks.iter().enumerate() {
            qemu.arg("-drive").arg(disk.option(number));
            qemu.arg("-device").arg(format!("virtio-blk-{bus},drive=disk{number}"));
        }
        qemu.arg("-device").arg(format!("virtio-serial-{bus},max_ports=2"));
        let socket = format!("socket,id=agent,server=on,wait=off,path={}", channel.display());
        qemu.arg("-chardev").arg(socket);
        qemu.args(["-device", "virtserialport,chardev=agent,name=smolvm.agent"]);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());

        let mut qemu = qemu.spawn().unwrap();
        let console = read_lines(qemu.stdout.take().unwrap());
        Machine { qemu, console, said: Vec::new(), channel, _files: files }
    }
}

impl Disk {
    /// The value of QEMU's `-drive`.
    fn option(&self, number: usize) -> String {
        let access = match self.access {
            Access::Kept => "readonly=off",
            Access::ThrownAway => "snapshot=on",
            Access::ReadOnly => "readonly=on",
        };
        format!("id=disk{number},if=none,format=raw,file={},{access}", self.path.display())
    }
}

impl Machine {
    /// A session with the agent. There is one at a time.
    pub(crate) fn session(&mut self) -> Session {
        self.wait_for_socket();
        Session::open(&self.channel).unwrap_or_else(|| {
            self.said.extend(self.console.try_iter());
            panic!("no answer; the console says:\n{}", self.said.join("\n"))
        })
    }

    /// QEMU makes the socket a moment after its start.
    fn wait_for_socket(&self) {
        let started = Instant::now();
        while !self.channel.exists() {
            assert!(started.elapsed() < DEADLINE, "QEMU made no socket");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a line with `wanted` in it.
    pub(crate) fn wait_for(&mut self, wanted: &str) -> String {
        let started = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(started.elapsed());
            match self.console.recv_timeout(left) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(wanted) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no `{wanted}` in time; the console says:\n{}", self.said.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended without `{wanted}`; the console says:\n{}", self.said.join("\n"))
                }
            }
        }
    }

    /// Waits until the machine has reset itself.
    pub(crate) fn wait_for_reset(mut self) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.qemu.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < DEADLINE, "the machine goes on: {:?}", self.said);
            thread::sleep(Duration::from_millis(10));
        };
        self.said.extend(self.console.iter());
        let said = self.said.join("\n");
        assert!(status.success() && !said.contains("panic"), "{status}:\n{said}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

fn read_lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            // It fails when nobody waits any more.
            let _ = sender.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    });
    lines
}

/// Tells the kernel the rate of its clock, which it may fail to measure under emulation.
fn clock() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let rate = cpuinfo.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split(": ").nth(1));
    let rate: Option<f64> = rate.and_then(|rate| rate.trim().parse().ok());
    rate.map_or(String::new(), |rate| format!("tsc_early_khz={:.0}", rate * 1e3))
}
