//! What `smolvm run` and `smolvm vm create` have in common: from an image's name and options to
//! the configuration of a VM.

use std::sync::Arc;

use smolvm::{BackendChoice, Egress, NetworkMode, OpenImage, VmConfig};

use crate::cli::{BackendName, EgressName, MachineArgs, NetworkName};
use crate::failure::{Failure, IntoFailure as _};
use crate::session::Session;
use crate::signals;

/// The image, fetched where it is not cached, with progress shown; a cached one makes no noise.
pub(super) fn open_image(session: &Session<'_>, name: &str) -> Result<OpenImage, Failure> {
    let manager = session.manager()?;
    let watch = Arc::new(session.progress().watch(name));
    let options = signals::fetch_options()?.on_event({
        let watch = Arc::clone(&watch);
        move |kind, event| watch.event(kind, event)
    });
    let opened = manager.open_image(name, &options);
    watch.finish();
    opened.map_err(|error| error.into_failure(name))
}

/// Adds what the options say.
pub(super) fn configure(session: &Session<'_>, config: VmConfig, args: &MachineArgs) -> VmConfig {
    let mut config = config.mem_size_mib(args.mem).network(match args.net {
        NetworkName::User => NetworkMode::User,
        NetworkName::Tap => NetworkMode::Tap,
        NetworkName::None => NetworkMode::None,
    });
    config = config.egress(match (args.egress, args.allow.as_slice()) {
        (EgressName::Nothing, _) => Egress::Nothing,
        (EgressName::All, []) => Egress::All,
        (EgressName::All, allowed) => Egress::Allow(allowed.to_vec()),
    });
    config = config.nested_virtualization(args.nested).backend(match args.backend {
        BackendName::Auto => BackendChoice::Auto,
        BackendName::Qemu => BackendChoice::Qemu,
        BackendName::Firecracker => BackendChoice::Firecracker,
    });
    if let Some(count) = args.cpus {
        config = config.vcpu_count(count);
    }
    if let Some(bytes) = args.disk_size {
        config = config.disk_size_mib(bytes.div_ceil(1 << 20));
    }
    match session.vms_dir() {
        Some(directory) => config.vms_dir(directory),
        None => config,
    }
}
