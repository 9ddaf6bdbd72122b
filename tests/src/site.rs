use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use fakes::{Handler, Server, Serving};

use crate::{Reply, TestSetup};

/// A website under TLS on port 443 that answers everything in the same way: what redirects lead to.
pub struct Site(Server);

/// Something that listens where nobody may come. It counts connections and says nothing.
pub struct Tripwire(Server);

impl TestSetup {
    /// A website that answers everything with `reply`.
    pub async fn site(&self, name: &str, reply: Reply) -> Site {
        let address = SocketAddr::new(self.network.address_of(name), 443);
        let handler: Handler = Arc::new(move |_| {
            let reply = reply.clone();
            Box::pin(async { reply })
        });
        let certificate = self.authority.certificate(name);
        Site(Server::start(address, Some(certificate), Serving::Http(handler)).await)
    }

    /// Watches a port of a host.
    pub async fn tripwire(&self, host: &str, port: u16) -> Tripwire {
        let address = SocketAddr::new(self.network.address_of(host), port);
        Tripwire(Server::start(address, None, Serving::Raw(Bytes::new())).await)
    }
}

impl Site {
    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }
}

impl Tripwire {
    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        self.0.connections()
    }
}
