use std::fs;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fakes::WebhookReceiver;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use standalone::workerd::{Launch, Program, Running};
use tempfile::TempDir;
use xtask::wrangler::WranglerDev;

use crate::package::RunningPackage;
use crate::{Endpoint, Log, OpenIdToken, Package, Storage};

/// Worker in workerd, in the package or under `wrangler dev`, with a client of it.
pub struct Service {
    host: Host,
    client: Client<HttpConnector, Full<Bytes>>,
    log: Log,
    _directory: TempDir,
}

enum Host {
    Here(Arc<Here>),
    Wrangler(WranglerDev),
}

/// Without wrangler.
struct Here {
    launch: Launch,
    executable: Executable,
    running: Mutex<Process>,
}

/// Host of the worker.
pub(crate) enum Executable {
    Workerd(Program),
    Package(Package),
}

/// Running host.
enum Process {
    Workerd(Running),
    Package(RunningPackage),
}

/// Complete response of the worker.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Service {
    pub(crate) fn start(launch: Launch, executable: Executable, log: Log, directory: TempDir) -> Self {
        let running = Mutex::new(executable.start(&launch));
        Self::on(Host::Here(Arc::new(Here { launch, executable, running })), log, directory)
    }

    pub(crate) fn under_wrangler(wrangler: WranglerDev, log: Log, directory: TempDir) -> Self {
        Self::on(Host::Wrangler(wrangler), log, directory)
    }

    fn on(host: Host, log: Log, directory: TempDir) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { host, client, log, _directory: directory }
    }

    /// Kills workerd, or the package, with SIGKILL.
    pub fn kill(&self) {
        match &mut *self.here().running.lock().unwrap() {
            Process::Workerd(workerd) => drop(workerd.kill().expect("workerd can be killed")),
            Process::Package(package) => package.kill(),
        }
    }

    /// Starts it again, on the same storage and another port.
    pub fn start_again(&self) {
        let Here { launch, executable, running } = self.here();
        *running.lock().unwrap() = executable.start(launch);
    }

    /// Does the same while other tasks of the test go on, its homeservers and SFUs among them. Not in another network.
    pub async fn start_again_meanwhile(&self) {
        let Host::Here(here) = &self.host else { panic!("{NOT_UNDER_WRANGLER}") };
        let here = Arc::clone(here);
        let start = move || *here.running.lock().unwrap() = here.executable.start(&here.launch);
        tokio::task::spawn_blocking(start).await.expect("it starts");
    }

    /// Starts it again from another executable.
    pub fn start_again_from(&self, package: &Package) {
        let Here { launch, running, .. } = self.here();
        *running.lock().unwrap() = Process::Package(package.start(launch));
    }

    /// Sends SIGTERM to the package, and doesn't wait for its end.
    pub fn terminate(&self) {
        match &*self.here().running.lock().unwrap() {
            Process::Workerd(_) => panic!("an operator's signals go to the package"),
            Process::Package(package) => package.terminate(),
        }
    }

    /// Waits for the end of the package, and returns its status.
    pub async fn ended(&self) -> ExitStatus {
        let poll = async {
            loop {
                let ended = match &mut *self.here().running.lock().unwrap() {
                    Process::Workerd(workerd) => workerd.try_wait().expect("it is my child"),
                    Process::Package(package) => package.try_wait(),
                };
                match ended {
                    Some(status) => return status,
                    None => tokio::time::sleep(POLL).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, poll).await.expect("it ends")
    }

    /// Deployment that was started.
    pub fn launch(&self) -> &Launch {
        &self.here().launch
    }

    /// Deploys it again with other values of variables (`None`: without), on the same storage and another port.
    pub fn deploy_again(&mut self, changes: &[(&str, Option<&str>)]) {
        let Host::Here(here) = &mut self.host else { panic!("{NOT_UNDER_WRANGLER}") };
        let here = Arc::get_mut(here).expect("nobody else uses it");
        let env = &mut here.launch.env;
        for (variable, value) in changes {
            match value {
                Some(value) => env.insert((*variable).to_owned(), (*value).to_owned()),
                None => env.remove(*variable),
            };
        }
        self.kill();
        self.start_again();
    }

    /// Storage of the objects.
    pub fn storage(&self) -> Storage {
        Storage::new(&self.here().launch.state)
    }

    /// Requests a LiveKit token, with a complete request for this OpenID token.
    pub async fn request_token(&self, endpoint: Endpoint, token: &OpenIdToken) -> Answer {
        self.post(endpoint.path(), &endpoint.request(token)).await
    }

    /// POSTs JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_bytes(path, body.to_string()).await
    }

    /// POSTs any bytes as JSON.
    pub async fn post_bytes(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::post(self.url(path))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .expect("a request");
        self.send(request).await
    }

    /// Sends a request with another method, and no body.
    pub async fn request(&self, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(self.url(path)).body(Full::default()).expect("a request");
        self.send(request).await
    }

    /// POSTs JSON to a worker that may be killed meanwhile; then there is no response.
    pub async fn try_post(&self, path: &str, body: &Value) -> Option<Answer> {
        let request = Request::post(self.url(path))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.to_string().into()))
            .expect("a request");
        self.try_send(request).await.ok()
    }

    /// Sends any other request.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_send(request).await.unwrap_or_else(|error| panic!("no answer to {what}: {error}"))
    }

    /// Sends any request to a worker that may be killed meanwhile.
    pub(crate) async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = response.into_parts();
            let status = head.status.as_u16();
            let body = body.collect().await.map_err(|error| format!("{error:?}"))?.to_bytes();
            Ok(Answer { status, headers: head.headers, body })
        };
        let outcome = tokio::time::timeout(PATIENCE, exchange).await;
        outcome.unwrap_or_else(|_| Err(String::from("none in time")))
    }

    /// Returns the absolute URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr())
    }

    /// Address at which it listens.
    pub fn addr(&self) -> SocketAddr {
        match &self.host {
            Host::Here(here) => here.running.lock().unwrap().addr(),
            Host::Wrangler(wrangler) => wrangler.addr(),
        }
    }

    /// Log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Resident memory of workerd and, if it runs in the package, of that too, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// Runs `load` a few times, and checks that it leaves no memory behind. V8 lets its heap grow by tens of MiB at once,
    /// under the emptiest of workers too, but not each time; a leak shows each time.
    pub async fn assert_no_leak(&self, mut load: impl AsyncFnMut(u64)) {
        let mut resident = Vec::new();
        for run in 0..LOADS {
            load(run).await;
            resident.push(self.resident_kib());
        }
        println!("resident memory after each load, in KiB: {resident:?}");
        let growth = resident.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).min();
        assert!(growth.is_some_and(|growth| growth < LEAK_KIB), "memory grows with each load: {resident:?} KiB");
        assert!(resident.last().is_some_and(|last| *last < resident[0] + MOST_KIB), "memory grows: {resident:?} KiB");
    }

    /// Peak of the same, in KiB.
    pub fn peak_resident_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    /// Memory that is no page of a file, of workerd and, if it runs in the package, of that too, in KiB.
    pub fn anonymous_kib(&self) -> u64 {
        self.status_kib("RssAnon:")
    }

    /// Sum over the process and its children.
    fn status_kib(&self, field: &str) -> u64 {
        let pid = self.here().running.lock().unwrap().pid().to_string();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it is still there");
        let of = |pid: &str| -> u64 {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is still there");
            let lines = status.lines();
            let mut found = lines.filter_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok());
            found.next().expect("a number in the status of a process")
        };
        children.split_whitespace().chain([pid.as_str()]).map(of).sum()
    }
}

