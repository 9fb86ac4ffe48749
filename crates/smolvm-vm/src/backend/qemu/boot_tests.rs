//! Machines that a real QEMU makes of what [`arguments`] tells it.

use std::cell::RefCell;
use std::env;
use std::fs::File;
use std::io::ErrorKind::{ConnectionRefused, NotFound};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use smolvm_protocol::{Decoder, Preamble, Reply, Scanner, Side};
use smolvm_testkit::skip;
use tempfile::TempDir;

use super::super::machine::{Disk, MachineSpec, Nic, Variant};
use super::super::qmp::{Qmp, QmpError};
use super::{Qemu, arguments};
use crate::accel::Accelerator;
use crate::backend::{Backend, kernel_arguments};
use crate::disk::{self, Base, Capabilities, Isolation, Request};
use crate::kernel::Architecture;

/// Long enough for a boot under emulation on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(2);

const AGENT_FD: RawFd = 9;
const KERNEL_FD: RawFd = 10;
const ROOTFS_FD: RawFd = 11;

/// A place for the files of a machine.
struct Place {
    dir: TempDir,
    /// What the VMM has besides.
    handed: RefCell<Vec<FdMapping>>,
}

/// A QEMU that ends with the value.
struct Running {
    child: Child,
    /// The host's end of the agent's channel.
    agent: UnixStream,
    lines: Receiver<String>,
    qmp_socket: PathBuf,
}

/// The directory of the small image; `None` where there is none.
fn small_image() -> Option<PathBuf> {
    let Some(images) = env::var_os("SMOLVM_TEST_IMAGES") else {
        skip("SMOLVM_TEST_IMAGES names no directory with images");
        return None;
    };
    Some(Path::new(&images).join("debian-tiny"))
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, handed: RefCell::default() }
    }

    /// Hands something over to the VMM; returns its number there.
    fn hand(&self, what: impl Into<OwnedFd>) -> RawFd {
        let mut handed = self.handed.borrow_mut();
        let child_fd = ROOTFS_FD + 1 + RawFd::try_from(handed.len()).unwrap();
        handed.push(FdMapping { parent_fd: what.into(), child_fd });
        child_fd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The small image's machine, with a network that leads nowhere, and this disk.
    fn machine(&self, variant: Variant, image: &Path, disk: Disk) -> MachineSpec {
        let initrd = self.hand(File::open(image.join("initrd.img")).unwrap());
        let qmp_socket = self.hand(UnixListener::bind(self.path("qmp.sock")).unwrap());
        let (architecture, accelerator) = (Architecture::X86_64, Accelerator::Tcg);
        let of_image = Some("rdinit=/init root=/dev/vda rw");
        MachineSpec {
            variant,
            accelerator,
            vcpu_count: 1,
            mem_size_mib: 256,
            kernel: KERNEL_FD,
            initrd: Some(initrd),
            command_line: kernel_arguments(
                Backend::Qemu,
                architecture,
                accelerator,
                false,
                of_image,
            ),
            disks: vec![disk],
            network: Some(Nic::Restricted { mac: "52:54:00:12:34:56".to_owned() }),
            nested_virtualization: false,
            vsock_cid: None,
            incoming: false,
            qmp_socket,
        }
    }
}

/// Starts the machine with the image's kernel and root file system as descriptors.
fn start(place: &Place, machine: &MachineSpec, image: &Path) -> Running {
    let (agent, of_guest) = UnixStream::pair().unwrap();
    let open = |name: &str| OwnedFd::from(File::open(image.join(name)).unwrap());
    let mut descriptors = place.handed.take();
    descriptors.extend([
        FdMapping { parent_fd: of_guest.into(), child_fd: AGENT_FD },
        FdMapping { parent_fd: open("vmlinuz"), child_fd: KERNEL_FD },
        FdMapping { parent_fd: open("rootfs.ext4"), child_fd: ROOTFS_FD },
    ]);
    let qemu = Qemu::find(Architecture::X86_64).unwrap();
    let mut command = Command::new(qemu.program);
    command.args(arguments(machine)).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.fd_mappings(descriptors).unwrap().spawn().unwrap();
    let console = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in console.split(b'\n').map_while(Result::ok) {
            // The test may have seen enough.
            let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
        }
    });
    Running { child, agent, lines, qmp_socket: place.path("qmp.sock") }
}

