//! Firecracker for real: `smolvm` inside a VM that QEMU runs, whose processor (emulated, where this
//! host has none to lend) can run virtual machines by KVM.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "firecracker/jail.rs"]
mod jail;
#[path = "firecracker/snapshots.rs"]
mod snapshots;

use std::path::Path;
use std::process::Command as HostCommand;
use std::time::{Duration, Instant};

use smolvm::{BackendChoice, Command, CommandResult, NetworkMode, Vm, VmConfig};
use smolvm_testkit::{Furnished, named_directory, skip};

/// Emulation within emulation, on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(5);

/// What is copied into the outer machine.
const REGISTRY: &str = "\
[images.tiny]
kernel_url = \"file:///opt/tiny/vmlinuz\"
initrd_url = \"file:///opt/tiny/initrd.img\"
rootfs_url = \"file:///opt/tiny/rootfs.ext4\"
";

/// A VM with KVM, `smolvm`, Firecracker, and the image `tiny`. There is no QEMU in it.
struct Outer {
    vm: Vm,
    /// Holds its disk's base.
    _here: tempfile::TempDir,
}

impl Outer {
    fn boot() -> Option<Self> {
        let images = named_directory("SMOLVM_TEST_IMAGES")?;
        let firecracker = named_directory("SMOLVM_TEST_FIRECRACKER")?;
        let image = images.join("debian-systemd");
        if !image.join("rootfs.ext4").is_file() {
            skip("SMOLVM_TEST_IMAGES has no debian-systemd; only root can make it");
            return None;
        }
        let here = tempfile::tempdir().unwrap();
        fs_err::write(here.path().join("registry.toml"), REGISTRY).unwrap();
        let rootfs = image.join("rootfs.ext4");
        let mut disk = Furnished::new(&rootfs, &here.path().join("rootfs.ext4"), "2G");
        disk.file(&here.path().join("registry.toml"), "/opt/registry.toml");
        disk.program(env!("CARGO_BIN_EXE_smolvm").as_ref(), "/usr/local/bin/smolvm");
        for program in ["firecracker", "jailer"] {
            disk.file(&firecracker.join(program), &format!("/opt/{program}"));
        }
        disk.directory("/opt/tiny");
        for file in ["vmlinuz", "initrd.img", "rootfs.ext4"] {
            disk.file(&images.join("debian-tiny").join(file), &format!("/opt/tiny/{file}"));
        }

        let vms = tempfile::tempdir().unwrap();
        let config = VmConfig::new(image.join("vmlinuz"), disk.finish())
            .backend(BackendChoice::Qemu)
            .nested_virtualization(true)
            .mem_size_mib(1024)
            .network(NetworkMode::None)
            .env("SMOLVM_REGISTRY", "/opt/registry.toml")
            .env("SMOLVM_FIRECRACKER", "/opt/firecracker")
            // Hashing takes long under emulation, and is tested elsewhere.
            .env("SMOLVM_VERIFY", "changed")
            .vms_dir(vms.keep());
        let outer = Self { vm: Vm::boot_within(config, PATIENCE).unwrap(), _here: here };
        outer.good("modprobe kvm-amd || modprobe kvm-intel");
        outer.good("test -c /dev/kvm");
        Some(outer)
    }

    /// Runs a line in the outer machine, whatever comes of it.
    fn run(&self, line: &str) -> CommandResult {
        let started = Instant::now();
        let result = self.vm.run(Command::shell(line).timeout(PATIENCE)).unwrap();
        let took = started.elapsed().as_secs_f64();
        println!("{took:6.1} s: {line}\n{}{}", result.stdout(), result.stderr());
        result
    }

    /// What a line that succeeds prints.
    fn good(&self, line: &str) -> String {
        let result = self.run(line);
        assert_eq!(result.exit_code, 0, "{line}");
        result.stdout().into_owned()
    }

    /// The processes of this name.
    fn processes(&self, name: &str) -> usize {
        let line = format!("cat /proc/[0-9]*/comm 2> /dev/null | grep -cx {name}");
        self.run(&line).stdout().trim().parse().unwrap()
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        let vms = self.vm.directory().parent().map(Path::to_owned);
        let _ = self.vm.delete();
        if let Some(vms) = vms {
            let _ = fs_err::remove_dir_all(vms);
        }
    }
}

