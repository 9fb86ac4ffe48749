//! The cache on disk: layout, locks, records, partial files, verification, publishing, pruning.
//!
//! ```text
//! <root>/<name>/vmlinux.bin        the assets, read-only, under the names of the definition
//! <root>/<name>/image.json         what is known of them (`record`)
//! <root>/<name>/.verified-<uid>.json  what a user has verified (`stamp`)
//! <root>/.state/version            of this layout
//! <root>/.state/locks/<key>        kernel locks, never unlinked (`lock`)
//! <root>/.state/locks/image-<name>
//! <root>/.state/locks/fetch-<name>
//! <root>/.state/partial/<key>.*.part  bytes so far (`partial`), and beside them
//! <root>/.state/partial/<key>.*.json  what is needed to continue (`note`); or
//! <root>/.state/partial/<key>.*.parts    bytes here and there, as several connections bring them,
//! <root>/.state/partial/<key>.*.log      and which they are (`parts`)
//! <root>/.state/partial/<key>         whole and verified, waiting for the rest (`held`)
//! <root>/.state/last-used/<name>@<user>  its time is that of the last use (`last_used`)
//! <root>/.state/in-use/<name>@<hash>     a directory that needs the image (`holders`)
//! ```
//!
//! A key is the digest of an asset that has a pin, else a hash of its URL. Who holds the lock of
//! a key may write below that key; who holds the lock of an image may rename into its directory.
//! The image's lock is always taken first; before it, that of a fetch, where what is fetched will
//! have a stamp that those who wait can use. Who uses an image holds shared locks on its files
//! themselves (`in_use`).

mod copy;
mod dir;
mod file_state;
mod fs_verity;
mod held;
mod holders;
mod in_use;
mod key;
mod last_used;
mod leavings;
mod left;
mod location;
mod lock;
mod make;
mod note;
mod partial;
mod parts;
mod prune;
mod publish;
mod ranges;
mod record;
mod remove;
mod share;
mod shared_pass;
mod stamp;
mod store;
mod usage;
mod verify;

pub(crate) use dir::{Dir, Inode};
pub(crate) use file_state::{FileState, Moment};
pub(crate) use fs_verity::{could_have as could_have_verity, enable as enable_verity};
pub(crate) use held::{Held, discard_parked, parked};
pub(crate) use holders::note as note_holder;
pub(crate) use in_use::hold;
pub(crate) use key::Key;
pub(crate) use last_used::note_use;
pub(crate) use leavings::{has_leavings, tidy};
pub(crate) use location::resolve;
pub(crate) use lock::{Lock, acquire, try_acquire};
pub(crate) use note::{Note, boot_id};
pub(crate) use partial::Partial;
pub(crate) use parts::Parts;
pub(crate) use prune::{Registered, prune};
pub(crate) use publish::{Publication, publish, refuse_newer_record};
pub(crate) use record::{AssetRecord, Memory, RECORD_FILE, Record, Recorded};
pub(crate) use remove::remove;
pub(crate) use share::find_shared;
pub(crate) use stamp::{Stamp, Stamps, own_state, unchanged};
pub(crate) use store::{Store, image_names, is_cache, open_image, open_root};
pub(crate) use usage::disk_usage;
pub(crate) use verify::{
    Finding, Presence, Steady, Verified, check, examine, hash_prefix, presence,
};