impl Running {
    /// Waits for a line with `wanted` in it.
    fn wait_for(&self, wanted: &str) {
        let mut said = String::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("there was no {wanted:?} in:\n{said}"));
            if line.contains(wanted) {
                return;
            }
            said = said + &line + "\n";
        }
    }

    fn qmp(&mut self) -> Qmp {
        loop {
            match Qmp::connect(&self.qmp_socket, PATIENCE) {
                // Its name is there a moment before it listens.
                Err(QmpError::Io { source, .. })
                    if matches!(source.kind(), NotFound | ConnectionRefused) => {}
                qmp => return qmp.unwrap(),
            }
            assert_eq!(self.child.try_wait().unwrap(), None, "QEMU ended before it listened");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asks QEMU whether the guest runs, ends it, and waits for that.
    fn check_and_end(mut self) {
        let mut qmp = self.qmp();
        assert!(qmp.status().unwrap().running);
        qmp.quit().unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Behaviour 44: the root file system is a descriptor that can only be read, below a disk of the
/// machine's own.
#[test]
fn a_microvm_boots_the_small_image_from_descriptors() {
    let Some(image) = small_image() else { return };
    let place = Place::new();
    let rootfs = image.join("rootfs.ext4");
    let file = File::open(&rootfs).unwrap();
    let request = Request {
        isolation: Some(Isolation::Overlay),
        capabilities: Capabilities { qcow2: true, overlayfs: false },
        ..Request::default()
    };
    let base = Base { file: &file, path: &rootfs };
    let own = disk::isolate(base, place.dir.path(), &request).unwrap();
    let write = |path: &Path| File::options().read(true).write(true).open(path).unwrap();
    let own = place.hand(write(&own.path(place.dir.path())));
    let disk = Disk::over(own, ROOTFS_FD);
    let mut machine = place.machine(Variant::Microvm, &image, disk);
    // A second disk, so that the first one is seen to be `/dev/vda`.
    let second = place.path("second");
    File::create(&second).unwrap().set_len(1 << 20).unwrap();
    machine.disks.push(Disk::raw(place.hand(write(&second))));

    let running = start(&place, &machine, &image);
    running.wait_for("Hello from SmolVM!");
    running.check_and_end();
}

/// The network's program is there, and nobody at the other end of the agent's channel.
#[test]
fn all_kinds_of_pc_are_made_with_a_network() {
    let Some(image) = small_image() else { return };
    for variant in [Variant::Microvm, Variant::MicrovmWithoutAcpi, Variant::Q35] {
        let place = Place::new();
        let disk = Disk::read_only(ROOTFS_FD);
        let mut machine = place.machine(variant, &image, disk);
        let socket = place.path("net.sock");
        let _network = UnixListener::bind(&socket).unwrap();
        let number = place.hand(UnixStream::connect(&socket).unwrap());
        machine.network = Some(Nic::Stream { number, mac: "52:54:00:12:34:56".to_owned() });
        start(&place, &machine, &image).check_and_end();
    }
}

/// What ends the host's end of the channel is not what ends the machine.
#[test]
fn a_machine_outlives_its_agent_channel() {
    let Some(image) = small_image() else { return };
    let place = Place::new();
    let disk = Disk::read_only(ROOTFS_FD);
    let machine = place.machine(Variant::Microvm, &image, disk);
    let running = start(&place, &machine, &image);
    running.agent.shutdown(std::net::Shutdown::Both).unwrap();
    running.wait_for("Hello from SmolVM!");
    running.check_and_end();
}

/// As it is for a kernel that unpacks no initrd. This one unpacks the image's own, which does what
/// such a kernel does by itself, and knows nothing of the agent.
#[test]
fn an_agent_that_was_put_into_the_disk_is_started_from_there() {
    let Some(image) = small_image() else { return };
    let place = Place::new();
    // One with the kernel's drivers: this kernel has next to none built in.
    let rootfs = image.with_file_name("debian-systemd").join("rootfs.ext4");
    if !rootfs.is_file() {
        return skip("there is no image debian-systemd");
    }
    let file = File::open(&rootfs).unwrap();
    let size = Some(file.metadata().unwrap().len() + (64 << 20));
    let request = Request { size, isolation: Some(Isolation::Copy), ..Request::default() };
    let base = Base { file: &file, path: &rootfs };
    let own = disk::isolate(base, place.dir.path(), &request).unwrap();
    let own = own.path(place.dir.path());
    disk::add_agent(&own, smolvm_agent::PROGRAM, crate::boot::ON_DISK).unwrap();
    let own = File::options().read(true).write(true).open(own).unwrap();
    let disk = Disk::raw(place.hand(own));
    let mut machine = place.machine(Variant::Microvm, &image, disk);
    let (backend, accelerator) = (Backend::Qemu, Accelerator::Tcg);
    let of_image = Some("rdinit=/init");
    machine.command_line =
        kernel_arguments(backend, Architecture::X86_64, accelerator, true, of_image);

    let running = start(&place, &machine, &image);
    let mut agent = &running.agent;
    agent.set_read_timeout(Some(PATIENCE)).unwrap();
    agent.write_all(&Preamble::new(Side::Host, [7; 16]).encode()).unwrap();
    let mut scanner = Scanner::for_guest([7; 16]);
    let mut buffer = [0; 4096];
    let welcome = loop {
        let count = agent.read(&mut buffer).unwrap();
        assert!(count > 0, "the agent's channel has ended");
        if let Some((_, rest)) = scanner.push(&buffer[..count]).unwrap() {
            break rest;
        }
    };
    let mut decoder = Decoder::default();
    decoder.push(&welcome);
    let frame = loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            break Reply::decode(&frame).unwrap();
        }
        let count = agent.read(&mut buffer).unwrap();
        decoder.push(&buffer[..count]);
    };
    assert!(matches!(frame, Reply::Welcome(welcome) if welcome.has_init), "no welcome");
    running.check_and_end();
}
