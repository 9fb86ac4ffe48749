//! `smolvm image rm`: images leave the cache.

use std::path::Path;

use smolvm::{ImageError, Removed, VmInfo};

use super::each;
use crate::exit::Exit;
use crate::failure::{Failure, IntoFailure as _};
use crate::session::Session;
use crate::signals;
use crate::size;

pub(super) fn run(session: &Session<'_>, names: &[String], force: bool) -> Result<Exit, Failure> {
    let manager = session.manager()?;
    let options = signals::fetch_options()?;
    Ok(each::image(session, names, |name| {
        let removed = if force {
            manager.force_remove(name, &options)
        } else {
            manager.remove(name, &options)
        };
        let removed = removed.map_err(|error| match error {
            ImageError::InUse { .. } => {
                let vms = vms_of(session, &manager.cache_dir().join(name));
                let failure = error.into_failure(name);
                Failure { message: failure.message + &vms, ..failure }
            }
            error => error.into_failure(name),
        });
        if let Ok(removed) = &removed
            && !session.options.quiet
        {
            session.output.text(&describe(name, *removed));
        }
        removed.into()
    }))
}

/// The VMs that were made of the files in a directory, as an addition to a message.
fn vms_of(session: &Session<'_>, directory: &Path) -> String {
    let vms = session.vms().and_then(|vms| Ok(vms.list()?)).unwrap_or_default();
    let of_it = |vm: &&VmInfo| vm.kernel.starts_with(directory) || vm.rootfs.starts_with(directory);
    let ids: Vec<_> =
        vms.iter().filter(of_it).map(|vm| format!("{} ({})", vm.id, vm.state)).collect();
    if ids.is_empty() { String::new() } else { format!("\nVMs made of it: {}", ids.join(", ")) }
}

fn describe(name: &str, removed: Removed) -> String {
    if removed.existed {
        format!("{name}: removed, {} freed\n", size::human(removed.freed_bytes))
    } else {
        format!("{name}: not in the cache, nothing to remove\n")
    }
}
