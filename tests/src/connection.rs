use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Service;

/// A TCP connection to the worker, for clients that don't speak HTTP as they should, or leave in the middle of it.
pub struct Connection(TcpStream);

impl Service {
    /// A new connection.
    pub async fn connect(&self) -> Connection {
        Connection(TcpStream::connect(self.addr()).await.expect("the worker accepts connections"))
    }
}

impl Connection {
    /// Sends bytes. That the worker has heard enough before their end is no failure.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    /// Sends nothing more.
    pub async fn finish(&mut self) {
        let _ = self.0.shutdown().await;
    }

    /// Leaves, as a client that dies: the worker's host is told at once (RST).
    pub fn abort(self) {
        self.0.set_zero_linger().expect("an open socket");
    }

    /// What arrives until it is `complete`, or until the worker closes the connection.
    pub async fn receive(&mut self, complete: impl Fn(&[u8]) -> bool) -> String {
        let mut received = Vec::new();
        let receiving = async {
            let mut buffer = [0; 4096];
            while !complete(&received) {
                match self.0.read(&mut buffer).await {
                    Ok(read @ 1..) => received.extend_from_slice(&buffer[..read]),
                    Ok(0) | Err(_) => break,
                }
            }
        };
        let in_time = timeout(PATIENCE, receiving).await.is_ok();
        let received = String::from_utf8_lossy(&received).into_owned();
        assert!(in_time, "an answer isn't complete: {received:?}");
        received
    }

    /// All that arrives until the worker closes the connection.
    pub async fn receive_to_end(&mut self) -> String {
        self.receive(|_| false).await
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
