//! One request as a client sends it, followed nowhere, and what can go wrong on its way, told apart.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};
use url::{Host, Url};

use crate::doctor::trust::{Presented, Trust};

/// The way to other machines.
#[derive(Debug)]
pub(crate) struct Web {
    /// Whom TLS trusts.
    pub(crate) trust: Trust,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    /// `GET`, …
    pub(crate) method: &'a str,
    /// Where to: `http` or `https`.
    pub(crate) url: &'a str,
    /// Its headers, beside `Host` and `User-Agent`.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// Its body; none if it is empty.
    pub(crate) body: &'a [u8],
    /// Where to connect instead of to the URL's host and port, for a target of an SRV record.
    pub(crate) via: Option<(&'a str, u16)>,
}

impl<'a> Request<'a> {
    /// A GET.
    pub(crate) fn get(url: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: "GET", url, headers, body: b"", via: None }
    }

    /// A POST.
    pub(crate) fn post(url: &'a str, headers: &'a [(&'a str, &'a str)], body: &'a [u8]) -> Self {
        Self { method: "POST", url, headers, body, via: None }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// The HTTP status.
    pub(crate) status: u16,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// The body, as far as [`MAX_BODY`].
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Matrix's error code, where it is one of Matrix's errors.
    pub(crate) fn errcode(&self) -> Option<String> {
        self.json()?.get("errcode")?.as_str().map(str::to_owned)
    }

    /// Where it redirects to, if it does.
    pub(crate) fn redirect(&self) -> Option<&str> {
        matches!(self.status, 301 | 302 | 303 | 307 | 308).then(|| self.header("location").unwrap_or("nowhere"))
    }
}

impl Web {
    /// Sends `request` and reads the response, for ten seconds at most.
    pub(crate) async fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        timeout(TIMEOUT, self.exchange(request)).await.unwrap_or(Err(Failure::TimedOut))
    }

    /// GETs `url`, and follows redirects. Gives all responses, the last one last.
    pub(crate) async fn follow(&self, url: &str, headers: &[(&str, &str)]) -> Result<Vec<Response>, Failure> {
        let mut url = url.to_owned();
        let mut responses = Vec::new();
        loop {
            let response = self.send(&Request::get(&url, headers)).await?;
            let next = response.redirect().and_then(|location| Url::parse(&url).ok()?.join(location).ok());
            responses.push(response);
            match next {
                Some(next) if responses.len() <= MAX_REDIRECTS => url = next.into(),
                _ => return Ok(responses),
            }
        }
    }

    /// Tries TLS with the host of `url`, and says nothing.
    pub(crate) async fn handshake(&self, url: &Url) -> Result<(), Failure> {
        let (host, port) = authority(url)?;
        let handshake = async { self.secure(connect(host, port).await?, host).await.map(drop) };
        timeout(TIMEOUT, handshake).await.unwrap_or(Err(Failure::TimedOut))
    }

    async fn exchange(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let url = Url::parse(request.url).map_err(|_| Failure::NotHttp(format!("{} is no URL", request.url)))?;
        let (host, port) = authority(&url)?;
        let (to_host, to_port) = request.via.unwrap_or((host, port));
        let stream = connect(to_host, to_port).await?;
        match url.scheme() {
            "https" => exchange_over(self.secure(stream, host).await?, &url, request).await,
            _ => exchange_over(stream, &url, request).await,
        }
    }

    async fn secure(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<>, Failure> {
        let (config, presented) = self.trust.client().map_err(|error| Failure::Tls(error.to_string()))?;
        let name = ServerName::try_from(unbracketed(host).to_owned())
            .map_err(|_| Failure::Tls(format!("{host} can't have a certificate")))?;
        let handshake = TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await;
        handshake.map_err(|error| Failure::of_handshake(&error, &presented, host))
    }
}

async fn exchange_over<S>(stream: S, url: &Url, request: &Request<'_>) -> Result<Response, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let not_http = |error: hyper::Error| Failure::NotHttp(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(not_http)?;
    let exchange = async {
        let response = sender.send_request(to_hyper(url, request)?).await.map_err(not_http)?;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(_) => Vec::new(),
        };
        Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
    };
    // The connection wants to be driven for as long as the exchange takes; when it fails, so does the exchange.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        response = exchange => response,
        never = driven => match never {},
    }
}

