use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use fakes::{Handler, Server, Serving};

use crate::{Reply, TestSetup};

/// Website with TLS on port 443 that sends the same reply to every request, as a target of redirects.
pub struct Site(Server);

/// Listener at an address that must not be contacted. It counts connections and sends nothing.
pub struct Tripwire(Server);

impl TestSetup {
    /// Starts a website that sends `reply` to every request.
    pub async fn site(&self, name: &str, reply: Reply) -> Site {
        let address = SocketAddr::new(self.network.address_of(name), 443);
        let handler: Handler = Arc::new(move |_| {
            let reply = reply.clone();
            Box::pin(async { reply })
        });
        let certificate = self.authority.certificate(name);
        Site(Server::start(address, Some(certificate), Serving::Http(handler)).await)
    }

    /// Listens at a port of a host.
    pub async fn tripwire(&self, host: &str, port: u16) -> Tripwire {
        let address = SocketAddr::new(self.network.address_of(host), port);
        Tripwire(Server::start(address, None, Serving::Raw(Bytes::new())).await)
    }
}

impl Site {
    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }
}

impl Tripwire {
    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }
}
