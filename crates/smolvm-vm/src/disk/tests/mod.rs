//! Disks on real file systems, written to by the real QEMU; nothing here boots.

mod fixture;
mod full;
mod isolation;
mod overlay;
mod scratch;
mod share;
