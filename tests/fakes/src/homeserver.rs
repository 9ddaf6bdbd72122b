use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use hyper::http::uri::Authority;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::server::{Handler, Server, Serving};
use crate::{Certificate, CertificateAuthority, Names, Reply, Request, Strictness};

/// Federation API of a homeserver, with the well-known file that leads to it.
///
/// It responds to userinfo for the tokens that it has issued, and counts requests. A request that Synapse would
/// refuse, or one that reaches the wrong address under the right name, is a breach.
pub struct Homeserver {
    server_name: String,
    state: Arc<Mutex<State>>,
    website: Option<Server>,
    federation: Server,
}

/// Builder of a [`Homeserver`]. By default the well-known file delegates to `matrix.{name}:443`.
pub struct HomeserverPlan<'a> {
    names: &'a dyn Names,
    authority: &'a CertificateAuthority,
    strictness: Strictness,
    server_name: String,
    well_known: Option<Reply>,
    federation_name: String,
    listens_at: (String, u16),
    certificate: Option<Certificate>,
    website_certificate: Option<Certificate>,
    userinfo: Option<Reply>,
    raw_userinfo: Option<Bytes>,
    browsed: bool,
}

/// OpenID token, by which a user proves their identity (`docs/protocol.md#verifying-an-openid-token`).
#[derive(Clone, Debug)]
pub struct OpenIdToken {
    /// Secret part.
    pub access_token: String,
    /// User that it was issued to.
    pub user_id: String,
    /// Server name of the homeserver that verifies it.
    pub matrix_server_name: String,
}

/// The homeserver's OpenID tokens, for the requests of its users.
#[derive(Clone)]
pub struct OpenIdIssuer {
    server_name: String,
    state: Arc<Mutex<State>>,
}

impl OpenIdIssuer {
    /// Server name of the homeserver.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Issues a token for the user, with this secret.
    pub fn issue(&self, user_id: &str, access_token: &str) -> OpenIdToken {
        self.state.lock().unwrap().tokens.insert(access_token.to_owned(), user_id.to_owned());
        OpenIdToken {
            access_token: access_token.to_owned(),
            user_id: user_id.to_owned(),
            matrix_server_name: self.server_name.clone(),
        }
    }
}

#[derive(Default)]
struct State {
    tokens: HashMap<String, String>,
    well_known: Option<Reply>,
    userinfo: Option<Reply>,
    well_known_requests: usize,
    userinfo_requests: usize,
    client_well_known: Option<Reply>,
    client_well_known_requests: usize,
    client_versions: Option<Reply>,
}

impl Homeserver {
    /// Server name.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Issues a token for the user.
    pub fn openid_token(&self, user_id: &str) -> OpenIdToken {
        let number = self.state.lock().unwrap().tokens.len();
        self.openid_token_of(user_id, &format!("openid-secret-{}-{number}", self.server_name))
    }

    /// Issues a token for the user, with this secret.
    pub fn openid_token_of(&self, user_id: &str, access_token: &str) -> OpenIdToken {
        self.issuer().issue(user_id, access_token)
    }

    /// Its OpenID tokens, for the requests of its users.
    pub fn issuer(&self) -> OpenIdIssuer {
        OpenIdIssuer { server_name: self.server_name.clone(), state: self.state.clone() }
    }

    /// Sets the reply of the well-known file.
    pub fn set_well_known(&self, reply: Reply) {
        self.state.lock().unwrap().well_known = Some(reply);
    }

    /// Sets the reply of userinfo to every token.
    pub fn set_userinfo(&self, reply: Reply) {
        self.state.lock().unwrap().userinfo = Some(reply);
    }

    /// Sets the reply of the client well-known file, which is a 404 by default.
    pub fn set_client_well_known(&self, reply: Reply) {
        self.state.lock().unwrap().client_well_known = Some(reply);
    }

    /// Lets the client well-known file name this client-server API.
    pub fn has_client_api(&self, base_url: &str) {
        self.set_client_well_known(Reply::json(200, &json!({ "m.homeserver": { "base_url": base_url } })));
    }

    /// Sets the reply of `/versions` at the server name itself, which has no client-server API by default.
    pub fn set_client_versions(&self, reply: Reply) {
        self.state.lock().unwrap().client_versions = Some(reply);
    }

    /// Number of requests for the client well-known file.
    pub fn client_well_known_requests(&self) -> usize {
        self.state.lock().unwrap().client_well_known_requests
    }

    /// Number of requests for the server well-known file.
    pub fn well_known_requests(&self) -> usize {
        self.state.lock().unwrap().well_known_requests
    }

