//! A loopback listener with one thread per connection, all of which end when it is dropped.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, JoinHandle};

use crate::socket::Socket;

/// Accepts connections on a free port of 127.0.0.1 until dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    connections: Connections,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

/// The open connections of one listener, so that its end is theirs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    ended: bool,
    sockets: Vec<Weak<TcpStream>>,
}

impl Listener {
    /// Starts to accept; `serve` runs on a thread of its own for each connection, with the
    /// registry to which it adds what connections it opens itself.
    pub(crate) fn start(
        name: &str,
        serve: impl Fn(Socket, &Connections) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a port");
        let address = listener.local_addr().expect("the listener is bound");
        let connections = Connections::default();
        let acceptor = thread::Builder::new()
            .name(name.to_owned())
            .spawn({
                let connections = connections.clone();
                let name = name.to_owned();
                move || accept(&listener, &name, &connections, &Arc::new(serve))
            })
            .expect("a thread can be started");
        Self { address, connections, acceptor: Some(acceptor) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.connections.end();
        // The acceptor sees the end with its next connection.
        let _ = TcpStream::connect(self.address);
        let workers = self.acceptor.take().map(JoinHandle::join);
        // What was accepted between the two.
        self.connections.end();
        for worker in workers.into_iter().flatten().flatten() {
            let _ = worker.join();
        }
    }
}

impl Connections {
    /// Ties a connection to the life of the listener.
    pub(crate) fn adopt(&self, socket: &Socket) {
        let mut open = self.0.lock().expect("no connection thread panics here");
        open.sockets.retain(|socket| socket.strong_count() > 0);
        open.sockets.push(socket.downgrade());
        if open.ended {
            socket.shut_down();
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.lock().expect("no connection thread panics here").ended
    }

    fn end(&self) {
        let mut open = self.0.lock().expect("no connection thread panics here");
        open.ended = true;
        for socket in open.sockets.iter().filter_map(Weak::upgrade) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn accept(
    listener: &TcpListener,
    name: &str,
    connections: &Connections,
    serve: &Arc<impl Fn(Socket, &Connections) + Send + Sync + 'static>,
) -> Vec<JoinHandle<()>> {
    let mut workers: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if connections.has_ended() {
            break;
        }
        let socket = Socket::new(stream);
        connections.adopt(&socket);
        let (serve, connections) = (Arc::clone(serve), connections.clone());
        workers.retain(|worker| !worker.is_finished());
        workers.push(
            thread::Builder::new()
                .name(format!("{name}-connection"))
                .spawn(move || serve(socket, &connections))
                .expect("a thread can be started"),
        );
    }
    workers
}
