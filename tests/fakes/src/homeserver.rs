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

/// A homeserver's federation API and the well-known file that leads to it.
///
/// It answers userinfo for the tokens that it issued, and counts. A request that Synapse would refuse, or that goes to the
/// wrong place under the right name, is a breach.
pub struct Homeserver {
    server_name: String,
    state: Arc<Mutex<State>>,
    website: Option<Server>,
    federation: Server,
}

/// How a [`Homeserver`] is to be. Without further calls: the well-known file delegates to `matrix.{name}:443`.
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

/// What a homeserver gives its user to prove who it is (protocol 2.1).
#[derive(Clone, Debug)]
pub struct OpenIdToken {
    /// The secret of it.
    pub access_token: String,
    /// Who asks the homeserver for it.
    pub user_id: String,
    /// Where it is to be verified.
    pub matrix_server_name: String,
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
}

impl Homeserver {
    /// Its name.
    pub fn server_name(&self) -> &str {
        &self.server_name
    }

    /// A new token for the user.
    pub fn openid_token(&self, user_id: &str) -> OpenIdToken {
        let number = self.state.lock().unwrap().tokens.len();
        self.openid_token_of(user_id, &format!("openid-secret-{}-{number}", self.server_name))
    }

    /// A new token for the user, with this secret.
    pub fn openid_token_of(&self, user_id: &str, access_token: &str) -> OpenIdToken {
        let mut state = self.state.lock().unwrap();
        state.tokens.insert(access_token.to_owned(), user_id.to_owned());
        OpenIdToken {
            access_token: access_token.to_owned(),
            user_id: user_id.to_owned(),
            matrix_server_name: self.server_name.clone(),
        }
    }

    /// From now on, what well-known answers.
    pub fn set_well_known(&self, reply: Reply) {
        self.state.lock().unwrap().well_known = Some(reply);
    }

    /// From now on, what userinfo answers to every token.
    pub fn set_userinfo(&self, reply: Reply) {
        self.state.lock().unwrap().userinfo = Some(reply);
    }

    /// From now on, what well-known answers to those who look for the client-server API: nothing useful, unless this says
    /// otherwise.
    pub fn set_client_well_known(&self, reply: Reply) {
        self.state.lock().unwrap().client_well_known = Some(reply);
    }

    /// From now on its client-server API is there.
    pub fn has_client_api(&self, base_url: &str) {
        self.set_client_well_known(Reply::json(200, &json!({ "m.homeserver": { "base_url": base_url } })));
    }

    /// How often well-known was asked for the client-server API.
    pub fn client_well_known_requests(&self) -> usize {
        self.state.lock().unwrap().client_well_known_requests
    }

    /// How often its well-known file was asked for.
    pub fn well_known_requests(&self) -> usize {
        self.state.lock().unwrap().well_known_requests
    }

    /// As soon as its well-known file has been asked for.
    pub async fn well_known_requested(&self) {
        let poll = async {
            while self.well_known_requests() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), poll).await.expect("a request for the well-known file");
    }

    /// How often it was asked about a token.
    pub fn userinfo_requests(&self) -> usize {
        self.state.lock().unwrap().userinfo_requests
    }

    /// As soon as it has been asked about a token.
    pub async fn userinfo_requested(&self) {
        let poll = async {
            while self.userinfo_requests() == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), poll).await.expect("a request for userinfo");
    }

    /// How many connections came in to the federation API, requests or not.
    pub fn federation_connections(&self) -> usize {
        self.federation.connections()
    }

    /// How many connections came in at all.
    pub fn connections(&self) -> usize {
        self.federation.connections() + self.website.as_ref().map_or(0, Server::connections)
    }
}

impl<'a> HomeserverPlan<'a> {
    /// A homeserver of this name.
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

    /// What `GET /.well-known/matrix/server` answers.
    pub fn well_known(mut self, reply: Reply) -> Self {
        self.well_known = Some(reply);
        self
    }

    /// A well-known file with this `m.server`.
    pub fn delegates_to(self, server: &str) -> Self {
        self.well_known(delegation(server))
    }

    /// A 404 for the well-known file.
    pub fn without_well_known(self) -> Self {
        self.well_known(Reply::html(404))
    }

    /// Nothing listens where the well-known file would be.
    pub fn without_website(mut self) -> Self {
        self.well_known = None;
        self
    }

    /// Where the federation API is: `host` is a name, or an IP literal.
    pub fn federation_at(mut self, host: &str, port: u16) -> Self {
        self.federation_name = host.to_owned();
        self.listens_at = (host.to_owned(), port);
        self
    }

    /// The federation API of `name`, at an SRV target of another name.
    pub fn federation_behind_srv(mut self, name: &str, target: &str, port: u16) -> Self {
        self.federation_name = name.to_owned();
        self.listens_at = (target.to_owned(), port);
        self
    }

    /// Another certificate than the right one, on the federation API.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// Another certificate than the right one, where the well-known file is.
    pub fn website_certificate(mut self, certificate: Certificate) -> Self {
        self.website_certificate = Some(certificate);
        self
    }

    /// Browsers' pages may ask for its client well-known file, too.
    pub fn browsed(mut self) -> Self {
        self.browsed = true;
        self
    }

    /// What userinfo answers to every token.
    pub fn userinfo(mut self, reply: Reply) -> Self {
        self.userinfo = Some(reply);
        self
    }

    /// Bytes that userinfo answers, be they HTTP or not.
    pub fn raw_userinfo(mut self, bytes: impl Into<Bytes>) -> Self {
        self.raw_userinfo = Some(bytes.into());
        self
    }

    /// Listens.
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
        let for_pages = Place { for_pages: self.browsed, ..Place::new(&host_of(&self.server_name), 443, false) };
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

/// Where a request says that it goes.
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

/// The host part of a server name, with the brackets of an IPv6 literal.
fn host_of(server_name: &str) -> String {
    let authority: Authority = server_name.parse().expect("a server name");
    authority.host().to_owned()
}

fn unbracketed(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// The value, if the query has `access_token` once and nothing else.
fn only_access_token(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    let (name, token) = pairs.next()?;
    (name == "access_token" && pairs.next().is_none()).then(|| token.into_owned())
}
