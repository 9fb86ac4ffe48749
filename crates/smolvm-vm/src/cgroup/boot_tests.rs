//! The limits, given to a kernel that has all of them: a guest's.

use std::path::Path;

use smolvm_testkit::skip;

use super::*;
use crate::{Vm, VmConfig};

/// Where the guest has its cgroups.
const PLACE: &str = "/tmp/cgroups";

#[test]
fn a_kernel_takes_the_limits_and_keeps_them() {
    let Some(images) = std::env::var_os("SMOLVM_TEST_IMAGES") else {
        return skip("SMOLVM_TEST_IMAGES names no directory with images");
    };
    let image = Path::new(&images).join("debian-tiny");
    let temp = tempfile::tempdir().unwrap();
    let config = VmConfig::new(image.join("vmlinuz"), image.join("rootfs.ext4"));
    let config = config.initrd(image.join("initrd.img")).vms_dir(temp.path().join("vms"));
    let vm = Vm::boot(config).unwrap();
    let run = |line: &str| {
        let result = vm.run(line).unwrap();
        assert!(result.ok(), "{line}: {result:?}");
        result.stdout().trim().to_owned()
    };
    run(&format!(
        "mkdir {PLACE} && mount -t cgroup2 none {PLACE} && mkdir {PLACE}/smolvm && \
         for parent in {PLACE} {PLACE}/smolvm; do \
         echo '+cpu +memory +pids' > $parent/cgroup.subtree_control; done && mkdir {PLACE}/smolvm/vm"
    ));

    let cgroups =
        Cgroups { directory: Path::new(PLACE).join("smolvm"), controllers: CONTROLLERS.to_vec() };
    let dirs = VmDirs { state: temp.path().join("vm"), runtime: temp.path().join("vm") };
    let Setting::Group { path, limits } = cgroups.setting(&dirs, Accelerator::Tcg, 1, 128) else {
        panic!("that is no cgroup");
    };
    let path = path.to_str().unwrap();
    assert_eq!(limits.len(), 4);
    for (name, value) in &limits {
        assert_eq!(&run(&format!("echo '{value}' > {path}/{name} && cat {path}/{name}")), value);
    }
    // Many more processes than may be; what says how many there are must not need another one.
    let begin = "for n in $(seq 250); do sleep 30 > /dev/null 2>&1 & done";
    let many = format!(
        "echo $$ > {path}/cgroup.procs; ({begin}) 2> /dev/null; read n < {path}/pids.current; echo $n"
    );
    let processes: u32 = run(&many).parse().unwrap();
    assert!((120..=129).contains(&processes), "{processes}");
    assert_ne!(run(&format!("cat {path}/pids.events")).lines().next(), Some("max 0"));
    run(&format!("echo 1 > {path}/cgroup.kill; sleep 1; rmdir {path}"));
}
