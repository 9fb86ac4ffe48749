//! The progress of a download, with indicatif: a bar for each file.
//!
//! ```console
//! cargo run --example progress            # the image `hello`
//! cargo run --example progress my-image   # one of ~/.smolvm/registry.toml or $SMOLVM_REGISTRY
//! ```

use std::error::Error;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use smolvm::{AssetKind, Event, FetchOptions, ImageManager, Registry};

/// Where an asset is after an event, in bytes: how many are there, and how many in all.
fn position(event: &Event) -> Option<(u64, Option<u64>)> {
    match *event {
        Event::Progress { done, total } => Some((done, total)),
        Event::Cached { size } | Event::Shared { size, .. } | Event::Fetched { size, .. } => {
            Some((size, Some(size)))
        }
        _ => None,
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "hello".to_owned());
    let manager = ImageManager::builder().registry(Registry::layered(&[])?).build()?;

    let style = ProgressStyle::with_template("{prefix:>8} [{bar:40}] {bytes} of {total_bytes}")?;
    let bars = MultiProgress::new();
    let [kernel, initrd, rootfs] = [AssetKind::Kernel, AssetKind::Initrd, AssetKind::Rootfs]
        .map(|kind| ProgressBar::hidden().with_style(style.clone()).with_prefix(kind.label()));
    let options = FetchOptions::new().on_event(move |kind, event| {
        let Some((done, total)) = position(event) else { return };
        let bar = match kind {
            AssetKind::Kernel => &kernel,
            AssetKind::Initrd => &initrd,
            AssetKind::Rootfs => &rootfs,
        };
        if bar.is_hidden() && bar.position() == 0 {
            bars.add(bar.clone());
        }
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
        if Some(done) == total {
            bar.finish();
        }
    });
    let image = manager.ensure_image_with(&name, &options)?;
    println!("{}", image.rootfs_path.display());
    Ok(())
}
