//! A forward proxy for `http_proxy` tests: absolute-form `GET`, `CONNECT`, passwords, a stale cache.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::headers::{Head, Headers};
use crate::ledger::{Entry, Ledger, Request};
use crate::listener::{Connections, Listener};
use crate::socket::Socket;

/// A proxy on a free port of 127.0.0.1 that ends, with all its connections, when dropped.
///
/// It answers one request per connection (RFC 9112, section 3.2.2) or tunnels it (RFC 9110,
/// section 9.3.6).
#[derive(Debug)]
pub struct Proxy {
    ledger: Arc<Ledger>,
    listener: Listener,
}

/// How to start a [`Proxy`].
#[derive(Clone, Debug, Default)]
pub struct ProxyBuilder {
    authorization: Option<String>,
    upstream: Option<SocketAddr>,
    headers: Headers,
    stale: Option<Arc<[u8]>>,
}

impl Proxy {
    /// Starts a proxy that asks for nothing and adds nothing.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// To start a proxy that does more.
    pub fn builder() -> ProxyBuilder {
        ProxyBuilder::default()
    }

    /// `http://127.0.0.1:PORT`, the value for `http_proxy`.
    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// The same with these credentials in it, which must not need percent-encoding.
    pub fn url_with_credentials(&self, user: &str, password: &str) -> String {
        format!("http://{user}:{password}@{}", self.host())
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.listener.address().to_string()
    }

    /// What it was asked, in order: [`Request::target`] is a URL, or `host:port` for `CONNECT`,
    /// and [`Request::body_bytes`] what went back to the client.
    pub fn requests(&self) -> Vec<Request> {
        self.ledger.requests()
    }
}

impl ProxyBuilder {
    /// Answers 407 to requests without these Basic credentials (RFC 7617).
    #[must_use]
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        let encoded = BASE64.encode(format!("{user}:{password}"));
        self.authorization = Some(format!("Basic {encoded}"));
        self
    }

    /// Connects to this address whatever host it is asked for: names need not exist.
    #[must_use]
    pub fn upstream(mut self, address: SocketAddr) -> Self {
        self.upstream = Some(address);
        self
    }

    /// Adds a header field, such as `Via` or `Age`, to every answer that is not tunnelled.
    #[must_use]
    pub fn response_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(name, value);
        self
    }

    /// Answers every `GET` from a cache that holds these bytes, unless the request has
    /// `Cache-Control: no-cache`.
    #[must_use]
    pub fn stale_body(mut self, bytes: impl Into<Arc<[u8]>>) -> Self {
        self.stale = Some(bytes.into());
        self
    }

    /// Starts the proxy.
    pub fn start(self) -> Proxy {
        let ledger = Arc::new(Ledger::default());
        let listener = Listener::start("proxy", {
            let ledger = Arc::clone(&ledger);
            move |client, connections| {
                // A client that goes away in the middle is no failure of the proxy.
                let _ = self.serve(client, connections, &ledger);
            }
        });
        Proxy { ledger, listener }
    }

    fn serve(
        &self,
        mut client: Socket,
        connections: &Connections,
        ledger: &Ledger,
    ) -> io::Result<()> {
        let Some(head) = Head::read(&mut client)? else {
            return Ok(());
        };
        let entry = ledger.open(&head, false);
        if !self.admits(&head) {
            let challenge = "Proxy-Authenticate: Basic realm=\"test\"\r\n";
            return refuse(&mut client, &entry, 407, challenge);
        }
        let target = head.word(1);
        let tunnels = head.word(0) == "CONNECT";
        let Some((authority, path)) = split_target(target, tunnels) else {
            return refuse(&mut client, &entry, 400, "");
        };
        if let (Some(stale), false) = (&self.stale, tunnels || asks_for_fresh(&head)) {
            return self.answer_from_cache(&mut client, &entry, stale);
        }
        let Ok(upstream) = self.connect(authority) else {
            return refuse(&mut client, &entry, 502, "");
        };
        let upstream = Socket::new(upstream);
        connections.adopt(&upstream);
        if tunnels {
            tunnel(client, upstream, &entry)
        } else {
            self.forward(&head, path, &mut client, upstream, &entry)
        }
    }

    fn admits(&self, head: &Head) -> bool {
        let given = head.headers.get("proxy-authorization");
        self.authorization.is_none() || self.authorization.as_deref() == given
    }

    fn connect(&self, authority: &str) -> io::Result<TcpStream> {
        match self.upstream {
            Some(address) => TcpStream::connect(address),
            None if authority.contains(':') => TcpStream::connect(authority),
            None => TcpStream::connect((authority, 80)),
        }
    }

    fn answer_from_cache(&self, client: &mut Socket, entry: &Entry, body: &[u8]) -> io::Result<()> {
        entry.answered(200);
        let fields = self.headers.to_wire();
        let length = body.len();
        write!(
            client,
            "HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        relay(&mut &*body, client, entry)
    }

    /// Passes the request on and the answer back; its end is the end of both connections.
    fn forward(
        &self,
        head: &Head,
        path: &str,
        client: &mut Socket,
        mut upstream: Socket,
        entry: &Entry,
    ) -> io::Result<()> {
        let mut asked = head.headers.clone();
        for own in ["Proxy-Authorization", "Proxy-Connection", "Connection"] {
            asked.remove(own);
        }
        asked.push("Connection", "close");
        let (method, fields) = (head.word(0), asked.to_wire());
        write!(upstream, "{method} {path} HTTP/1.1\r\n{fields}\r\n")?;
        let Some(mut answer) = Head::read(&mut upstream)? else {
            return refuse(client, entry, 502, "");
        };
        entry.answered(answer.word(1).parse().unwrap_or(0));
        for (name, value) in self.headers.iter() {
            answer.headers.set(name, value);
        }
        answer.headers.set("Connection", "close");
        let (line, fields) = (&answer.start_line, answer.headers.to_wire());
        write!(client, "{line}\r\n{fields}\r\n")?;
        relay(&mut upstream, client, entry)
    }
}

fn refuse(client: &mut Socket, entry: &Entry, status: u16, fields: &str) -> io::Result<()> {
    entry.answered(status);
    write!(
        client,
        "HTTP/1.1 {status} Refused\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// The authority to connect to, and the path to ask there.
fn split_target(target: &str, tunnels: bool) -> Option<(&str, &str)> {
    if tunnels {
        return Some((target, ""));
    }
    let rest = target.strip_prefix("http://")?;
    let at = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    Some((authority, if path.is_empty() { "/" } else { path }))
}

/// RFC 9111, section 5.2.1.4.
fn asks_for_fresh(head: &Head) -> bool {
    head.headers.all("cache-control").any(|value| value.to_ascii_lowercase().contains("no-cache"))
}

fn tunnel(mut client: Socket, mut upstream: Socket, entry: &Entry) -> io::Result<()> {
    entry.answered(200);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from, mut to) = (client.clone(), upstream.clone());
    let outward = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        to.finish_writing();
    });
    let result = relay(&mut upstream, &mut client, entry);
    client.shut_down();
    upstream.shut_down();
    let _ = outward.join();
    result
}

/// Copies to the client and counts.
fn relay(from: &mut impl Read, client: &mut Socket, entry: &Entry) -> io::Result<()> {
    let mut block = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut block)?;
        if count == 0 {
            return Ok(());
        }
        client.write_all(&block[..count])?;
        entry.wrote(count);
    }
}
