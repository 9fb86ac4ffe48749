//! Gives the probe's machine its memory and takes it away again: the only unsafe code of this
//! crate.
#![expect(unsafe_code, reason = "the kernel is told an address that the guest may write to")]

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Error, VmFd};

use super::program::Pages;

/// Puts `pages` at the beginning of the machine's physical memory.
///
/// They stay allocated for the rest of the process, for a guest that nothing can end.
pub(super) fn give(vm: &VmFd, pages: Box<Pages>) -> Result<(), Error> {
    let pages: *mut Pages = Box::into_raw(pages);
    let region = region(size_of::<Pages>() as u64, pages.expose_provenance() as u64);
    // SAFETY: the address is that of a live, page-aligned allocation of the size given, which is
    // never freed and to which no reference is left, so that whatever the guest writes to it
    // changes nothing that this program looks at.
    unsafe { vm.set_user_memory_region(region) }
}

/// Takes the memory away, so that a guest that runs on finds no next instruction and ends.
pub(super) fn take(vm: &VmFd) -> Result<(), Error> {
    // SAFETY: a region of size 0 removes the slot; the kernel is given no address.
    unsafe { vm.set_user_memory_region(region(0, 0)) }
}

/// The only memory slot of the machine.
fn region(size: u64, address: u64) -> kvm_userspace_memory_region {
    kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: size,
        userspace_addr: address,
    }
}
