//! What a kernel is told so that the machine works: by the backend, the agent, and the image.

use std::fmt::Write as _;

use crate::accel::{Accelerator, CpuInfo};
use crate::kernel::Architecture;

/// What every guest's kernel is told. The image's own words come after these, and so count more
/// where the kernel takes the last.
///
/// - `panic=-1` and `reboot=t`: a guest that panics or ends resets the machine at once, which ends
///   the VMM.
/// - `systemd.mask`: without udev, systemd would wait a minute and a half for the console's device.
/// - `tsc_early_khz`: an emulated clock runs unevenly, and a kernel that measures it may wait
///   forever; so it is told the rate.
/// - `cryptomgr.notests` and `noreplace-smp`: self-tests (which FIPS mode makes all the same) and
///   the rewriting of the kernel's locks for one processor take a fifth of an emulated boot.
pub(crate) fn kernel_arguments(
    architecture: Architecture,
    accelerator: Accelerator,
    of_image: Option<&str>,
) -> String {
    let console = match architecture {
        Architecture::X86_64 => "ttyS0",
        Architecture::Aarch64 => "ttyAMA0",
    };
    let mut arguments = format!(
        "console={console} rdinit=/smolvm/agent reboot=t panic=-1 quiet \
         systemd.mask=serial-getty@{console}.service systemd.mask=dev-{console}.device"
    );
    if architecture == Architecture::X86_64 && accelerator == Accelerator::Tcg {
        arguments.push_str(" cryptomgr.notests noreplace-smp");
        if let Some(khz) = CpuInfo::read().ok().and_then(|info| info.clock_khz) {
            // Writing to a String does not fail.
            let _ = write!(arguments, " tsc_early_khz={khz}");
        }
    }
    if let Some(of_image) = of_image {
        arguments.push(' ');
        arguments.push_str(of_image.trim());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_the_last_word() {
        let arguments =
            kernel_arguments(Architecture::X86_64, Accelerator::Tcg, Some(" console=hvc0 "));
        assert!(arguments.starts_with("console=ttyS0 "), "{arguments}");
        assert!(arguments.ends_with(" console=hvc0"), "{arguments}");
        assert!(arguments.contains(" tsc_early_khz="), "{arguments}");
        assert!(arguments.len() < 1024, "{arguments}");
    }

    #[test]
    fn the_clock_of_a_real_processor_is_measured() {
        let arguments = kernel_arguments(Architecture::X86_64, Accelerator::Kvm, None);
        assert!(!arguments.contains("tsc_early_khz"), "{arguments}");
        assert!(!arguments.contains("noreplace-smp"), "{arguments}");
    }
}
