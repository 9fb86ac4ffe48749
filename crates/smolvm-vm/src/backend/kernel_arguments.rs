//! What a kernel is told so that the machine works: by the backend, the agent, and the image.

use std::fmt::Write as _;

use super::Backend;
use crate::accel::{Accelerator, CpuInfo};
use crate::kernel::Architecture;

/// What every guest's kernel is told, of which some start the agent `from_disk`. The image's own words come after these, and so count more
/// where the kernel takes the last.
///
/// - `panic=-1` and `reboot=t`: a guest that panics or ends resets the machine at once, which ends
///   the VMM.
/// - `systemd.mask`: without udev, systemd would wait a minute and a half for the console's device.
/// - `tsc_early_khz`: an emulated clock runs unevenly, and a kernel that measures it may wait
///   forever; so it is told the rate.
/// - `cryptomgr.notests` and `noreplace-smp`: self-tests (which FIPS mode makes all the same) and
///   the rewriting of the kernel's locks for one processor take a fifth of an emulated boot.
/// - Firecracker has no PCI bus to look for, ends by the keyboard's reset line, and has a keyboard
///   that need not be looked for at length.
pub(crate) fn kernel_arguments(
    backend: Backend,
    architecture: Architecture,
    accelerator: Accelerator,
    from_disk: bool,
    of_image: Option<&str>,
) -> String {
    let agent =
        if from_disk { "root=/dev/vda rw init=/smolvm/agent" } else { "rdinit=/smolvm/agent" };
    let console = match (backend, architecture) {
        (Backend::Firecracker, _) | (_, Architecture::X86_64) => "ttyS0",
        (Backend::Qemu, Architecture::Aarch64) => "ttyAMA0",
    };
    let reboot = match backend {
        Backend::Qemu => "reboot=t",
        Backend::Firecracker => {
            "reboot=k pci=off i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd"
        }
    };
    let mut arguments = format!(
        "console={console} {agent} {reboot} panic=-1 quiet \
         systemd.mask=serial-getty@{console}.service systemd.mask=dev-{console}.device"
    );
    if accelerator == Accelerator::Tcg {
        arguments.push_str(" cryptomgr.notests");
    }
    if architecture == Architecture::X86_64 && accelerator == Accelerator::Tcg {
        arguments.push_str(" noreplace-smp");
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

    fn of_qemu(accelerator: Accelerator, of_image: Option<&str>) -> String {
        kernel_arguments(Backend::Qemu, Architecture::X86_64, accelerator, false, of_image)
    }

    #[test]
    fn firecracker_resets_by_the_keyboard() {
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            let backend = Backend::Firecracker;
            let arguments = kernel_arguments(backend, architecture, Accelerator::Kvm, false, None);
            assert!(arguments.starts_with("console=ttyS0 "), "{arguments}");
            assert!(arguments.contains(" reboot=k pci=off "), "{arguments}");
        }
    }

    #[test]
    fn a_kernel_without_initrd_mounts_the_disk_itself() {
        let (backend, architecture) = (Backend::Qemu, Architecture::X86_64);
        let arguments = kernel_arguments(backend, architecture, Accelerator::Kvm, true, None);
        assert!(arguments.contains(" root=/dev/vda rw init=/smolvm/agent "), "{arguments}");
        assert!(!arguments.contains("rdinit"), "{arguments}");
    }

    #[test]
    fn arm64_has_another_console_and_no_clock_to_be_told_of() {
        let (backend, architecture) = (Backend::Qemu, Architecture::Aarch64);
        let arguments = kernel_arguments(backend, architecture, Accelerator::Tcg, false, None);
        assert!(arguments.starts_with("console=ttyAMA0 rdinit=/smolvm/agent "), "{arguments}");
        assert!(arguments.ends_with(" cryptomgr.notests"), "{arguments}");
    }

    #[test]
    fn the_image_has_the_last_word() {
        let arguments = of_qemu(Accelerator::Tcg, Some(" console=hvc0 "));
        assert!(arguments.starts_with("console=ttyS0 "), "{arguments}");
        assert!(arguments.ends_with(" console=hvc0"), "{arguments}");
        assert!(arguments.contains(" tsc_early_khz="), "{arguments}");
        assert!(arguments.len() < 1024, "{arguments}");
    }

    #[test]
    fn the_clock_of_a_real_processor_is_measured() {
        let arguments = of_qemu(Accelerator::Kvm, None);
        assert!(!arguments.contains("tsc_early_khz"), "{arguments}");
        assert!(!arguments.contains("noreplace-smp"), "{arguments}");
    }
}
