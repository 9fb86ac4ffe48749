//! [`Hasher`]: a thread that hashes buffers while the next ones are received.

use std::fs::File;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{Builder, JoinHandle};

use sha2::{Digest as _, Sha256};

use crate::buffer::Buffer;
use crate::cache::hash_prefix;
use crate::cancel::CancelToken;
use crate::digest::Digest;

/// Buffers in all: as many as the receiver may be ahead of the hash.
const BUFFERS: usize = 16;

/// A running SHA-256 of the bytes that it is fed, in order. Its thread ends with it.
pub(super) struct Hasher {
    work: Option<SyncSender<Work>>,
    spare: Receiver<Buffer>,
    /// One that was taken and not used.
    unused: Option<Buffer>,
    made: usize,
    thread: Option<JoinHandle<io::Result<Sha256>>>,
    /// Ends the reading of the file.
    stop: CancelToken,
}

enum Work {
    Bytes(Buffer),
    Digest(Sender<Digest>),
}

impl Hasher {
    /// Begins with the first `length` bytes of a file. Reading them goes on while others come.
    pub(super) fn start(prefix: &File, length: u64, cancel: &CancelToken) -> io::Result<Self> {
        let (work, queue) = mpsc::sync_channel(BUFFERS);
        let (give_back, spare) = mpsc::channel();
        let stop = cancel.child();
        let (prefix, cancel) = (prefix.try_clone()?, stop.clone());
        let thread = Builder::new().name("smolvm-hash".to_owned()).spawn(move || {
            let mut hasher = match hash_prefix(&prefix, length, Sha256::new(), &cancel)? {
                Some((hasher, read)) if read == length => hasher,
                // Cancelled, or cut by somebody: the receiver learns it from our end.
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            for work in queue {
                match work {
                    Work::Bytes(mut buffer) => {
                        hasher.update(buffer.bytes());
                        buffer.clear();
                        // The receiver is gone when the transfer is over.
                        let _ = give_back.send(buffer);
                    }
                    Work::Digest(answer) => {
                        let _ = answer.send(hasher.clone().into());
                    }
                }
            }
            Ok(hasher)
        })?;
        Ok(Self { work: Some(work), spare, unused: None, made: 0, thread: Some(thread), stop })
    }

    /// An empty buffer; waits for the hash where all are on their way.
    pub(super) fn buffer(&mut self) -> io::Result<Buffer> {
        if let Some(buffer) = self.unused.take() {
            return Ok(buffer);
        }
        if let Ok(buffer) = self.spare.try_recv() {
            return Ok(buffer);
        }
        if self.made < BUFFERS {
            self.made += 1;
            return Ok(Buffer::new());
        }
        self.spare.recv().map_err(|_| self.failure())
    }

    pub(super) fn feed(&mut self, buffer: Buffer) -> io::Result<()> {
        if buffer.bytes().is_empty() {
            // The other thread need not wake up for nothing.
            self.unused = Some(buffer);
            return Ok(());
        }
        self.send(Work::Bytes(buffer))
    }

    /// The digest of what it was fed so far.
    pub(super) fn digest_so_far(&mut self) -> io::Result<Digest> {
        let (answer, question) = mpsc::channel();
        self.send(Work::Digest(answer))?;
        question.recv().map_err(|_| self.failure())
    }

    /// The digest of everything.
    pub(super) fn finish(mut self) -> io::Result<Digest> {
        drop(self.work.take());
        self.join().map(Digest::from)
    }

    fn send(&mut self, work: Work) -> io::Result<()> {
        let sent = self.work.as_ref().is_some_and(|queue| queue.send(work).is_ok());
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    /// Why the thread has ended before its time.
    fn failure(&mut self) -> io::Error {
        drop(self.work.take());
        self.join().err().unwrap_or_else(|| io::Error::other("the hashing thread ended early"))
    }

    fn join(&mut self) -> io::Result<Sha256> {
        let ended = || io::Error::other("the hashing thread ended early");
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) | None => Err(ended()),
        }
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.stop.cancel();
        drop(self.work.take());
        let _ = self.join();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn fill(hasher: &mut Hasher, bytes: &[u8]) {
        let mut buffer = hasher.buffer().unwrap();
        buffer.space()[..bytes.len()].copy_from_slice(bytes);
        buffer.fill(bytes.len());
        hasher.feed(buffer).unwrap();
    }

    #[test]
    fn hashes_a_prefix_and_what_follows() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before, and more").unwrap();
        let mut hasher = Hasher::start(&file, 6, &CancelToken::new()).unwrap();
        fill(&mut hasher, b" and after");
        assert_eq!(hasher.digest_so_far().unwrap(), Digest::of(b"before and after"));
        for _ in 0..3 * BUFFERS {
            fill(&mut hasher, b".");
        }
        let all = format!("before and after{}", ".".repeat(3 * BUFFERS));
        assert_eq!(hasher.finish().unwrap(), Digest::of(all.as_bytes()));
    }

    #[test]
    fn a_prefix_that_is_not_there_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        let mut hasher = Hasher::start(&file, 3, &CancelToken::new()).unwrap();
        assert!(hasher.digest_so_far().is_err());
    }
}
