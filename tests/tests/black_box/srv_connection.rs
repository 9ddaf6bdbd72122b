//! The connection to an SRV target (`docs/protocol.md#finding-homeservers`).
//!
//! `fetch` can't connect to one name and validate the certificate for another, so the worker speaks HTTP on a socket
//! itself. The fake homeserver responds in the ways that homeservers and proxies do, complete and incomplete.

use black_box::{Endpoint, HomeserverPlan, Reply, TestSetup};
use serde_json::json;

const SUBJECT: &str = r#"{"sub":"@alice:example.org"}"#;

#[tokio::test]
async fn an_answer_in_chunks_is_put_together() {
    let setup = TestSetup::new().await;
    let reply = Reply::json(200, &json!({ "sub": "@alice:example.org" })).in_chunks_of(3);

    assert_answered(&setup, behind_srv(&setup).userinfo(reply), 200, "chunks of 3 bytes").await;
}

#[tokio::test]
async fn an_answer_of_64_kib_is_read_and_a_larger_one_is_not() {
    for (size, status) in [(64 * 1024, 200), (64 * 1024 + 1, 401), (10_000_000, 401)] {
        for chunked in [false, true] {
            let setup = TestSetup::new().await;
            let mut reply = Reply::json(200, &json!({ "sub": "@alice:example.org" })).padded_to(size);
            if chunked {
                reply = reply.in_chunks_of(10_000);
            }

            let what = format!("{size} bytes, chunked: {chunked}");
            assert_answered(&setup, behind_srv(&setup).userinfo(reply), status, &what).await;
        }
    }
}

#[tokio::test]
async fn any_http_that_means_something_is_understood() {
    for raw in [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{SUBJECT}", SUBJECT.len()),
        format!("HTTP/1.1 200\r\ncontent-length:{}\r\n\r\n{SUBJECT}", SUBJECT.len()),
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{SUBJECT}"),
        format!("HTTP/1.0 200 OK\r\n\r\n{SUBJECT}"),
        format!(
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{SUBJECT}",
            SUBJECT.len()
        ),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:X};name=value\r\n{SUBJECT}\r\n0\r\nTrailer: x\r\n\r\n",
            SUBJECT.len()
        ),
    ] {
        let setup = TestSetup::new().await;

        assert_answered(&setup, behind_srv(&setup).raw_userinfo(raw.clone()), 200, &raw).await;
    }
}

#[tokio::test]
async fn what_is_no_complete_http_answer_verifies_nothing() {
    for raw in [
        String::new(),
        SUBJECT.to_owned(),
        String::from("SSH-2.0-OpenSSH_9.2p1\r\n"),
        format!("HTTP/1.1 abc OK\r\n\r\n{SUBJECT}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{SUBJECT}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{SUBJECT}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{SUBJECT}\r\n", SUBJECT.len()),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{SUBJECT}\r\n0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{SUBJECT}\r\n0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{}\r\n{SUBJECT}", "X: y\r\n".repeat(100_000)),
        format!(
            "HTTP/1.1 302 Found\r\nLocation: https://example.org/\r\nContent-Length: {}\r\n\r\n{SUBJECT}",
            SUBJECT.len()
        ),
    ] {
        let setup = TestSetup::new().await;

        let start: String = raw.chars().take(100).collect();
        assert_answered(&setup, behind_srv(&setup).raw_userinfo(raw), 401, &start).await;
    }
}

#[tokio::test]
async fn the_target_of_the_lowest_priority_number_is_queried_first() {
    let setup = TestSetup::new().await;
    let late = setup.tripwire("late.example.com", 8449).await;
    setup.resolver.add_srv(RECORD, 20, 5, 8449, "late.example.com");
    setup.resolver.add_srv(RECORD, 10, 5, 8449, "node1.example.com");

    assert_answered(&setup, plan(&setup), 200, "two targets").await;
    assert_eq!(late.connections(), 0);
}

#[tokio::test]
async fn the_next_target_is_queried_when_one_is_down() {
    for exists in [false, true] {
        let setup = TestSetup::new().await;
        if exists {
            setup.network.address_of("down.example.com");
        }
        setup.resolver.add_srv(RECORD, 5, 5, 8449, "down.example.com");
        setup.resolver.add_srv(RECORD, 10, 5, 8449, "node1.example.com");

        let what = format!("a target that is down, and whose name resolves: {exists}");
        assert_answered(&setup, plan(&setup), 200, &what).await;
    }
}

/// Plans a homeserver whose federation API is at the target of an SRV record, and adds the record.
fn behind_srv(setup: &TestSetup) -> HomeserverPlan<'_> {
    setup.resolver.add_srv(RECORD, 10, 5, 8449, "node1.example.com");
    plan(setup)
}

fn plan(setup: &TestSetup) -> HomeserverPlan<'_> {
    setup.homeserver("example.org").without_well_known().federation_behind_srv("example.org", "node1.example.com", 8449)
}

async fn assert_answered(setup: &TestSetup, plan: HomeserverPlan<'_>, status: u16, what: &str) {
    let home = plan.start().await;
    let service = setup.deployment().start();

    let answer = service.request_token(Endpoint::SfuGet, &home.openid_token("@alice:example.org")).await;

    assert_eq!(answer.status, status, "{what:?}: {answer:?}");
}

const RECORD: &str = "_matrix-fed._tcp.example.org";
