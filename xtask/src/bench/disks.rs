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

/// How many stretches of data an image has, whatever its size: what a reflink costs is a question of
/// extents.
const STRETCHES: u64 = 16;

/// An image of so many MiB, an eighth of which is data. Reflinks are made on a file system that has
/// them, the rest where the work tree is: there a copy is one.
pub(crate) fn prepare(rig: &Rig, mib: u64) -> Result<Prepared> {
    let kernel = images::ensure(Kind::Small)?.dir.join(KERNEL);
    let shared = rig.scratch.join(format!("disk-{mib}"));
    let mount = LoopMount::xfs(&shared)?;
    let place = |files: &Path, out: &Path| {
        let rootfs = files::sparse_file(files, mib * MIB, 8, STRETCHES)?;
        anyhow::Ok(Place {
            program: rig.disks.clone(),
            kernel: kernel.clone(),
            rootfs,
            vms: out.join("vms"),
            out: out.join("peer"),
        })
    };
    let (shared, plain) = (place(&shared, &shared)?, place(&rig.files, &rig.scratch)?);
    let contenders = vec![
        shared.ours("reflink", MANY),
        plain.ours("overlay", MANY),
        plain.ours("copy", 1),
        shared.peer("cp --reflink", &["--reflink=always"]),
        plain.peer("cp --sparse=auto", &["--reflink=never"]),
        plain.qemu_img(),
    ];
    let title = format!(
        "a VM with its own disk, of an image of {mib} MiB, an eighth of it data; reflinks on XFS"
    );
    Ok(Prepared::new(&title, contenders).on(mount))
}

/// Where disks are made, and of what.
struct Place {
    program: PathBuf,
    kernel: PathBuf,
    rootfs: PathBuf,
    vms: PathBuf,
    out: PathBuf,
}

impl Place {
    /// A machine made by the library, which does not boot.
    fn ours(&self, isolation: &str, count: u32) -> Contender {
        let mut make = command(&self.program);
        command::without_settings(&mut make);
        make.arg(&self.kernel)
            .arg(&self.rootfs)
            .arg(&self.vms)
            .arg(count.to_string())
            .arg(isolation);
        let name = format!("SmolVm::new, {isolation}");
        Contender::new(&name, again(&make)).in_process().into_empty(&self.vms)
    }

    fn peer(&self, name: &str, options: &[&str]) -> Contender {
        let mut copy = command("cp");
        copy.args(options).arg(&self.rootfs).arg(self.out.join("disk"));
        Contender::new(name, again(&copy)).into_empty(&self.out)
    }

    fn qemu_img(&self) -> Contender {
        let mut create = command("qemu-img");
        create.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        create.arg(&self.rootfs).arg(self.out.join("disk"));
        Contender::new("qemu-img create", again(&create)).into_empty(&self.out)
    }
}
