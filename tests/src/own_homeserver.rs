use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, ORIGIN};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use fakes::{ForService, decoded, error};

use crate::account::{self, Account, Handled};
use crate::{Answer, CertificateAuthority, DelayedEvents, Homeserver, Network, Reply, Request, Service, Strictness};

/// Homeserver whose application service is the worker: it handles the service's requests (MSC4140, MSC4502, MSC4512),
/// and forwards its users' and other homeservers' requests to it (MSC4195).
///
/// A request without a token, on behalf of a wrong user or for an unknown path is a breach; one with a wrong token is
/// refused as by Synapse.
pub struct OwnHomeserver {
    /// Well-known and OpenID.
    pub home: Homeserver,
    /// Delayed events, which have owners, and `/versions`.
    pub events: DelayedEvents,
    as_token: String,
    hs_token: String,
    state: Arc<Mutex<State>>,
}

/// Kind of request of an application service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// `is_joined?mxid=`.
    IsUserJoined,
    /// `is_joined?server_name=`.
    IsServerJoined,
    /// `joined_members`.
    JoinedMembers,
    /// `fed_proxy`: a request to another homeserver.
    FedProxy,
    /// `whoami`.
    WhoAmI,
    /// `rtc/transports`: SFUs that are announced to clients (MSC4143).
    Transports,
    /// Request to a path that is forwarded to the worker, as of any user.
    Proxied,
}

/// Path whose requests the homeserver forwards to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HomeserverPath {
    /// A user's request for a token.
    ClientGetToken,
    /// Another homeserver's request for a token.
    FederationGetToken,
    /// A user's request to delegate a leave.
    Delegate,
}

#[derive(Default)]
struct State {
    server_name: String,
    as_token: String,
    rooms: HashMap<String, BTreeSet<String>>,
    replies: HashMap<Query, Reply>,
    reachable: HashMap<String, Destination>,
    transports: Vec<Value>,
    transports_without_login: Option<Reply>,
    proxy: Option<Destination>,
    queried: Vec<(Query, String)>,
    relayed: Vec<Value>,
    account: Option<Account>,
    takes_user_id: bool,
    missing_federation_path: Option<String>,
    /// Parts of the paths that it doesn't have.
    missing_paths: Vec<String>,
}

/// Worker, with the `hs_token` of its homeserver.
#[derive(Clone)]
struct Destination {
    worker: String,
    hs_token: String,
}