    /// Waits until the server well-known file has been requested.
    pub async fn well_known_requested(&self) {
        let poll = async {
            while self.well_known_requests() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), poll).await.expect("a request for the well-known file");
    }

    /// Number of userinfo requests.
    pub fn userinfo_requests(&self) -> usize {
        self.state.lock().unwrap().userinfo_requests
    }

    /// Waits until userinfo has been requested.
    pub async fn userinfo_requested(&self) {
        let poll = async {
            while self.userinfo_requests() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), poll).await.expect("a request for userinfo");
    }

    /// From now on closes idle connections just as they are used again.
    pub fn cut_idle_connections(&self) {
        self.servers().for_each(Server::cut_idle_connections);
    }

    /// Number of connections that were closed so.
    pub fn cut(&self) -> usize {
        self.servers().map(Server::cut).sum()
    }

    fn servers(&self) -> impl Iterator<Item = &Server> {
        self.website.iter().chain([&self.federation])
    }

    /// Number of connections to the federation API, with or without requests.
    pub fn federation_connections(&self) -> usize {
        self.federation.connections()
    }

    /// Number of connections to all its ports.
    pub fn connections(&self) -> usize {
        self.federation.connections() + self.website.as_ref().map_or(0, Server::connections)
    }
}

impl<'a> HomeserverPlan<'a> {
    /// Creates the builder of a homeserver of this name.
    pub fn new(
        names: &'a dyn Names,
        authority: &'a CertificateAuthority,
        strictness: Strictness,
        server_name: &str,
    ) -> Self {
        let federation_name = format!("matrix.{server_name}");
        Self {
            names,
            authority,
            strictness,
            server_name: server_name.to_owned(),
            well_known: Some(delegation(&format!("{federation_name}:443"))),
            listens_at: (federation_name.clone(), 443),
            federation_name,
            certificate: None,
            website_certificate: None,
            userinfo: None,
            raw_userinfo: None,
            browsed: false,
        }
    }

    /// Sets the reply of `GET /.well-known/matrix/server`.
    pub fn well_known(mut self, reply: Reply) -> Self {
        self.well_known = Some(reply);
        self
    }

    /// Sets a well-known file with this `m.server`.
    pub fn delegates_to(self, server: &str) -> Self {
        self.well_known(delegation(server))
    }

    /// Sets a 404 for the well-known file.
    pub fn without_well_known(self) -> Self {
        self.well_known(Reply::html(404))
    }

    /// Leaves the port of the well-known file closed.
    pub fn without_website(mut self) -> Self {
        self.well_known = None;
        self
    }

    /// Sets the address of the federation API; `host` is a name, or an IP literal.
    pub fn federation_at(mut self, host: &str, port: u16) -> Self {
        self.federation_name = host.to_owned();
        self.listens_at = (host.to_owned(), port);
        self
    }

    /// Sets the federation API of `name`, at an SRV target of another name.
    pub fn federation_behind_srv(mut self, name: &str, target: &str, port: u16) -> Self {
        self.federation_name = name.to_owned();
        self.listens_at = (target.to_owned(), port);
        self
    }

    /// Sets another certificate than the right one on the federation API.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Sets another certificate than the right one on the port of the well-known file.
    pub fn website_certificate(mut self, certificate: Certificate) -> Self {
        self.website_certificate = Some(certificate);
        self
    }

    /// Lets browsers' pages read the client well-known file, by CORS.
    pub fn browsed(mut self) -> Self {
        self.browsed = true;
        self
    }

    /// Sets the reply of userinfo to every token.
    pub fn userinfo(mut self, reply: Reply) -> Self {
        self.userinfo = Some(reply);
        self
    }

    /// Sets the bytes that userinfo sends, HTTP or not.
    pub fn raw_userinfo(mut self, bytes: impl Into<Bytes>) -> Self {
        self.raw_userinfo = Some(bytes.into());
        self
    }

    /// Starts the homeserver.
    pub async fn start(self) -> Homeserver {
        let state = Arc::new(Mutex::new(State {
            well_known: self.well_known.clone(),
            userinfo: self.userinfo.clone(),
            ..State::default()
        }));
        let (host, port) = &self.listens_at;
        let website_host = host_of(&self.server_name);
        let website = SocketAddr::new(self.names.address_of(&website_host), 443);
        let federation = SocketAddr::new(self.names.address_of(host), *port);
        let certificate =
            self.certificate.clone().unwrap_or_else(|| self.authority.certificate(unbracketed(&self.federation_name)));
        let handler = self.handler(state.clone());

        let serving = match self.raw_userinfo {
            Some(bytes) => Serving::Raw(bytes),
            None => Serving::Http(handler.clone()),
        };
        let federation_server = Server::start(federation, Some(certificate), serving).await;
        let website_server = match self.well_known {
            Some(_) if website != federation => {
                let valid = || self.authority.certificate(unbracketed(&website_host));
                let certificate = self.website_certificate.unwrap_or_else(valid);
                Some(Server::start(website, Some(certificate), Serving::Http(handler)).await)
            }
            _ => None,
        };
        Homeserver { server_name: self.server_name, state, website: website_server, federation: federation_server }
    }

