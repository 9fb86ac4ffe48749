//! A gate that holds responses at a known byte until the test lets them go on.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How often a held response looks whether its connection is still there.
const LOOK_AROUND: Duration = Duration::from_millis(20);
/// How long a test waits for arrivals before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// Holds every response with [`Fault::HoldAt`](super::Fault::HoldAt) until opened: a test then
/// knows without a clock that a transfer is in its middle.
///
/// ```no_run
/// use smolvm_testkit::{Fault, Gate, Route, Server};
///
/// let (server, gate) = (Server::start(), Gate::new());
/// server.route("/k", Route::new(vec![0; 9000]).fault(Fault::HoldAt(4096, gate.clone())));
/// // ... start the download on another thread or in another process ...
/// gate.wait_for_arrivals(1);
/// // ... the first 4096 bytes are written, and not a byte more ...
/// gate.open();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    open: bool,
    arrivals: usize,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everything through, now and from now on.
    pub fn open(&self) {
        self.update(|state| state.open = true);
    }

    /// Waits until `count` responses have reached the gate since it was made, those that went on
    /// included.
    ///
    /// # Panics
    ///
    /// After a minute: they are not coming.
    pub fn wait_for_arrivals(&self, count: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().expect("nothing panics under this lock");
        let (state, timeout) = changed
            .wait_timeout_while(state, PATIENCE, |state| state.arrivals < count)
            .expect("nothing panics under this lock");
        assert!(
            !timeout.timed_out(),
            "only {} of {count} responses reached the gate",
            state.arrivals
        );
    }

    /// Holds the caller until the gate is open or `gone` says that nobody waits for it.
    pub(super) fn hold(&self, gone: impl Fn() -> bool) {
        self.update(|state| state.arrivals += 1);
        let (state, changed) = &*self.0;
        let mut state = state.lock().expect("nothing panics under this lock");
        while !state.open && !gone() {
            (state, _) =
                changed.wait_timeout(state, LOOK_AROUND).expect("nothing panics under this lock");
        }
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let (state, changed) = &*self.0;
        change(&mut state.lock().expect("nothing panics under this lock"));
        changed.notify_all();
    }
}
