//! `/get_token` of a full-access user whose homeserver is known already: the worker, and the floor beside it. And the same
//! user's token through the homeserver.
//!
//! The contenders run at the same time and get requests in turns, so that other load on this machine meets all of them.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use jwt_compact::{
    AlgorithmExt, UntrustedToken,
    alg::{Hs256, Hs256Key},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use standalone::{
    log::Log,
    workerd::{Launch, Program, Running},
};
use xtask::progress::Step;

use crate::{
    load::Load,
    process, production,
    report::{ModuleStart, Report, Round, Summary, median, percentile},
    start::{self, Start},
    upstreams::{Connections, Upstreams},
};

#[derive(Debug, Args)]
pub struct TokenOptions {
    /// How often each contender is measured, in turns
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Write the results to this file, too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure the build in this directory (index.js, index_bg.wasm), too: of another revision, say
    #[arg(long, value_name = "DIR")]
    also: Vec<PathBuf>,
}

/// Builds the worker, measures, and prints the results.
///
/// # Errors
///
/// The worker can't be built or started, or answers something else than a token.
pub fn run(options: &TokenOptions) -> Result<()> {
    let program = production()?;
    let bench = Bench::new(&program, Duration::ZERO)?;
    let contenders = bench.contenders(&program, &options.also)?;
    let starts = bench.measure_starts(&contenders)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(bench.measure(contenders, starts, options.rounds))?;
    println!("{report}");
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(path, json + "\n").with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

/// Upstreams, and a way to start workerd with them.
pub struct Bench {
    dir: TempDir,
    authority: PathBuf,
    pub upstreams: Upstreams,
    workerd: PathBuf,
}

/// A worker to measure.
struct Contender {
    name: String,
    program: Program,
    door: Door,
}

/// The entry point that a token is requested at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    /// By a client, with an OpenID token.
    OpenId,
    /// By the homeserver (MSC4195).
    Homeserver,
}

impl Bench {
    /// Starts upstreams whose answers come after `hop` each.
    pub fn new(worker: &Program, hop: Duration) -> Result<Self> {
        let dir = tempfile::tempdir().context("can't create a temporary directory")?;
        let authority = dir.path().join("authority.pem");
        let upstreams = Upstreams::start(&authority, hop)?;
        Ok(Self { dir, authority, upstreams, workerd: worker.workerd.clone() })
    }

    /// The floor first: the others are compared with it.
    fn contenders(&self, worker: &Program, also: &[PathBuf]) -> Result<Vec<Contender>> {
        let floor = Contender { name: "floor".to_owned(), program: self.script("floor", FLOOR)?, door: Door::OpenId };
        let doors = [("worker", Door::OpenId), ("homeserver", Door::Homeserver)];
        let doors = doors.map(|(name, door)| Contender { name: name.to_owned(), program: worker.clone(), door });
        let others = also.iter().map(|dir| Contender {
            name: dir.file_name().unwrap_or(dir.as_os_str()).to_string_lossy().into_owned(),
            // Earlier ones have no page.
            program: Program { assets: worker.assets.clone(), ..Program::in_dir(self.workerd.clone(), dir) },
            door: Door::OpenId,
        });
        Ok([floor].into_iter().chain(doors).chain(others).collect())
    }

    /// A worker without WebAssembly, in a directory of that name: its WebAssembly module is empty, and so are the files of
    /// its page.
    fn script(&self, name: &str, text: &str) -> Result<Program> {
        let dir = self.dir.path().join("scripts").join(name);
        let program = Program::in_dir(self.workerd.clone(), &dir);
        let [script, wasm] = ["index.js", "index_bg.wasm"].map(|name| dir.join(name));
        let modules = [(&script, text.as_bytes()), (&wasm, EMPTY_WASM)];
        for (path, content) in modules.into_iter().chain(program.assets.iter().map(|asset| (asset, b"".as_slice()))) {
            fs::create_dir_all(path.parent().unwrap_or(&dir))?;
            fs::write(path, content).with_context(|| format!("can't write {}", path.display()))?;
        }
        Ok(program)
    }

