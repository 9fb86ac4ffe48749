//! What another process does that holds images, or takes them from those who do.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use smolvm_image::{FetchOptions, ImageError, ImageManager, OpenImage, PruneOptions};
use smolvm_testkit::content::sha256_hex;

use super::other_process::{Call, Said, say};

/// How often a call is made against those of other processes.
const MANY: u32 = 25;

pub(crate) fn obey(call: Call, manager: &ImageManager, image: &str) -> Result<Said, ImageError> {
    let options = FetchOptions::new();
    let open = || manager.open_image(image, &options);
    match call {
        Call::Open => {
            let open = open()?;
            say(&Said::Holds);
            for _ in std::io::stdin().lines() {
                say(&Said::Whole(is_whole(manager, image, &open)));
            }
        }
        Call::HandOn => {
            let open = open()?;
            let stream = |file: &File| Stdio::from(file.try_clone().unwrap());
            let mut command = Command::new("sleep");
            command.arg("1000").stdin(stream(open.kernel())).stderr(stream(open.rootfs()));
            let mut child = command.stdout(Stdio::null()).spawn().unwrap();
            say(&Said::HandedOn(child.id()));
            child.wait().unwrap();
        }
        Call::OpenMany => {
            for _ in 0..MANY {
                let open = open()?;
                for _ in 0..5 {
                    assert!(has_names(&open), "its name was taken");
                    std::thread::yield_now();
                }
                assert!(is_whole(manager, image, &open), "its bytes were taken");
            }
        }
        Call::EnsureMany => {
            for _ in 0..MANY {
                manager.ensure_image(image)?;
            }
        }
        Call::RemoveMany => {
            for _ in 0..2 * MANY {
                match manager.remove(image, &options) {
                    Ok(_) | Err(ImageError::InUse { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Call::PruneMany => {
            for _ in 0..2 * MANY {
                manager.prune_with(&PruneOptions::new().max_size(0), &options)?;
            }
        }
        other => panic!("{other:?} is not for here"),
    }
    Ok(Said::Done)
}

/// Whether the paths of an open image lead to its files.
fn has_names(open: &OpenImage) -> bool {
    let is_at = |file: &File, path: &Path| {
        let here = file.metadata().unwrap();
        path.metadata().is_ok_and(|there| there.ino() == here.ino())
    };
    is_at(open.kernel(), &open.kernel_path) && is_at(open.rootfs(), &open.rootfs_path)
}

/// Whether an open image has the bytes of its pins.
fn is_whole(manager: &ImageManager, image: &str, open: &OpenImage) -> bool {
    let source = manager.registry().get(image).unwrap();
    let is = |mut file: &File, pin: Option<smolvm_image::Digest>| {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        Some(sha256_hex(&bytes)) == pin.map(|pin| pin.to_string())
    };
    is(open.kernel(), source.kernel().digest) && is(open.rootfs(), source.rootfs().digest)
}
