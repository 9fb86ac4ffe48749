//! The cache on disk: layout, locks, records, partial files, verification, publishing, pruning.
//!
//! ```text
//! <root>/<name>/vmlinux.bin        the assets, read-only, under the names of the definition
//! <root>/<name>/image.json         what is known of them (`record`)
//! <root>/.state/version            of this layout
//! <root>/.state/locks/<key>        kernel locks, never unlinked (`lock`)
//! <root>/.state/locks/image-<name>
//! <root>/.state/partial/<key>.*.part  bytes so far (`partial`), and beside them
//! <root>/.state/partial/<key>.*.json  what is needed to continue (`note`)
//! <root>/.state/partial/<key>         whole and verified, waiting for the rest (`held`)
//! ```
//!
//! A key is the digest of an asset that has a pin, else a hash of its URL. Who holds the lock of
//! a key may write below that key; who holds the lock of an image may rename into its directory.
//! The image's lock is always taken first.

mod copy;
mod dir;
mod held;
mod key;
mod leavings;
mod location;
mod lock;
mod note;
mod partial;
mod prune;
mod publish;
mod record;
mod share;
mod store;
mod usage;
mod verify;

pub(crate) use dir::{Dir, Inode};
pub(crate) use held::{Held, discard_parked, parked};
pub(crate) use key::Key;
pub(crate) use leavings::{has_leavings, tidy};
pub(crate) use location::resolve;
pub(crate) use lock::{Lock, acquire, try_acquire};
pub(crate) use note::{Note, boot_id};
pub(crate) use partial::Partial;
pub(crate) use prune::{prune, remove};
pub(crate) use publish::{Publication, publish, refuse_newer_record};
pub(crate) use record::{AssetRecord, Memory, RECORD_FILE, Record, Recorded};
pub(crate) use share::find_shared;
pub(crate) use store::{Store, image_names, open_image, open_root};
pub(crate) use usage::disk_usage;
pub(crate) use verify::{Finding, Presence, check, hash_prefix, presence};
