//! A guest under QEMU, as the tests boot and watch it.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use smolvm_testkit::skip;
use tempfile::TempDir;

use crate::newc;

/// A guest that has not said or done something by then never will.
const DEADLINE: Duration = Duration::from_secs(180);

/// What is booted.
pub struct Setup {
    kernel: PathBuf,
    /// The image's own initial RAM disk.
    initrd: Option<PathBuf>,
    /// The agent's configuration.
    pub config: String,
    pub disks: Vec<Disk>,
    /// More words for the kernel.
    pub kernel_arguments: String,
    /// QEMU's name for the machine.
    pub machine: &'static str,
}

/// A disk of the guest.
pub struct Disk {
    pub path: PathBuf,
    pub read_only: bool,
    /// Whether what the guest writes goes into the file, rather than away.
    pub is_kept: bool,
}

/// A guest that runs.
pub struct Machine {
    qemu: Child,
    console: Receiver<String>,
    said: Vec<String>,
    /// Where the host's end of the agent's channel is.
    pub channel: PathBuf,
    _files: TempDir,
}

/// The directory of a made image; `None`, with the reason printed, where there is none.
pub fn image(name: &str) -> Option<PathBuf> {
    let Some(images) = env::var_os("SMOLVM_TEST_IMAGES") else {
        skip("SMOLVM_TEST_IMAGES names no directory with images");
        return None;
    };
    let image = Path::new(&images).join(name);
    if !image.join("vmlinuz").exists() {
        skip(&format!("there is no image {name}; `cargo xtask images` makes it"));
        return None;
    }
    Some(image)
}

impl Setup {
    /// The made image `name`, as it is; `None`, with the reason printed, where it cannot be booted.
    pub fn of_image(name: &str) -> Option<Self> {
        let image = image(name)?;
        let disk = Disk { path: image.join("rootfs.ext4"), read_only: false, is_kept: false };
        Self::new(&image, disk)
    }

    /// The kernel and the drivers of the image `name` with another disk.
    pub fn with_disk(name: &str, path: &Path) -> Option<Self> {
        let disk = Disk { path: path.to_owned(), read_only: false, is_kept: true };
        Self::new(&image(name)?, disk)
    }

    fn new(image: &Path, disk: Disk) -> Option<Self> {
        if let Err(error) = Command::new("qemu-system-x86_64").arg("--version").output() {
            skip(&format!("cannot run qemu-system-x86_64: {error}"));
            return None;
        }
        Some(Self {
            kernel: image.join("vmlinuz"),
            initrd: Some(image.join("initrd.img")).filter(|initrd| initrd.exists()),
            config: "root=/dev/vda\n".to_owned(),
            disks: vec![disk],
            kernel_arguments: String::new(),
            machine: "microvm",
        })
    }

    /// Takes the image's own initial RAM disk away.
    pub fn without_initrd(mut self) -> Self {
        self.initrd = None;
        self
    }

    pub fn boot(self) -> Machine {
        let files = tempfile::tempdir().unwrap();
        let mut initrd = self.initrd.map_or(Vec::new(), |path| fs::read(path).unwrap());
        initrd.resize(initrd.len().next_multiple_of(4), 0);
        initrd.extend(newc::with_agent(&self.config));
        let initrd_path = files.path().join("initrd.img");
        fs::write(&initrd_path, initrd).unwrap();

        let bus = if self.machine == "microvm" { "device" } else { "pci" };
        let channel = files.path().join("agent.sock");
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-M", self.machine, "-accel", "tcg", "-cpu", "max", "-m", "512"]);
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        qemu.args(["-serial", "stdio", "-kernel"]).arg(&self.kernel);
        qemu.arg("-initrd").arg(&initrd_path);
        qemu.arg("-append").arg(format!(
            "rdinit=/smolvm/agent console=ttyS0 quiet reboot=t panic=-1 {} {}",
            clock(),
            self.kernel_arguments
        ));
        for (number, disk) in self.disks.iter().enumerate() {
            let on = |switch| if switch { "on" } else { "off" };
            qemu.arg("-drive").arg(format!(
                "id=disk{number},if=none,format=raw,file={},snapshot={},readonly={}",
                disk.path.display(),
                on(!disk.is_kept && !disk.read_only),
                on(disk.read_only)
            ));
            qemu.arg("-device").arg(format!("virtio-blk-{bus},drive=disk{number}"));
        }
        qemu.arg("-device").arg(format!("virtio-serial-{bus}"));
        qemu.arg("-chardev")
            .arg(format!("socket,id=agent,server=on,wait=off,path={}", channel.display()));
        qemu.args(["-device", "virtserialport,chardev=agent,name=smolvm.agent"]);
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());

        let mut qemu = qemu.spawn().unwrap();
        let console = read_lines(qemu.stdout.take().unwrap());
        Machine { qemu, console, said: Vec::new(), channel, _files: files }
    }
}

impl Machine {
    /// Waits for a line with `wanted` in it.
    pub fn wait_for(&mut self, wanted: &str) -> String {
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

    /// Waits for the end of the machine. All lines that it has said.
    pub fn wait_for_end(mut self) -> (ExitStatus, Vec<String>) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.qemu.try_wait().unwrap() {
                break status;
            }
            assert!(
                started.elapsed() < DEADLINE,
                "the machine goes on; the console says:\n{}",
                self.said.join("\n")
            );
            thread::sleep(Duration::from_millis(10));
        };
        let mut said = std::mem::take(&mut self.said);
        said.extend(self.console.iter());
        (status, said)
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
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if env::var_os("SMOLVM_TEST_CONSOLE").is_some() {
                eprintln!("{text}");
            }
            // It fails when nobody waits any more.
            let _ = sender.send(text);
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

/// Copies a file out of the ext4 file system in `image`.
pub fn take_out(image: &Path, file: &str, to: &Path) {
    let request = format!("dump -p {file} {}", to.display());
    let output = Command::new("debugfs").arg("-R").arg(request).arg(image).output().unwrap();
    assert!(to.exists(), "{output:?}");
    File::open(to).unwrap();
}
