//! What a machine's VMM may do, and what it may cost.

use std::collections::BTreeMap;
use std::io::Write as _;

use smolvm_supervisor::state::{State, Status};
use smolvm_testkit::skip;
use smolvm_vm::{DiskMode, HostStatus, Vm, check_host};

use super::images::{Image, Site, TINY};

/// The process of a machine's VMM.
fn vmm(vm: &Vm) -> u32 {
    let state = State::read(vm.directory()).unwrap().unwrap();
    let Status::Running(vmm) = state.status else { panic!("{state:?}") };
    vmm.pid
}

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs_err::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(key, value)| {
            (key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// A guest that takes its VMM over has what nobody has: no files, no privileges, no other VMM.
#[test]
fn a_vmm_that_root_starts_is_nobody() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root has privileges to give up");
    }
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let machines = [0, 1].map(|_| Vm::boot(image.config(&site).mem_size_mib(192)).unwrap());
    let statuses = machines.each_ref().map(|vm| status(vmm(vm)));
    for status in &statuses {
        let uid = status["Uid"].split(' ').next().unwrap();
        assert!(uid.parse::<u32>().unwrap() >= 0x7000_0000, "{uid}");
        assert_eq!(status["Uid"], [uid; 4].join(" "));
        assert_eq!(status["Gid"], [uid; 4].join(" "));
        assert_eq!(status["CapEff"], "0000000000000000");
        assert_eq!(status["CapPrm"], "0000000000000000");
        assert_eq!(status["NoNewPrivs"], "1");
        assert_eq!(status["Seccomp"], "2");
    }
    assert_ne!(statuses[0]["Uid"], statuses[1]["Uid"]);
    // It works all the same: with its disk, its monitor and its network.
    machines[0].run("echo written > /root/file && sync").unwrap();
    assert_eq!(machines[0].run("cat /root/file").unwrap().stdout(), "written\n");
    machines[0].stop().unwrap();
    machines[0].start().unwrap();
    assert_eq!(machines[0].run("cat /root/file").unwrap().stdout(), "written\n");
}

/// A disk of root's own is written to by its VMM, which could not open it.
#[test]
fn a_shared_disk_is_handed_to_the_vmm() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let disk = site.temp.path().join("shared.ext4");
    fs_err::copy(image.rootfs(), &disk).unwrap();
    let mut config = smolvm_vm::VmConfig::new(image.kernel(), &disk).vms_dir(site.vms_dir());
    config = config.initrd(image.initrd().unwrap()).disk_mode(DiskMode::Shared);
    let vm = Vm::boot(config.clone()).unwrap();
    vm.run("echo shared > /root/file && sync").unwrap();
    vm.stop().unwrap();
    drop(vm);
    let vm = Vm::boot(config).unwrap();
    assert_eq!(vm.run("cat /root/file").unwrap().stdout(), "shared\n");
}

/// What QEMU could make a file of is bounded: the guest's disk and little more.
#[test]
fn the_files_of_a_vmm_are_bounded() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let vm = Vm::boot(image.config(&site).mem_size_mib(192).disk_size_mib(64)).unwrap();
    let limits = fs_err::read_to_string(format!("/proc/{}/limits", vmm(&vm))).unwrap();
    let limit = |name: &str| -> u64 {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let mebibytes = limit("Max file size") >> 20;
    assert!((128..=130).contains(&mebibytes), "{mebibytes} MiB");
    assert_eq!(limit("Max core file size"), 0);
    // The guest fills its disk, and no more.
    let filled = vm.run("dd if=/dev/zero of=/root/fill bs=1M; sync; echo done").unwrap();
    assert_eq!(filled.stdout(), "done\n");
    assert!(vm.run("rm /root/fill && echo lives").unwrap().ok());
}

/// Where this host lets VMs have limits, they have them; where not, the user is told so.
#[test]
fn a_vmm_has_limits_where_the_host_has_cgroups_for_them() {
    let Some(image) = Image::find(TINY) else { return };
    let site = Site::new();
    let checks = check_host();
    let check = checks.iter().find(|check| check.what == "limits").unwrap();
    let vm = Vm::boot(image.config(&site).mem_size_mib(192)).unwrap();
    let cgroups = fs_err::read_to_string(format!("/proc/{}/cgroup", vmm(&vm))).unwrap();
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    // Said whether this shows the one or the other.
    writeln!(std::io::stderr(), "{check:?}: {own}").unwrap();
    assert_eq!(own.contains("/smolvm/"), check.status == HostStatus::Good, "{own}");
}
