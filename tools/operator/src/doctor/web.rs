//! HTTP client of the doctor: one request on a connection of its own, with errors that distinguish DNS, TCP, TLS and
//! HTTP.
//!
//! # How it works
//!
//! - [`Web::send`] resolves the host, connects to all of its addresses at once and uses the first connection, then
//!   speaks TLS where the URL is `https`, and HTTP/1.1. It follows no redirect; [`Web::follow`] does.
//! - Each step has its own [`Failure`], which names the cause and, by [`Failure::change`], the setting to change.
//! - The verifier of `trust` records the presented chain, so that an untrusted certificate gets a precise cause:
//!   self-signed, without its issuer's, or from an unknown authority.
//! - A response that Cloudflare gives in the server's place, such as a challenge, is a failure, too.
//! - Look-up and connection give up after 5 seconds each, the whole request after 10. Bodies are read up to 64 KiB; a
//!   longer one counts as empty.
//! - [`Addresses`] connects to each address of a host, to find the ones that don't answer.

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

use crate::doctor::cloudflare::Interception;
use crate::doctor::trust::{Presented, Trust};

/// HTTP client.
#[derive(Debug)]
pub(crate) struct Web {
    /// Trusted certificates.
    pub(crate) trust: Trust,
}

/// HTTP request.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    /// Method, such as `GET`.
    pub(crate) method: &'a str,
    /// `http` or `https` URL.
    pub(crate) url: &'a str,
    /// Headers, in addition to `Host` and `User-Agent`.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// Program for which the doctor stands in: the service, except where LiveKit's requests are shown.
    pub(crate) user_agent: &'a str,
    /// Body; none if it is empty.
    pub(crate) body: &'a [u8],
    /// Host and port to connect to in place of the URL's, for a target of an SRV record.
    pub(crate) via: Option<(&'a str, u16)>,
}

impl<'a> Request<'a> {
    /// Builds a GET.
    pub(crate) fn get(url: &'a str, headers: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: "GET", url, headers, user_agent: USER_AGENT, body: b"", via: None }
    }

    /// Builds a POST.
    pub(crate) fn post(url: &'a str, headers: &'a [(&'a str, &'a str)], body: &'a [u8]) -> Self {
        Self { method: "POST", url, headers, user_agent: USER_AGENT, body, via: None }
    }
}

/// HTTP response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// HTTP status.
    pub(crate) status: u16,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// Body; empty if it is longer than [`MAX_BODY`].
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// Value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Body as JSON.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// `errcode`, if the body is a Matrix error.
    pub(crate) fn errcode(&self) -> Option<String> {
        self.json()?.get("errcode")?.as_str().map(str::to_owned)
    }

    /// Target of the redirect, if it is one.
    pub(crate) fn redirect(&self) -> Option<&str> {
        matches!(self.status, 301 | 302 | 303 | 307 | 308).then(|| self.header("location").unwrap_or("nowhere"))
    }
}

impl Web {
    /// Sends `request` and reads the response, for ten seconds at most.
    pub(crate) async fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let response = timeout(TIMEOUT, self.exchange(request)).await.unwrap_or(Err(Failure::TimedOut))?;
        match Interception::of(&response) {
            Some(interception) => Err(Failure::Intercepted(interception)),
            None => Ok(response),
        }
    }

    /// Sends a GET to `url` and follows up to 5 redirects. Returns all responses in order.
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

    /// Makes a TLS handshake with the host of `url`, and sends no request.
    pub(crate) async fn handshake(&self, url: &Url) -> Result<(), Failure> {
        let (host, port) = authority(url)?;
        let handshake = async { self.secure(connect(host, port).await?, host).await.map(drop) };
        timeout(TIMEOUT, handshake).await.unwrap_or(Err(Failure::TimedOut))
    }

    async fn exchange(&self, request: &Request<'_>) -> Result<Response, Failure> {
        let url = Url::parse(request.url).map_err(|_| Failure::NotHttp(format!("{} isn't a URL", request.url)))?;
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
    // The connection makes progress only while it is polled; if it fails, so does the exchange.
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
        .header("user-agent", request.user_agent);
    for (name, value) in request.headers {
        assembled = assembled.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(request.body));
    assembled.body(body).map_err(|_| Failure::NotHttp(format!("{url} can't be requested")))
}

