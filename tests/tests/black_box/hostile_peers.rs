//! Hostile peers: a server that a caller names may break the rules of HTTP, and none of its responses costs the service
//! more than it reads (`docs/protocol.md#verifying-an-openid-token`).
//!
//! Each peer sends a script of bytes over TLS. The service must reject the token, and workerd's memory must hardly grow.

use std::time::Duration;

use black_box::{Endpoint, HostilePeer, OpenIdToken, Service, Step, TestSetup};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use std::io::Write;

#[tokio::test]
async fn an_answer_that_lies_about_its_length_is_not_read_beyond_the_limit() {
    // With both headers the service sees the length, while workerd reads the chunks.
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = chunk_of(&[b' '; 64 * 1024]);

    assert_cheap(vec![Step::text(head), Step::Repeat(chunk, 16 * 1024)]).await;
}

#[tokio::test]
async fn an_endless_body_is_not_read_beyond_the_limit() {
    for head in
        ["HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"]
    {
        assert_cheap(vec![Step::text(head), Step::Repeat(Bytes::from_static(&[b' '; 64 * 1024]), 16 * 1024)]).await;
    }
}

#[tokio::test]
async fn a_compressed_bomb_is_not_unpacked_beyond_the_limit() {
    let bomb = bomb();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        bomb.len()
    );

    assert_cheap(vec![Step::text(&head), Step::Send(bomb)]).await;
}

#[tokio::test]
async fn endless_headers_end_the_request() {
    let header = format!("X-Endless: {}\r\n", "x".repeat(1000));

    assert_cheap(vec![Step::text("HTTP/1.1 200 OK\r\n"), Step::Repeat(Bytes::from(header), 1_000_000)]).await;
}

#[tokio::test]
async fn answers_that_break_off_or_are_none_end_the_request() {
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"sub\":";
    for script in [
        vec![Step::Reset],
        vec![Step::text(half)],
        vec![Step::text(half), Step::Reset],
        vec![Step::text("\0\0\0\0")],
        vec![Step::text("SSH-2.0-OpenSSH_9.2\r\n")],
        vec![Step::text("HTTP/1.1 99999 ?\r\n\r\n")],
        vec![Step::text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n")],
        vec![Step::text("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}")],
        vec![Step::text("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope")],
        vec![Step::Repeat(Bytes::from_static(b"HTTP/1.1 100 Continue\r\n\r\n"), 100_000)],
    ] {
        assert_cheap(script).await;
    }
}

#[tokio::test]
async fn a_slow_drip_and_silence_are_given_up_after_ten_seconds() {
    let drip = Bytes::from("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_owned() + &" ".repeat(1000));
    for script in [vec![Step::Drip(drip, Duration::from_millis(500))], vec![Step::Silence]] {
        let (_setup, peer, service) = a_service(script).await;

        let statuses = join_all((0..20).map(|_| refused(&service))).await;

        assert_eq!(statuses, [401; 20]);
        assert!(peer.connections() > 0);
    }
}

/// Checks that several concurrent requests are rejected, and that workerd's memory grows by less than
/// [`MAX_GROWTH_KIB`].
async fn assert_cheap(script: Vec<Step>) {
    let (_setup, peer, service) = a_service(script).await;
    let before = service.peak_resident_kib();

    let statuses = join_all((0..8).map(|_| refused(&service))).await;

    assert_eq!(statuses, [401; 8]);
    assert!(peer.connections() > 0, "the peer wasn't reached");
    let after = service.peak_resident_kib();
    assert!(after < before + MAX_GROWTH_KIB, "{before} KiB before, {after} KiB at most, {} bytes sent", peer.sent());
}

async fn a_service(script: Vec<Step>) -> (TestSetup, HostilePeer, Service) {
    let setup = TestSetup::new().await;
    let peer = setup.hostile_peer("evil.example", 8448, script).await;
    let service = setup.deployment().full_access("*").start();
    (setup, peer, service)
}

async fn refused(service: &Service) -> u16 {
    let token = OpenIdToken {
        access_token: "anything".to_owned(),
        user_id: "@mallory:evil.example:8448".to_owned(),
        matrix_server_name: "evil.example:8448".to_owned(),
    };
    service.request_token(Endpoint::GetToken, &token).await.status
}

fn chunk_of(bytes: &[u8]) -> Bytes {
    Bytes::from([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}

/// 256 MiB of blanks, compressed to 256 KiB.
fn bomb() -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..4096 {
        encoder.write_all(&[b' '; 64 * 1024]).unwrap();
    }
    encoder.finish().unwrap().into()
}

const MAX_GROWTH_KIB: u64 = 60 * 1024;
