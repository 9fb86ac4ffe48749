//! TLS with the certificates of the system and those the user adds.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConnection, RootCertStore, StreamOwned};
use url::{Host, Url};

use super::error::HttpError;
use super::stream::Stream;

/// Makes connections secure. Certificates are read when the first one is.
#[derive(Debug)]
pub(super) struct Tls {
    extra_ca_file: Option<PathBuf>,
    config: Mutex<Option<Arc<rustls::ClientConfig>>>,
}

/// Why a connection cannot be made secure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("the CA file {} cannot be read", path.display())]
    ReadCaFile { path: PathBuf, source: io::Error },
    #[error("the CA file {} is damaged", path.display())]
    CaFile { path: PathBuf, source: pem::Error },
    #[error(
        "the CA file {} has no certificate in it; it has to be a PEM file with BEGIN CERTIFICATE \
         lines",
        path.display()
    )]
    EmptyCaFile { path: PathBuf },
    #[error("the CA file {} has a certificate that cannot be used", path.display())]
    BadCa { path: PathBuf, source: rustls::Error },
    #[error(
        "the system has no CA certificates, without which no server can be trusted; install them \
         (apt install ca-certificates) or name a PEM file in SMOLVM_CA_FILE{}",
        Details(.reasons)
    )]
    NoRoots { reasons: Vec<String> },
    #[error("the certificate of {host} is refused; {}", remedy(.source))]
    Certificate { host: String, source: rustls::Error },
    #[error("no secure connection to {host}; does it speak https on this port?")]
    Handshake { host: String, source: rustls::Error },
}

impl TlsError {
    /// Whether the fault is in a file of this machine.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::ReadCaFile { .. }
            | Self::CaFile { .. }
            | Self::EmptyCaFile { .. }
            | Self::BadCa { .. }
            | Self::NoRoots { .. } => true,
            Self::Certificate { .. } | Self::Handshake { .. } => false,
        }
    }
}

impl Tls {
    /// Trusts the system's certificates and those in a PEM file; reads neither yet.
    pub(super) fn new(extra_ca_file: Option<PathBuf>) -> Self {
        Self { extra_ca_file, config: Mutex::default() }
    }

    /// Puts a layer of TLS around `stream` and checks that it ends at `host`.
    ///
    /// `url` is what is asked for, for messages.
    pub(super) fn secure(
        &self,
        mut stream: Stream,
        host: &Host<&str>,
        url: &Url,
    ) -> Result<Stream, HttpError> {
        let refused = |error| TlsError::from_rustls(host, error);
        let name = match *host {
            Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(address)),
            Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(address)),
            Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
                .map_err(|error| refused(rustls::Error::General(error.to_string())))?,
        };
        let mut connection = ClientConnection::new(self.config()?, name).map_err(refused)?;
        stream.wire().begin_step();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream).map_err(|error| from_io(host, url, error))?;
        }
        stream.wire().end_step();
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    /// The configuration that all connections share. A failure is not kept: the next connection
    /// of a long-lived process finds what was put right meanwhile.
    fn config(&self) -> Result<Arc<rustls::ClientConfig>, TlsError> {
        let mut shared = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*shared {
            return Ok(config.clone());
        }
        let roots = self.roots()?;
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|source| TlsError::Handshake { host: "any host".to_owned(), source })?
                .with_root_certificates(roots)
                .with_no_client_auth();
        Ok(shared.insert(Arc::new(config)).clone())
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        // The first, since what the user names and gets wrong is always to be heard of.
        if let Some(path) = &self.extra_ca_file {
            add_file(&mut roots, path)?;
        }
        let system = rustls_native_certs::load_native_certs();
        let reasons: Vec<String> = system.errors.iter().map(ToString::to_string).collect();
        for reason in &reasons {
            log::debug!("a CA certificate of the system is skipped: {reason}");
        }
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() { Err(TlsError::NoRoots { reasons }) } else { Ok(roots) }
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let text = fs_err::read(path)
        .map_err(|source| TlsError::ReadCaFile { path: path.to_owned(), source })?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate =
            certificate.map_err(|source| TlsError::CaFile { path: path.to_owned(), source })?;
        roots
            .add(certificate)
            .map_err(|source| TlsError::BadCa { path: path.to_owned(), source })?;
    }
    if roots.len() == before {
        return Err(TlsError::EmptyCaFile { path: path.to_owned() });
    }
    Ok(())
}

/// What an I/O error of a connection in TLS means: one of TLS, or one of the connection.
pub(super) fn from_io(host: &Host<&str>, url: &Url, error: io::Error) -> HttpError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => TlsError::from_rustls(host, error).into(),
        Err(error) => HttpError::from_io(url, error),
    }
}

impl TlsError {
    fn from_rustls(host: &Host<&str>, error: rustls::Error) -> Self {
        let host = host.to_string();
        match error {
            source @ rustls::Error::InvalidCertificate(_) => Self::Certificate { host, source },
            source => Self::Handshake { host, source },
        }
    }
}

/// What to do about a certificate.
fn remedy(error: &rustls::Error) -> &'static str {
    let rustls::Error::InvalidCertificate(reason) = error else {
        return "";
    };
    match reason {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => {
            "check the clock of this machine (SMOLVM_CA_FILE does not help against a wrong date)"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for other names: check the URL (SMOLVM_CA_FILE does not help against a wrong \
             name)"
        }
        _ => {
            "if the server, or a proxy on the way, has a CA of its own, put that CA's certificate \
             into a PEM file and name it in SMOLVM_CA_FILE"
        }
    }
}

struct Details<'a>(&'a [String]);

impl std::fmt::Display for Details<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|reason| write!(f, "; {reason}"))
    }
}
