use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Service;

/// TCP connection to the worker, for clients that send invalid HTTP, or disconnect in the middle of a request.
pub struct Connection(TcpStream);

impl Service {
    /// Opens a connection.
    pub async fn connect(&self) -> Connection {
        Connection(TcpStream::connect(self.addr()).await.expect("the worker accepts connections"))
    }
}

impl Connection {
    /// Sends bytes. A worker that closes the connection before their end is no failure.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
    }

    /// Closes the sending side.
    pub async fn finish(&mut self) {
        let _ = self.0.shutdown().await;
    }

    /// Ends the connection with a TCP reset (RST), like a client that dies.
    pub fn abort(self) {
        self.0.set_zero_linger().expect("an open socket");
    }

    /// Receives bytes until they are `complete`, or until the worker closes the connection.
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

    /// Receives all bytes until the worker closes the connection.
    pub async fn receive_to_end(&mut self) -> String {
        self.receive(|_| false).await
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
