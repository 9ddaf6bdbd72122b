//! `cargo xtask bench leaves`: many delegated leaves in one workerd: are their restarts in time, and at what cost?
//!
//! All are handed over through `/get_token`, and their participants connect. For a while every restart is due in turn. Then
//! everybody leaves within a minute. Nothing may be lost, and no restart may come after its headroom.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use base64ct::{Base64, Encoding};
use chrono::{DateTime, TimeDelta};
use clap::Args;
use delegated_leaves::{DelayTimeout, Identity, RoomName};
use futures_util::future::{Either, select, try_join_all};
use jwt_compact::{
    AlgorithmExt, Claims, Header, TimeOptions,
    alg::{Hs256, Hs256Key},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::{sleep, sleep_until};

use standalone::{
    log::Log,
    workerd::{Launch, Program, Running},
};
use xtask::progress::Step;

use crate::{load::Client, process, production, upstreams::Upstreams};
use parties::Parties;
use report::{Report, Usage};

mod parties;
mod report;

#[derive(Debug, Args)]
pub struct LeavesOptions {
    /// How many leaves are handed over
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    delegations: u32,
    /// Over how many LiveKit rooms they are spread
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rooms: u32,
    /// The delay of each leave; it is restarted when four fifths of it have passed
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(30..=600))]
    delay: u64,
    /// How long restarts are measured, once all have connected
    #[arg(long, value_name = "SECONDS", default_value_t = 150, value_parser = clap::value_parser!(u64).range(1..=3600))]
    duration: u64,
    /// Write the results to this file, too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Builds the worker, measures, and prints the results.
///
/// # Errors
///
/// The worker can't be built or started; a leave was lost, or the homeserver sent one itself because its restart came too late.
pub fn run(options: &LeavesOptions) -> Result<()> {
    let program = production()?;
    let dir = tempfile::tempdir().context("can't create a temporary directory")?;
    let authority = dir.path().join("authority.pem");
    let upstreams = Upstreams::start(&authority, Duration::ZERO)?;
    let delay = DelayTimeout::from_millis(options.delay * 1000).context("the delay is zero")?;
    let parties = Parties::start(options.delegations as usize, delay)?;
    let state = dir.path().join("state");
    fs::create_dir(&state)?;
    let running = start(&program, &state, &authority, &upstreams, &parties)?;
    let members = (0..options.delegations).map(|number| Member::new(number, options.rooms)).collect();
    let bench = Bench { upstreams, parties, running, state, members, delay };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(bench.measure(Duration::from_secs(options.duration)))?;
    println!("{report}");
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(path, json + "\n").with_context(|| format!("can't write {}", path.display()))?;
    }
    let unkept = report.unkept();
    ensure!(unkept == 0, "{unkept} leaves were lost, or sent by the homeserver because their restart came too late");
    Ok(())
}

fn start(
    program: &Program,
    state: &Path,
    authority: &Path,
    upstreams: &Upstreams,
    parties: &Parties,
) -> Result<Running> {
    let (key, secret) = CREDENTIALS;
    let server_name = upstreams.server_name();
    let env = [
        ("LIVEKIT_URL", format!("ws://{}", parties.addr())),
        ("LIVEKIT_KEY", key.to_owned()),
        ("LIVEKIT_SECRET", secret.to_owned()),
        ("LIVEKIT_CS_API_URL_OVERRIDES", format!("{server_name}=http://{}", parties.addr())),
        ("LIVEKIT_FULL_ACCESS_HOMESERVERS", server_name),
        ("LIVEKIT_ALLOW_PRIVATE_ADDRESSES", "true".to_owned()),
        ("LIVEKIT_LOG_LEVEL", "warn".to_owned()),
    ];
    let launch = Launch {
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        log: Log::File(state.join("log")),
        state: state.to_owned(),
        trust_ca: vec![authority.to_owned()],
        env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<BTreeMap<_, _>>(),
    };
    launch.start(program)
}

/// A member of a call.
struct Member {
    number: u32,
    room_id: String,
    device_id: String,
}

impl Member {
    fn new(number: u32, rooms: u32) -> Self {
        Self { number, room_id: format!("!room{}:localhost", number % rooms), device_id: format!("DEVICE{number}") }
    }

    fn room(&self) -> RoomName {
        RoomName::of_slot(&self.room_id, SLOT)
    }

    fn identity(&self, user: &str) -> Identity {
        Identity::of_member(user, &self.device_id, MEMBER)
    }

    fn sid(&self) -> String {
        format!("PA_{}", self.number)
    }
}

struct Bench {
    upstreams: Upstreams,
    parties: Parties,
    running: Running,
    state: PathBuf,
    members: Vec<Member>,
    delay: DelayTimeout,
}