impl OwnHomeserver {
    pub(crate) async fn start(
        network: &Network,
        authority: &CertificateAuthority,
        home: Homeserver,
        strictness: Strictness,
    ) -> Self {
        let server_name = home.server_name().to_owned();
        let as_token = format!("SECRET-as-token-of-{server_name}");
        let hs_token = format!("SECRET-hs-token-of-{server_name}");
        let state = State { server_name: server_name.clone(), as_token: as_token.clone(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let handler_state = state.clone();
        let handler_strictness = strictness.clone();
        let rest = Arc::new(move |path: &str, request: &Request| {
            State::answer(&handler_state, path, request, &handler_strictness)
        });
        let service = ForService { as_token: as_token.clone(), rest };
        let name = format!("cs.{server_name}");
        let events = DelayedEvents::start(network, authority, &name, strictness, Some(service)).await;
        home.has_client_api(events.base_url());
        let user_id = format!("@alice:{server_name}");
        state.lock().unwrap().account = Some(Account::new(&user_id, home.issuer(), events.owned()));
        Self { home, events, as_token, hs_token, state }
    }

    /// Server name.
    pub fn server_name(&self) -> &str {
        self.home.server_name()
    }

    /// `as_token`, by which the worker authenticates itself.
    pub fn as_token(&self) -> &str {
        &self.as_token
    }

    /// `hs_token`, by which the homeserver authenticates itself.
    pub fn hs_token(&self) -> &str {
        &self.hs_token
    }

    /// Joins the user to the Matrix room.
    pub fn join(&self, room_id: &str, user_id: &str) {
        self.lock().rooms.entry(room_id.to_owned()).or_default().insert(user_id.to_owned());
    }

    /// Removes the user from the Matrix room.
    pub fn leave(&self, room_id: &str, user_id: &str) {
        self.lock().rooms.entry(room_id.to_owned()).or_default().remove(user_id);
    }

    /// Sets the reply to requests of this kind.
    pub fn answer_always(&self, query: Query, reply: Reply) {
        self.lock().replies.insert(query, reply);
    }

    /// Takes the user of `is_joined` as `user_id` from now on, in place of `mxid`.
    pub fn takes_user_id(&self) {
        self.lock().takes_user_id = true;
    }

    /// Lets it not have paths with this part.
    pub fn lacks(&self, part_of_path: &str) {
        self.lock().missing_paths.push(part_of_path.to_owned());
    }

    /// Lets other homeservers not have federation paths with this part.
    pub fn others_lack(&self, part_of_path: &str) {
        self.lock().missing_federation_path = Some(part_of_path.to_owned());
    }

    /// Lets its federation requests reach another homeserver, whose application service is that worker.
    pub fn federates_with(&self, other: &Self, worker: &Service) {
        let destination = Destination { worker: worker.url(""), hs_token: other.hs_token().to_owned() };
        self.lock().reachable.insert(other.server_name().to_owned(), destination);
    }

    /// Adds this entry to the list of transports, which clients read with a login.
    pub fn announces(&self, entry: &Value) {
        self.lock().transports.push(entry.clone());
    }

    /// Empties that list.
    pub fn announces_nothing(&self) {
        self.lock().transports.clear();
    }

    /// Sets the reply to requests for the list without a login, which is a 401 by default.
    pub fn answer_transports_without_login(&self, reply: Reply) {
        self.lock().transports_without_login = Some(reply);
    }

    /// Forwards users' requests to this URL with this token, as by its registration file.
    pub fn passes_on_to(&self, url: &str, hs_token: &str) {
        self.lock().proxy = Some(Destination { worker: url.to_owned(), hs_token: hs_token.to_owned() });
    }

    /// Access token of its user Alice, in a session that she has begun.
    pub fn access_token(&self) -> &'static str {
        account::TOKEN
    }

    /// Password of its user Alice.
    pub fn password(&self) -> &'static str {
        account::PASSWORD
    }

    /// Sets the reply to Alice's requests whose path contains this.
    pub fn answer_user(&self, part_of_path: &str, reply: Reply) {
        self.with_account(|account| account.answer(part_of_path, reply));
    }

    /// Ends the replies to Alice's requests that were set.
    pub fn answer_user_as_usual(&self) {
        self.with_account(Account::answer_as_usual);
    }

    /// Alice's requests in order: their methods and paths.
    pub fn user_s_requests(&self) -> Vec<String> {
        self.with_account(|account| account.requests())
    }

    /// Matrix rooms that Alice is in.
    pub fn user_s_rooms(&self) -> Vec<String> {
        self.with_account(|account| account.rooms())
    }

    /// Number of Alice's sessions.
    pub fn user_s_sessions(&self) -> usize {
        self.with_account(|account| account.sessions())
    }

    fn with_account<T>(&self, act: impl FnOnce(&mut Account) -> T) -> T {
        act(self.lock().account.as_mut().expect("an account"))
    }

    /// Requests in order: their kinds, with path and query.
    pub fn queried(&self) -> Vec<(Query, String)> {
        self.lock().queried.clone()
    }

    /// Number of requests, without those for well-known files and `/versions`.
    pub fn requests(&self) -> usize {
        self.lock().queried.len() + self.events.look_ups() + self.events.calls().len()
    }

    /// Bodies of the `fed_proxy` requests, in order.
    pub fn relayed(&self) -> Vec<Value> {
        self.lock().relayed.clone()
    }

    /// Forwards a request of its user to the worker.
    pub async fn forward(&self, worker: &Service, user_id: &str, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", bearer(self.hs_token())), ("x-matrix-user-identifier", user_id.to_owned())];
        send(worker, path, &headers, body).await
    }

