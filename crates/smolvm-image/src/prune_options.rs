//! [`PruneOptions`]: what a prune removes beside the leavings.

use std::time::Duration;

/// What [`prune_with`](crate::ImageManager::prune_with) removes, beside partial files and leavings
/// that nobody is at work on. What is in use stays, whatever is asked for.
///
/// ```
/// use std::time::Duration;
///
/// use smolvm_image::PruneOptions;
///
/// let options = PruneOptions::new()
///     .older_than(Duration::from_hours(30 * 24))
///     .max_size(10 << 30)
///     .dry_run(true);
/// # let _ = options;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneOptions {
    pub(crate) dry_run: bool,
    pub(crate) unregistered: bool,
    pub(crate) unpinned: bool,
    pub(crate) older_than: Option<Duration>,
    pub(crate) max_size: Option<u64>,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            unregistered: true,
            unpinned: false,
            older_than: None,
            max_size: None,
        }
    }
}

impl PruneOptions {
    /// Images that the registry does not name go, no others.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only says what would go.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Whether images go that the registry does not name. They do where nothing else is said.
    #[must_use]
    pub fn unregistered(mut self, unregistered: bool) -> Self {
        self.unregistered = unregistered;
        self
    }

    /// Whether images of the registry go that have an asset without a pin.
    #[must_use]
    pub fn unpinned(mut self, unpinned: bool) -> Self {
        self.unpinned = unpinned;
        self
    }

    /// Images go that nobody has used for this long: neither
    /// [`ensure_image`](crate::ImageManager::ensure_image) nor a virtual machine. Each user's last
    /// use is noted in a cache that can be written to, else it is the time of the fetch.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Images go, those first that nobody has used for longest, until all that is left in the
    /// cache takes at most this many bytes of the disk, as `du` counts them.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }
}