/// The whole life of machines on Firecracker: one that goes with its command, and one that stays,
/// is stopped, started again, killed and removed.
#[test]
fn an_image_boots_on_real_firecracker_and_runs_commands() {
    let Some(outer) = Outer::boot() else { return };
    let options = "--backend firecracker --net none --mem 256 --cpus 1";

    let line = format!(
        "echo fed | smolvm -q run tiny {options} --boot-timeout 240 -- \
         sh -c 'cat; cat /proc/cmdline; echo to stderr >&2; exit 7'"
    );
    let result = outer.run(&line);
    assert_eq!(result.exit_code, 7);
    assert!(result.stdout().starts_with("fed\n"));
    // What the kernel was told by this backend alone.
    assert!(result.stdout().contains("reboot=k pci=off"));
    assert!(result.stderr().contains("to stderr"));

    // The longest there is.
    let id = "i".repeat(64);
    outer.good(&format!("smolvm -q vm create tiny --id {id} {options}"));
    outer.good(&format!("smolvm vm start {id} --boot-timeout 240"));
    assert_eq!(outer.processes("firecracker"), 1);
    assert!(outer.good("smolvm vm ls").contains("running"));
    jail::looks(&outer);
    snapshots::stands_still(&outer, &id);
    snapshots::go_on(&outer, &id);
    // A disk of its own, and the bytes of a real copy, both ways.
    let digests = format!(
        "smolvm vm exec {id} -- sh -c 'echo kept > /root/kept; sync' && \
         smolvm vm cp /opt/firecracker {id}:/tmp/copied && \
         smolvm vm cp {id}:/tmp/copied /tmp/copied && \
         cmp /opt/firecracker /tmp/copied && echo the same"
    );
    assert!(outer.good(&digests).ends_with("the same\n"));
    outer.good(&format!("smolvm vm stop {id} --timeout 60"));
    assert_eq!(outer.processes("firecracker"), 0);
    outer.good(&format!("smolvm vm start {id} --boot-timeout 240"));
    assert_eq!(outer.good(&format!("smolvm vm exec {id} -- cat /root/kept")), "kept\n");

    // One that dies takes nothing with it.
    jail::takes_too_much_memory(&outer);
    let result = outer.run(&format!("sleep 1; smolvm vm exec {id} -- true"));
    assert_eq!(result.exit_code, 125);
    assert!(outer.good(&format!("smolvm vm inspect {id}")).contains("signal 9"));
    outer.good(&format!("smolvm vm rm {id}"));

    jail::killed(&outer);
    assert_eq!(outer.processes("smolvm-supervis"), 0);
    assert_eq!(outer.good("ls ~/.smolvm/vms"), "");
    assert_eq!(outer.good("ls /run/smolvm"), "boot-slots\n");
    // Unpacked once.
    assert_eq!(outer.good("ls ~/.smolvm/vms/.kernels | wc -l"), "1\n");
}

/// Where KVM works and Firecracker is there, it is what a machine is run by.
/// Where it cannot run one, it is said why.
#[test]
fn firecracker_is_chosen_where_it_can_be() {
    let Some(outer) = Outer::boot() else { return };
    let doctor = outer.run("smolvm doctor").stdout().into_owned();
    assert!(doctor.contains("KVM            it runs guests"), "{doctor}");
    assert!(doctor.contains("/opt/firecracker 1.12, jailed by /opt/jailer"), "{doctor}");

    jail::missing(&outer);

    jail::of_an_ordinary_user(&outer);

    for (settings, options, reason) in [
        (
            "SMOLVM_FIRECRACKER=/nowhere",
            "--net none",
            "Firecracker is missing: there is no /nowhere",
        ),
        ("SMOLVM_ACCEL=tcg", "--net none", "Firecracker runs guests by KVM alone"),
        ("", "--net none --nested", "Firecracker has no nested virtualization"),
    ] {
        let command = "smolvm -q run tiny --backend firecracker";
        let result = outer.run(&format!("{settings} {command} {options} -- true"));
        assert_eq!(result.exit_code, 125, "{reason}");
        assert!(result.stderr().contains(reason), "{reason}");
    }
    // QEMU is what is left where Firecracker has none of what is asked for, and is not there.
    let result = outer.run("smolvm -q run tiny --nested -- true");
    assert!(result.stderr().contains("QEMU is missing"));
}

/// On this host, whatever it has.
#[test]
fn firecracker_that_is_missing_is_an_error_that_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let output = HostCommand::new(env!("CARGO_BIN_EXE_smolvm"))
        .args(["doctor"])
        .env("HOME", home.path())
        .env("SMOLVM_FIRECRACKER", "/nowhere/firecracker")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("limited  Firecracker"), "{said}");
    assert!(said.contains("there is no /nowhere/firecracker"), "{said}");
    assert!(said.contains("https://github.com/firecracker-microvm/firecracker/releases"), "{said}");
}
