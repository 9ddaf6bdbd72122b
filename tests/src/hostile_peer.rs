//! Server that violates HTTP on purpose, byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{Certificate, TestSetup};

/// TLS server that responds to the first request of each connection with a script, and counts the bytes that it could
/// send.
pub struct HostilePeer {
    accepting: JoinHandle<()>,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
}

/// Step of the script, which begins once the head of a request has been read.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends these bytes.
    Send(Bytes),
    /// Sends these bytes this many times, or until the client closes the connection.
    Repeat(Bytes, usize),
    /// Sends these bytes one by one, with this pause between two.
    Drip(Bytes, Duration),
    /// Sends nothing, and keeps the connection open.
    Silence,
    /// Ends the connection with a TCP reset.
    Reset,
}

impl Step {
    /// Sends text.
    pub fn text(text: &str) -> Self {
        Self::Send(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl TestSetup {
    /// Starts a hostile peer at a host and port.
    pub async fn hostile_peer(&self, host: &str, port: u16, script: Vec<Step>) -> HostilePeer {
        let address = SocketAddr::new(self.network.address_of(host), port);
        HostilePeer::start(address, self.authority.certificate(host), script).await
    }
}

impl HostilePeer {
    async fn start(address: SocketAddr, certificate: Certificate, script: Vec<Step>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an address that was used before");
        socket.bind(address).unwrap_or_else(|error| panic!("a hostile peer can't listen at {address}: {error}"));
        let listener = socket.listen(1024).expect("a listener");
        let (connections, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let accepting =
            tokio::spawn(accept(listener, certificate, script, Arc::clone(&connections), Arc::clone(&sent)));
        Self { accepting, connections, sent }
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Number of bytes that the client's kernel has accepted so far, without TLS.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Drop for HostilePeer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    Certificate(config): Certificate,
    script: Vec<Step>,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicU64>,
) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let (config, script, sent) = (Arc::clone(&config), script.clone(), Arc::clone(&sent));
        open.spawn(async move {
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                play(stream, &script, &sent).await;
            }
        });
        while open.try_join_next().is_some() {}
    }
}

/// Performs the script until the client disconnects.
async fn play(mut stream: tokio_rustls::server::TlsStream<TcpStream>, script: &[Step], sent: &AtomicU64) {
    if !read_head(&mut stream).await {
        return;
    }
    for step in script {
        let went_well = match step {
            Step::Send(bytes) => send(&mut stream, bytes, sent).await,
            Step::Repeat(bytes, times) => {
                let mut times = *times;
                while times > 0 && send(&mut stream, bytes, sent).await {
                    times -= 1;
                }
                times == 0
            }
            Step::Drip(bytes, pause) => {
                let mut went_well = true;
                for at in 0..bytes.len() {
                    went_well = went_well && send(&mut stream, &bytes.slice(at..=at), sent).await;
                    tokio::time::sleep(*pause).await;
                }
                went_well
            }
            Step::Silence => {
                // Ends with the client.
                let _ = stream.read(&mut [0; 1]).await;
                false
            }
            Step::Reset => {
                #[allow(deprecated, reason = "zero seconds never block")]
                let _ = stream.get_ref().0.set_linger(Some(Duration::ZERO));
                return;
            }
        };
        if !went_well {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &Bytes, sent: &AtomicU64) -> bool {
    let went_well = stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok();
    if went_well {
        sent.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    }
    went_well
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}
