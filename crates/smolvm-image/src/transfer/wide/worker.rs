//! [`Job`]: how one of several connections fetches its part of a file.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::queue::Queue;
use crate::cancel::CancelToken;
use crate::source::{self, Answer, Ask, Opened, Validators};
use crate::transfer::{Transfer, TransferError};

/// What a connection needs to know of the file that it fetches a part of.
#[derive(Clone)]
pub(super) struct Job<'a> {
    transfer: &'a Transfer<'a>,
    /// The size of the file in bytes.
    total: u64,
    /// What tells its version from others.
    validators: Validators,
    /// Ends all connections, with the transfer or alone.
    cancel: CancelToken,
    /// Bytes that came over other connections than the first.
    received: Arc<AtomicU64>,
}

impl<'a> Job<'a> {
    pub(super) fn new(transfer: &'a Transfer<'a>, total: u64, validators: Validators) -> Self {
        let cancel = transfer.cancel.child();
        Self { transfer, total, validators, cancel, received: Arc::default() }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Connections that there may be at once.
    pub(super) fn connections(&self) -> u8 {
        self.transfer.connections
    }

    pub(super) fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// The server that is asked, before it redirects.
    pub(super) fn host(&self) -> String {
        let url = self.transfer.asset.url.expose();
        format!("{:?}:{:?}", url.host_str(), url.port_or_known_default())
    }

    /// Bytes that came over other connections than the first, since this was last asked.
    pub(super) fn take_received(&self) -> u64 {
        self.received.swap(0, Ordering::Relaxed)
    }

    /// Fetches chunks until there are no more, or one cannot be had: that one is for others, who
    /// may have better luck.
    pub(super) fn work(&self, queue: &Queue) {
        while let Some(chunk) = queue.claim(&self.cancel) {
            match self.fetch(queue.range(chunk), queue.memory()) {
                Ok(bytes) => queue.arrived(chunk, bytes),
                Err(error) => {
                    log::debug!("a connection less: {error}");
                    queue.give_back(chunk);
                    return;
                }
            }
        }
    }

    fn fetch(&self, range: Range<u64>, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut body = self.open(range.start, Some(range.end))?;
        bytes.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            match body.read(&mut bytes[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    filled += count;
                    self.received.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    /// The bytes from a position to the end.
    pub(super) fn open_rest(&self, position: u64) -> io::Result<Box<dyn Read + Send>> {
        self.open(position, None)
    }

    /// A part of the very version that the transfer began with.
    fn open(&self, offset: u64, end: Option<u64>) -> io::Result<Box<dyn Read + Send>> {
        let ask = Ask {
            offset,
            end,
            if_range: self.validators.if_range.as_deref(),
            total: Some(self.total),
            ..Ask::default()
        };
        let Transfer { client, asset, .. } = self.transfer;
        match source::open(client, &asset.url, &ask, &self.cancel) {
            Ok(Answer::Body(opened)) if self.is_same(&opened) => Ok(opened.body),
            Ok(_) => Err(io::Error::other(TransferError::WrongPart)),
            Err(failure) => Err(io::Error::other(failure.error)),
        }
    }

    fn is_same(&self, opened: &Opened) -> bool {
        let (known, now) = (&self.validators, &opened.validators);
        opened.continues
            && opened.total == Some(self.total)
            // With one that is strong enough, the source has looked at it.
            && (known.if_range.is_some()
                || (known.etag == now.etag && known.last_modified == now.last_modified))
    }
}