impl Bench {
    async fn measure(&self, duration: Duration) -> Result<Report> {
        let (user, server_name) = (self.upstreams.user(), self.upstreams.server_name());

        let mut step = Step::start("handing over leaves");
        let begun = Instant::now();
        let counter = || step.tick(|| format!("{} of {}", self.parties.connected(), self.members.len()));
        self.all_in_time(Duration::ZERO, counter, async |client, member| {
            self.parties.schedule(member.number);
            client.post("/get_token", &[], self.delegation(member, &user, &server_name).into()).await?;
            let identity = member.identity(&user);
            self.parties.connect(member.number, &member.room(), &identity, &member.sid());
            self.tell(client, "participant_joined", member, &identity).await
        })
        .await?;
        let handed_over_in = begun.elapsed();
        step.done();

        let mut step = Step::start("measuring restarts");
        // The first of each come with its participant's arrival; the load is even from the second on.
        self.parties.measure_restarts();
        let (begun, cpu) = (Instant::now(), process::cpu_time(self.running.pid())?);
        while begun.elapsed() < duration {
            sleep(TICK).await;
            step.tick(|| format!("{} s of {} s", begun.elapsed().as_secs(), duration.as_secs()));
        }
        let steady = Usage {
            elapsed: begun.elapsed(),
            cpu: process::cpu_time(self.running.pid())? - cpu,
            memory_bytes: process::resident_memory(self.running.pid())?,
            disk_bytes: size_of(&self.state)?,
        };
        let restarts = self.parties.restarts();
        step.done();

        let mut step = Step::start("everybody leaves");
        let (begun, cpu) = (Instant::now(), process::cpu_time(self.running.pid())?);
        let counter = || step.tick(|| format!("{} of {} sent", self.parties.sent(), self.members.len()));
        self.all_in_time(EXODUS, counter, async |client, member| {
            let identity = member.identity(&user);
            self.parties.disconnect(member.number, &member.room(), &identity);
            self.tell(client, "participant_left", member, &identity).await
        })
        .await?;
        let last_told = Instant::now();
        while self.parties.unsent() > 0 && last_told.elapsed() < PATIENCE {
            sleep(TICK).await;
            step.tick(|| format!("{} of {} sent", self.parties.sent(), self.members.len()));
        }
        let exodus_cpu = process::cpu_time(self.running.pid())? - cpu;
        step.done();
        let mut report = Report {
            delegations: self.members.len(),
            rooms: self.members.iter().map(|member| &member.room_id).collect::<BTreeSet<_>>().len(),
            delay: self.delay.span(),
            headroom: self.delay.span() - self.delay.restart_after(),
            handed_over_in,
            restarts,
            steady,
            exodus: self.parties.exodus(begun),
            exodus_cpu,
        };
        report.sort();
        Ok(report)
    }

    /// Does `work` for every member, evenly over `span`, many at a time.
    async fn all_in_time(
        &self,
        span: Duration,
        mut progress: impl FnMut(),
        work: impl AsyncFn(&mut Client, &Member) -> Result<()>,
    ) -> Result<()> {
        let begin = tokio::time::Instant::now();
        let pace = span / u32::try_from(self.members.len())?;
        let clients = (0..CONNECTIONS).map(|first| {
            let work = &work;
            async move {
                let mut client = Client::connect(self.running.addr()).await?;
                for member in self.members.iter().skip(first).step_by(CONNECTIONS) {
                    sleep_until(begin + pace * member.number).await;
                    work(&mut client, member).await?;
                }
                anyhow::Ok(())
            }
        });
        let mut all = pin!(try_join_all(clients));
        loop {
            match select(&mut all, pin!(sleep(TICK))).await {
                Either::Left((outcome, _)) => return outcome.map(drop),
                Either::Right(_) => progress(),
            }
            if begin.elapsed() > span + PATIENCE {
                bail!("the worker doesn't answer in time");
            }
        }
    }

    fn delegation(&self, member: &Member, user: &str, server_name: &str) -> String {
        json!({
            "room_id": member.room_id,
            "slot_id": SLOT,
            "openid_token": {
                "access_token": "AAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "token_type": "Bearer",
                "matrix_server_name": server_name,
                "expires_in": 3600,
            },
            "member": { "id": MEMBER, "claimed_user_id": user, "claimed_device_id": member.device_id },
            "delay_id": parties::delay_id(member.number),
            "delay_timeout": self.delay.span().as_millis() as u64,
        })
        .to_string()
    }

    async fn tell(&self, client: &mut Client, event: &str, member: &Member, identity: &Identity) -> Result<()> {
        let webhook = webhook(event, member, identity);
        let authorization = ("authorization", signature(&webhook)?);
        client.post("/sfu_webhook", &[authorization], webhook.into()).await.map(drop)
    }
}

/// The body of a [webhook of LiveKit's](https://docs.livekit.io/home/server/webhooks/).
fn webhook(event: &str, member: &Member, identity: &Identity) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut webhook = json!({
        "event": event,
        "id": format!("EV_{}_{event}", member.number),
        "createdAt": now.as_secs().to_string(),
        "room": { "sid": "RM_x", "name": member.room() },
        "participant": { "sid": member.sid(), "identity": identity, "state": "ACTIVE" },
    });
    if event == "participant_left" {
        webhook["participant"]["disconnectReason"] = "CLIENT_INITIATED".into();
    }
    webhook.to_string()
}

fn signature(webhook: &str) -> Result<String> {
    let (key, secret) = CREDENTIALS;
    let claims: Value = json!({ "iss": key, "sha256": Base64::encode_string(&Sha256::digest(webhook)) });
    let clock = || DateTime::from(SystemTime::now());
    let claims = Claims::new(claims).set_duration_and_issuance(&TimeOptions::new(TimeDelta::zero(), clock), VALIDITY);
    Ok(Hs256.token(&Header::empty(), &claims, &Hs256Key::new(secret))?)
}

/// Of all files below, in bytes.
fn size_of(dir: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}

const SLOT: &str = "m.call#ROOM";
const MEMBER: &str = "b2e4ab4c-4f3c-4ad5-b4ab-9c5d5d7f1a6e";
const CREDENTIALS: (&str, &str) = ("bench", "a-secret-of-nobody-in-particular");
const CONNECTIONS: usize = 32;
const EXODUS: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(200);
const VALIDITY: TimeDelta = TimeDelta::minutes(5);
/// For the last leave after the last webhook, and for handing everything over.
const PATIENCE: Duration = Duration::from_secs(300);
