//! [`Job`]: how one of several connections fetches its parts of a file.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::plan::{Claim, Plan};
use crate::buffer::Buffer;
use crate::cancel::CancelToken;
use crate::http::Kept;
use crate::source::{self, Answer, Ask, Opened, Validators};
use crate::transfer::{Transfer, TransferError};

/// What is written at once, in bytes: what is lost where the process is killed.
const WRITE: usize = 64 << 10;

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

    pub(super) fn transfer(&self) -> &'a Transfer<'a> {
        self.transfer
    }

    pub(super) fn cancel(&self) -> &CancelToken {
        &self.cancel
    }

    /// The server that is asked, before it redirects.
    pub(super) fn host(&self) -> String {
        let url = self.transfer.asset.url.expose();
        format!("{:?}:{:?}", url.host_str(), url.port_or_known_default())
    }

    /// Bytes that came over other connections than the first.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Fetches pieces, over one connection where the server keeps it, until there are no more, or
    /// one cannot be had: that one is for others, who may have better luck.
    pub(super) fn work(&self, plan: &Plan) {
        let (kept, mut buffer) = (Kept::default(), Buffer::new());
        while let Some(claim) = plan.claim(&self.cancel) {
            let fetched = self.fetch(plan, &claim, &kept, &mut buffer);
            plan.give_back(&claim);
            if let Err(error) = fetched {
                log::debug!("a connection less: {error}");
                return;
            }
        }
    }

    fn fetch(
        &self,
        plan: &Plan,
        claim: &Claim,
        kept: &Kept,
        buffer: &mut Buffer,
    ) -> io::Result<()> {
        let mut body = self.open(claim.range.start, Some(claim.range.end), Some(kept))?;
        buffer.clear();
        loop {
            let more = self.fill(plan, claim, &mut body, buffer);
            // What came before an error is kept.
            plan.write(claim, buffer.bytes())?;
            buffer.clear();
            more?;
            if plan.left(claim) == 0 {
                return Ok(());
            }
        }
    }

    /// Receives what is worth writing, or what is left of a claim.
    fn fill(
        &self,
        plan: &Plan,
        claim: &Claim,
        body: &mut impl Read,
        buffer: &mut Buffer,
    ) -> io::Result<()> {
        while buffer.bytes().len() < WRITE {
            let have = buffer.bytes().len();
            let left = usize::try_from(plan.left(claim)).unwrap_or(usize::MAX).saturating_sub(have);
            let space = buffer.space();
            let most = left.min(space.len());
            if most == 0 {
                return Ok(());
            }
            match body.read(&mut space[..most]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer.fill(count);
                    self.received.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The bytes of a range, over a connection of its own.
    pub(super) fn open_alone(&self, start: u64, end: u64) -> io::Result<Box<dyn Read + Send>> {
        self.open(start, Some(end).filter(|&end| end < self.total), None)
    }

    /// A part of the very version that the transfer began with.
    fn open(
        &self,
        offset: u64,
        end: Option<u64>,
        kept: Option<&Kept>,
    ) -> io::Result<Box<dyn Read + Send>> {
        let ask = Ask {
            offset,
            end,
            if_range: self.validators.if_range.as_deref(),
            total: Some(self.total),
            kept,
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