    fn handler(&self, state: Arc<Mutex<State>>) -> Handler {
        let strictness = self.strictness.clone();
        let website = Place::new(&host_of(&self.server_name), 443, false);
        let mut for_pages = Place { for_pages: self.browsed, ..Place::new(&host_of(&self.server_name), 443, false) };
        for_pages.hosts.push(self.server_name.clone());
        let (host, port) = &self.listens_at;
        let federation = Place::new(&self.federation_name, *port, *host != self.federation_name);
        Arc::new(move |request| {
            let mut state = state.lock().unwrap();
            let reply = if request.path == "/.well-known/matrix/server" {
                website.check(&request, &strictness);
                strictness.expect(request.query.is_none(), || format!("well-known with a query: {request:?}"));
                state.well_known_requests += 1;
                state.well_known.clone().unwrap_or_else(|| Reply::html(404))
            } else if request.path == "/.well-known/matrix/client" {
                for_pages.check(&request, &strictness);
                state.client_well_known_requests += 1;
                state.client_well_known.clone().unwrap_or_else(|| Reply::html(404))
            } else if let Some(path) = request.path.strip_prefix("/_matrix/client/") {
                // By default its client-server API, if it has one, is elsewhere.
                for_pages.check(&request, &strictness);
                let versions = state.client_versions.clone().filter(|_| path == "versions");
                versions.unwrap_or_else(|| Reply::html(404))
            } else if request.path == "/_matrix/federation/v1/version" {
                for_pages.check(&request, &strictness);
                Reply::html(404)
            } else {
                federation.check(&request, &strictness);
                let reply = state.userinfo(&request, &strictness);
                state.userinfo_requests += 1;
                reply
            };
            drop(state);
            Box::pin(async { reply })
        })
    }
}

impl State {
    /// <https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1openiduserinfo>
    fn userinfo(&self, request: &Request, strictness: &Strictness) -> Reply {
        let token = request.query.as_deref().and_then(only_access_token);
        strictness.expect(request.path == "/_matrix/federation/v1/openid/userinfo" && token.is_some(), || {
            format!("not a userinfo request: {request:?}")
        });
        if let Some(reply) = &self.userinfo {
            return reply.clone();
        }
        match token.and_then(|token| self.tokens.get(&token)) {
            Some(user_id) => Reply::json(200, &json!({ "sub": user_id })),
            None => {
                Reply::json(401, &json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "Access Token unknown or expired" }))
            }
        }
    }
}

/// Destination that a request names.
struct Place {
    tls_name: Option<String>,
    hosts: Vec<String>,
    for_pages: bool,
}

impl Place {
    fn new(name: &str, port: u16, behind_srv: bool) -> Self {
        let is_literal = unbracketed(name).parse::<std::net::IpAddr>().is_ok();
        let mut hosts = vec![name.to_owned()];
        if !behind_srv {
            hosts.push(format!("{name}:{port}"));
        }
        Self { tls_name: (!is_literal).then(|| name.to_owned()), hosts, for_pages: false }
    }

    fn check(&self, request: &Request, strictness: &Strictness) {
        let host = request.header(HOST);
        strictness.expect(self.hosts.iter().any(|expected| expected == host), || {
            format!("Host is {host:?} instead of one of {:?}", self.hosts)
        });
        strictness.expect(request.tls_name == self.tls_name, || {
            format!("TLS for {:?} instead of {:?}", request.tls_name, self.tls_name)
        });
        strictness.expect(request.method == "GET" && request.body.is_empty(), || {
            format!("not a GET without a body: {request:?}")
        });
        for unwanted in [AUTHORIZATION, COOKIE, ORIGIN] {
            let wanted = self.for_pages && unwanted == ORIGIN;
            strictness
                .expect(wanted || !request.headers.contains_key(&unwanted), || format!("{unwanted} in {request:?}"));
        }
    }
}

fn delegation(server: &str) -> Reply {
    Reply::json(200, &json!({ "m.server": server }))
}

/// Host part of a server name, with the brackets of an IPv6 literal.
fn host_of(server_name: &str) -> String {
    let authority: Authority = server_name.parse().expect("a server name");
    authority.host().to_owned()
}

fn unbracketed(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// Value of `access_token`, if the query has that once and nothing else.
fn only_access_token(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (name, token) = pairs.next()?;
    (name == "access_token" && pairs.next().is_none()).then(|| token.into_owned())
}
