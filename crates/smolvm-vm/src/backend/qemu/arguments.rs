//! From a [`MachineSpec`] to QEMU's command line.

use std::ffi::OsString;
use std::os::fd::RawFd;

use super::super::machine::{Disk, MachineSpec, Nic, Variant};
use crate::accel::Accelerator;
use crate::disk::Format;

/// The descriptor that is the guest's end of the agent's channel.
const AGENT_FD: RawFd = 9;

/// The arguments with which QEMU makes the machine: nothing but what is named here, no display,
/// no configuration of the user's, no privileges to be gained. A reset ends it.
pub(crate) fn arguments(machine: &MachineSpec) -> Vec<OsString> {
    let mut line = Line::default();
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.flag("-no-reboot");
    line.option("-display", "none");
    // It makes no process, and gains nothing by a set-user-id program.
    line.option(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    line.option("-machine", machine_type(machine.variant));
    let (accelerator, processor) = match machine.accelerator {
        // It has what the host's KVM lets guests have.
        Accelerator::Kvm => ("kvm", "host"),
        // Emulated, these two make a guest several times slower than it is without them.
        Accelerator::Tcg if machine.variant == Variant::Virt => ("tcg", "max,pauth=off,sve=off"),
        Accelerator::Tcg if machine.nested_virtualization => ("tcg", "max,+svm,+npt"),
        Accelerator::Tcg => ("tcg", "max"),
    };
    line.option("-accel", accelerator);
    line.option("-cpu", processor);
    line.option("-smp", machine.vcpu_count.to_string());
    line.option("-m", format!("{}M", machine.mem_size_mib));
    if machine.incoming {
        // What it boots was read long ago, and is in its memory.
        line.option("-incoming", "defer");
    } else {
        line.option("-kernel", path_of(machine.kernel));
        if let Some(initrd) = machine.initrd {
            line.option("-initrd", path_of(initrd));
        }
        line.option("-append", machine.command_line.as_str());
    }

    line.option("-chardev", "stdio,id=console,signal=off");
    line.option("-serial", "chardev:console");
    let qmp = machine.qmp_socket;
    line.option("-chardev", format!("socket,id=qmp,server=on,wait=off,fd={qmp}"));
    line.option("-mon", "chardev=qmp,mode=control");

    let bus = Bus::of(machine.variant);
    line.option("-device", bus.device("virtio-serial"));
    line.option("-chardev", format!("socket,id=agent,fd={AGENT_FD}"));
    line.option("-device", "virtserialport,chardev=agent,name=smolvm.agent");
    line.option("-device", bus.device("virtio-rng"));
    for (number, disk) in machine.disks.iter().enumerate() {
        line.disk(number, disk, bus);
    }
    if let Some(nic) = &machine.network {
        line.network(nic, bus);
    }
    if let Some(cid) = machine.vsock_cid {
        line.option("-device", format!("{},guest-cid={cid}", bus.device("vhost-vsock")));
    }
    line.arguments
}

/// The devices that a microvm has beside virtio stay as they are: booting takes as long without
/// the timer and the interrupt controller of a PC, and two seconds longer without its clock.
fn machine_type(variant: Variant) -> &'static str {
    match variant {
        Variant::Microvm => "microvm",
        Variant::MicrovmWithoutAcpi => "microvm,acpi=off",
        Variant::Q35 => "q35",
        Variant::Virt => "virt",
    }
}

/// What virtio devices are attached to.
#[derive(Debug, Clone, Copy)]
enum Bus {
    Mmio,
    Pci,
}

impl Bus {
    fn of(variant: Variant) -> Self {
        match variant {
            Variant::Microvm | Variant::MicrovmWithoutAcpi => Self::Mmio,
            Variant::Q35 | Variant::Virt => Self::Pci,
        }
    }

    /// The name of a device on this bus.
    fn device(self, name: &str) -> String {
        match self {
            Self::Mmio => format!("{name}-device"),
            Self::Pci => format!("{name}-pci"),
        }
    }
}

