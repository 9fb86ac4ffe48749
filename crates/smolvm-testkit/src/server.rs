//! An HTTP/1.1 server for one test, right by default and wrong exactly where it is told to be.

mod answer;
mod entity;
mod fault;
mod gate;
mod plan;
mod route;
mod transmission;

pub use fault::Fault;
pub use gate::Gate;
pub use route::Route;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::authority::Authority;
use crate::headers::Head;
use crate::ledger::{Ledger, Request};
use crate::listener::Listener;
use crate::socket::Socket;
use answer::Answer;
use plan::Plan;
use route::Mounted;
use transmission::{Ending, Transmission};

/// A server on a free port of 127.0.0.1 that ends, with all its connections, when dropped.
///
/// Without faults it follows RFC 9110 for what a download needs: one `Range`, `If-Range`,
/// `If-None-Match`, `If-Modified-Since`, and connections that stay open. `HEAD` is refused with
/// 405 unless the route allows it, as some proxies do; a path without a route is a 404.
///
/// ```
/// use smolvm_testkit::{Route, Server};
/// use std::io::{Read, Write};
///
/// let server = Server::start();
/// server.route("/kernel", Route::new(b"bytes".to_vec()));
/// let mut client = std::net::TcpStream::connect(server.host())?;
/// client.write_all(b"GET /kernel HTTP/1.1\r\nConnection: close\r\n\r\n")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.ends_with("\r\n\r\nbytes"));
/// assert_eq!(server.bytes_sent_for("/kernel"), 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Server {
    scheme: &'static str,
    site: Arc<Site>,
    listener: Listener,
}

/// What all connections of one server share.
#[derive(Debug, Default)]
struct Site {
    routes: Mutex<HashMap<String, Arc<Mounted>>>,
    ledger: Ledger,
}

impl Server {
    /// Starts a server that speaks plain HTTP.
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// Starts a server that speaks HTTPS, with a certificate for `localhost` and `127.0.0.1`
    /// signed by `authority`.
    pub fn start_tls(authority: &Authority) -> Self {
        Self::launch(Some(authority.server_config()))
    }

    fn launch(tls: Option<Arc<ServerConfig>>) -> Self {
        let site = Arc::new(Site::default());
        let scheme = if tls.is_some() { "https" } else { "http" };
        let listener = Listener::start("fault-server", {
            let site = Arc::clone(&site);
            move |socket, _| match &tls {
                None => {
                    site.serve(&mut socket.clone(), &socket);
                }
                Some(config) => site.serve_tls(config, &socket),
            }
        });
        Self { scheme, site, listener }
    }

    /// Serves `route` under `path` from the next request on, in the place of what was there.
    ///
    /// The count that [`Route::fault_on`] goes by starts again at 0. A path with a query matches
    /// that query only; one without matches every query.
    pub fn route(&self, path: &str, route: Route) {
        let mounted = Arc::new(Mounted::new(route));
        self.site.routes().insert(path.to_owned(), mounted);
    }

    /// The URL of `path` (with its leading slash) on this server.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.host())
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address().to_string()
    }

    /// The address the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// All requests so far, in the order in which their heads arrived; those that are still being
    /// answered show the bytes written up to now.
    pub fn requests(&self) -> Vec<Request> {
        self.site.ledger.requests()
    }

    /// The requests so far for `path`, whatever their method and query.
    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.path() == path);
        requests
    }

    /// The number of requests so far for `path`, whatever their method and query.
    pub fn hits(&self, path: &str) -> usize {
        self.requests_for(path).len()
    }

    /// The bytes of body written so far for all requests, without heads and chunk framing.
    pub fn bytes_sent(&self) -> u64 {
        sum_of_bodies(&self.requests())
    }

    /// The bytes of body written so far for `path`, without heads and chunk framing.
    pub fn bytes_sent_for(&self, path: &str) -> u64 {
        sum_of_bodies(&self.requests_for(path))
    }

    /// Waits until at least `count` requests for `path` have arrived.
    ///
    /// # Panics
    ///
    /// After a minute: the test hangs for another reason.
    pub fn wait_for_hits(&self, path: &str, count: usize) {
        self.site.ledger.wait_for(path, count);
    }
}

fn sum_of_bodies(requests: &[Request]) -> u64 {
    requests.iter().map(|request| request.body_bytes).sum()
}

impl Site {
    fn routes(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Mounted>>> {
        self.routes.lock().expect("no connection thread panics here")
    }

    /// The route of a target: with its query, else without.
    fn find(&self, target: &str) -> Option<Arc<Mounted>> {
        let routes = self.routes();
        let path = target.split('?').next().unwrap_or(target);
        routes.get(target).or_else(|| routes.get(path)).cloned()
    }

    fn serve_tls(&self, config: &Arc<ServerConfig>, socket: &Socket) {
        let Ok(session) = ServerConnection::new(Arc::clone(config)) else {
            return;
        };
        let mut stream = StreamOwned::new(session, socket.clone());
        if self.serve(&mut stream, socket) != Ending::Reset {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    }

    /// Answers the requests of one connection, one after the other, until either end closes it.
    fn serve(&self, stream: &mut (impl Read + Write), socket: &Socket) -> Ending {
        let mut reuses = false;
        while let Ok(Some(head)) = Head::read(stream) {
            let entry = self.ledger.open(&head, reuses);
            reuses = true;
            let plan = match self.find(head.word(1)) {
                Some(mounted) => mounted.plan(&head),
                None => Plan::from(Answer::not_found()),
            };
            entry.answered(plan.answer.status);
            let closes = asks_to_close(&head);
            let mut transmission = Transmission::new(stream, socket, &entry);
            match transmission.send(plan) {
                Ok(Ending::KeepAlive) if !closes => {}
                Ok(Ending::Reset) => {
                    socket.reset();
                    return Ending::Reset;
                }
                Ok(Ending::KeepAlive | Ending::Close) | Err(_) => break,
            }
        }
        Ending::Close
    }
}

/// RFC 9112, section 9.3: HTTP/1.1 stays open unless told otherwise, HTTP/1.0 does not.
fn asks_to_close(head: &Head) -> bool {
    let asked =
        head.headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    asked || head.word(2) == "HTTP/1.0"
}
