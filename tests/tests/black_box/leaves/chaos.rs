//! Chaos: 300 delegations at once, while the worker is killed again and again
//! (`docs/protocol.md#the-life-of-a-delegated-leave`).
//!
//! How it works:
//! - Each member delegates its leave through a random endpoint, joins, perhaps reconnects, and leaves, at random times.
//! - A tenth of the webhooks is lost; the others are repeated until they are acknowledged, as LiveKit does.
//! - Meanwhile workerd is killed every few seconds, once it has got on a little, and started again on the same storage;
//!   [`KILLS`] times at most, so that the test ends on a slow machine, too.
//! - In the end every leave must have been sent, and none while its member was connected.
//! - `SEED=…` repeats a run's random choices; every failure prints the seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::time::{Duration, Instant};

use black_box::{
    DelayedEvents, Departure, EntryPoint, Fate, Homeserver, Member, Operation, Service, TestSetup, Webhook,
};
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn every_leave_is_sent_and_none_early_however_often_the_worker_is_killed() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| rand::rng().random());
    println!("SEED={seed}");
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let events = setup.delayed_events("cs.example.org").await;
    home.has_client_api(events.base_url());
    let interval = SANITY_CHECK_INTERVAL_S.to_string();
    let deployment = setup.deployment().full_access("example.org");
    let service = deployment.set("LIVEKIT_SANITY_CHECK_INTERVAL_SECONDS", &interval).start();
    let world = World { setup: &setup, home: &home, events: &events, service: &service };

    let under_way = RefCell::new(BTreeMap::new());
    let everybody_left = async {
        let lives = (0..DELEGATIONS).map(async |number| {
            let mut random = StdRng::seed_from_u64(seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let life = Life::new(number, &mut random);
            under_way.borrow_mut().insert(number, format!("{life:?}"));
            let lived = life.live(world, &mut random).await;
            under_way.borrow_mut().insert(number, format!("{life:?} has left"));
            while events.fate(&lived.delay_id) == Fate::Scheduled {
                sleep(Duration::from_millis(50)).await;
            }
            under_way.borrow_mut().remove(&number);
            (life, lived)
        });
        join_all(lives).await
    };
    let mut random = StdRng::seed_from_u64(seed);
    let mut kills = 0;
    let lives = tokio::select! {
        lives = timeout(LONGEST, everybody_left) => lives.unwrap_or_else(|_| {
            let stored = service.storage();
            let (rows, alarms) = (stored.query(UNSENT), stored.alarms());
            panic!("SEED={seed}: not finished within {LONGEST:?}: {:#?}, stored: {rows:#?}, alarms: {alarms:?}", under_way.borrow())
        }),
        never = world.kill_again_and_again(&mut random, &mut kills) => match never {},
    };

    println!("workerd was killed {kills} times");
    for (life, lived) in &lives {
        let (room, identity) = (life.member.room(), life.member.identity(life.identity));
        for send in events.calls_of(&lived.delay_id, Operation::Send) {
            let connected = setup.sfu.was_connected(&room, &identity, send.at);
            if connected && !lived.excuses(send.at) {
                let of_member = |line: &&str| line.contains(&identity);
                let log: Vec<_> = service.log().text().lines().filter(of_member).map(str::to_owned).collect();
                let since = |at: Instant| at.saturating_duration_since(lived.requested_at);
                let restarts = events.calls_of(&lived.delay_id, Operation::Restart);
                let restarts: Vec<_> = restarts.iter().map(|call| since(call.at)).collect();
                let (joined, sent) = (since(lived.joined_at), since(send.at));
                panic!(
                    "SEED={seed}: {life:?}: sent while connected: requested, joined after {joined:?}, sent after {sent:?}, \
                     restarted after {restarts:?}, {log:#?}"
                );
            }
        }
        let fate = events.fate(&lived.delay_id);
        assert!(matches!(fate, Fate::Sent(_)), "SEED={seed}: {life:?}: {fate:?}");
    }
}

/// The parts that all members share.
#[derive(Clone, Copy)]
struct World<'a> {
    setup: &'a TestSetup,
    home: &'a Homeserver,
    events: &'a DelayedEvents,
    service: &'a Service,
}

