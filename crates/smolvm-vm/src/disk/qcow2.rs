//! The metadata of a new qcow2 file, version 3, as QEMU's `docs/interop/qcow2.txt` has it: the
//! header, the reference counts of the clusters in use, and an empty map of the guest's clusters.
//!
//! All of it is big-endian. The file names no backing file: one that is named in the file would be
//! opened by path, and by whoever is handed the file.

/// A cluster is 64 KiB, as QEMU makes them.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// What one entry of the L1 table maps: an L2 table of one cluster with 8 bytes for each cluster.
const MAPPED_BY_L1_ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// QEMU refuses longer L1 tables.
const MAX_L1_LENGTH: u64 = 32 << 20;

/// The largest disk in bytes: 2 PiB.
pub(super) const MAX_SIZE: u64 = MAX_L1_LENGTH / 8 * MAPPED_BY_L1_ENTRY;

const MAGIC: u32 = 0x5146_49fb;
const VERSION: u32 = 3;
const HEADER_LENGTH: u32 = 104;
/// Reference counts have 1 << 4 bits.
const REFCOUNT_ORDER: u32 = 4;

const REFCOUNT_TABLE: u64 = CLUSTER;
const REFCOUNT_BLOCK: u64 = 2 * CLUSTER;
const L1_TABLE: u64 = 3 * CLUSTER;

/// Where the parts of a new file are.
#[derive(Debug)]
pub(super) struct Layout {
    size: u64,
    l1_entries: u64,
}

impl Layout {
    /// The layout for a disk of `size` bytes, at most [`MAX_SIZE`].
    pub(super) fn of(size: u64) -> Self {
        Self { size, l1_entries: size.div_ceil(MAPPED_BY_L1_ENTRY) }
    }

    /// The bytes that a file with no cluster of the guest's has.
    pub(super) fn file_length(&self) -> u64 {
        L1_TABLE + (self.l1_entries * 8).next_multiple_of(CLUSTER)
    }

    /// What is not zero in the file, each part with its offset.
    pub(super) fn written(&self) -> [(u64, Vec<u8>); 3] {
        // One block counts references to 32768 clusters: all of the largest file's.
        let clusters = usize::try_from(self.file_length() / CLUSTER).unwrap_or(usize::MAX);
        let counts = 1_u16.to_be_bytes().repeat(clusters);
        [
            (0, self.header()),
            (REFCOUNT_TABLE, REFCOUNT_BLOCK.to_be_bytes().to_vec()),
            (REFCOUNT_BLOCK, counts),
        ]
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Header(Vec::with_capacity(HEADER_LENGTH as usize + 8));
        header.u32(MAGIC).u32(VERSION);
        // No backing file: its name's offset and length.
        header.u64(0).u32(0);
        header.u32(CLUSTER_BITS).u64(self.size);
        // Not encrypted.
        header.u32(0);
        header.u32(u32::try_from(self.l1_entries).unwrap_or(u32::MAX)).u64(L1_TABLE);
        // The table of reference counts has one cluster.
        header.u64(REFCOUNT_TABLE).u32(1);
        // No snapshots: their number and offset.
        header.u32(0).u64(0);
        // Neither incompatible nor compatible nor auto-clear features.
        header.u64(0).u64(0).u64(0);
        header.u32(REFCOUNT_ORDER).u32(HEADER_LENGTH);
        // The end of the header's extensions.
        header.u64(0);
        header.0
    }
}

struct Header(Vec<u8>);

impl Header {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_be_bytes());
        self
    }
}
