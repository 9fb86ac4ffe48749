//! The account of what was asked and how many bytes were written for it.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::headers::{Head, Headers};

/// How long a test waits for requests before it fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// One request as it arrived, and what was written for it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, such as `GET`.
    pub method: String,
    /// The target as sent, query included.
    pub target: String,
    /// The header fields as sent.
    pub headers: Headers,
    /// Whether its connection had brought another request before it.
    pub reuses_connection: bool,
    /// The status of the answer; 0 while there is none.
    pub status: u16,
    /// The bytes of body written so far, without chunk framing.
    pub body_bytes: u64,
}

impl Request {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of the first header field of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }
}

/// All requests of one server or proxy.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: Mutex<Vec<Arc<Entry>>>,
    changed: Condvar,
}

/// One line of the account, written to while the answer is on its way.
#[derive(Debug)]
pub(crate) struct Entry {
    request: Request,
    status: AtomicU16,
    body_bytes: AtomicU64,
}

impl Ledger {
    pub(crate) fn open(&self, head: &Head, reuses_connection: bool) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            request: Request {
                method: head.word(0).to_owned(),
                target: head.word(1).to_owned(),
                headers: head.headers.clone(),
                reuses_connection,
                status: 0,
                body_bytes: 0,
            },
            status: AtomicU16::new(0),
            body_bytes: AtomicU64::new(0),
        });
        self.entries().push(Arc::clone(&entry));
        self.changed.notify_all();
        entry
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.entries().iter().map(|entry| entry.snapshot()).collect()
    }

    pub(crate) fn wait_for(&self, path: &str, count: usize) {
        let hits = |entries: &[Arc<Entry>]| {
            let of_path = |entry: &&Arc<Entry>| entry.request.path() == path;
            entries.iter().filter(of_path).count()
        };
        let (entries, timeout) = self
            .changed
            .wait_timeout_while(self.entries(), PATIENCE, |entries| hits(entries) < count)
            .expect("nothing panics under this lock");
        assert!(
            !timeout.timed_out(),
            "only {} of {count} requests for {path} arrived",
            hits(&entries)
        );
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.entries.lock().expect("nothing panics under this lock")
    }
}

impl Entry {
    pub(crate) fn answered(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn wrote(&self, bytes: usize) {
        self.body_bytes.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    fn snapshot(&self) -> Request {
        Request {
            status: self.status.load(Ordering::SeqCst),
            body_bytes: self.body_bytes.load(Ordering::SeqCst),
            ..self.request.clone()
        }
    }
}