/// A command line as it grows.
#[derive(Default)]
struct Line {
    arguments: Vec<OsString>,
    descriptor_sets: u32,
}

impl Line {
    fn flag(&mut self, name: &str) {
        self.arguments.push(name.into());
    }

    fn option(&mut self, name: &str, value: impl Into<OsString>) {
        self.arguments.push(name.into());
        self.arguments.push(value.into());
    }

    fn disk(&mut self, number: usize, disk: &Disk, bus: Bus) {
        let node = format!("disk{number}");
        let backing = disk.backing.map(|backing| {
            let base = format!("base{number}");
            self.block_file(&base, backing, true);
            self.option(
                "-blockdev",
                format!("driver=raw,node-name={base},file={base}-file,read-only=on"),
            );
            base
        });
        self.block_file(&node, disk.file, disk.read_only);
        let driver = match disk.format {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        };
        let mut format = format!("driver={driver},node-name={node},file={node}-file,discard=unmap");
        if disk.read_only {
            format.push_str(",read-only=on");
        }
        if let Some(base) = backing {
            format.push_str(",backing=");
            format.push_str(&base);
        }
        self.option("-blockdev", format);
        self.option("-device", format!("{},drive={node}", bus.device("virtio-blk")));
    }

    /// The file below a disk, as a node of its own.
    fn block_file(&mut self, node: &str, file: RawFd, read_only: bool) {
        let mut value = OsString::from(format!("driver=file,node-name={node}-file,discard=unmap,"));
        if read_only {
            value.push("read-only=on,");
        }
        // QEMU opens a member of the set anew where it needs other rights, and checks them.
        self.descriptor_sets += 1;
        let set = self.descriptor_sets;
        self.option("-add-fd", format!("fd={file},set={set}"));
        value.push(format!("filename=/dev/fdset/{set}"));
        self.option("-blockdev", value);
    }

    fn network(&mut self, nic: &Nic, bus: Bus) {
        let mac = match nic {
            Nic::Stream { number, mac } => {
                let stream = "stream,id=net,server=off,addr.type=fd,addr.str";
                self.option("-netdev", format!("{stream}={number}"));
                mac
            }
            Nic::Restricted { mac } => {
                self.option("-netdev", "user,id=net,restrict=on");
                mac
            }
            Nic::Tap { number, mac } => {
                self.option("-netdev", format!("tap,id=net,fd={number}"));
                mac
            }
            Nic::NamedTap { name, mac } => {
                let scripts = "script=no,downscript=no";
                self.option("-netdev", format!("tap,id=net,ifname={name},{scripts}"));
                mac
            }
        };
        let mut device = format!("{},netdev=net,mac={mac}", bus.device("virtio-net"));
        if matches!(bus, Bus::Pci) {
            // The firmware need not boot from the network, which takes it a while.
            device.push_str(",romfile=");
        }
        self.option("-device", device);
    }
}

