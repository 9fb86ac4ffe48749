//! A blocking HTTP/1.1 client that can do one thing: GET (RFC 9110, RFC 9112).
//!
//! It is our own because ureq does not let us ask a proxy for an `http` URL in the absolute form (it
//! always tunnels, which proxies refuse for port 80), take bodies with an unreadable or repeated
//! `Content-Length`, be cancelled in the middle of a name look-up, a connect or a read, and read
//! into the caller's own buffer. Each connection carries one request and is closed, which leaves
//! nothing to pool and little to go wrong; only who asks for one part after the other keeps it
//! ([`kept`]).
//!
//! [`Client::get`] follows redirects ([`redirect`]). For each hop it chooses the proxy ([`proxy`],
//! [`no_proxy`]) and the credentials ([`credentials`], [`netrc`]), connects ([`connect`],
//! [`resolve`], [`dial`], [`tls`], all of it a [`stream`] over a [`wire`] that can be cancelled),
//! writes the [`request`], reads the [`head`] of the response and hands out its [`body`]
//! ([`chunked`]).

mod body;
mod chunked;
mod connect;
mod credentials;
mod dial;
mod error;
mod head;
mod headers;
mod kept;
mod netrc;
mod no_proxy;
mod proxy;
mod redirect;
mod request;
mod resolve;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use self::connect::{Connector, exchange};
use self::kept::Way;
use self::redirect::{MAX_REDIRECTS, RedirectError, is_private, next_url};
use self::tls::Tls;
use crate::asset_url::Redacted;
use crate::cancel::CancelToken;

pub(crate) use self::body::{Body, Framing};
pub(crate) use self::credentials::Credentials;
pub(crate) use self::error::HttpError;
pub(crate) use self::headers::Headers;
pub(crate) use self::kept::Kept;
pub(crate) use self::proxy::Proxies;

/// How a [`Client`] reaches servers.
#[derive(Debug, Clone)]
pub(crate) struct ClientConfig {
    /// How long a connection may be silent, and how long a TLS handshake or the head of a
    /// response may take as a whole. No cap on a transfer.
    pub(crate) stall: Duration,
    /// How long one address of a server may take to answer.
    pub(crate) connect: Duration,
    /// A PEM file with certificates that are trusted beside the system's.
    pub(crate) extra_ca_file: Option<PathBuf>,
    /// The proxies to use.
    pub(crate) proxies: Proxies,
    /// The passwords and tokens to use.
    pub(crate) credentials: Credentials,
}

/// Asks servers for files. Threads share one by reference.
#[derive(Debug)]
pub(crate) struct Client {
    connector: Connector,
    proxies: Proxies,
    credentials: Credentials,
}

/// The answer to a request, whatever its status, but for redirects.
pub(crate) struct Response {
    /// Where it came from, after redirects.
    pub(crate) url: Url,
    pub(crate) status: u16,
    pub(crate) headers: Headers,
    /// The rest of the connection.
    pub(crate) body: Body,
}

/// Direct connections, with no other certificates than the system's and no credentials.
impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(30),
            connect: Duration::from_secs(15),
            extra_ca_file: None,
            proxies: Proxies::default(),
            credentials: Credentials::default(),
        }
    }
}

impl ClientConfig {
    /// What the environment says: `SMOLVM_CA_FILE`, [`Proxies::from_env`] and
    /// [`Credentials::from_env`].
    pub(crate) fn from_env() -> Self {
        let extra_ca_file = std::env::var_os("SMOLVM_CA_FILE").filter(|path| !path.is_empty());
        Self {
            extra_ca_file: extra_ca_file.map(PathBuf::from),
            proxies: Proxies::from_env(),
            credentials: Credentials::from_env(),
            ..Self::default()
        }
    }
}

impl Client {
    /// A client that has not connected to anything or read any file yet.
    pub(crate) fn new(config: ClientConfig) -> Self {
        let ClientConfig { stall, connect, extra_ca_file, proxies, credentials } = config;
        let connector = Connector { stall, connect, tls: Tls::new(extra_ca_file) };
        Self { connector, proxies, credentials }
    }

    /// Asks for `url`, following redirects (RFC 9110 section 15.4), and returns as soon as the
    /// head of the answer is there.
    ///
    /// `headers` are sent in addition to the usual ones, to all hops; but `Authorization` and
    /// `Cookie` only to the server of `url`. With `kept`, a connection of an earlier request is used
    /// again where one goes there, and kept for the next one if server and answer allow it. `cancel`
    /// ends this call, and later the reading of the body, within two
    /// [`POLL`](crate::cancel::POLL)s.
    pub(crate) fn get(
        &self,
        url: &Url,
        headers: &[(&str, String)],
        kept: Option<&Kept>,
        cancel: &CancelToken,
    ) -> Result<Response, HttpError> {
        let mut target = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let is_first_server = target.origin() == url.origin();
            let headers: Vec<_> = headers
                .iter()
                .filter(|(name, _)| is_first_server || !is_private(name))
                .cloned()
                .collect();
            let response = self.get_once(&target, &headers, is_first_server, kept, cancel)?;
            match next_url(&target, response.status, &response.headers)? {
                None => return Ok(response),
                Some(next) => target = next,
            }
        }
        Err(RedirectError::TooMany { first: Redacted(url).to_string() }.into())
    }

    fn get_once(
        &self,
        url: &Url,
        headers: &[(&str, String)],
        chosen: bool,
        kept: Option<&Kept>,
        cancel: &CancelToken,
    ) -> Result<Response, HttpError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(HttpError::Unsupported { url: Redacted(url).to_string() });
        }
        let proxy = self.proxies.choose(url)?;
        log::debug!(
            "GET {}{}",
            Redacted(url),
            proxy.map(|p| format!(" via {p}")).unwrap_or_default()
        );
        // Behind the tunnel that an https URL has, the server does not know of the proxy.
        let forwarder = proxy.filter(|_| url.scheme() == "http");
        let authorization = self.credentials.authorization(url, chosen);
        let request = request::get(url, headers, authorization, forwarder, kept.is_some())?;
        let place = kept.map(|kept| kept.place(Way::to(url, proxy)));
        let again = place.as_ref().and_then(kept::Place::take).and_then(|mut stream| {
            // The server may have closed it meanwhile, which shows only now.
            let head = exchange(&mut stream, &request, url).ok()?;
            Some((head, stream))
        });
        let (head, stream) = if let Some(answered) = again {
            answered
        } else {
            let mut stream = self.connector.connect(url, proxy, cancel)?;
            (exchange(&mut stream, &request, url)?, stream)
        };
        log::debug!("{} answers {}", Redacted(url), head.status);
        if let (407, Some(proxy)) = (head.status, forwarder) {
            return Err(proxy.refused(Redacted(url).to_string(), head.status).into());
        }
        let (status, headers, body) = Body::new(head, stream, place, url)?;
        Ok(Response { url: url.clone(), status, headers, body })
    }
}

/// Without the secrets of the URL.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("url", &format_args!("{}", Redacted(&self.url)))
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body", &self.body)
            .finish()
    }
}
