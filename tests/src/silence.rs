use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Address without responses, as behind a firewall that drops packets, or of a server that hangs.
pub struct Silence {
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Silence {
    /// Accepts connections, and sends nothing.
    pub async fn after_connecting(address: SocketAddr) -> Self {
        Self { _listener: listen(address, ROOMY), _waiting: Vec::new() }
    }

    /// Accepts no connections: the queue of pending ones is full, and the kernel doesn't respond.
    pub async fn of_packets(address: SocketAddr) -> Self {
        let listener = listen(address, 0);
        let mut waiting = Vec::new();
        while let Ok(connected) = timeout(NO_ANSWER, TcpStream::connect(address)).await {
            waiting.push(connected.expect("a connection to the listener"));
        }
        Self { _listener: listener, _waiting: waiting }
    }
}

fn listen(address: SocketAddr, backlog: u32) -> TcpListener {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.expect("a socket");
    socket.set_reuseaddr(true).expect("an address that was used before");
    socket.bind(address).expect("an address that is free");
    socket.listen(backlog).expect("a listener")
}

const ROOMY: u32 = 64;
/// The kernel tries again after a second.
const NO_ANSWER: Duration = Duration::from_millis(300);
