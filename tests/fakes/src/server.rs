use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::{Certificate, Reply};

/// A request as a fake got it, whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`, …
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What follows the question mark.
    pub query: Option<String>,
    /// All of them.
    pub headers: HeaderMap,
    /// The body, empty if there was none.
    pub body: Bytes,
    /// The name that the TLS handshake asked for.
    pub tls_name: Option<String>,
}

impl Request {
    /// A header's text, empty if it isn't there.
    pub fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// An HTTP/1.1 server that ends, with its open connections, when it is dropped.
pub struct Server {
    accepting: JoinHandle<()>,
    connections: Arc<AtomicUsize>,
}

/// Answers a request.
pub type Handler = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// What happens on a connection.
#[derive(Clone)]
pub enum Serving {
    /// HTTP as it should be.
    Http(Handler),
    /// These bytes after the head of the first request, whatever they are, and the end of the connection.
    Raw(Bytes),
}

/// Is shown every request, with the status of its answer.
pub type Observer = fn(&Request, u16);

impl Server {
    /// Shows all requests to all fakes of this process to the observer. The first one stays.
    pub fn observe(observer: Observer) {
        let _ = OBSERVER.set(observer);
    }

    /// Listens at `address`, under TLS if there is a certificate.
    pub async fn start(address: SocketAddr, certificate: Option<Certificate>, serving: Serving) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("a fake can't listen at {address}: {error}"));
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let accepting = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                open.spawn(connection(stream, certificate.clone(), serving.clone()));
            }
        });
        Self { accepting, connections }
    }

    /// Ends, and gives the address free.
    pub async fn end(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// How many connections there have been, whatever came over them.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(stream: TcpStream, certificate: Option<Certificate>, serving: Serving) {
    let Some(Certificate(config)) = certificate else {
        return serve(stream, None, serving).await;
    };
    // A client that doesn't trust the certificate leaves here.
    if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        serve(stream, name, serving).await;
    }
}

async fn serve<S>(mut stream: S, tls_name: Option<String>, serving: Serving)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match serving {
        Serving::Http(handler) => {
            let service = service_fn(move |request| {
                let answer = answer(request, tls_name.clone(), handler.clone());
                async { Ok::<_, Infallible>(answer.await.into_response().await) }
            });
            // Ends with an error when the client goes away, which is the client's business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        }
        Serving::Raw(bytes) => {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
    }
}

async fn answer(request: hyper::Request<Incoming>, tls_name: Option<String>, handler: Handler) -> Reply {
    let (head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return Reply::new(400, "text/plain", error.to_string()),
    };
    let request = Request {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(str::to_owned),
        headers: head.headers,
        body,
        tls_name,
    };
    let Some(observe) = OBSERVER.get() else { return handler(request).await };
    let reply = handler(request.clone()).await;
    observe(&request, reply.status());
    reply
}

static OBSERVER: OnceLock<Observer> = OnceLock::new();
