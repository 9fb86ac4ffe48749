//! A machine's disk is its own, however it is made.

use smolvm_vm::{DiskError, DiskMode, Isolation, SmolVm, Vm, VmError};

use super::images::{Image, Site, TINY};

/// Behaviour 44: a machine that writes all over its disk leaves the image as it is.
fn writes_all_over(isolation: Isolation) {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let before = image.rootfs_digest();
    let vm = Vm::boot(image.config(&site).isolation(isolation)).unwrap();
    let fill =
        "cd /; rm -rf /bin/[a-m]*; dd if=/dev/zero of=/fill bs=64k count=200 2>&1; sync; echo done";
    let result = vm.run(fill).unwrap();
    assert!(result.stdout().ends_with("done\n"), "{isolation:?}: {result:?}");
    assert_eq!(image.rootfs_digest(), before, "{isolation:?}");
    drop(vm);
    assert_eq!(image.rootfs_digest(), before, "{isolation:?}");
}

#[test]
fn an_overlay_keeps_the_image_as_it_is() {
    writes_all_over(Isolation::Overlay);
}

#[test]
fn a_scratch_disk_keeps_the_image_as_it_is() {
    writes_all_over(Isolation::Scratch);
}

#[test]
fn a_copy_keeps_the_image_as_it_is() {
    writes_all_over(Isolation::Copy);
}

#[test]
fn a_disk_grows_with_its_file_system() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site).disk_size_mib(512)).unwrap();
    let told = vm.run("df -m / | tail -1 | awk '{ print $2 }'").unwrap();
    let mebibytes: u64 = told.stdout().trim().parse().unwrap();
    assert!((400..=512).contains(&mebibytes), "{told:?}");
}

#[test]
fn a_shared_disk_is_written_to_but_never_a_cached_one() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let own = site.temp.path().join("own.ext4");
    fs_err::copy(image.rootfs(), &own).unwrap();
    let config = || {
        smolvm_vm::VmConfig::new(image.kernel(), &own)
            .initrd(image.initrd().unwrap())
            .vms_dir(site.vms_dir())
            .disk_mode(DiskMode::Shared)
    };
    let vm = Vm::boot(config()).unwrap();
    vm.run("echo shared > /shared && sync").unwrap();
    drop(vm);
    let vm = Vm::boot(config()).unwrap();
    assert_eq!(vm.run("cat /shared").unwrap().stdout(), "shared\n");
    drop(vm);

    fs_err::write(site.temp.path().join("image.json"), "{}").unwrap();
    let error = SmolVm::new(config()).unwrap_err();
    assert!(matches!(error, VmError::Disk(DiskError::Cached { .. })), "{error}");
}
