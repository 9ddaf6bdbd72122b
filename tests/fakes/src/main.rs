//! `stand-ins WORKER`: a homeserver and an SFU on loopback, and a client to try, for `cargo xtask dev`.
//!
//! - They are the tests' fakes, and respond as real servers do.
//! - Alice's client is simulated: `POST /join` and `POST /leave` connect it to the SFU and end its connection. The
//!   SFU's webhooks are sent to the worker, signed, and the response reports the worker's reaction.
//! - Each request of the worker is a line on standard error, without tokens and delay ids.
//! - The path of the certificate to trust is the only line on standard output. The end of standard input ends the
//!   program.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "stand-ins that can't do their part end")]

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use fakes::{
    CertificateAuthority, DelayedEvents, Departure, HomeserverPlan, Names, Participant, Reply, Request, Server,
    Serving, Sfu, Strictness, WebhookReceiver,
};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let worker: SocketAddr = std::env::args().nth(1).expect("the worker's address").parse().expect("an address");
    let strictness = Strictness::default();
    let authority = CertificateAuthority::named("the stand-ins of cargo xtask dev");

    let home = HomeserverPlan::new(&Loopback, &authority, strictness.clone(), SERVER_NAME)
        .without_website()
        .federation_at("localhost", FEDERATION_PORT)
        .start()
        .await;
    home.openid_token_of(USER, OPENID_TOKEN);
    let events = DelayedEvents::start_without_tls(loopback(CLIENT_API_PORT), "", strictness.clone()).await;
    let sfu = Sfu::start_at(loopback(SFU_PORT), None, "", strictness).await;
    sfu.set_keys(&[(KEY, SECRET)]);
    let call = Arc::new(Call { worker: Worker(worker), events, sfu, alice: Mutex::default() });
    call.events.schedule_as(DELAY_ID, DELAY);
    let handler = Arc::new(move |request: Request| {
        let call = Arc::clone(&call);
        Box::pin(async move { call.play(&request).await }) as _
    });
    let _client = Server::start(loopback(CLIENT_PORT), None, Serving::Public(handler)).await;

    Server::observe(show);
    println!("{}", authority.pem().display());
    std::io::stdout().flush().expect("standard output");
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

/// Alice's connection to the call, if she has one.
struct Call {
    worker: Worker,
    events: DelayedEvents,
    sfu: Sfu,
    alice: Mutex<Option<Participant>>,
}

impl Call {
    async fn play(&self, request: &Request) -> Reply {
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/join") => self.join().await,
            ("POST", "/leave") => self.leave().await,
            _ => Reply::json(404, &json!({ "error": "there are POST /join and POST /leave" })),
        }
    }

    async fn join(&self) -> Reply {
        let restarts = self.events.restarts(DELAY_ID);
        let alice = self.sfu.join(&hash(&[ROOM, SLOT]), &hash(&[USER, DEVICE, MEMBER]));
        let webhook = alice.joined().signed_with(KEY, SECRET);
        *self.alice.lock().unwrap() = Some(alice);
        let status = webhook.send(&self.worker).await;
        let restarted = self.soon(|| self.events.restarts(DELAY_ID) > restarts).await;
        Reply::json(200, &json!({ "participant_joined": status, "delayed leave restarted": restarted }))
    }

    async fn leave(&self) -> Reply {
        let Some(alice) = self.alice.lock().unwrap().take() else {
            return Reply::json(409, &json!({ "error": "Alice isn't connected: POST /join" }));
        };
        let sends = self.events.sends(DELAY_ID);
        self.sfu.leave(&alice);
        let webhook = alice.left(Departure::ClientInitiated).signed_with(KEY, SECRET);
        let status = webhook.send(&self.worker).await;
        let sent = self.soon(|| self.events.sends(DELAY_ID) > sends).await;
        // For the next delegation.
        self.events.schedule_as(DELAY_ID, DELAY);
        Reply::json(200, &json!({ "participant_left": status, "delayed leave sent": sent }))
    }

    /// Waits until `holds` returns true, for ten seconds at most, and returns whether it did.
    async fn soon(&self, holds: impl Fn() -> bool) -> bool {
        let poll = async {
            while !holds() {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.is_ok()
    }
}

/// Worker that receives the webhooks.
struct Worker(SocketAddr);

impl WebhookReceiver for Worker {
    type Answer = Option<u16>;

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }

    async fn receive(&self, mut request: hyper::Request<Full<Bytes>>) -> Option<u16> {
        let host = self.0.to_string().parse().ok()?;
        request.headers_mut().insert(hyper::header::HOST, host);
        let stream = TcpStream::connect(self.0).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        // Ends with the connection.
        tokio::spawn(connection);
        let path = request.uri().path().parse().ok()?;
        *request.uri_mut() = path;
        Some(sender.send_request(request).await.ok()?.status().as_u16())
    }

    async fn try_receive(&self, request: hyper::Request<Full<Bytes>>) -> Option<Option<u16>> {
        Some(self.receive(request).await)
    }
}

/// Resolves every name to this machine.
struct Loopback;

impl Names for Loopback {
    fn address_of(&self, _: &str) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
}

fn show(request: &Request, status: u16) {
    let Request { method, path, .. } = request;
    if let Some(method) = path.strip_prefix("/twirp/livekit.RoomService/") {
        eprintln!("    worker → SFU         {method}: {status}");
    } else if let Some((path, rest)) = path.split_once("/delayed_events/") {
        let operation = rest.split_once('/').map_or("", |(_, operation)| operation);
        eprintln!("    worker → homeserver  {method} {path}/delayed_events/…/{operation}: {status}");
    } else if path.starts_with("/_matrix/") {
        eprintln!("    worker → homeserver  {method} {path}: {status}");
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Name on the SFU, as the service derives it: SHA-256 of the canonical JSON array, in base64.
fn hash(parts: &[&str]) -> String {
    STANDARD_NO_PAD.encode(Sha256::digest(json!(parts).to_string()))
}

// `cargo xtask dev` has all of these, too: in .dev.vars, and in the requests that it shows.
const FEDERATION_PORT: u16 = 8548;
const CLIENT_API_PORT: u16 = 8549;
const SFU_PORT: u16 = 7980;
const CLIENT_PORT: u16 = 7981;
const KEY: &str = "devkey";
const SECRET: &str = "secret";
const SERVER_NAME: &str = "localhost:8548";
const ROOM: &str = "!room:localhost:8548";
const SLOT: &str = "m.call#ROOM";
const USER: &str = "@alice:localhost:8548";
const DEVICE: &str = "DEVICE";
const MEMBER: &str = "member-1";
const OPENID_TOKEN: &str = "alices-openid-token";
const DELAY_ID: &str = "alices-leave";
/// Longer than any session: an event with a shorter `delay_timeout` in its request is restarted all the same.
const DELAY: Duration = Duration::from_secs(86_400);
const POLL: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(10);
