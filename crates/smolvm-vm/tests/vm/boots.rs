//! Each kind of image boots, runs commands, and is the same afterwards.

use std::time::Duration;

use smolvm_vm::{SmolVm, Vm, VmState};

use super::images::{BARE, Image, SYSTEMD, Site, TINY};

/// Behaviours 44 and 45: no server, nothing prepared, whatever the root file system holds.
fn greets(name: &str) {
    let Some(image) = Image::find(name) else { return };
    let site = Site::new();
    let before = image.rootfs_digest();
    let vm = Vm::boot(image.config(&site)).unwrap();
    assert!(vm.get_ip().unwrap().is_ipv4());
    let result = vm.run("echo 'Hello from SmolVM!'").unwrap();
    assert_eq!(result.stdout().trim(), "Hello from SmolVM!");
    assert_eq!(result.exit_code, 0);
    let result = vm.run("echo scribble > /scribble && cat /scribble && id -u").unwrap();
    assert_eq!((result.stdout().as_ref(), result.exit_code), ("scribble\n0\n", 0), "{result:?}");
    drop(vm);
    assert_eq!(image.rootfs_digest(), before);
}

#[test]
fn a_busybox_userland_with_an_init_of_its_own() {
    greets(TINY);
}

#[test]
fn one_static_busybox_and_nothing_else() {
    greets(BARE);
}

#[test]
fn an_untouched_debian_with_systemd() {
    greets(SYSTEMD);
}

#[test]
fn systemd_runs_beside_the_agent_and_comes_up() {
    let Some(image) = Image::find(SYSTEMD) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site)).unwrap();
    assert_eq!(vm.run("cat /proc/1/comm").unwrap().stdout(), "systemd\n");
    vm.wait_ready(Duration::from_mins(2)).unwrap();
    let state = vm.run("systemctl is-system-running").unwrap();
    assert!(["running\n", "degraded\n"].contains(&state.stdout().as_ref()), "{state:?}");
    let waiting = vm.run("systemctl list-jobs --no-legend").unwrap();
    assert_eq!(waiting.stdout(), "", "something waits");
}

#[test]
fn a_machine_starts_again_with_its_disk_as_it_was() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = SmolVm::new(image.config(&site)).unwrap();
    assert_eq!(vm.status(), VmState::Created);
    let error = vm.run("true").unwrap_err().to_string();
    assert!(error.contains("is not running, it is created"), "{error}");
    vm.start().unwrap();
    vm.start().unwrap();
    assert_eq!(vm.status(), VmState::Running);
    vm.run("echo kept > /root/kept && sync").unwrap();
    vm.stop().unwrap();
    assert_eq!(vm.status(), VmState::Stopped);
    assert!(vm.run("true").is_err());
    vm.start().unwrap();
    assert_eq!(vm.run("cat /root/kept").unwrap().stdout(), "kept\n");
    vm.delete().unwrap();
    assert_eq!(site.left(), [""; 0]);
}

#[test]
fn the_guest_has_the_processors_the_memory_and_the_time() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site).vcpu_count(2).mem_size_mib(256)).unwrap();
    assert_eq!(vm.run("grep -c ^processor /proc/cpuinfo").unwrap().stdout(), "2\n");
    let memory = vm.run("sed -n 's/MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo").unwrap();
    let memory: u64 = memory.stdout().trim().parse().unwrap();
    assert!((180 << 10..=256 << 10).contains(&memory), "{memory} KiB");
    let guest: u64 = vm.run("date +%s").unwrap().stdout().trim().parse().unwrap();
    let host = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(host.abs_diff(guest) <= 60, "the guest's clock says {guest}, the host's {host}");
}
