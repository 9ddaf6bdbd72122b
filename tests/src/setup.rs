use std::net::SocketAddr;

use crate::{
    CertificateAuthority, DelayedEvents, Deployment, Homeserver, HomeserverPlan, MeddlingProxy, Network, OwnHomeserver,
    Resolver, Service, Sfu, Strictness,
};

/// Network of its own with an SFU, a resolver and a certificate authority, to which homeservers and the worker are
/// added.
///
/// When it is dropped, the test fails if a fake has noted a breach.
pub struct TestSetup {
    /// Names and addresses.
    pub network: Network,
    /// Certificate authority that the worker trusts.
    pub authority: CertificateAuthority,
    /// SFU of deployments, by default.
    pub sfu: Sfu,
    /// Resolver of deployments.
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

    /// Creates the builder of a homeserver.
    pub fn homeserver(&self, server_name: &str) -> HomeserverPlan<'_> {
        let strictness = self.strictness.clone();
        HomeserverPlan::new(&self.network, &self.authority, strictness, server_name)
    }

    /// Starts a client-server API with delayed events, at `https://{name}`.
    pub async fn delayed_events(&self, name: &str) -> DelayedEvents {
        DelayedEvents::start(&self.network, &self.authority, name, self.strictness.clone(), None).await
    }

    /// Starts a homeserver whose application service is the worker.
    pub async fn own_homeserver(&self, server_name: &str) -> OwnHomeserver {
        self.own_homeserver_of(self.homeserver(server_name).start().await).await
    }

    /// Completes a homeserver that has well-known and OpenID already to one whose application service is the worker.
    pub async fn own_homeserver_of(&self, home: Homeserver) -> OwnHomeserver {
        OwnHomeserver::start(&self.network, &self.authority, home, self.strictness.clone()).await
    }

    /// Starts a client-server API in the operator's own network: without TLS, at a private address, under a path.
    pub async fn private_delayed_events(&self, address: SocketAddr, path: &str) -> DelayedEvents {
        DelayedEvents::start_without_tls(address, path, self.strictness.clone()).await
    }

    /// Starts another SFU, with TLS and a path prefix.
    pub async fn sfu_behind_proxy(&self, name: &str, port: u16, prefix: &str) -> Sfu {
        let address = SocketAddr::new(self.network.address_of(name), port);
        let certificate = self.authority.certificate(name);
        Sfu::start_at(address, Some(certificate), prefix, self.strictness.clone()).await
    }

    /// Starts another SFU, without TLS and prefix.
    pub async fn plain_sfu(&self, name: &str, port: u16) -> Sfu {
        let address = SocketAddr::new(self.network.address_of(name), port);
        Sfu::start_at(address, None, "", self.strictness.clone()).await
    }

    /// Starts a proxy with TLS and a path prefix in front of the worker, at `https://{name}{prefix}`.
    pub async fn proxy(&self, name: &str, prefix: &str, service: &Service) -> MeddlingProxy {
        let address = SocketAddr::new(self.network.address_of(name), 443);
        MeddlingProxy::start(address, self.authority.certificate(name), prefix, service.addr()).await
    }

    /// Creates a deployment of the worker, to be configured.
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
