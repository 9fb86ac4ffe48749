//! How long it takes to make a machine, with a disk of its own that is made in one of the ways.
//!
//! ```sh
//! cargo run --release --example disks -- vmlinuz rootfs.ext4 ~/.smolvm/vms 20 reflink
//! ```
//!
//! Nothing boots. Prints the number of machines and the median of their times as JSON;
//! `cargo xtask bench` reads it.

use std::error::Error;
use std::time::Instant;

use smolvm::{BackendChoice, Isolation, NetworkMode, SmolVm, VmConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, rootfs, directory, count, isolation] = arguments.as_slice() else {
        return Err("usage: disks KERNEL ROOTFS VMS_DIRECTORY COUNT reflink|overlay|copy".into());
    };
    let count: usize = count.parse()?;
    let isolation = match isolation.as_str() {
        "reflink" => Isolation::Reflink,
        "overlay" => Isolation::Overlay,
        "copy" => Isolation::Copy,
        _ => return Err("a disk is made by reflink, overlay or copy".into()),
    };
    let config = VmConfig::new(kernel, rootfs)
        .backend(BackendChoice::Qemu)
        .network(NetworkMode::None)
        .vms_dir(directory)
        .isolation(isolation);
    let mut times = Vec::new();
    for _ in 0..count {
        let started = Instant::now();
        let vm = SmolVm::new(config.clone())?;
        times.push(started.elapsed().as_secs_f64());
        vm.delete()?;
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).ok_or("no machines")?;
    println!("{{\"calls\": {count}, \"median_seconds\": {median}}}");
    Ok(())
}
