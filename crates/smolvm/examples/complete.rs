//! The documentation's complete example: an image is fetched, booted, and runs a command.
//!
//! ```sh
//! cargo run --example complete            # the image `hello`
//! cargo run --example complete my-image   # one of ~/.smolvm/registry.toml or $SMOLVM_REGISTRY
//! ```

use std::error::Error;

use smolvm::{ImageManager, Registry, Vm, VmConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "hello".to_owned());
    let mut builder = ImageManager::builder().registry(Registry::layered(&[])?);
    if let Some(directory) = std::env::var_os("SMOLVM_CACHE_DIR") {
        builder = builder.cache_dir(directory);
    }
    let manager = builder.build()?;

    println!("Available images:");
    for image in manager.list_available() {
        let cached = if manager.is_cached(&image) { "✓" } else { "✗" };
        println!("  [{cached}] {image}");
    }

    let image = manager.ensure_image(&name)?;
    println!("\nUsing image: {}", image.name);
    println!("  Kernel: {}", image.kernel_path.display());
    println!("  Rootfs: {}", image.rootfs_path.display());

    let vm = Vm::boot(VmConfig::new(&image.kernel_path, &image.rootfs_path))?;
    println!("\nVM started with IP: {}", vm.get_ip()?);
    let result = vm.run("echo 'Hello from SmolVM!'")?;
    println!("Output: {}", result.stdout().trim());
    Ok(())
}
