//! Trusted certificates: those of the public authorities, as in browsers and on the platform, and those of given PEM
//! files.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Set of trusted authorities.
#[derive(Clone, Debug)]
pub struct Trust {
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl Trust {
    /// Trusts the public authorities and the certificates of these PEM files.
    ///
    /// # Errors
    ///
    /// A file can't be read, or holds no certificate.
    pub fn new(files: &[PathBuf]) -> Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for file in files {
            let name = file.display();
            let certificates = CertificateDer::pem_file_iter(file).with_context(|| format!("can't read {name}"))?;
            let mut found = false;
            for certificate in certificates {
                let certificate = certificate.with_context(|| format!("{name} is no PEM file"))?;
                roots.add(certificate).with_context(|| format!("{name} holds no usable certificate"))?;
                found = true;
            }
            if !found {
                bail!("{name} holds no certificate");
            }
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
        Ok(Self { verifier, provider })
    }

    /// Configures TLS for one connection. The second value receives the presented chain during the handshake.
    pub(crate) fn client(&self) -> Result<(ClientConfig, Arc<Presented>), Error> {
        let presented = Arc::new(Presented::default());
        let verifier = Observer { inner: Arc::clone(&self.verifier), presented: Arc::clone(&presented) };
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok((config, presented))
    }
}

/// Chain that a server has presented, trusted or not: it shows why it isn't trusted.
#[derive(Debug, Default)]
pub(crate) struct Presented(Mutex<Option<Chain>>);

/// Properties of a presented chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    /// Whether the server's certificate is its own issuer's.
    pub(crate) self_signed: bool,
    /// Whether the server's certificate comes without its issuer's.
    pub(crate) alone: bool,
}

impl Presented {
    pub(crate) fn chain(&self) -> Option<Chain> {
        self.0.lock().ok().and_then(|chain| *chain)
    }
}

/// Verifier that records the chain and leaves all decisions to `inner`.
#[derive(Debug)]
struct Observer {
    inner: Arc<WebPkiServerVerifier>,
    presented: Arc<Presented>,
}

impl ServerCertVerifier for Observer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let (Ok(certificate), Ok(mut presented)) =
            (webpki::EndEntityCert::try_from(end_entity), self.presented.0.lock())
        {
            let self_signed = certificate.issuer() == certificate.subject();
            *presented = Some(Chain { self_signed, alone: intermediates.is_empty() });
        }
        self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