impl WebhookReceiver for Service {
    type Answer = Answer;

    fn url(&self, path: &str) -> String {
        self.url(path)
    }

    async fn receive(&self, request: Request<Full<Bytes>>) -> Answer {
        self.send(request).await
    }

    async fn try_receive(&self, request: Request<Full<Bytes>>) -> Option<Answer> {
        self.try_send(request).await.ok()
    }
}

impl Service {
    fn here(&self) -> &Here {
        match &self.host {
            Host::Here(here) => here,
            Host::Wrangler(_) => panic!("{NOT_UNDER_WRANGLER}"),
        }
    }
}

impl Executable {
    /// On this very thread: a thread of the runtime's pool may be in another network.
    fn start(&self, launch: &Launch) -> Process {
        match self {
            Self::Package(package) => Process::Package(package.start(launch)),
            Self::Workerd(program) => {
                let running = launch.start(program);
                Process::Workerd(running.unwrap_or_else(|error| panic!("the worker doesn't start: {error:#}")))
            }
        }
    }
}

impl Process {
    fn addr(&self) -> SocketAddr {
        match self {
            Self::Workerd(workerd) => workerd.addr(),
            Self::Package(package) => package.addr(),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Self::Workerd(workerd) => workerd.pid(),
            Self::Package(package) => package.pid(),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.log.text();
            let lines: Vec<_> = lines.lines().collect();
            let last = lines.len().saturating_sub(LINES_SHOWN);
            eprintln!("end of the worker's log:\n{}", lines[last..].join("\n"));
        }
    }
}

impl Answer {
    /// Parses the body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("the body isn't JSON ({error}): {self:?}"))
    }

    /// Text of a header, empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// LiveKit token of a successful response.
    pub fn jwt(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        let body = self.json();
        body["jwt"].as_str().unwrap_or_else(|| panic!("no jwt in {self:?}")).to_owned()
    }

    /// Text of `error`.
    pub fn error(&self) -> String {
        let body = self.json();
        body["error"].as_str().unwrap_or_else(|| panic!("no error in {self:?}")).to_owned()
    }

    /// Fails unless this is the Matrix error of `docs/protocol.md#errors`.
    #[track_caller]
    pub fn assert_error(&self, status: u16, errcode: &str) {
        let body = self.json();
        assert_eq!((self.status, &body["errcode"]), (status, &Value::from(errcode)), "{self:?}");
        assert!(body["error"].is_string(), "no error text in {self:?}");
        assert!(self.header("content-type").starts_with("application/json"), "{self:?}");
    }

    /// Fails unless pages of any origin can read this in a browser (`docs/protocol.md#cors`).
    #[track_caller]
    pub fn assert_cors(&self) {
        assert_eq!(self.header("access-control-allow-origin"), "*", "{self:?}");
        assert_eq!(self.header("access-control-allow-methods"), "POST", "{self:?}");
        assert_eq!(
            self.header("access-control-allow-headers"),
            "Accept, Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization",
            "{self:?}"
        );
    }
}

const NOT_UNDER_WRANGLER: &str = "not under wrangler";
const LINES_SHOWN: usize = 40;
const POLL: Duration = Duration::from_millis(10);
/// Longer than any response takes: the worker ends a verification after 10 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a load is run to see whether it leaks.
const LOADS: u64 = 5;
/// Growth that counts as a leak where no load causes less.
const LEAK_KIB: u64 = 8 * 1024;
/// Growth that is too much in any case.
const MOST_KIB: u64 = 160 * 1024;