fn to_hyper(url: &Url, request: &Request<'_>) -> Result<hyper::Request<Full<Bytes>>, Failure> {
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut assembled = hyper::Request::builder()
        .method(request.method)
        .uri(target)
        .header("host", authority)
        .header("user-agent", USER_AGENT);
    for (name, value) in request.headers {
        assembled = assembled.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(request.body));
    assembled.body(body).map_err(|_| Failure::NotHttp(format!("{url} can't be asked for")))
}

/// The addresses of a host, and which of them answer.
#[derive(Debug)]
pub(crate) struct Addresses(pub(crate) Vec<(SocketAddr, Result<(), ConnectFailure>)>);

impl Addresses {
    /// Looks `host` up and tries to connect to all of its addresses.
    pub(crate) async fn of(host: &str, port: u16) -> Result<Self, Failure> {
        let tries =
            resolve(host, port).await?.into_iter().map(async |address| (address, dial(address).await.map(drop)));
        Ok(Self(join_all(tries).await))
    }
}

/// The first of a host's addresses that responses.
async fn connect(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses = resolve(host, port).await?;
    let mut tries: FuturesUnordered<_> =
        addresses.into_iter().map(async |address| (address, dial(address).await)).collect();
    let mut failures = Vec::new();
    while let Some((address, outcome)) = tries.next().await {
        match outcome {
            Ok(stream) => return Ok(stream),
            Err(failure) => failures.push((address, failure)),
        }
    }
    Err(Failure::Unreachable(failures))
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    let no_address = |cause: &str| Failure::NoAddress { host: host.to_owned(), cause: cause.to_owned() };
    let found = timeout(RESOLVE_TIMEOUT, lookup_host((unbracketed(host), port))).await;
    let mut addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            return Err(no_address(error.to_string().trim_start_matches("failed to lookup address information: ")));
        }
        Err(_) => return Err(no_address("the resolver doesn't answer")),
    };
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() { Err(no_address("no such name")) } else { Ok(addresses) }
}

async fn dial(address: SocketAddr) -> Result<TcpStream, ConnectFailure> {
    match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectFailure::Refused,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => ConnectFailure::NoWay,
            _ => ConnectFailure::Other(error.to_string()),
        }),
        Err(_) => Err(ConnectFailure::TimedOut),
    }
}