/// A path that QEMU opens by itself.
fn path_of(file: RawFd) -> String {
    format!("/proc/self/fd/{file}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(variant: Variant) -> MachineSpec {
        MachineSpec {
            variant,
            accelerator: Accelerator::Tcg,
            vcpu_count: 2,
            mem_size_mib: 512,
            kernel: 10,
            initrd: Some(13),
            command_line: "console=ttyS0 quiet".to_owned(),
            disks: vec![
                Disk { format: Format::Qcow2, file: 16, backing: Some(11), read_only: false },
                Disk { format: Format::Raw, file: 12, backing: None, read_only: true },
            ],
            network: Some(Nic::Stream { number: 15, mac: "52:54:00:00:00:01".to_owned() }),
            nested_virtualization: false,
            vsock_cid: None,
            incoming: false,
            qmp_socket: 14,
        }
    }

    fn line(machine: &MachineSpec) -> String {
        let words: Vec<_> =
            arguments(machine).iter().map(|word| word.to_str().unwrap().to_owned()).collect();
        words.join(" ")
    }

    #[test]
    fn a_microvm_has_its_devices_on_mmio() {
        let line = line(&machine(Variant::Microvm));
        for part in [
            "-machine microvm -accel tcg -cpu max -smp 2 -m 512M",
            "-kernel /proc/self/fd/10 -initrd /proc/self/fd/13",
            "-add-fd fd=11,set=1 -blockdev driver=file,node-name=base0-file,discard=unmap,read-only=on,filename=/dev/fdset/1",
            "-add-fd fd=16,set=2",
            "driver=qcow2,node-name=disk0,file=disk0-file,discard=unmap,backing=base0",
            "-add-fd fd=12,set=3",
            "virtio-blk-device,drive=disk1",
            "stream,id=net,server=off,addr.type=fd,addr.str=15",
            "socket,id=qmp,server=on,wait=off,fd=14",
            "virtserialport,chardev=agent,name=smolvm.agent",
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        assert!(!line.contains("-pci"), "{line}");
        assert!(!line.contains("kvm"), "{line}");
    }

    #[test]
    fn a_guest_that_runs_machines_has_the_processor_for_it() {
        let nested = MachineSpec { nested_virtualization: true, ..machine(Variant::Microvm) };
        assert!(line(&nested).contains("-accel tcg -cpu max,+svm,+npt "));
        let nested = MachineSpec { accelerator: Accelerator::Kvm, ..nested };
        assert!(line(&nested).contains("-accel kvm -cpu host "));
    }

    #[test]
    fn an_emulated_processor_for_arm64_does_not_sign_pointers() {
        let nested = MachineSpec { nested_virtualization: true, ..machine(Variant::Virt) };
        assert!(line(&nested).contains("-accel tcg -cpu max,pauth=off,sve=off "));
        let kvm = MachineSpec { accelerator: Accelerator::Kvm, ..nested };
        assert!(line(&kvm).contains("-machine virt -accel kvm -cpu host "));
    }

    #[test]
    fn other_machines_have_them_on_pci() {
        for (variant, name) in [(Variant::Q35, "q35"), (Variant::Virt, "virt")] {
            let line = line(&machine(variant));
            assert!(line.contains(&format!("-machine {name} ")), "{line}");
            assert!(line.contains("virtio-blk-pci,drive=disk0"), "{line}");
            assert!(line.contains("virtio-serial-pci"), "{line}");
            assert!(line.contains("virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,romfile="));
        }
        assert!(line(&machine(Variant::MicrovmWithoutAcpi)).contains("microvm,acpi=off"));
    }

    #[test]
    fn a_network_is_what_leads_somewhere_or_restricted_or_a_tap() {
        let mut machine = machine(Variant::Microvm);
        machine.network = Some(Nic::Restricted { mac: "52:54:00:00:00:01".to_owned() });
        assert!(line(&machine).contains("user,id=net,restrict=on"));
        machine.network = Some(Nic::Tap { number: 8, mac: "52:54:00:00:00:01".to_owned() });
        assert!(line(&machine).contains("-netdev tap,id=net,fd=8 -device virtio-net-device"));
        machine.network = None;
        assert!(!line(&machine).contains("-netdev"));
    }

    #[test]
    fn a_machine_of_a_snapshot_waits_for_it_and_boots_nothing() {
        let machine = MachineSpec { incoming: true, ..machine(Variant::Microvm) };
        let line = line(&machine);
        assert!(line.contains("-m 512M -incoming defer -chardev"), "{line}");
        assert!(!line.contains("-kernel") && !line.contains("-initrd"), "{line}");
    }

    #[test]
    fn vsock_is_there_where_the_host_has_it() {
        let mut machine = machine(Variant::Microvm);
        machine.vsock_cid = Some(77);
        assert!(line(&machine).contains("vhost-vsock-device,guest-cid=77"));
    }
}
