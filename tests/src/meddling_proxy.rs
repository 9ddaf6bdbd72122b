use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use fakes::{Handler, Server, Serving};

use crate::{Certificate, Reply, Request};

/// Reverse proxy with TLS in front of the worker, which can make every mistake of a proxy.
///
/// It strips its prefix and forwards requests below it; its response to any other request is a 404 of its own.
pub struct MeddlingProxy {
    meddling: Arc<Mutex<Option<Meddling>>>,
    server: Option<Server>,
    handler: Handler,
    address: SocketAddr,
}

/// Function of a request and the worker's reply to it, whose result is sent to the client.
type Meddling = Arc<dyn Fn(&Request, Reply) -> Reply + Send + Sync>;

impl MeddlingProxy {
    pub(crate) async fn start(address: SocketAddr, certificate: Certificate, prefix: &str, worker: SocketAddr) -> Self {
        let meddling: Arc<Mutex<Option<Meddling>>> = Arc::default();
        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let (prefix, known) = (prefix.to_owned(), meddling.clone());
        let handler: Handler = Arc::new(move |request| {
            let (client, prefix, meddling) = (client.clone(), prefix.clone(), known.lock().unwrap().clone());
            Box::pin(async move {
                let reply = match request.path.strip_prefix(&prefix) {
                    Some(path) if path.starts_with('/') => pass_on(&client, worker, path, &request).await,
                    _ => Reply::html(404),
                };
                match meddling {
                    Some(meddle) => meddle(&request, reply),
                    None => reply,
                }
            })
        });
        let server = Server::start(address, Some(certificate), Serving::Public(handler.clone())).await;
        Self { meddling, server: Some(server), handler, address }
    }

    /// Sends the results of `meddle` to clients, in place of the worker's replies.
    pub fn meddle(&self, meddle: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) {
        *self.meddling.lock().unwrap() = Some(Arc::new(meddle));
    }

    /// Replaces the certificate, or switches TLS off.
    pub async fn show(&mut self, certificate: Option<Certificate>) {
        self.go_away().await;
        self.server = Some(Server::start(self.address, certificate, Serving::Public(self.handler.clone())).await);
    }

    /// Sends something other than HTTP, under TLS.
    pub async fn speak(&mut self, certificate: Certificate, greeting: &'static [u8]) {
        self.go_away().await;
        self.server = Some(Server::start(self.address, Some(certificate), Serving::Raw(greeting.into())).await);
    }

    /// Closes the port, and returns its address.
    pub async fn go_away(&mut self) -> SocketAddr {
        if let Some(server) = self.server.take() {
            server.end().await;
        }
        self.address
    }
}

async fn pass_on(
    client: &Client<HttpConnector, Full<Bytes>>,
    worker: SocketAddr,
    path: &str,
    request: &Request,
) -> Reply {
    let mut passed = hyper::Request::builder().method(request.method.as_str()).uri(format!("http://{worker}{path}"));
    for (name, value) in request.headers.iter().filter(|(name, _)| *name != HOST) {
        passed = passed.header(name, value);
    }
    let Ok(answer) = client.request(passed.body(Full::new(request.body.clone())).expect("a request")).await else {
        return Reply::html(502);
    };
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("the worker's whole answer").to_bytes();
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("text/plain");
    let reply = Reply::new(head.status.as_u16(), kind, body);
    let others = head.headers.iter().filter(|(name, _)| name.as_str().starts_with("access-control-"));
    others.fold(reply, |reply, (name, value)| reply.header(name.as_str(), value.to_str().expect("ASCII")))
}
