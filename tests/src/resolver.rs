use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hyper::header::ACCEPT;
use serde_json::{Value, json};

use fakes::{Server, Serving};

use crate::{Reply, Request, Strictness};

/// DNS-over-HTTPS resolver (`application/dns-json`) for SRV records. Unknown names don't exist.
pub struct Resolver {
    state: Arc<Mutex<State>>,
    _server: Server,
}

#[derive(Default)]
struct State {
    records: HashMap<String, Vec<String>>,
    reply: Option<Reply>,
    queried: Vec<String>,
}

impl Resolver {
    pub(crate) async fn start(strictness: Strictness) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let handler_state = state.clone();
        let handler = Arc::new(move |request: Request| {
            let reply = handler_state.lock().unwrap().answer(&request, &strictness);
            Box::pin(async { reply }) as _
        });
        Self { state, _server: Server::start(ADDRESS, None, Serving::Http(handler)).await }
    }

    /// URL for queries.
    pub fn url(&self) -> String {
        format!("http://{ADDRESS}{PATH}")
    }

    /// Adds an SRV record to `name` (`_matrix-fed._tcp.…`).
    pub fn add_srv(&self, name: &str, priority: u16, weight: u16, port: u16, target: &str) {
        let data = format!("{priority} {weight} {port} {target}.");
        self.state.lock().unwrap().records.entry(name.to_owned()).or_default().push(data);
    }

    /// Removes all records.
    pub fn forget(&self) {
        self.state.lock().unwrap().records.clear();
    }

    /// Sets the reply to every query.
    pub fn set_reply(&self, reply: Reply) {
        self.state.lock().unwrap().reply = Some(reply);
    }

    /// Names that were queried, in order.
    pub fn queried(&self) -> Vec<String> {
        self.state.lock().unwrap().queried.clone()
    }
}

impl State {
    fn answer(&mut self, request: &Request, strictness: &Strictness) -> Reply {
        let query = request.query.as_deref().unwrap_or_default();
        let query: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let name = query.get("name").cloned().unwrap_or_default();
        strictness.expect(
            request.method == "GET"
                && request.path == PATH
                && query.len() == 2
                && query.get("type").is_some_and(|kind| kind == "SRV" || kind == "33")
                && name.starts_with("_matrix")
                && request.header(ACCEPT) == DNS_JSON,
            || format!("not a look-up of SRV records: {request:?}"),
        );
        let reply = self.reply.clone().unwrap_or_else(|| {
            let answer = self.records.get(&name).map(|records| answers(&name, records));
            Reply::new(200, DNS_JSON, dns_json(&name, answer).to_string())
        });
        self.queried.push(name);
        reply
    }
}

fn answers(name: &str, records: &[String]) -> Value {
    records.iter().map(|data| json!({ "name": format!("{name}."), "type": SRV, "TTL": 300, "data": data })).collect()
}

/// <https://developers.cloudflare.com/1.1.1.1/encryption/dns-over-https/make-api-requests/dns-json/>
fn dns_json(name: &str, answer: Option<Value>) -> Value {
    let mut message = json!({
        "Status": if answer.is_some() { NO_ERROR } else { NX_DOMAIN },
        "TC": false, "RD": true, "RA": true, "AD": false, "CD": false,
        "Query": [{ "name": name, "type": SRV }],
    });
    if let Some(answer) = answer {
        message["Answer"] = answer;
    }
    message
}

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8053);
const PATH: &str = "/dns-query";
const DNS_JSON: &str = "application/dns-json";
const SRV: u16 = 33;
const NO_ERROR: u16 = 0;
const NX_DOMAIN: u16 = 3;
