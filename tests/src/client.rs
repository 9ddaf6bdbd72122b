use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::{Answer, Webhook};

/// A client of a server at an address, under a name: a new connection for each request.
pub struct Client {
    address: SocketAddr,
    name: String,
    tls: Option<TlsConnector>,
}

impl Client {
    /// Without TLS.
    pub fn new(address: SocketAddr, name: &str) -> Self {
        Self { address, name: name.to_owned(), tls: None }
    }

    /// With TLS, for that name, and this authority.
    pub fn with_tls(address: SocketAddr, name: &str, authority: &Path) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).expect("a certificate in PEM")).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the protocol versions of the provider")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: Some(TlsConnector::from(Arc::new(config))), ..Self::new(address, name) }
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        self.send(request.body(Full::new(body.to_string().into())).expect("a request")).await
    }

    /// A request with another method, and no body.
    pub async fn request(&self, method: Method, path: &str) -> Answer {
        self.send(Request::builder().method(method).uri(path).body(Full::default()).expect("a request")).await
    }

    /// POSTs a webhook.
    pub async fn webhook(&self, path: &str, webhook: &Webhook) -> Answer {
        self.send(webhook.request_to(path, Some(&webhook.authorization()))).await
    }

    /// Whether anybody listens.
    pub async fn is_accepted(&self) -> bool {
        TcpStream::connect(self.address).await.is_ok()
    }

    async fn send(&self, mut request: Request<Full<Bytes>>) -> Answer {
        request.headers_mut().insert(HOST, self.name.parse().expect("a name"));
        let what = format!("{} {}", request.method(), request.uri());
        let exchange = async {
            let stream = TcpStream::connect(self.address).await.expect("a connection");
            match &self.tls {
                Some(tls) => {
                    let name = ServerName::try_from(self.name.clone()).expect("a name");
                    exchange(tls.connect(name, stream).await.expect("TLS"), request).await
                }
                None => exchange(stream, request).await,
            }
        };
        timeout(PATIENCE, exchange).await.unwrap_or_else(|_| panic!("no answer to {what} in time"))
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Answer {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let connection = tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.expect("an answer").into_parts();
    let body = body.collect().await.expect("a whole answer").to_bytes();
    connection.abort();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

const PATIENCE: Duration = Duration::from_secs(60);
