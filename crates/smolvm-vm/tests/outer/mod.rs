//! A machine with KVM, for Firecracker to run machines in: QEMU emulates a processor for it that can
//! virtualize, whatever this host has. What runs in it is the test binary itself.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use smolvm_testkit::{Furnished, named_directory, skip};
use smolvm_vm::{BackendChoice, Command, CommandResult, NetworkMode, Vm, VmConfig};

/// Emulation within emulation, on a machine that does much else.
pub(crate) const PATIENCE: Duration = Duration::from_mins(9);

/// Its image; Debian with what networks of machines need.
const IMAGE: &str = "debian-systemd";
/// Where the test binary lies in it.
const TEST: &str = "/opt/test";

/// A machine with KVM, Firecracker, this test binary, and images.
pub(crate) struct Outer {
    vm: Vm,
    _directory: tempfile::TempDir,
}

impl Outer {
    /// Boots it with these images and other files, each with its path inside. `None`, said aloud,
    /// where something is missing.
    pub(crate) fn boot(
        images: &[&str],
        files: &[(&Path, &str)],
        mem_size_mib: u32,
    ) -> Option<Self> {
        let all = named_directory("SMOLVM_TEST_IMAGES")?;
        let programs = named_directory("SMOLVM_TEST_FIRECRACKER")?;
        if let Some(missing) = images.iter().chain([&IMAGE]).find(|name| !all.join(name).is_dir()) {
            skip(&format!("SMOLVM_TEST_IMAGES has no {missing}; only root can make some"));
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path();
        fs_err::write(here.join("resolv.conf"), "nameserver 9.9.9.9\n").unwrap();
        let rootfs = all.join(IMAGE).join("rootfs.ext4");
        let mut disk = Furnished::new(&rootfs, &here.join("rootfs.ext4"), "2G");
        for inside in ["/opt/images", "/opt/kernels"] {
            disk.directory(inside);
        }
        disk.program(&env::current_exe().unwrap(), TEST);
        for program in ["firecracker", "jailer"] {
            disk.file(&programs.join(program), &format!("/opt/{program}"));
        }
        disk.file(&here.join("resolv.conf"), "/etc/resolv.conf");
        for (from, inside) in files {
            disk.file(from, inside);
        }
        for image in images {
            disk.directory(&format!("/opt/images/{image}"));
            for entry in fs_err::read_dir(all.join(image)).unwrap() {
                let from = entry.unwrap().path();
                let name = from.file_name().and_then(OsStr::to_str).unwrap();
                disk.file(&from, &format!("/opt/images/{image}/{name}"));
            }
        }

        let config = VmConfig::new(all.join(IMAGE).join("vmlinuz"), disk.finish())
            .backend(BackendChoice::Qemu)
            .nested_virtualization(true)
            .mem_size_mib(mem_size_mib)
            .network(NetworkMode::None)
            .vms_dir(here.join("vms"));
        let vm = Vm::boot_within(config, PATIENCE).unwrap();
        let outer = Self { vm, _directory: directory };
        outer.good("modprobe kvm-amd || modprobe kvm-intel; modprobe -a tun bridge nf_tables");
        outer.good("test -c /dev/kvm && test -c /dev/net/tun");
        Some(outer)
    }

    /// Runs tests of this binary in it, by their names. The machines that they make are Firecracker's.
    pub(crate) fn run_tests(&self, names: &[&str], variables: &[(&str, &str)]) {
        let command = Command::new(TEST)
            .args(["--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
            .args(names)
            .env("SMOLVM_FIRECRACKER", "/opt/firecracker")
            .env("SMOLVM_TEST_IMAGES", "/opt/images")
            .env(super::backend::VARIABLE, "firecracker")
            .env(super::backend::KERNELS, "/opt/kernels")
            // Debian empties the usual one at some moment of its boot.
            .env("TMPDIR", "/opt")
            // What is skipped in there is a failure here.
            .env("SMOLVM_TEST_REQUIRE_ALL", "1")
            .env("RUST_BACKTRACE", "1")
            .envs(variables.iter().copied())
            .timeout(PATIENCE);
        let result = self.vm.run(command).unwrap();
        println!("{}{}", result.stdout(), result.stderr());
        let passed = format!("test result: ok. {} passed", names.len());
        assert!(result.ok() && result.stdout().contains(&passed), "{names:?}");
    }

    /// Runs a line in it, which has to succeed; what it prints.
    pub(crate) fn good(&self, line: &str) -> String {
        let result: CommandResult = self.vm.run(Command::shell(line).timeout(PATIENCE)).unwrap();
        assert!(result.ok(), "{line}: {result:?}");
        result.stdout().into_owned()
    }
}