/// Addresses of a host, and whether each takes a connection.
#[derive(Debug)]
pub(crate) struct Addresses(pub(crate) Vec<(SocketAddr, Result<(), ConnectFailure>)>);

impl Addresses {
    /// Resolves `host` and connects to all of its addresses.
    pub(crate) async fn of(host: &str, port: u16) -> Result<Self, Failure> {
        let tries =
            resolve(host, port).await?.into_iter().map(async |address| (address, dial(address).await.map(drop)));
        Ok(Self(join_all(tries).await))
    }
}

/// Connects to the addresses of a host, and returns the first connection.
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
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => ConnectFailure::NoRoute,
            _ => ConnectFailure::Other(error.to_string()),
        }),
        Err(_) => Err(ConnectFailure::TimedOut),
    }
}

/// Error of connecting to one address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum ConnectFailure {
    /// No program listens there.
    #[error("connection refused, no program listens there")]
    Refused,
    /// No answer within 5 seconds.
    #[error("no answer, perhaps because of a firewall")]
    TimedOut,
    /// This machine has no route there; mostly it has no IPv6.
    #[error("this machine has no route there")]
    NoRoute,
    /// Another error.
    #[error("{0}")]
    Other(String),
}

/// Error of a request without a response.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Failure {
    /// The name has no address.
    #[error("there is no address for {host} ({cause})")]
    NoAddress {
        /// Name.
        host: String,
        /// Error of the resolver.
        cause: String,
    },
    /// No address takes a connection.
    #[error("{}", list(.0))]
    Unreachable(Vec<(SocketAddr, ConnectFailure)>),
    /// The certificate isn't trusted.
    #[error("{cause}")]
    Certificate {
        /// Mistake in the certificate.
        cause: String,
        /// Change that corrects it.
        change: String,
    },
    /// The server doesn't speak TLS.
    #[error("the server there doesn't speak TLS")]
    NoTls,
    /// Another TLS error.
    #[error("{0}")]
    Tls(String),
    /// The server doesn't speak HTTP.
    #[error("the server there closes the connection, or doesn't speak HTTP ({0})")]
    NotHttp(String),
    /// Cloudflare responds in the server's place.
    #[error("{0}")]
    Intercepted(Interception),
    /// No response within ten seconds.
    #[error("no response within {} s", TIMEOUT.as_secs())]
    TimedOut,
}

impl Failure {
    /// Change that corrects the error; `server` is the server to change.
    pub(crate) fn change(&self, server: &str) -> String {
        match self {
            Self::NoAddress { host, .. } => format!("add an address record (A, AAAA or CNAME) for {host} to the DNS"),
            Self::Unreachable(_) => format!("let {server} listen there, and let the firewall pass it"),
            Self::Certificate { change, .. } => change.clone(),
            Self::NoTls => format!("enable TLS at that port of {server}, or use the port that has it"),
            Self::Tls(_) => format!("offer TLS 1.2 or 1.3 at {server}"),
            Self::NotHttp(_) => format!("use the port at which {server} speaks HTTP"),
            Self::Intercepted(interception) => interception.change(server),
            Self::TimedOut => format!("read the log of {server}, and of the proxy in front of it: the request hangs"),
        }
    }