/// Why an address doesn't take a connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ConnectFailure {
    /// Nothing listens there.
    #[error("connection refused, nothing listens there")]
    Refused,
    /// Silence.
    #[error("no answer, a firewall perhaps")]
    TimedOut,
    /// This machine has no way there: no IPv6, mostly.
    #[error("this machine has no way there")]
    NoWay,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Failure {
    /// The name has no address.
    #[error("there is no address for {host} ({cause})")]
    NoAddress {
        /// The name.
        host: String,
        /// What the resolver says.
        cause: String,
    },
    /// No address takes a connection.
    #[error("{}", list(.0))]
    Unreachable(Vec<(SocketAddr, ConnectFailure)>),
    /// The certificate isn't trusted.
    #[error("{cause}")]
    Certificate {
        /// Why not.
        cause: String,
        /// What to do about it.
        change: String,
    },
    /// What listens speaks no TLS.
    #[error("what listens there speaks no TLS")]
    NoTls,
    /// TLS fails in another way.
    #[error("{0}")]
    Tls(String),
    /// What answers isn't HTTP.
    #[error("what listens there breaks off, or speaks no HTTP ({0})")]
    NotHttp(String),
    /// Ten seconds are over.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

impl Failure {
    /// What to change, and where; `server` is whose it is to change.
    pub(crate) fn change(&self, server: &str) -> String {
        match self {
            Self::NoAddress { host, .. } => format!("add an address record (A, AAAA or CNAME) for {host} to the DNS"),
            Self::Unreachable(_) => format!("let {server} listen there, and the firewall let it through"),
            Self::Certificate { change, .. } => change.clone(),
            Self::NoTls => format!("switch TLS on at that port of {server}, or name the port that has it"),
            Self::Tls(_) => format!("offer TLS 1.2 or 1.3 at {server}"),
            Self::NotHttp(_) => format!("name the port at which {server} speaks HTTP"),
            Self::TimedOut => format!("look into the log of {server}, and of the proxy before it: something hangs"),
        }
    }

    fn of_handshake(error: &io::Error, presented: &Presented, host: &str) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
            return Self::Tls(format!("the TLS handshake with {host} breaks off ({error})"));
        };
        let certificate = |cause: String, change: String| Self::Certificate { cause, change };
        let chain = presented.chain();
        match error {
            TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => certificate(
                format!("the certificate of {host} has expired"),
                "renew it, and let the server load the new one (or see why the renewal, certbot's say, fails)".to_owned(),
            ),
            TlsError::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
                certificate(format!("the certificate of {host} isn't valid yet"), "set the clock of the server, or of this machine".to_owned())
            }
            TlsError::InvalidCertificate(CertificateError::NotValidForName) => certificate(
                format!("the certificate is for other names than {host}"),
                format!("get one that covers {host}, and let the server show it for that name"),
            ),
            TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => certificate(
                format!("the certificate is for {}, not for {host}", dns_names(presented)),
                format!("get one that covers {host}, and let the server show it for that name"),
            ),
            TlsError::InvalidCertificate(_) if chain.is_some_and(|chain| chain.self_signed) => certificate(
                format!("the certificate of {host} is self-signed"),
                "use a certificate of a public authority (Let's Encrypt, say); clients and the service trust no other".to_owned(),
            ),
            TlsError::InvalidCertificate(CertificateError::UnknownIssuer) if chain.is_some_and(|chain| chain.alone) => certificate(
                format!("the certificate of {host} comes without that of its issuer, or its issuer is no public authority"),
                "let the server send the whole chain (fullchain.pem, not cert.pem); a laboratory's own authority is trusted with --trust-ca"
                    .to_owned(),
            ),
            TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => certificate(
                format!("the issuer of {host}'s certificate is no public authority"),
                "use a certificate of a public authority; a laboratory's own is trusted with --trust-ca".to_owned(),
            ),
            TlsError::InvalidCertificate(other) => {
                certificate(format!("the certificate of {host} is invalid ({other})"), "replace it".to_owned())
            }
            TlsError::InvalidMessage(_) => Self::NoTls,
            // The first by nginx, the second by OpenSSL, the third by Go (Caddy), the last by rustls.
            TlsError::AlertReceived(
                AlertDescription::UnrecognisedName
                | AlertDescription::HandshakeFailure
                | AlertDescription::InternalError
                | AlertDescription::AccessDenied,
            ) => certificate(
                format!("the server has no certificate for {host}"),
                format!("get one that covers {host}, and let the server show it for that name"),
            ),
            other => Self::Tls(format!("the TLS handshake with {host} fails ({other})")),
        }
    }
}

fn list(addresses: &[(SocketAddr, ConnectFailure)]) -> String {
    let lines: Vec<_> = addresses.iter().map(|(address, failure)| format!("{address}: {failure}")).collect();
    lines.join("; ")
}

/// The host and the port of a URL.
pub(crate) fn authority(url: &Url) -> Result<(&str, u16), Failure> {
    let host = url.host_str().ok_or_else(|| Failure::NotHttp(format!("{url} has no host")))?;
    Ok((host, url.port_or_known_default().unwrap_or(443)))
}

/// Whether a URL leads to this machine by definition, where browsers take a page's `http` for safe.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The values of a header, over all its lines.
pub(crate) fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value: &HeaderValue| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).collect()
}

fn dns_names(presented: &[String]) -> String {
    // rustls writes them as `DnsName("example.com")`.
    let names: Vec<_> = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).take(MAX_NAMES).collect();
    if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") }
}

fn unbracketed(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// Where a client's page could be from.
pub(crate) const ORIGIN: &str = "https://call.example.com";
/// As far as bodies are read.
const MAX_BODY: usize = 64 * 1024;
const MAX_NAMES: usize = 5;
const MAX_REDIRECTS: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(10);
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
const USER_AGENT: &str = concat!("matrixrtc-doctor/", env!("CARGO_PKG_VERSION"));
