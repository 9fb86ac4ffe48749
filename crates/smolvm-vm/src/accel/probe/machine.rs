//! The machine that the probe's program runs on, and the judgement of what it did.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, Msrs, kvm_msr_entry, kvm_regs};
use kvm_ioctls::{Error, Kvm, VcpuExit, VcpuFd, VmFd};

use super::super::obstacle::ProbeFailure;
use super::guest_memory;
use super::program::{CODE, OUTPUT, PORT, Pages, STACK};

/// How long a guest may take to notice that its memory is gone.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// The bit of RFLAGS that is always set.
const RFLAGS: u64 = 1 << 1;

/// The register with which a processor tells the flaws that it does not have.
const ARCH_CAPABILITIES: u32 = 0x10a;

/// Where Intel processors may keep three pages of their own; every VMM chooses this place, below
/// the firmware and above all memory.
const TSS_ADDRESS: usize = 0xfffb_d000;

/// Runs what is in `pages` and judges whether it did what the probe's program does; waits `limit`
/// at most, and a moment more where the guest has to be ended.
pub(super) fn run(pages: Box<Pages>, limit: Duration) -> Result<(), ProbeFailure> {
    let kvm = Kvm::new().map_err(cannot("open /dev/kvm"))?;
    let (vm, vcpu) = machine(&kvm, pages)?;
    set_features(&kvm, &vcpu)?;
    watch(&vm, vcpu, limit)
}

/// Only the thread that runs a virtual CPU can leave it, so that another has to watch the clock.
fn watch(vm: &VmFd, mut vcpu: VcpuFd, limit: Duration) -> Result<(), ProbeFailure> {
    let (sender, judgement) = mpsc::channel();
    let thread = thread::Builder::new().name("kvm-probe".to_owned());
    thread
        .spawn(move || {
            // The other end is gone only when nobody wants to know any more.
            let _ = sender.send(run_to_halt(&mut vcpu));
        })
        .map_err(|error| ProbeFailure::Setup {
            step: "start a thread",
            reason: error.to_string(),
        })?;
    match judgement.recv_timeout(limit) {
        Ok(judgement) => judgement,
        Err(RecvTimeoutError::Timeout) => {
            // A guest that even this does not end keeps its thread and its descriptors; nothing
            // more can be done from outside.
            let _ = guest_memory::take(vm);
            let _ = judgement.recv_timeout(LAST_WAIT);
            Err(ProbeFailure::TimedOut { limit })
        }
        Err(RecvTimeoutError::Disconnected) => Err(ProbeFailure::Setup {
            step: "run a virtual CPU",
            reason: "its thread ended".to_owned(),
        }),
    }
}

/// A machine that is about to execute the first instruction at [`CODE`].
fn machine(kvm: &Kvm, pages: Box<Pages>) -> Result<(VmFd, VcpuFd), ProbeFailure> {
    let vm = kvm.create_vm().map_err(cannot("make a machine"))?;
    vm.set_tss_address(TSS_ADDRESS).map_err(cannot("set aside the processor's own pages"))?;
    guest_memory::give(&vm, pages).map_err(cannot("give the machine memory"))?;
    let vcpu = vm.create_vcpu(0).map_err(cannot("make a virtual CPU"))?;
    set_registers(&vcpu).map_err(cannot("set the registers"))?;
    Ok((vm, vcpu))
}

/// Gives the virtual CPU all that KVM says it can have, as a VMM does; QEMU aborts where that is
/// refused.
fn set_features(kvm: &Kvm, vcpu: &VcpuFd) -> Result<(), ProbeFailure> {
    let features = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(cannot("ask for the processor's features"))?;
    vcpu.set_cpuid2(&features).map_err(cannot("set the processor's features"))?;

    let entry = kvm_msr_entry { index: ARCH_CAPABILITIES, ..kvm_msr_entry::default() };
    let mut capabilities = Msrs::from_entries(&[entry]).map_err(|error| ProbeFailure::Setup {
        step: "name a register",
        reason: format!("{error:?}"),
    })?;
    let is_offered = kvm.get_msrs(&mut capabilities).is_ok_and(|count| count == 1);
    if is_offered && !vcpu.set_msrs(&capabilities).is_ok_and(|count| count == 1) {
        return Err(ProbeFailure::Setup {
            step: "give a virtual CPU the capabilities that KVM offers",
            reason: format!("KVM refuses its own value of the register {ARCH_CAPABILITIES:#x}"),
        });
    }
    Ok(())
}

