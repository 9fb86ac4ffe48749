//! Serves the host, in the guest's root file system.

/// What the boot has found out about the guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guest {
    /// Whether the image's own init is the first process. Without one, the first process ends the
    /// guest in order when it receives `SIGTERM`.
    pub(crate) root_has_init: bool,
}

/// Serves until the machine ends.
pub(crate) fn run(_guest: Guest) -> ! {
    loop {
        std::thread::park();
    }
}
