//! A server that says exactly what a test wants, for what no server of the testkit would say.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConnection, StreamOwned};
use smolvm_testkit::Authority;

/// A server for one connection; `T` is what it has to say about it in the end.
pub(super) struct Peer<T> {
    pub(super) address: SocketAddr,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Peer<T> {
    pub(super) fn start(talk: impl FnOnce(TcpStream) -> T + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || talk(listener.accept().unwrap().0));
        Self { address, thread }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(super) fn join(self) -> T {
        self.thread.join().unwrap()
    }
}

impl Peer<String> {
    /// Answers the first request with these bytes and closes; returns the request.
    pub(super) fn answering(answer: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self::start(move |mut stream| {
            let request = read_request(&mut stream);
            stream.write_all(answer.as_ref()).unwrap();
            request
        })
    }
}

/// Reads up to the empty line at the end of a head.
pub(super) fn read_request(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// The server's end of TLS.
pub(super) fn accept_tls<S: Read + Write>(
    authority: &Authority,
    stream: S,
) -> StreamOwned<ServerConnection, S> {
    let pem = |path| BufReader::new(File::open(path).unwrap());
    let certificates: Vec<_> = CertificateDer::pem_reader_iter(pem(authority.server_pem_path()))
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_reader(pem(authority.server_key_path())).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream)
}
