use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::ResolvesServerCertUsingSni;

/// Certificate authority of one test, which the worker trusts beside the public ones.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

/// Certificate chain of a TLS server, and its key.
#[derive(Clone)]
pub struct Certificate(pub Arc<ServerConfig>);

impl CertificateAuthority {
    /// Creates an authority, with its certificate in a temporary PEM file.
    pub fn new() -> Self {
        Self::named("the authority of a test")
    }

    /// Creates another authority, of this name.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate of the authority");
        let directory = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(directory.path().join(PEM), certificate.pem()).expect("the PEM file");
        Self { issuer: Issuer::new(params, key), directory }
    }

    /// PEM file to trust.
    pub fn pem(&self) -> PathBuf {
        self.directory.path().join(Path::new(PEM))
    }

    /// Issues a valid certificate for a DNS name or an IP address.
    pub fn certificate(&self, name: &str) -> Certificate {
        self.issue(Self::params(name))
    }

    /// Issues one that was valid until the end of 2020.
    pub fn expired_certificate(&self, name: &str) -> Certificate {
        let mut params = Self::params(name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 12, 31);
        self.issue(params)
    }

    /// Issues one that isn't valid before 2090.
    pub fn future_certificate(&self, name: &str) -> Certificate {
        let mut params = Self::params(name);
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2090, 12, 31);
        self.issue(params)
    }

    /// Writes a valid certificate for a DNS name and its key to PEM files, for a server that isn't a fake.
    pub fn certificate_files(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let certificate = Self::params(name).signed_by(&key, &self.issuer).expect("a certificate");
        let files = ["crt", "key"].map(|kind| self.directory.path().join(format!("{name}.{kind}")));
        for (file, pem) in files.iter().zip([certificate.pem(), key.serialize_pem()]) {
            std::fs::write(file, pem).expect("a PEM file");
        }
        let [certificate, key] = files;
        (certificate, key)
    }

    /// Creates a certificate that is signed with its own key, not by the authority.
    pub fn self_signed_certificate(name: &str) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let certificate = Self::params(name).self_signed(&key).expect("a certificate");
        Self::shown(&certificate, &key)
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name that fits into a certificate");
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn issue(&self, params: CertificateParams) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Self::shown(&certificate, &key)
    }

    fn shown(certificate: &rcgen::Certificate, key: &KeyPair) -> Certificate {
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key that rustls takes");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the protocol versions of the provider")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate that fits its key");
        Certificate(Arc::new(config))
    }
}

impl Certificate {
    /// TLS configuration without a certificate for any name.
    pub fn none() -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the protocol versions of the provider")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        Self(Arc::new(config))
    }
}

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

const PEM: &str = "authority.pem";
