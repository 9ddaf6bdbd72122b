//! Rotation of API keys without an outage (`docs/operations.md#rotating-keys`).
//!
//! The worker and the fake SFU go through the procedure step by step. After each step a token, webhooks under the
//! worker's keys, and a leave delegated one step earlier must work.

use std::time::Duration;

use black_box::{Departure, EntryPoint, Member, Participant, Service, TestSetup, Webhook};
use livekit_token::TokenVerifier;

type Key = (&'static str, &'static str);

const OLD: Key = ("oldkey", "old-secret-nobody-may-see");
const NEW: Key = ("newkey", "new-secret-nobody-may-see");
const LONG: Duration = Duration::from_secs(600);

/// A step of the procedure, with the keys of worker and SFU after it.
struct Step {
    name: &'static str,
    worker: &'static [Key],
    sfu: &'static [Key],
    webhooks: Key,
}

const STEPS: [Step; 6] = [
    Step { name: "before", worker: &[OLD], sfu: &[OLD], webhooks: OLD },
    Step { name: "the worker has both keys, the old one signs", worker: &[OLD, NEW], sfu: &[OLD], webhooks: OLD },
    Step {
        name: "the SFU has both keys, the new one signs webhooks",
        worker: &[OLD, NEW],
        sfu: &[OLD, NEW],
        webhooks: NEW,
    },
    Step { name: "the new key signs everything", worker: &[NEW, OLD], sfu: &[OLD, NEW], webhooks: NEW },
    Step { name: "the SFU has the new key only", worker: &[NEW, OLD], sfu: &[NEW], webhooks: NEW },
    Step { name: "after", worker: &[NEW], sfu: &[NEW], webhooks: NEW },
];

#[tokio::test]
async fn tokens_webhooks_and_leaves_work_at_every_step() {
    let setup = TestSetup::new().await;
    let home = setup.homeserver("example.org").start().await;
    let events = setup.delayed_events("cs.example.org").await;
    home.has_client_api(events.base_url());
    let mut service = setup.deployment().full_access("example.org").start();
    let mut earlier: Vec<(String, Participant)> = Vec::new();

    for (number, step) in STEPS.into_iter().enumerate() {
        println!("{}", step.name);
        setup.sfu.set_keys(step.sfu);
        deploy(&mut service, step.worker);
        let member = Member::of_room(&format!("!room{number}:example.org"), "@alice:example.org");

        // The SFU accepts the worker's request for the room, and would accept the client's token.
        let delay_id = events.schedule(LONG);
        events.limit_acceptance(&delay_id);
        let token = home.openid_token(&member.user_id);
        let body = member.delegation(EntryPoint::GetToken, &token, &delay_id, LONG);
        let jwt = service.post(EntryPoint::GetToken.path(), &body).await.jwt();
        let (signing, secret) = step.worker[0];
        let claims = TokenVerifier::with_api_key(signing, secret).verify(&jwt).expect("signed with the first key");
        assert_eq!((claims.iss.as_str(), claims.sub), (signing, member.identity(EntryPoint::GetToken)));
        assert!(step.sfu.contains(&step.worker[0]), "the SFU doesn't have the signing key");
        assert_eq!(setup.sfu.created().len(), number + 1);

        // Webhooks are accepted under any of the worker's keys.
        let participant = setup.sfu.join(&member.room(), &member.identity(EntryPoint::GetToken));
        for (key, secret) in step.worker {
            send(&service, participant.joined().signed_with(key, secret), 200).await;
        }
        events.restarted(&delay_id, 1).await;

        // The leave that was delegated one step earlier is sent.
        if let Some((delay_id, participant)) = earlier.pop() {
            setup.sfu.leave(&participant);
            let (key, secret) = step.webhooks;
            send(&service, participant.left(Departure::ClientInitiated).signed_with(key, secret), 200).await;
            events.sent(&delay_id).await;
        }
        earlier.push((delay_id, participant));
    }

    let (_, participant) = earlier.remove(0);
    send(&service, participant.joined().signed_with(OLD.0, OLD.1), 401).await;
    for (_, secret) in [OLD, NEW] {
        assert!(!service.log().text().contains(secret));
    }
}

/// Redeploys with these keys: a single one in `LIVEKIT_KEY` and `LIVEKIT_SECRET`, several in `LIVEKIT_KEYS`.
fn deploy(service: &mut Service, keys: &[Key]) {
    let lines: Vec<_> = keys.iter().map(|(key, secret)| format!("{key}: {secret}")).collect();
    let lines = lines.join("\n");
    let changes = match keys {
        [(key, secret)] => [("LIVEKIT_KEY", Some(*key)), ("LIVEKIT_SECRET", Some(*secret)), ("LIVEKIT_KEYS", None)],
        _ => [("LIVEKIT_KEY", None), ("LIVEKIT_SECRET", None), ("LIVEKIT_KEYS", Some(lines.as_str()))],
    };
    service.deploy_again(&changes);
}

async fn send(service: &Service, webhook: Webhook, status: u16) {
    let answer = webhook.send(service).await;
    assert_eq!(answer.status, status, "{answer:?}");
}
