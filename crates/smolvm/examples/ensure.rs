//! How long `ensure_image` takes in a process that lives on: the same image, again and again.
//!
//! ```sh
//! cargo run --release --example ensure -- registry.toml cache my-image 20 always
//! ```
//!
//! Prints the number of calls and the median of their times as JSON; `cargo xtask bench` reads it.

use std::error::Error;
use std::time::Instant;

use smolvm::{ImageManager, Registry, VerifyPolicy};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [registry, cache, image, calls, policy] = arguments.as_slice() else {
        return Err("usage: ensure REGISTRY CACHE IMAGE CALLS always|changed".into());
    };
    let calls: usize = calls.parse()?;
    let registry = Registry::layered(&[registry.into()])?;
    let policy = match policy.as_str() {
        "always" => VerifyPolicy::Always,
        "changed" => VerifyPolicy::Changed,
        _ => return Err("the policy is always or changed".into()),
    };
    let manager =
        ImageManager::builder().cache_dir(cache).registry(registry).verify(policy).build()?;
    let mut times = Vec::new();
    for _ in 0..calls {
        let started = Instant::now();
        manager.ensure_image(image)?;
        times.push(started.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).ok_or("no calls")?;
    println!("{{\"calls\": {calls}, \"median_seconds\": {median}}}");
    Ok(())
}