    /// Measures the time that each contender's modules add to the start of workerd with a module that does nothing.
    fn measure_starts(&self, contenders: &[Contender]) -> Result<Vec<ModuleStart>> {
        let blank = self.script("blank", BLANK)?;
        let programs = [&blank].into_iter().chain(contenders.iter().map(|contender| &contender.program));
        let mut starts = Vec::new();
        for (number, program) in programs.enumerate() {
            let name = format!("start-{number}");
            let launch = self.launch(&name)?;
            launch.start(program)?;
            starts.push((launch, Vec::new()));
        }
        let mut step = Step::start("starting workerd again and again");
        for n in 0..STARTS {
            for (launch, starts) in &mut starts {
                step.tick(|| format!("{} of {STARTS}", n + 1));
                starts.push(start::measure(&self.workerd, launch)?);
            }
        }
        step.done();
        let medians = |(_, starts): &(Launch, Vec<Start>)| {
            let of = |value: fn(&Start) -> Duration| {
                median(&starts.iter().map(|start| milliseconds(value(start))).collect::<Vec<_>>())
            };
            ModuleStart { elapsed_ms: of(|start| start.elapsed), cpu_ms: of(|start| start.cpu) }
        };
        let blank = medians(&starts[0]);
        let beyond_blank = |start: ModuleStart| ModuleStart {
            elapsed_ms: start.elapsed_ms - blank.elapsed_ms,
            cpu_ms: start.cpu_ms - blank.cpu_ms,
        };
        Ok(starts[1..].iter().map(medians).map(beyond_blank).collect())
    }

    async fn measure(&self, contenders: Vec<Contender>, starts: Vec<ModuleStart>, rounds: u32) -> Result<Report> {
        let mut step = Step::start("warming up");
        let mut subjects = Vec::new();
        for contender in contenders {
            let running = self.launch(&contender.name)?.start(&contender.program)?;
            let load = self.load(contender.door, running.addr());
            load.run(CONCURRENCY, WARM_UP).await.with_context(|| contender.name.clone())?;
            let claims = claims(&load.ask().await?)?;
            let Contender { name, door, .. } = contender;
            subjects.push(Subject { name, door, running, load, claims, rounds: Vec::new() });
        }
        for subject in &subjects[1..] {
            // Through the homeserver, a member has another identity.
            if subject.door == Door::OpenId && subject.claims != subjects[0].claims {
                bail!("{} issues another token than {}: they can't be compared", subject.name, subjects[0].name);
            }
        }
        step.done();

        step = Step::start("measuring");
        for n in 1..=rounds {
            // There and back: the first one leaves the machine in another state, which mustn't always meet the same contender.
            let mut order: Vec<_> = (0..subjects.len()).collect();
            if n % 2 == 0 {
                order.reverse();
            }
            for index in order {
                let subject = &mut subjects[index];
                step.tick(|| format!("round {n} of {rounds}, {}", subject.name));
                subject.round(&self.upstreams).await.with_context(|| subject.name.clone())?;
            }
        }
        step.done();
        let summaries = subjects.into_iter().zip(starts).map(|(subject, start)| {
            let memory = process::resident_memory(subject.running.pid())?;
            Ok(Summary::new(subject.name, start, memory, subject.rounds))
        });
        Ok(Report::new(summaries.collect::<Result<_>>()?))
    }

    /// How to run a worker, with a state directory of that name.
    pub fn launch(&self, name: &str) -> Result<Launch> {
        let state = self.dir.path().join(name);
        fs::create_dir_all(&state)?;
        let (key, secret) = CREDENTIALS;
        let env = [
            ("LIVEKIT_URL", self.upstreams.sfu_url()),
            ("LIVEKIT_KEY", key.to_owned()),
            ("LIVEKIT_SECRET", secret.to_owned()),
            ("LIVEKIT_FULL_ACCESS_HOMESERVERS", self.upstreams.server_name()),
            ("LIVEKIT_ALLOW_PRIVATE_ADDRESSES", "true".to_owned()),
            ("LIVEKIT_HS_SERVER_NAME", self.upstreams.server_name()),
            ("LIVEKIT_AS_TOKEN", "an-as-token-of-nobody-in-particular".to_owned()),
            ("LIVEKIT_HS_TOKEN", HS_TOKEN.to_owned()),
            // The floor checks no membership either; what that costs is seen in homeserver mode.
            ("LIVEKIT_REQUIRE_MEMBERSHIP", "false".to_owned()),
            ("LIVEKIT_CS_API_URL_OVERRIDES", format!("{0}=https://{0}", self.upstreams.server_name())),
        ];
        Ok(Launch {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            log: Log::File(state.join("log")),
            state,
            trust_ca: vec![self.authority.clone()],
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        })
    }

