use std::net::SocketAddr;

use crate::{
    CertificateAuthority, DelayedEvents, Deployment, Homeserver, HomeserverPlan, MeddlingProxy, Network, OwnHomeserver,
    Resolver, Service, Sfu, Strictness,
};

/// A network of its own with an SFU, a resolver and a certificate authority, for homeservers and the worker to live in.
///
/// When it is dropped, the test fails if a fake was asked what it must not be.
pub struct TestSetup {
    /// Names and addresses.
    pub network: Network,
    /// Whom the worker trusts.
    pub authority: CertificateAuthority,
    /// The SFU that deployments use unless they are told otherwise.
    pub sfu: Sfu,
    /// The resolver that deployments use.
    pub resolver: Resolver,
    strictness: Strictness,
}

impl TestSetup {
    /// Moves the calling thread into a new network and starts the fakes that every deployment needs.
    pub async fn new() -> Self {
        let network = Network::enter();
        let strictness = Strictness::default();
        Self {
            network,
            authority: CertificateAuthority::new(),
            sfu: Sfu::start(strictness.clone()).await,
            resolver: Resolver::start(strictness.clone()).await,
            strictness,
        }
    }

    /// A homeserver to be.
    pub fn homeserver(&self, server_name: &str) -> HomeserverPlan<'_> {
        let strictness = self.strictness.clone();
        HomeserverPlan::new(&self.network, &self.authority, strictness, server_name)
    }

    /// A client-server API with delayed events, at `https://{name}`.
    pub async fn delayed_events(&self, name: &str) -> DelayedEvents {
        DelayedEvents::start(&self.network, &self.authority, name, self.strictness.clone(), None).await
    }

    /// A homeserver that has the worker for an application service.
    pub async fn own_homeserver(&self, server_name: &str) -> OwnHomeserver {
        self.own_homeserver_of(self.homeserver(server_name).start().await).await
    }

    /// The same, where well-known and OpenID are there already.
    pub async fn own_homeserver_of(&self, home: Homeserver) -> OwnHomeserver {
        OwnHomeserver::start(&self.network, &self.authority, home, self.strictness.clone()).await
    }

    /// One in the operator's own network: without TLS, at a private address, under a path.
    pub async fn private_delayed_events(&self, address: SocketAddr, path: &str) -> DelayedEvents {
        DelayedEvents::start_without_tls(address, path, self.strictness.clone()).await
    }

    /// Another SFU: under TLS and a path prefix.
    pub async fn sfu_behind_proxy(&self, name: &str, port: u16, prefix: &str) -> Sfu {
        let address = SocketAddr::new(self.network.address_of(name), port);
        let certificate = self.authority.certificate(name);
        Sfu::start_at(address, Some(certificate), prefix, self.strictness.clone()).await
    }

    /// Another SFU, without TLS and prefix.
    pub async fn plain_sfu(&self, name: &str, port: u16) -> Sfu {
        let address = SocketAddr::new(self.network.address_of(name), port);
        Sfu::start_at(address, None, "", self.strictness.clone()).await
    }

    /// TLS and a path prefix before the worker, as `https://{name}{prefix}`.
    pub async fn proxy(&self, name: &str, prefix: &str, service: &Service) -> MeddlingProxy {
        let address = SocketAddr::new(self.network.address_of(name), 443);
        MeddlingProxy::start(address, self.authority.certificate(name), prefix, service.addr()).await
    }

    /// The worker, yet to be configured.
    pub fn deployment(&self) -> Deployment {
        Deployment::new(&self.sfu, &self.resolver, &self.authority)
    }
}

impl Drop for TestSetup {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.strictness.assert_kept();
        }
    }
}
