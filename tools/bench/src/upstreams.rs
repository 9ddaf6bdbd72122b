//! A homeserver and an SFU that answer at once, in a process of their own: their CPU time isn't workerd's, nor the client's.

use std::{
    convert::Infallible,
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt, Collected, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use serde::{Deserialize, Serialize};
use supervise::http;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// The process, which ends when this is dropped, and also when the process that started it is gone.
pub struct Upstreams {
    child: Child,
    ports: Ports,
}

#[derive(Serialize, Deserialize)]
struct Ports {
    homeserver: u16,
    sfu: u16,
}

/// How many connections have been opened to them.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Connections {
    pub homeserver: u64,
    pub sfu: u64,
}

impl Upstreams {
    /// Starts them; the certificate that the homeserver's TLS is to be trusted by will be in the file `authority`. Each
    /// answer comes after `hop`.
    pub fn start(authority: &Path, hop: Duration) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .arg("upstreams")
            .arg(authority)
            .arg(hop.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("can't start the upstreams")?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let ports = serde_json::from_str(&line).context("the upstreams don't start")?;
        Ok(Self { child, ports })
    }

    /// The homeserver's name.
    pub fn server_name(&self) -> String {
        server_name(self.ports.homeserver)
    }

    /// The user whom every OpenID token belongs to.
    pub fn user(&self) -> String {
        user(&self.server_name())
    }

    /// Returns the value of `LIVEKIT_URL` for the SFU.
    pub fn sfu_url(&self) -> String {
        format!("ws://{}", self.sfu())
    }

    /// How many connections have been opened to them so far.
    pub fn connections(&self) -> Result<Connections> {
        let answer = http::get(self.sfu(), CONNECTIONS)?;
        Ok(serde_json::from_str(&answer.body)?)
    }

    fn sfu(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.sfu))
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the upstreams, until standard input ends. Their ports are written to standard output.
pub fn serve(authority: &Path, hop: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let homeserver = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let sfu = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let ports = Ports { homeserver: homeserver.local_addr()?.port(), sfu: sfu.local_addr()?.port() };
        let user: Arc<str> = user(&server_name(ports.homeserver)).into();
        let tls = TlsAcceptor::from(Arc::new(tls(authority)?));
        println!("{}", serde_json::to_string(&ports)?);
        io::stdout().flush()?;

        let counts = Arc::new(Counts::default());
        tokio::spawn(be_homeserver(homeserver, tls, user, hop, Arc::clone(&counts)));
        tokio::spawn(be_sfu(sfu, hop, counts));
        tokio::task::spawn_blocking(|| io::stdin().read_to_end(&mut Vec::new())).await??;
        anyhow::Ok(())
    });
    runtime.shutdown_background();
    outcome
}

#[derive(Default)]
struct Counts {
    homeserver: AtomicU64,
    sfu: AtomicU64,
}

async fn be_homeserver(listener: TcpListener, tls: TlsAcceptor, user: Arc<str>, hop: Duration, counts: Arc<Counts>) {
    while let Ok((stream, _)) = listener.accept().await {
        counts.homeserver.fetch_add(1, Ordering::Relaxed);
        let (tls, user) = (tls.clone(), Arc::clone(&user));
        tokio::spawn(async move {
            // Its clients are workerd's, which say themselves when a connection fails.
            let Ok(stream) = accepted(stream) else { return };
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request| {
                let user = Arc::clone(&user);
                async move {
                    sleep(hop).await;
                    Ok::<_, Infallible>(homeserver(&request, &user))
                }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn be_sfu(listener: TcpListener, hop: Duration, counts: Arc<Counts>) {
    while let Ok((stream, _)) = listener.accept().await {
        counts.sfu.fetch_add(1, Ordering::Relaxed);
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            let Ok(stream) = accepted(stream) else { return };
            let service = service_fn(|request| {
                let counts = Arc::clone(&counts);
                async move {
                    sleep(hop).await;
                    Ok::<_, Infallible>(room_service(request, &counts).await)
                }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn accepted(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn homeserver(request: &Request<Incoming>, user: &str) -> Response<Full<Bytes>> {
    let has_token = request.uri().query().is_some_and(|query| query.starts_with("access_token="));
    let bearer = is_bearer(request.headers());
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/_matrix/client/versions") => {
            let versions = r#"{"versions":["v1.1"],"unstable_features":{"org.matrix.msc4140":true}}"#;
            reply(StatusCode::OK, "application/json", versions)
        }
        (&Method::POST, path) if path.starts_with(DELAYED_EVENTS) && path.ends_with("/restart") => {
            reply(StatusCode::OK, "application/json", "{}")
        }
        (&Method::GET, path) if bearer && path.ends_with("/is_joined") => {
            reply(StatusCode::OK, "application/json", r#"{"joined":true}"#)
        }
        (&Method::GET, "/_matrix/federation/v1/openid/userinfo") if has_token => {
            reply(StatusCode::OK, "application/json", format!(r#"{{"sub":"{user}"}}"#))
        }
        _ => reply(StatusCode::NOT_FOUND, "application/json", "{}"),
    }
}

async fn room_service(request: Request<Incoming>, counts: &Counts) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let bearer = is_bearer(&head.headers);
    match (&head.method, head.uri.path()) {
        (&Method::GET, CONNECTIONS) => {
            let connections = Connections {
                homeserver: counts.homeserver.load(Ordering::Relaxed),
                sfu: counts.sfu.load(Ordering::Relaxed),
            };
            let json = serde_json::to_string(&connections).unwrap_or_default();
            reply(StatusCode::OK, "application/json", json)
        }
        (&Method::POST, "/twirp/livekit.RoomService/CreateRoom") if bearer => {
            match body.collect().await.map(Collected::to_bytes) {
                Ok(body) if !body.is_empty() => reply(StatusCode::OK, "application/protobuf", ROOM),
                _ => reply(StatusCode::BAD_REQUEST, "application/json", "{}"),
            }
        }
        (&Method::POST, "/twirp/livekit.RoomService/GetParticipant") if bearer => {
            let absent = r#"{"code":"not_found","msg":"participant does not exist"}"#;
            reply(StatusCode::NOT_FOUND, "application/json", absent)
        }
        _ => reply(StatusCode::NOT_FOUND, "application/json", "{}"),
    }
}

fn is_bearer(headers: &HeaderMap) -> bool {
    headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"Bearer "))
}

/// A whole answer.
pub fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// A certificate that vouches for itself, written to `authority`.
fn tls(authority: &Path) -> Result<ServerConfig> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([HOST.to_owned()])?.self_signed(&key)?;
    fs::write(authority, certificate.pem()).with_context(|| format!("can't write {}", authority.display()))?;
    let Ok(key) = PrivateKeyDer::try_from(key.serialize_der()) else { bail!("the key isn't in a known form") };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    Ok(config)
}

fn server_name(port: u16) -> String {
    format!("{HOST}:{port}")
}

fn user(server_name: &str) -> String {
    format!("@alice:{server_name}")
}

const HOST: &str = "localhost";
const CONNECTIONS: &str = "/connections";
const DELAYED_EVENTS: &str = "/_matrix/client/unstable/org.matrix.msc4140/delayed_events/";
/// A `Room` with a `sid` (field 1), and, for the size of a real one, codecs (field 7).
pub const ROOM: &[u8] = b"\x0a\x0fRM_aaaaaaaaaaaa\x3a\x0b\x0a\x09video/VP8\x3a\x0c\x0a\x0aaudio/opus";