    /// Forwards a request of another homeserver to the worker.
    pub async fn forward_federation(&self, worker: &Service, origin: &str, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", bearer(self.hs_token())), ("x-matrix-origin", origin.to_owned())];
        send(worker, path, &headers, body).await
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl HomeserverPath {
    /// All paths.
    pub const ALL: [Self; 3] = [Self::ClientGetToken, Self::FederationGetToken, Self::Delegate];

    /// Path in its stable and in its unstable forms.
    pub fn forms(self) -> [String; 3] {
        let (api, name) = match self {
            Self::ClientGetToken => ("client", "get_token"),
            Self::FederationGetToken => ("federation", "get_token"),
            Self::Delegate => ("client", "delegate_delayed_leave"),
        };
        ["v1", "unstable/org.matrix.msc4195", "unstable/io.element.msc4195"]
            .map(|form| format!("/_matrix/{api}/{form}/rtc/livekit/{name}"))
    }

    /// Path in the form that is deployed.
    pub fn path(self) -> String {
        let [_, _, unstable] = self.forms();
        unstable
    }
}

impl State {
    /// `None` for requests of delayed events.
    fn answer(
        state: &Arc<Mutex<Self>>,
        path: &str,
        request: &Request,
        strictness: &Strictness,
    ) -> Option<Pin<Box<dyn Future<Output = Reply> + Send>>> {
        let rest = path.strip_prefix("/_matrix/client/")?;
        let ready =
            |reply: Reply| -> Option<Pin<Box<dyn Future<Output = Reply> + Send>>> { Some(Box::pin(async { reply })) };
        let handled = state.lock().unwrap().account.as_mut().and_then(|account| account.handle(rest, request));
        match handled {
            Some(Handled::Reply(reply)) => return ready(reply),
            Some(Handled::Membership(reply, room, user_id, is_joined)) => {
                let mut state = state.lock().unwrap();
                let members = state.rooms.entry(room).or_default();
                if is_joined {
                    members.insert(user_id);
                } else {
                    members.remove(&user_id);
                }
                return ready(reply);
            }
            Some(Handled::Forwarded(user_id)) => return state.lock().unwrap().forward(path, user_id, request),
            Some(Handled::Transports) => return ready(state.lock().unwrap().transports(rest)),
            None => {}
        }
        if rest == "versions" || rest.contains("delayed_events/") {
            return None;
        }
        // Clients' pages read the list of transports.
        let is_transports = TRANSPORTS.contains(&rest) && request.method == "GET" && request.query.is_none();
        for unwanted in [COOKIE, ORIGIN] {
            let wanted = is_transports && unwanted == ORIGIN;
            strictness
                .expect(wanted || !request.headers.contains_key(&unwanted), || format!("{unwanted} in {request:?}"));
        }
        let mut state = state.lock().unwrap();
        let given = request.header(AUTHORIZATION);
        if is_transports && rest != TRANSPORTS[0] {
            // As merged, which is deployed nowhere.
            return ready(error(404, "M_UNRECOGNIZED"));
        }
        if is_transports && given.is_empty() {
            let reply = state.transports_without_login.clone();
            return ready(reply.unwrap_or_else(|| error(401, "M_MISSING_TOKEN")));
        }
        if given != bearer(&state.as_token) {
            strictness.expect(!given.is_empty(), || format!("no token in {request:?}"));
            return ready(error(401, "M_UNKNOWN_TOKEN"));
        }
        let Some(query) = Query::of(rest, request) else {
            strictness.breach(format!("the homeserver has no such path, or not like this: {request:?}"));
            return ready(error(404, "M_UNRECOGNIZED"));
        };
        let parameters = request.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        state.queried.push((query, format!("{}{parameters}", request.path)));
        if state.missing_paths.iter().any(|part| rest.contains(part)) {
            return ready(error(404, "M_UNRECOGNIZED"));
        }
        if query == Query::FedProxy {
            state.relayed.push(serde_json::from_slice(&request.body).unwrap_or_default());
        }
        if let Some(reply) = state.replies.get(&query) {
            return ready(reply.clone());
        }
        match query {
            Query::IsUserJoined | Query::IsServerJoined => ready(state.is_joined(rest, request, strictness)),
            Query::JoinedMembers => ready(state.joined_members(rest)),
            Query::FedProxy => {
                let relay = state.relay(strictness);
                Some(Box::pin(relay))
            }
            Query::WhoAmI => ready(Reply::json(200, &json!({ "user_id": state.sender() }))),
            Query::Transports => ready(state.transports(rest)),
            Query::Proxied => state.forward(path, state.sender(), request),
        }
    }

    /// List of transports for a user with a login. The form as merged is deployed nowhere.
    fn transports(&self, rest: &str) -> Reply {
        if rest != TRANSPORTS[0] {
            return error(404, "M_UNRECOGNIZED");
        }
        let body = match self.transports.as_slice() {
            [] => json!({}),
            entries => json!({ "rtc_transports": entries }),
        };
        Reply::json(200, &body).header("access-control-allow-origin", "*")
    }

    /// Forwards a request of this user to the worker.
    fn forward(
        &self,
        path: &str,
        user_id: String,
        request: &Request,
    ) -> Option<Pin<Box<dyn Future<Output = Reply> + Send>>> {
        let Some(proxy) = self.proxy.clone() else { return Some(Box::pin(async { error(404, "M_UNRECOGNIZED") })) };
        let forwarded = proxy.post(path, ("x-matrix-user-identifier", user_id), request.body.clone());
        Some(Box::pin(async move {
            match forwarded.await {
                Some((status, body)) => Reply::new(status, "application/json", body),
                None => error(500, "M_UNKNOWN"),
            }
        }))
    }

    /// User on whose behalf the application service acts.
    fn sender(&self) -> String {
        format!("@_matrixrtc:{}", self.server_name)
    }

    /// To Synapse `user_id` is the user on whose behalf the request is made, so it then misses `mxid`.
    fn is_joined(&self, rest: &str, request: &Request, strictness: &Strictness) -> Reply {
        let room = self.rooms.get(&room_of(rest).expect("a room"));
        let query = request.query.as_deref().unwrap_or_default();
        let (name, value) = form_urlencoded::parse(query.as_bytes()).next().expect("a question");
        strictness.expect(name != "user_id" || self.takes_user_id, || format!("it wants mxid: {request:?}"));
        if name == if self.takes_user_id { "mxid" } else { "user_id" } {
            return error(400, "M_MISSING_PARAM");
        }
        let is = |user: &String| if name == "server_name" { server_of(user) == value } else { *user == value };
        Reply::json(200, &json!({ "joined": room.is_some_and(|users| users.iter().any(is)) }))
    }

    fn joined_members(&self, rest: &str) -> Reply {
        let nobody = BTreeSet::new();
        let users = self.rooms.get(&room_of(rest).expect("a room")).unwrap_or(&nobody);
        if !users.iter().any(|user| server_of(user) == self.server_name) {
            return error(403, "M_FORBIDDEN");
        }
        let joined: serde_json::Map<_, _> = users.iter().map(|user| (user.clone(), json!({}))).collect();
        Reply::json(200, &json!({ "joined": joined }))
    }

    /// Passes the request to the other homeserver, as if signed, which forwards it to its worker.
    fn relay(&self, strictness: &Strictness) -> impl Future<Output = Reply> + Send + use<> {
        let request = self.relayed.last().cloned().unwrap_or_default();
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let (path, destination) = (text("path"), text("destination"));
        let is_whole = request["method"] == "POST" && path.starts_with("/_matrix/federation/");
        strictness.expect(is_whole && request["body"].is_object(), || format!("not to be relayed: {request}"));
        let is_missing = self.missing_federation_path.as_ref().is_some_and(|part| path.contains(part));
        let destination = self.reachable.get(&destination).cloned();
        let origin = self.server_name.clone();
        async move {
            let Some(destination) = destination else { return error(502, "M_UNKNOWN") };
            if is_missing {
                return Reply::json(200, &json!({ "status": 404, "content": { "errcode": "M_UNRECOGNIZED" } }));
            }
            let body = Bytes::from(request["body"].to_string());
            let forwarded = destination.post(&path, ("x-matrix-origin", origin), body).await;
            let (status, body) = forwarded.expect("the other worker answers");
            let content: Value = serde_json::from_slice(&body).expect("the other worker answers with JSON");
            Reply::json(200, &json!({ "status": status, "content": content }))
        }
    }
}

impl Destination {
    /// Forwards a request to the worker, with its user or origin. `None` without a response.
    fn post(
        &self,
        path: &str,
        (name, who): (&'static str, String),
        body: Bytes,
    ) -> impl Future<Output = Option<(u16, Bytes)>> + Send + use<> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let forwarded = hyper::Request::post(format!("{}{path}", self.worker))
            .header(CONTENT_TYPE, "application/json")
            .header(AUTHORIZATION, bearer(&self.hs_token))
            .header(name, who)
            .body(Full::new(body))
            .expect("a request");
        async move {
            let response = client.request(forwarded).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.expect("a whole answer").to_bytes();
            Some((status, body))
        }
    }
}

impl Query {
    /// Kind of a request to this path below `/_matrix/client/`, if it is a correct one.
    fn of(rest: &str, request: &Request) -> Option<Self> {
        let is_post = request.method == "POST" && request.header(CONTENT_TYPE) == "application/json";
        if ["v1/appservice/fed_proxy", "unstable/io.element.msc4512/appservice/fed_proxy"].contains(&rest) {
            return (is_post && request.query.is_none()).then_some(Self::FedProxy);
        }
        if HomeserverPath::ALL.iter().flat_map(|path| path.forms()).any(|path| path == request.path) {
            return (is_post && request.query.is_none()).then_some(Self::Proxied);
        }
        if request.method != "GET" || !request.body.is_empty() {
            return None;
        }
        match (rest, &request.query) {
            ("v3/account/whoami", None) => return Some(Self::WhoAmI),
            (path, None) if path == TRANSPORTS[0] => return Some(Self::Transports),
            _ => room_of(rest)?,
        };
        let query = request.query.as_deref().unwrap_or_default();
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let is_stable = rest.starts_with("v3/");
        match (rest.rsplit('/').next()?, pairs.next(), pairs.next()) {
            ("joined_members", None, None) if is_stable => Some(Self::JoinedMembers),
            ("is_joined", Some((name, _)), None) if name == "mxid" || name == "user_id" => Some(Self::IsUserJoined),
            ("is_joined", Some((name, _)), None) if name == "server_name" => Some(Self::IsServerJoined),
            _ => None,
        }
    }
}

/// Paths of the list of transports, as deployed and as merged.
const TRANSPORTS: [&str; 2] = ["unstable/org.matrix.msc4143/rtc/transports", "v1/rtc/transports"];

/// Room in the middle of a path, in one segment.
fn room_of(rest: &str) -> Option<String> {
    let rest = rest.strip_prefix("v3/").or_else(|| rest.strip_prefix("unstable/io.element.msc4502/"))?;
    let (room_id, last) = rest.strip_prefix("rooms/")?.split_once('/')?;
    let room_id = decoded(room_id)?;
    (!last.contains('/') && room_id.starts_with('!')).then_some(room_id)
}

async fn send(worker: &Service, path: &str, headers: &[(&str, String)], body: &Value) -> Answer {
    let mut request = hyper::Request::post(worker.url(path)).header(CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    worker.send(request.body(Full::new(Bytes::from(body.to_string()))).expect("a request")).await
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn server_of(user_id: &str) -> &str {
    user_id.split_once(':').map_or("", |(_, server)| server)
}
