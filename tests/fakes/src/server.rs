use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, USER_AGENT};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::{Certificate, Reply};

/// Complete request, as a fake has received it.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without the question mark.
    pub query: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// Body, empty if there was none.
    pub body: Bytes,
    /// Name that the TLS handshake has requested.
    pub tls_name: Option<String>,
}

impl Request {
    /// Text of a header, empty if it is missing.
    pub fn header(&self, name: HeaderName) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// HTTP/1.1 server. Dropping it ends it and its open connections.
pub struct Server {
    accepting: JoinHandle<()>,
    connections: Arc<AtomicUsize>,
    cutting: Arc<Cutting>,
}

/// Whether connections are closed as they are used again, and how many were.
#[derive(Default)]
struct Cutting {
    on: AtomicBool,
    cut: AtomicUsize,
}

/// Handler of requests.
pub type Handler = Arc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Reply> + Send>> + Send + Sync>;

/// Behaviour of a connection.
#[derive(Clone)]
pub enum Serving {
    /// Correct HTTP, for the service and the doctor: a request without their `User-Agent` is refused, as many sites
    /// refuse one without any.
    Http(Handler),
    /// Correct HTTP for any client.
    Public(Handler),
    /// These bytes after the head of the first request, then the end of the connection.
    Raw(Bytes),
}

/// Observer of every request, with the status of its response.
pub type Observer = fn(&Request, u16);

impl Server {
    /// Passes all requests to all fakes of this process to the observer. The first observer stays.
    pub fn observe(observer: Observer) {
        let _ = OBSERVER.set(observer);
    }

    /// Listens at `address`, with TLS if there is a certificate.
    pub async fn start(address: SocketAddr, certificate: Option<Certificate>, serving: Serving) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("a fake can't listen at {address}: {error}"));
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        let cutting = Arc::<Cutting>::default();
        let cuts = cutting.clone();
        let accepting = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                open.spawn(connection(stream, certificate.clone(), serving.clone(), cuts.clone()));
            }
        });
        Self { accepting, connections, cutting }
    }

    /// Ends the server and frees its address.
    pub async fn end(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// From now on closes an idle connection just as it is used again: the request gets no answer, and isn't noted.
    pub fn cut_idle_connections(&self) {
        self.cutting.on.store(true, Ordering::SeqCst);
    }

    /// Number of connections that were closed so.
    pub fn cut(&self) -> usize {
        self.cutting.cut.load(Ordering::SeqCst)
    }

    /// Number of connections, with or without requests.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn connection(stream: TcpStream, certificate: Option<Certificate>, serving: Serving, cutting: Arc<Cutting>) {
    let Some(Certificate(config)) = certificate else {
        return serve(stream, None, serving, &cutting).await;
    };
    // A client that doesn't trust the certificate leaves here.
    if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
        let name = stream.get_ref().1.server_name().map(str::to_owned);
        serve(stream, name, serving, &cutting).await;
    }
}

async fn serve<S>(mut stream: S, tls_name: Option<String>, serving: Serving, cutting: &Cutting)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match serving {
        Serving::Http(_) | Serving::Public(_) => {
            let used = AtomicBool::new(false);
            let service = service_fn(|request| {
                let is_cut = used.swap(true, Ordering::SeqCst) && cutting.on.load(Ordering::SeqCst);
                let answer = answer(request, tls_name.clone(), serving.clone());
                async move {
                    if is_cut {
                        cutting.cut.fetch_add(1, Ordering::SeqCst);
                        return Err(io::Error::from(io::ErrorKind::ConnectionReset));
                    }
                    Ok(answer.await.into_response().await)
                }
            });
            // Ends with an error when the client disconnects, which is no failure of the fake.
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

async fn answer(request: hyper::Request<Incoming>, tls_name: Option<String>, serving: Serving) -> Reply {
    let handler = match serving {
        Serving::Http(handler) if is_ours(request.headers()) => handler,
        Serving::Public(handler) => handler,
        Serving::Http(_) | Serving::Raw(_) => return Reply::html(403),
    };
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

/// Whether the `User-Agent` is that of the service, with a version.
fn is_ours(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    agent.strip_prefix("matrixrtc-edge/").is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
}

static OBSERVER: OnceLock<Observer> = OnceLock::new();
