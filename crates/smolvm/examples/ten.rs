//! Ten VMs at once from one image: each has a disk of its own, and the image stays as it is.
//!
//! ```console
//! cargo run --example ten            # the image `hello`
//! cargo run --example ten my-image   # one of ~/.smolvm/registry.toml or $SMOLVM_REGISTRY
//! ```

use std::error::Error;
use std::thread;

use smolvm::{ImageManager, LocalImage, NetworkMode, Registry, Vm, VmConfig, VmError};

/// Boots a VM, has it write to its disk, and returns what it then reads.
fn work(image: &LocalImage, number: u32) -> Result<String, VmError> {
    let config = VmConfig::new(&image.kernel_path, &image.rootfs_path)
        .mem_size_mib(128)
        .network(NetworkMode::None);
    let vm = Vm::boot(config)?;
    vm.run(format!("echo {number} >> /number"))?;
    Ok(vm.run("cat /number")?.stdout().trim().to_owned())
}

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "hello".to_owned());
    let manager = ImageManager::builder().registry(Registry::layered(&[])?).build()?;
    let image = &manager.ensure_image(&name)?;
    let numbers: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..10).map(|number| scope.spawn(move || work(image, number))).collect();
        let joined = threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread failed"));
        joined.map(|number| Ok(number??)).collect::<Result<_, Box<dyn Error>>>()
    })?;
    println!("The VMs have read: {}", numbers.join(" "));
    Ok(())
}
