//! What does not boot is refused before, or reported with the end of its console.

use std::time::Duration;

use smolvm_vm::{SmolVm, Vm, VmConfig, VmError, VmErrorKind};

use super::images::{Image, Site, TINY};

/// Behaviour 46: a panic is reported at once, with what the console said last.
#[test]
fn a_panic_is_reported_with_the_console() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm =
        SmolVm::new(image.config(&site).boot_args("panic_on_oops=1 rdinit=/none root=/dev/none"))
            .unwrap();
    let error = vm.start().unwrap_err();
    let VmError::BootFailed { reason, console, .. } = &error else { panic!("{error}") };
    assert!(reason.contains("panic") || reason.contains("none"), "{reason}");
    assert!(!console.is_empty());
}

/// Behaviour 46: a guest that says nothing is given up at the boot timeout.
#[test]
fn a_guest_that_hangs_is_given_up_in_time() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = SmolVm::new(image.config(&site)).unwrap();
    let error = vm.start_within(Duration::from_millis(500)).unwrap_err();
    assert!(matches!(error, VmError::BootTimeout { .. }), "{error}");
    assert_eq!(error.kind(), VmErrorKind::Timeout);
    vm.start().unwrap();
    assert_eq!(vm.run("echo later").unwrap().stdout(), "later\n");
}

/// Behaviour 46: a rootfs that is none.
#[test]
fn a_disk_without_a_file_system_is_named() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let noise = site.temp.path().join("noise.ext4");
    fs_err::write(&noise, smolvm_testkit::content::noise(7, 1 << 20)).unwrap();
    let config = VmConfig::new(image.kernel(), &noise).initrd(image.initrd().unwrap());
    let error = Vm::boot(config.vms_dir(site.vms_dir())).unwrap_err();
    assert!(matches!(error, VmError::BootFailed { .. }), "{error}");
    assert!(error.to_string().contains("/dev/vda"), "{error}");
    assert_eq!(site.left(), [""; 0]);
}

/// Behaviour 46: drivers that are nowhere are named.
#[test]
fn a_missing_driver_is_named() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let config = VmConfig::new(image.kernel(), image.rootfs()).vms_dir(site.vms_dir());
    let error = Vm::boot(config).unwrap_err().to_string();
    assert!(error.contains("virtio"), "{error}");
}

/// Behaviour 29: what is no kernel is refused before anything is started, by what it is.
#[test]
fn what_is_no_kernel_is_refused_by_what_it_is() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let page = site.temp.path().join("page.html");
    fs_err::write(&page, "<!DOCTYPE html><html></html>").unwrap();
    for path in [&image.rootfs(), &page] {
        let config = VmConfig::new(path, image.rootfs()).vms_dir(site.vms_dir());
        let error = SmolVm::new(config).unwrap_err();
        assert_eq!(error.kind(), VmErrorKind::Image, "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(site.left(), [""; 0]);
    }
    let missing = VmConfig::new("/no/such/kernel", image.rootfs()).vms_dir(site.vms_dir());
    assert!(SmolVm::new(missing).unwrap_err().to_string().contains("/no/such/kernel"));
}

/// Behaviour 46: a VMM that is missing is an error that names the package.
#[test]
fn a_missing_qemu_names_its_package() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    // The variable is this process's own: nextest runs each test in one.
    let output = super::owner::run_alone(&image, &site, &[("SMOLVM_QEMU", "/no/such/qemu")]);
    assert!(output.contains("qemu-system-x86"), "{output}");
}
