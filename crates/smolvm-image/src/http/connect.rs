//! The way to a server: directly or through a proxy, plain or in TLS.

use std::io::Write;
use std::time::Duration;

use url::{Host, Url};

use super::dial::dial;
use super::error::HttpError;
use super::head::{Head, HeadError, read_head};
use super::proxy::Proxy;
use super::request;
use super::stream::Stream;
use super::tls::{self, Tls};
use super::wire::Wire;
use crate::asset_url::Redacted;
use crate::cancel::CancelToken;

/// What every connection of a client has in common.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) stall: Duration,
    pub(super) connect: Duration,
    pub(super) tls: Tls,
}

impl Connector {
    /// A connection over which `url` can be asked for. The server at its other end is that of
    /// `url`, or for `http` URLs the proxy if there is one.
    pub(super) fn connect(
        &self,
        url: &Url,
        proxy: Option<&Proxy>,
        cancel: &CancelToken,
    ) -> Result<Stream, HttpError> {
        let unsupported = || HttpError::Unsupported { url: Redacted(url).to_string() };
        let host = url.host().ok_or_else(unsupported)?;
        let port = url.port_or_known_default().ok_or_else(unsupported)?;
        let stream = match proxy {
            None => self.open(url, &host, port, cancel)?,
            Some(proxy) => {
                let stream = self.open_proxy(url, proxy, cancel)?;
                if url.scheme() == "https" {
                    tunnel(stream, proxy, &format!("{host}:{port}"), url)?
                } else {
                    stream
                }
            }
        };
        if url.scheme() == "https" { self.tls.secure(stream, &host, url) } else { Ok(stream) }
    }

    fn open(
        &self,
        url: &Url,
        host: &Host<&str>,
        port: u16,
        cancel: &CancelToken,
    ) -> Result<Stream, HttpError> {
        let socket = dial(host, port, self.connect, cancel)?;
        let wire = Wire::new(socket, self.stall, cancel);
        Ok(Stream::Plain(wire.map_err(|error| HttpError::from_io(url, error))?))
    }

    fn open_proxy(
        &self,
        url: &Url,
        proxy: &Proxy,
        cancel: &CancelToken,
    ) -> Result<Stream, HttpError> {
        let unsupported = || HttpError::Unsupported { url: proxy.to_string() };
        let host = proxy.host().ok_or_else(unsupported)?;
        let port = proxy.port().ok_or_else(unsupported)?;
        let stream = self.open(url, &host, port, cancel)?;
        if proxy.is_secure() { self.tls.secure(stream, &host, url) } else { Ok(stream) }
    }
}

/// Asks a proxy for a tunnel to `target`; the stream is the tunnel afterwards.
fn tunnel(mut stream: Stream, proxy: &Proxy, target: &str, url: &Url) -> Result<Stream, HttpError> {
    let head = exchange(&mut stream, &request::connect(target, proxy)?, url)?;
    if (200..300).contains(&head.status) && head.leftover.is_empty() {
        Ok(stream)
    } else {
        Err(proxy.refused(target.to_owned(), head.status).into())
    }
}

/// Sends a request and reads the head of the answer.
pub(super) fn exchange(stream: &mut Stream, request: &[u8], url: &Url) -> Result<Head, HttpError> {
    stream.wire().begin_step();
    let failed = |error| match url.host() {
        Some(host) => tls::from_io(&host, url, error),
        None => HttpError::from_io(url, error),
    };
    stream.write_all(request).and_then(|()| stream.flush()).map_err(failed)?;
    let head = read_head(stream).map_err(|error| match error {
        HeadError::Read(error) => failed(error),
        malformed => HttpError::from_head(url, malformed),
    })?;
    stream.wire().end_step();
    Ok(head)
}
