use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

/// Client of a server at an address, under a name, with a new connection for each request.
pub struct Client {
    address: SocketAddr,
    name: String,
    authority: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    /// Creates a client without TLS.
    pub fn new(address: SocketAddr, name: &str) -> Self {
        Self { address, name: name.to_owned(), authority: None }
    }

    /// Creates a client with TLS for this name and the authority in this PEM file, which may be written later.
    pub fn with_tls(address: SocketAddr, name: &str, authority: &Path) -> Self {
        Self { authority: Some(authority.to_owned()), ..Self::new(address, name) }
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = Request::post(path).header(CONTENT_TYPE, "application/json");
        self.send(request.body(Full::new(body.to_string().into())).expect("a request")).await
    }

    /// Sends a request with another method, and no body.
    pub async fn request(&self, method: Method, path: &str) -> Answer {
        self.send(Request::builder().method(method).uri(path).body(Full::default()).expect("a request")).await
    }

    /// POSTs a webhook.
    pub async fn webhook(&self, path: &str, webhook: &Webhook) -> Answer {
        self.send(webhook.request_to(path, Some(&webhook.authorization()))).await
    }

    /// Whether there is a response, with any status.
    pub async fn is_answered(&self) -> bool {
        let request = Request::get("/").body(Full::default()).expect("a request");
        self.try_send(request).await.is_ok()
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_send(request).await.unwrap_or_else(|error| panic!("no answer to {what}: {error}"))
    }

    async fn try_send(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        request.headers_mut().insert(HOST, self.name.parse()?);
        let exchange = async {
            let stream = TcpStream::connect(self.address).await?;
            match &self.authority {
                Some(authority) => {
                    let name = ServerName::try_from(self.name.clone())?;
                    exchange(tls(authority)?.connect(name, stream).await?, request).await
                }
                None => exchange(stream, request).await,
            }
        };
        timeout(PATIENCE, exchange).await?
    }
}

fn tls(authority: &Path) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender.
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
}

const PATIENCE: Duration = Duration::from_secs(60);
