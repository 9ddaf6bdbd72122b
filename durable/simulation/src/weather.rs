//! The faults of one simulation, and how frequent they are.

use std::time::Duration;

use fastrand::Rng;

/// Faults, and how frequent they are. Drawn from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) members: usize,
    pub(crate) servers: usize,
    /// Duration of the faults; then all members leave, and everything works.
    pub(crate) rough_for: Duration,
    pub(crate) sanity_check_interval: Option<Duration>,
    pub(crate) timeouts: [u64; 2],
    pub(crate) webhook_loss: f64,
    pub(crate) webhook_late: f64,
    pub(crate) webhook_repeat: f64,
    pub(crate) slow: f64,
    pub(crate) sfu_failure: f64,
    pub(crate) homeserver_failure: f64,
    pub(crate) sfu_outages: u32,
    /// Times that the SFU sends all its clients round.
    pub(crate) sfu_shutdowns: u32,
    /// Clients that change their connection while they join.
    pub(crate) change: f64,
    pub(crate) homeserver_outages: u32,
    pub(crate) crashes: u32,
    pub(crate) crash_at_commit: f64,
    /// Answers of the object that are lost: the worker repeats the command.
    pub(crate) lost_answers: f64,
    /// Only some of the changes are stored.
    pub(crate) torn_commit: f64,
    pub(crate) alarm_late: f64,
    pub(crate) alarm_twice: f64,
    pub(crate) eviction: f64,
    /// Webhooks have `joinedAtMs`, not only `joinedAt`.
    pub(crate) joined_at_ms: bool,
    /// The SFU's answers have the beginning of a connection.
    pub(crate) answers_have_joined_at: bool,
    /// Participants have to be in a Matrix room.
    pub(crate) membership: bool,
    pub(crate) membership_check_interval: Option<Duration>,
    /// The namespace in our registration doesn't cover them.
    pub(crate) hidden: bool,
    /// The members of the Matrix room can't be read.
    pub(crate) unreadable: bool,
    pub(crate) token_lifetime: Duration,
    /// Alarms that find the configuration broken.
    pub(crate) misconfiguration: f64,
    pub(crate) calm: bool,
}

impl Weather {
    /// Draws them. `other_dice` are for those that came later: each seed has the same world otherwise.
    pub(crate) fn draw(dice: &mut Rng, other_dice: &mut Rng) -> Self {
        let timeouts = [draw_timeout(dice), draw_timeout(dice)];
        let shortest = timeouts[0].min(timeouts[1]);
        let rough_secs = (shortest * dice.u64(5..60) / 1000).clamp(60, 14_400);
        Self {
            members: dice.usize(1..=5),
            servers: dice.usize(1..=2),
            rough_for: Duration::from_secs(rough_secs),
            sanity_check_interval: [None, None, Some(5), Some(60)][dice.usize(..4)].map(Duration::from_secs),
            timeouts,
            webhook_loss: pick(dice, [0.0, 0.0, 0.05, 0.3]),
            webhook_late: pick(dice, [0.0, 0.05, 0.2, 0.5]),
            webhook_repeat: pick(dice, [0.0, 0.0, 0.1, 0.4]),
            slow: pick(dice, [0.0, 0.02, 0.1, 0.3]),
            sfu_failure: pick(dice, [0.0, 0.0, 0.1, 0.4]),
            homeserver_failure: pick(dice, [0.0, 0.0, 0.1, 0.4]),
            sfu_outages: dice.u32(0..3),
            homeserver_outages: dice.u32(0..3),
            crashes: [0, 0, 1, 3][dice.usize(..4)],
            crash_at_commit: pick(dice, [0.0, 0.0, 0.01, 0.03]),
            alarm_late: pick(dice, [0.0, 0.0, 0.05, 0.2]),
            alarm_twice: pick(dice, [0.0, 0.0, 0.05, 0.2]),
            eviction: pick(dice, [0.0, 0.1, 0.3, 0.8]),
            joined_at_ms: dice.bool(),
            answers_have_joined_at: dice.bool(),
            membership: dice.bool(),
            membership_check_interval: [None, Some(10), Some(60), Some(60)][dice.usize(..4)].map(Duration::from_secs),
            hidden: dice.u8(..8) == 0,
            token_lifetime: Duration::from_secs([60, 300, 1200, 3600][dice.usize(..4)]),
            unreadable: dice.u8(..5) == 0,
            torn_commit: pick(dice, [0.0, 0.0, 0.01, 0.05]),
            sfu_shutdowns: [0, 0, 1, 3][dice.usize(..4)],
            change: pick(dice, [0.0, 0.0, 0.2, 0.5]),
            misconfiguration: [0.0, 0.0, 0.0, 0.02, 0.1][other_dice.usize(..5)],
            lost_answers: pick(other_dice, [0.0, 0.0, 0.1, 0.4]),
            calm: false,
        }
    }

    /// Ends all faults.
    pub(crate) fn calm_down(&mut self) {
        self.webhook_loss = 0.0;
        self.webhook_late = 0.0;
        self.slow = 0.0;
        self.sfu_failure = 0.0;
        self.homeserver_failure = 0.0;
        self.crash_at_commit = 0.0;
        self.lost_answers = 0.0;
        self.torn_commit = 0.0;
        self.alarm_late = 0.0;
        self.misconfiguration = 0.0;
        self.calm = true;
    }

    /// Draws the latency of a message.
    pub(crate) fn latency(&self, dice: &mut Rng) -> Duration {
        if chance(dice, self.slow) { millis(dice, 300, 4_000) } else { millis(dice, 5, 150) }
    }

    /// Draws the latency of a webhook.
    pub(crate) fn webhook_latency(&self, dice: &mut Rng) -> Duration {
        if !chance(dice, self.webhook_late) {
            return millis(dice, 20, 400);
        }
        if dice.bool() { millis(dice, 400, 5_000) } else { millis(dice, 5_000, 180_000) }
    }

    /// Draws the delay of an alarm.
    pub(crate) fn alarm_lateness(&self, dice: &mut Rng) -> Duration {
        if chance(dice, self.alarm_late) { millis(dice, 500, 60_000) } else { millis(dice, 0, 30) }
    }
}

/// Draws a duration between two numbers of milliseconds.
pub(crate) fn millis(dice: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(dice.u64(from..=to))
}

/// Draws true with that probability.
pub(crate) fn chance(dice: &mut Rng, probability: f64) -> bool {
    probability > 0.0 && dice.f64() < probability
}

fn draw_timeout(dice: &mut Rng) -> u64 {
    [4, 8, 8, 30, 60, 600, 3600, 7200][dice.usize(..8)] * 1000
}

fn pick(dice: &mut Rng, from: [f64; 4]) -> f64 {
    from[dice.usize(..4)]
}
