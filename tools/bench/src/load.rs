//! The client: connections that are kept open, each with one request under way at a time.

use std::{
    cell::Cell,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures_util::future::{join_all, try_join_all};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// A server, and the request that it gets again and again.
pub struct Load {
    addr: SocketAddr,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
}

/// The measurements of a run.
pub struct Outcome {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of every single request, sorted.
    pub latencies: Vec<Duration>,
}

impl Load {
    /// `body` is POSTed to `/get_token` at `addr`.
    pub fn new(addr: SocketAddr, body: impl Into<Bytes>) -> Self {
        Self { addr, path: "/get_token", headers: Vec::new(), body: body.into() }
    }

    /// To this path instead, and with these headers.
    pub fn at(self, path: &'static str, headers: Vec<(&'static str, String)>) -> Self {
        Self { path, headers, ..self }
    }

    /// Sends `requests` requests over `connections` connections.
    ///
    /// Fails when an answer isn't 200, or not all are there after [`PATIENCE`].
    pub async fn run(&self, connections: usize, requests: usize) -> Result<Outcome> {
        let clients = try_join_all((0..connections).map(|_| Client::connect(self.addr))).await?;
        let left = Cell::new(requests);
        let started = Instant::now();
        let clients = join_all(clients.into_iter().map(|client| self.ask_while(client, &left)));
        let outcomes = timeout(PATIENCE, clients).await.context("the requests aren't answered in time")?;
        let elapsed = started.elapsed();
        let mut latencies = outcomes.into_iter().collect::<Result<Vec<_>>>()?.concat();
        latencies.sort_unstable();
        Ok(Outcome { elapsed, latencies })
    }

    /// The answer to a single request.
    pub async fn ask(&self) -> Result<Bytes> {
        Client::connect(self.addr).await?.post(self.path, &self.headers, self.body.clone()).await
    }

    async fn ask_while(&self, mut client: Client, left: &Cell<usize>) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while left.get() > 0 {
            left.set(left.get() - 1);
            let sent = Instant::now();
            client.post(self.path, &self.headers, self.body.clone()).await?;
            latencies.push(sent.elapsed());
        }
        Ok(latencies)
    }
}

/// A connection to the worker.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to the worker at `addr`.
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await.context("can't connect to workerd")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its error is the sender's, too.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// POSTs `body` to `path`, and gives the body of the answer; one that isn't 200 is an error.
    pub async fn post(&mut self, path: &str, headers: &[(&str, String)], body: Bytes) -> Result<Bytes> {
        let mut request = Request::post(path).header(HOST, "edge.example").header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.sender.ready().await.context("the connection is closed")?;
        let response = self.sender.send_request(request.body(Full::new(body))?).await.context("no answer")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the answer breaks off")?.to_bytes();
        if status != 200 {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

const PATIENCE: Duration = Duration::from_secs(120);