    fn of_handshake(error: &io::Error, presented: &Presented, host: &str) -> Self {
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) else {
            return Self::Tls(format!("the TLS handshake with {host} ends early ({error})"));
        };
        let certificate = |cause: String, change: String| Self::Certificate { cause, change };
        let chain = presented.chain();
        match error {
            TlsError::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => certificate(
                format!("the certificate of {host} has expired"),
                "renew it, and let the server load the new one (if it is renewed automatically, by certbot for example, check for errors there)".to_owned(),
            ),
            TlsError::InvalidCertificate(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => {
                certificate(format!("the certificate of {host} isn't valid yet"), "correct the clock of the server, or of this machine".to_owned())
            }
            TlsError::InvalidCertificate(CertificateError::NotValidForName) => certificate(
                format!("the certificate doesn't cover {host}"),
                format!("get one that covers {host}, and let the server present it for that name"),
            ),
            TlsError::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => certificate(
                format!("the certificate is for {}, not for {host}", dns_names(presented)),
                format!("get one that covers {host}, and let the server present it for that name"),
            ),
            TlsError::InvalidCertificate(_) if chain.is_some_and(|chain| chain.self_signed) => certificate(
                format!("the certificate of {host} is self-signed"),
                "use a certificate of a public authority, such as Let's Encrypt; clients and the service trust no other".to_owned(),
            ),
            TlsError::InvalidCertificate(CertificateError::UnknownIssuer) if chain.is_some_and(|chain| chain.alone) => certificate(
                format!("the certificate of {host} comes without its issuer's, or its issuer isn't a public authority"),
                "let the server send the whole chain (fullchain.pem, not cert.pem); in a test setup, pass your own authority's with --trust-ca"
                    .to_owned(),
            ),
            TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => certificate(
                format!("the issuer of {host}'s certificate isn't a public authority"),
                "use a certificate of a public authority; in a test setup, pass your own authority's with --trust-ca".to_owned(),
            ),
            TlsError::InvalidCertificate(other) => {
                certificate(format!("the certificate of {host} is invalid ({other})"), "replace it".to_owned())
            }
            TlsError::InvalidMessage(_) => Self::NoTls,
            // Sent by nginx, OpenSSL, Go (Caddy) and rustls, in this order, if they have no certificate for the name.
            TlsError::AlertReceived(
                AlertDescription::UnrecognisedName
                | AlertDescription::HandshakeFailure
                | AlertDescription::InternalError
                | AlertDescription::AccessDenied,
            ) => certificate(
                format!("the server has no certificate for {host}"),
                format!("get one that covers {host}, and let the server present it for that name"),
            ),
            other => Self::Tls(format!("the TLS handshake with {host} fails ({other})")),
        }
    }
}

fn list(addresses: &[(SocketAddr, ConnectFailure)]) -> String {
    let lines: Vec<_> = addresses.iter().map(|(address, failure)| format!("{address}: {failure}")).collect();
    lines.join("; ")
}

/// Host and port of a URL.
pub(crate) fn authority(url: &Url) -> Result<(&str, u16), Failure> {
    let host = url.host_str().ok_or_else(|| Failure::NotHttp(format!("{url} has no host")))?;
    Ok((host, url.port_or_known_default().unwrap_or(443)))
}

/// Whether the host of a URL is this machine by definition; browsers treat `http` there as secure.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Values of a header, from all its lines.
pub(crate) fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value: &HeaderValue| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).collect()
}

fn dns_names(presented: &[String]) -> String {
    // rustls formats them as `DnsName("example.com")`.
    let names: Vec<_> = presented.iter().map(|name| name.split('"').nth(1).unwrap_or(name)).take(MAX_NAMES).collect();
    if names.is_empty() { "no name".to_owned() } else { names.join(", ") }
}

fn unbracketed(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

/// Origin of a client's page.
pub(crate) const ORIGIN: &str = "https://call.example.com";
/// In bytes.
const MAX_BODY: usize = 64 * 1024;
const MAX_NAMES: usize = 5;
const MAX_REDIRECTS: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(10);
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// That of the service, so that the doctor is refused where the service is.
const USER_AGENT: &str = concat!("matrixrtc-edge/", env!("CARGO_PKG_VERSION"));
