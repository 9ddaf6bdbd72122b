//! The client: connections that are kept open, each with one request under way.

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

/// A server, and what it is asked again and again.
pub struct Load {
    addr: SocketAddr,
    body: Bytes,
}

/// How it went.
pub struct Outcome {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of every single request, sorted.
    pub latencies: Vec<Duration>,
}

impl Load {
    /// `body` is POSTed to `/get_token` at `addr`.
    pub fn new(addr: SocketAddr, body: impl Into<Bytes>) -> Self {
        Self { addr, body: body.into() }
    }

    /// Sends `requests` requests over `connections` connections.
    ///
    /// Fails when an answer isn't 200, or not all are there after [`PATIENCE`].
    pub async fn run(&self, connections: usize, requests: usize) -> Result<Outcome> {
        let senders = try_join_all((0..connections).map(|_| self.connect())).await?;
        let left = Cell::new(requests);
        let started = Instant::now();
        let clients = join_all(senders.into_iter().map(|sender| self.client(sender, &left)));
        let outcomes = timeout(PATIENCE, clients).await.context("the requests aren't answered in time")?;
        let elapsed = started.elapsed();
        let mut latencies = outcomes.into_iter().collect::<Result<Vec<_>>>()?.concat();
        latencies.sort_unstable();
        Ok(Outcome { elapsed, latencies })
    }

    /// The answer to a single request.
    pub async fn ask(&self) -> Result<Bytes> {
        let mut sender = self.connect().await?;
        self.exchange(&mut sender).await
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.addr).await.context("can't connect to workerd")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How it ends is seen by whoever sends.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn client(&self, mut sender: SendRequest<Full<Bytes>>, left: &Cell<usize>) -> Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while left.get() > 0 {
            left.set(left.get() - 1);
            let sent = Instant::now();
            self.exchange(&mut sender).await?;
            latencies.push(sent.elapsed());
        }
        Ok(latencies)
    }

    async fn exchange(&self, sender: &mut SendRequest<Full<Bytes>>) -> Result<Bytes> {
        let request = Request::post("/get_token")
            .header(HOST, "edge.example")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(self.body.clone()))?;
        sender.ready().await.context("the connection is closed")?;
        let response = sender.send_request(request).await.context("no answer")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the answer breaks off")?.to_bytes();
        if status != 200 {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }
}

const PATIENCE: Duration = Duration::from_secs(120);
