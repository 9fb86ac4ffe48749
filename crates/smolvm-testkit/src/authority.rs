//! A certificate authority of the test's own, and a server certificate for loopback signed by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

/// A self-signed authority that no system trusts; its files live as long as the value.
#[derive(Debug)]
pub struct Authority {
    files: TempDir,
    server: CertificateDer<'static>,
    key: KeyPair,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Makes the authority, and a certificate for `localhost` and `127.0.0.1` signed by it.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        params.distinguished_name.push(DnType::CommonName, "SmolVM test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key"))
            .expect("the parameters are valid");
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])
            .and_then(|mut params| {
                params.use_authority_key_identifier_extension = true;
                params.signed_by(&key, &issuer)
            })
            .expect("the names are valid");

        let files = tempfile::tempdir().expect("a temporary directory");
        for (name, pem) in [
            ("ca.pem", issuer.pem()),
            ("server.pem", server.pem()),
            ("server.key", key.serialize_pem()),
        ] {
            fs_err::write(files.path().join(name), pem).expect("a new file");
        }
        Self { files, server: server.der().clone(), key }
    }

    /// The PEM file with the authority's certificate: what a client is told to trust.
    pub fn ca_pem_path(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// The PEM file with the server's certificate.
    pub fn server_pem_path(&self) -> PathBuf {
        self.path("server.pem")
    }

    /// The PEM file with the key of the server's certificate.
    pub fn server_key_path(&self) -> PathBuf {
        self.path("server.key")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.files.path()).join(name)
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![self.server.clone()], key)
            .expect("the key is that of the certificate");
        Arc::new(config)
    }
}