/// The state after a reset is real mode; only the program lies elsewhere than a firmware would.
fn set_registers(vcpu: &VcpuFd) -> Result<(), Error> {
    let mut registers = vcpu.get_sregs()?;
    (registers.cs.base, registers.cs.selector) = (0, 0);
    vcpu.set_sregs(&registers)?;
    vcpu.set_regs(&kvm_regs {
        rip: CODE as u64,
        rsp: STACK as u64,
        rflags: RFLAGS,
        ..kvm_regs::default()
    })
}

/// Runs the guest until it halts, with nothing else done than the output expected of it.
fn run_to_halt(vcpu: &mut VcpuFd) -> Result<(), ProbeFailure> {
    let mut written = Vec::new();
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(PORT, bytes)) if written.len() < OUTPUT.len() => {
                written.extend_from_slice(bytes);
            }
            Ok(VcpuExit::Hlt) if written == OUTPUT => return Ok(()),
            Ok(VcpuExit::Hlt) => {
                return Err(ProbeFailure::WrongOutput { written: text(&written) });
            }
            Ok(exit) => {
                let exit = format!("{exit:?}");
                return Err(ProbeFailure::WrongExit { exit, written: text(&written) });
            }
            Err(error) if error.errno() == rustix::io::Errno::INTR.raw_os_error() => {}
            Err(error) => {
                let exit = error.to_string();
                return Err(ProbeFailure::WrongExit { exit, written: text(&written) });
            }
        }
    }
}

fn text(written: &[u8]) -> String {
    written.escape_ascii().to_string()
}

fn cannot(step: &'static str) -> impl Fn(Error) -> ProbeFailure {
    move |error| ProbeFailure::Setup { step, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::super::super::KvmChecks;
    use super::super::program::pages;
    use super::*;

    /// Runs the probe's program with other instructions at its beginning; `None` where there is no
    /// KVM at all.
    fn run_changed(instructions: &[u8], limit: Duration) -> Option<Result<(), ProbeFailure>> {
        let Ok(kvm) = Kvm::new() else {
            smolvm_testkit::skip("/dev/kvm does not open");
            return None;
        };
        let mut pages = pages();
        pages.0[CODE..CODE + instructions.len()].copy_from_slice(instructions);
        let (vm, vcpu) = machine(&kvm, pages).unwrap();
        Some(watch(&vm, vcpu, limit))
    }

    #[test]
    fn a_guest_that_only_halts_does_not_pass() {
        let hlt = [0xf4];
        if let Some(judgement) = run_changed(&hlt, Duration::from_mins(1)) {
            assert_eq!(judgement, Err(ProbeFailure::WrongOutput { written: String::new() }));
        }
    }

    #[test]
    fn a_guest_that_never_ends_is_given_up_and_ended() {
        let jmp_to_itself = [0xeb, 0xfe];
        let limit = Duration::from_millis(100);
        if let Some(judgement) = run_changed(&jmp_to_itself, limit) {
            assert_eq!(judgement, Err(ProbeFailure::TimedOut { limit }));
        }
    }

    #[test]
    fn a_guest_that_writes_something_else_does_not_pass() {
        let out = [0xb0, b'x', 0xe6, 0xf4, 0xf4]; // mov al, 'x'; out 0xf4, al; hlt
        if let Some(judgement) = run_changed(&out, Duration::from_mins(1)) {
            assert_eq!(judgement, Err(ProbeFailure::WrongOutput { written: "x".to_owned() }));
        }
    }

    #[test]
    fn the_probe_passes_where_guests_run_and_nowhere_else() {
        let judgement = run(pages(), Duration::from_secs(2));
        println!("the probe: {judgement:?}");
        let is_good = KvmChecks::of_this_host().obstacle().is_none();
        assert_eq!(judgement.is_ok(), is_good);
    }
}
