//! An agent that runs code that it does not trust: what a model has written, what a user has sent.
//!
//! Each piece runs in one VM without a network, as a user without rights, with a time-out and a
//! limit to what it may write. Whatever becomes of it, the agent gets a text that it can go on with.
//!
//! ```console
//! cargo run --example untrusted            # the image `hello`
//! cargo run --example untrusted my-image   # one of ~/.smolvm/registry.toml or $SMOLVM_REGISTRY
//! ```

use std::error::Error;
use std::time::Duration;

use smolvm::{Command, ImageManager, NetworkMode, Registry, SessionError, Vm, VmConfig, VmError};

const PIECES: [(&str, &str); 5] = [
    ("a sum", "echo $((6 * 7))"),
    ("a mistake", "cat /no/such/file"),
    ("an endless loop", "echo thinking; while :; do :; done"),
    ("a flood", "yes"),
    ("a look around", "id -u; ls /sys/class/net"),
];

/// Runs a piece of code, and says what became of it.
fn run_untrusted(vm: &Vm, code: &str) -> String {
    let command = Command::shell(code)
        .timeout(Duration::from_secs(3))
        .user("65534:65534")
        .cwd("/tmp")
        .max_output(100_000);
    match vm.run(command) {
        Ok(result) => {
            format!("exit code {}: {}{}", result.exit_code, result.stdout(), result.stderr())
        }
        Err(VmError::Session {
            source: SessionError::CommandTimeout { after, stdout, .. },
            ..
        }) => {
            format!("ended after {after:?}; so far: {}", String::from_utf8_lossy(&stdout))
        }
        Err(error) => format!("ended: {error}"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "hello".to_owned());
    let manager = ImageManager::builder().registry(Registry::layered(&[])?).build()?;
    let image = manager.ensure_image(&name)?;
    let config = VmConfig::new(&image.kernel_path, &image.rootfs_path)
        .mem_size_mib(256)
        .network(NetworkMode::None);
    let vm = Vm::boot(config)?;
    for (title, code) in PIECES {
        println!("{title}: {}", run_untrusted(&vm, code).trim());
    }
    Ok(())
}