impl World<'_> {
    /// Kills and restarts the worker at random moments, once it has got on a little. Requests in flight then receive no response.
    async fn kill_again_and_again(self, random: &mut StdRng, kills: &mut usize) -> Infallible {
        while *kills < KILLS {
            let calls = self.events.calls().len();
            sleep(Duration::from_millis(random.random_range(1_000..4_000))).await;
            // On a busy machine a start takes as long, and a worker that is always killed before it has done anything keeps
            // no promise.
            let progress = async {
                while self.events.calls().len() < calls + PROGRESS {
                    sleep(Duration::from_millis(50)).await;
                }
            };
            // In the end there isn't so much left to do.
            let _ = timeout(PROGRESS_TIME, progress).await;
            self.service.kill();
            *kills += 1;
            sleep(Duration::from_millis(random.random_range(0..500))).await;
            self.service.start_again_meanwhile().await;
        }
        pending().await
    }

    /// Delivers a webhook as LiveKit does, with retries; loses it once in ten times.
    async fn deliver(self, webhook: &Webhook, random: &mut StdRng) {
        if random.random_ratio(1, 10) {
            return;
        }
        for _ in 0..WEBHOOK_ATTEMPTS {
            if webhook.try_send(self.service).await.is_some_and(|answer| answer.status == 200) {
                return;
            }
            sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Behaviour of one member, chosen in advance.
#[derive(Debug)]
struct Life {
    member: Member,
    entry_point: EntryPoint,
    /// Endpoint whose form of identity it has on the SFU.
    identity: EntryPoint,
    begins_after: Duration,
    joins_after: Duration,
    stays: Vec<Duration>,
    why: Departure,
}

impl Life {
    fn new(number: usize, random: &mut StdRng) -> Self {
        let entry_point = EntryPoint::ALL[random.random_range(0..3)];
        let identity =
            if entry_point == EntryPoint::Delegate && random.random() { EntryPoint::SfuGet } else { entry_point };
        let ms = |random: &mut StdRng, most| Duration::from_millis(random.random_range(0..most));
        let reconnects = random.random_range(0..2);
        Self {
            member: Member::of_room(
                &format!("!room{}:example.org", number % ROOMS),
                &format!("@user{number}:example.org"),
            ),
            entry_point,
            identity,
            begins_after: ms(random, 10_000),
            joins_after: ms(random, 2_000),
            stays: (0..=reconnects).map(|_| ms(random, 5_000)).collect(),
            why: [Departure::ClientInitiated, Departure::SignalClose, Departure::ConnectionTimeout]
                [random.random_range(0..3)],
        }
    }

    /// Goes through the life.
    async fn live(&self, world: World<'_>, random: &mut StdRng) -> Lived {
        sleep(self.begins_after).await;
        let mut delay_id = world.events.schedule(DELAY_OF_HOMESERVER);
        let token = world.home.openid_token(&self.member.user_id);
        let requested_at = loop {
            let requested_at = Instant::now();
            let request = self.member.delegation(self.entry_point, &token, &delay_id, DELAY);
            match world.service.try_post(self.entry_point.path(), &request).await {
                Some(answer) if answer.status == 200 => break requested_at,
                // The leave was taken over, the answers were lost until its delay was over, and nobody had joined.
                Some(answer) if answer.status == 400 => {
                    let fate = world.events.fate(&delay_id);
                    match fate {
                        Fate::Sent(_) => delay_id = world.events.schedule(DELAY_OF_HOMESERVER),
                        // The machine is so busy that the homeserver hasn't answered in time.
                        _ => assert!(answer.error().contains("client-server API"), "{answer:?}: {fate:?}"),
                    }
                }
                // The worker was killed meanwhile, or, with a 5xx, couldn't store the delegation.
                None => {}
                Some(answer) => assert!(answer.status >= 500, "{answer:?}"),
            }
            sleep(Duration::from_millis(200)).await;
        };
        sleep(self.joins_after).await;
        let (room, identity) = (self.member.room(), self.member.identity(self.identity));
        let joined_at = Instant::now();
        let mut participant = world.setup.sfu.join(&room, &identity);
        world.deliver(&participant.joined(), random).await;
        for stay in &self.stays[1..] {
            sleep(*stay).await;
            let next = world.setup.sfu.join(&room, &identity);
            world.deliver(&participant.left(Departure::DuplicateIdentity), random).await;
            participant = next;
            world.deliver(&participant.joined(), random).await;
        }
        sleep(self.stays[0]).await;
        world.setup.sfu.leave(&participant);
        world.deliver(&participant.left(self.why), random).await;
        Lived { delay_id, requested_at, joined_at }
    }
}

/// Course of a life.
struct Lived {
    /// Its delayed leave.
    delay_id: String,
    /// When the delegation was requested that was accepted.
    requested_at: Instant,
    joined_at: Instant,
}

impl Lived {
    /// Returns whether the leave may have been sent at that time although its member was connected: the delay was over
    /// before the member joined, because on a very busy machine the answer took so long, and the worker can't have known
    /// of the connection yet.
    fn excuses(&self, sent_at: Instant) -> bool {
        self.joined_at.duration_since(self.requested_at) >= DELAY && sent_at < self.joined_at + UNNOTICED
    }
}

/// Delegations that are left, without the ids of their events.
const UNSENT: &str = "SELECT identity || ' ' || state || ', due ' || due || ', failures ' || failures FROM delegations";
const DELEGATIONS: usize = 300;
const ROOMS: usize = 40;
const SANITY_CHECK_INTERVAL_S: u64 = 2;
/// Delay in the delegation, short enough that most leaves need a restart.
const DELAY: Duration = Duration::from_secs(12);
/// Delay at the homeserver, longer than the test, so that the worker sends each leave, however slow the machine is.
const DELAY_OF_HOMESERVER: Duration = Duration::from_secs(600);
/// Requests to the homeserver that a worker makes before it is killed, if it has as many to make in this time.
const PROGRESS: usize = 40;
const PROGRESS_TIME: Duration = Duration::from_secs(5);
const KILLS: usize = 15;
/// Time for which the worker believes that a member is absent, and for the request that follows.
const UNNOTICED: Duration = Duration::from_secs(5);
const WEBHOOK_ATTEMPTS: usize = 10;
const LONGEST: Duration = Duration::from_secs(240);