    fn load(&self, door: Door, addr: SocketAddr) -> Load {
        match door {
            Door::OpenId => Load::new(addr, self.request().to_string()),
            Door::Homeserver => {
                let body = json!({
                    "url": self.upstreams.sfu_url(),
                    "room_id": "!aVeryOrdinaryRoom:localhost",
                    "slot_id": "m.call#ROOM",
                    "member_id": "b2e4ab4c-4f3c-4ad5-b4ab-9c5d5d7f1a6e",
                });
                let user = ("x-matrix-user-identifier", self.upstreams.user());
                let headers = vec![("authorization", format!("Bearer {HS_TOKEN}")), user];
                Load::new(addr, body.to_string()).at(HOMESERVER_PATH, headers)
            }
        }
    }

    /// Body of a request for a token at `/get_token`.
    pub fn request(&self) -> Value {
        json!({
            "room_id": "!aVeryOrdinaryRoom:localhost",
            "slot_id": "m.call#ROOM",
            "openid_token": {
                "access_token": "AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "token_type": "Bearer",
                "matrix_server_name": self.upstreams.server_name(),
                "expires_in": 3600,
            },
            "member": {
                "id": "b2e4ab4c-4f3c-4ad5-b4ab-9c5d5d7f1a6e",
                "claimed_user_id": self.upstreams.user(),
                "claimed_device_id": "ABCDEFGHIJ",
            },
        })
    }
}

/// A contender that runs.
struct Subject {
    name: String,
    door: Door,
    running: Running,
    load: Load,
    claims: Value,
    rounds: Vec<Round>,
}

impl Subject {
    async fn round(&mut self, upstreams: &Upstreams) -> Result<()> {
        let latency = self.load.run(1, LATENCY_REQUESTS).await?;

        let Connections { homeserver, sfu } = upstreams.connections()?;
        let cpu = process::cpu_time(self.running.pid())?;
        let throughput = self.load.run(CONCURRENCY, THROUGHPUT_REQUESTS).await?;
        let cpu = process::cpu_time(self.running.pid())? - cpu;
        let after = upstreams.connections()?;

        let requests = THROUGHPUT_REQUESTS as f64;
        self.rounds.push(Round {
            latency_p50_ms: milliseconds(percentile(&latency.latencies, 50)),
            latency_p99_ms: milliseconds(percentile(&latency.latencies, 99)),
            requests_per_s: requests / throughput.elapsed.as_secs_f64(),
            cpu_ms_per_request: milliseconds(cpu) / requests,
            homeserver_connections_per_request: (after.homeserver - homeserver) as f64 / requests,
            sfu_connections_per_request: (after.sfu - sfu) as f64 / requests,
        });
        Ok(())
    }
}

/// Returns the claims of an answer's token, whose signature is verified, without those that differ from token to token.
fn claims(answer: &[u8]) -> Result<Value> {
    #[derive(Deserialize)]
    struct Answer {
        jwt: String,
    }
    let answer: Answer = serde_json::from_slice(answer).context("the answer holds no token")?;
    let token = UntrustedToken::new(&answer.jwt).context("the answer's token isn't one")?;
    let key = Hs256Key::new(CREDENTIALS.1);
    let token = Hs256.validator::<Value>(&key).validate(&token).context("the answer's token isn't valid")?;
    let mut claims = token.claims().custom.clone();
    if let Some(claims) = claims.as_object_mut() {
        claims.remove("jti");
    }
    Ok(claims)
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

const FLOOR: &str = include_str!("floor.js");
const BLANK: &str = include_str!("blank.js");
const EMPTY_WASM: &[u8] = b"\0asm\x01\0\0\0";
const CREDENTIALS: (&str, &str) = ("bench", "a-secret-of-nobody-in-particular");
const HS_TOKEN: &str = "an-hs-token-of-nobody-in-particular";
const HOMESERVER_PATH: &str = "/_matrix/client/unstable/io.element.msc4195/rtc/livekit/get_token";
const STARTS: usize = 15;
const CONCURRENCY: usize = 16;
const WARM_UP: usize = 2_000;
const LATENCY_REQUESTS: usize = 200;
const THROUGHPUT_REQUESTS: usize = 1_000;
