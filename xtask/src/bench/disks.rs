//! The cases about disks of VMs: how long it takes to make one, in each way, of images of several
//! sizes.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::cases::Prepared;
use super::contender::Contender;
use super::files::{self, MIB};
use super::loop_mount::LoopMount;
use super::ours::again;
use super::rig::Rig;
use crate::command::{self, command};
use crate::images::{self, KERNEL, Kind};

/// The machines that one run makes by a way that takes the same time for every image.
const MANY: u32 = 20;

/// An image of so many MiB, an eighth of which is data, on a file system that shares blocks.
pub(crate) fn prepare(rig: &Rig, mib: u64) -> Result<Prepared> {
    let kernel = images::ensure(Kind::Small)?.dir.join(KERNEL);
    let directory = rig.scratch.join(format!("disk-{mib}"));
    let mount = LoopMount::xfs(&directory)?;
    let place = Place {
        program: rig.disks.clone(),
        kernel,
        rootfs: files::sparse_file(&directory, mib * MIB, 8)?,
        directory,
    };
    let contenders = vec![
        place.ours("reflink", MANY),
        place.ours("overlay", MANY),
        place.ours("copy", 1),
        place.peer("cp --reflink", "cp", &["--reflink=always"]),
        place.peer("cp --sparse=auto", "cp", &["--reflink=never"]),
        place.qemu_img(),
    ];
    let title = format!("a VM with its own disk, of an image of {mib} MiB, an eighth of it data");
    Ok(Prepared::new(&title, contenders).on(mount))
}

/// Where disks are made, and of what.
struct Place {
    program: PathBuf,
    kernel: PathBuf,
    rootfs: PathBuf,
    directory: PathBuf,
}

impl Place {
    /// A machine made by the library, which does not boot.
    fn ours(&self, isolation: &str, count: u32) -> Contender {
        let vms = self.directory.join("vms");
        let mut make = command(&self.program);
        command::without_settings(&mut make);
        make.arg(&self.kernel).arg(&self.rootfs).arg(&vms).arg(count.to_string()).arg(isolation);
        let name = format!("SmolVm::new, {isolation}");
        Contender::new(&name, again(&make)).in_process().into_empty(&vms)
    }

    fn peer(&self, name: &str, program: &str, options: &[&str]) -> Contender {
        let out = self.out();
        let mut copy = command(program);
        copy.args(options).arg(&self.rootfs).arg(out.join("disk"));
        Contender::new(name, again(&copy)).into_empty(&out)
    }

    fn qemu_img(&self) -> Contender {
        let out = self.out();
        let mut create = command("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        create.arg(&self.rootfs).arg(out.join("disk"));
        Contender::new("qemu-img create", again(&create)).into_empty(&out)
    }

    fn out(&self) -> PathBuf {
        Path::join(&self.directory, "peer")
    }
}
