//! SRV records from a DNS-over-HTTPS resolver, in the form `application/dns-json`.
//!
//! How it works:
//! - NOERROR and NXDOMAIN are answers, perhaps without records; any other status is a failure of the resolver, which
//!   server discovery keeps apart;
//! - malformed records, and those whose target is `.`, are skipped;
//! - records are ordered by priority, then by descending weight. Isolates are too short-lived for a weighted random
//!   choice to balance anything;
//! - an answer is kept for its shortest TTL, within bounds; one without records for 10 minutes.

use std::time::Duration;

use serde::Deserialize;

/// The SRV records of one name, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SrvAnswer {
    /// The targets, in the order in which to try them.
    pub targets: Vec<SrvTarget>,
    /// Time for which the answer may be kept.
    pub lifetime: Duration,
}

/// One target of an SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrvTarget {
    /// The host, without the root's dot.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl SrvAnswer {
    /// Parses the response of a resolver. `None` where it is no answer: not JSON, or a failure of the server.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let answer: DnsJson = serde_json::from_slice(body).ok()?;
        if !matches!(answer.status, NOERROR | NXDOMAIN) {
            return None;
        }
        let mut records: Vec<(Record, u64)> = (answer.answer.iter())
            .filter(|entry| entry.kind == SRV)
            .filter_map(|entry| Some((Record::parse(&entry.data)?, entry.ttl)))
            .collect();
        records.sort_by_key(|(record, _)| (record.priority, std::cmp::Reverse(record.weight)));
        let ttl = records.iter().map(|(_, ttl)| *ttl).min();
        Some(Self {
            targets: records.into_iter().map(|(record, _)| record.target).take(MAX_TARGETS).collect(),
            lifetime: ttl.map_or(NEGATIVE_LIFETIME, Duration::from_secs).clamp(MIN_LIFETIME, MAX_LIFETIME),
        })
    }
}

struct Record {
    priority: u16,
    weight: u16,
    target: SrvTarget,
}

impl Record {
    /// Parses `priority weight port target`; the target `.` means that the service is not offered (RFC 2782).
    fn parse(data: &str) -> Option<Self> {
        let mut fields = data.split_ascii_whitespace();
        let priority = fields.next()?.parse().ok()?;
        let weight = fields.next()?.parse().ok()?;
        let port = fields.next()?.parse().ok().filter(|port| *port != 0)?;
        let host = fields.next()?.trim_end_matches('.');
        if host.is_empty() || fields.next().is_some() {
            return None;
        }
        Some(Self { priority, weight, target: SrvTarget { host: host.to_owned(), port } })
    }
}

#[derive(Deserialize)]
struct DnsJson {
    #[serde(rename = "Status")]
    status: u32,
    #[serde(rename = "Answer", default)]
    answer: Vec<DnsEntry>,
}

#[derive(Deserialize)]
struct DnsEntry {
    #[serde(rename = "type")]
    kind: u32,
    #[serde(rename = "TTL", default)]
    ttl: u64,
    data: String,
}

const NOERROR: u32 = 0;
const NXDOMAIN: u32 = 3;
const SRV: u32 = 33;
const MAX_TARGETS: usize = 4;
const MIN_LIFETIME: Duration = Duration::from_secs(60);
const NEGATIVE_LIFETIME: Duration = Duration::from_secs(600);
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn target(host: &str, port: u16) -> SrvTarget {
        SrvTarget { host: host.into(), port }
    }

    #[test]
    fn records_are_ordered_by_priority_then_weight() {
        let answer = SrvAnswer::parse(
            br#"{"Status":0,"Answer":[
                {"name":"_matrix._tcp.example.com.","type":5,"TTL":5,"data":"elsewhere."},
                {"name":"x","type":33,"TTL":300,"data":"20 0 8448 backup.example.com."},
                {"name":"x","type":33,"TTL":200,"data":"10 5 443 light.example.com."},
                {"name":"x","type":33,"TTL":400,"data":"10 50 443 heavy.example.com"}]}"#,
        )
        .unwrap();
        let expected =
            [target("heavy.example.com", 443), target("light.example.com", 443), target("backup.example.com", 8448)];
        assert_eq!(answer.targets, expected);
        assert_eq!(answer.lifetime, Duration::from_secs(200));
    }

    #[test]
    fn no_such_record_is_an_answer_and_a_failure_is_none() {
        assert_eq!(SrvAnswer::parse(br#"{"Status":3}"#).unwrap().targets, []);
        assert_eq!(
            SrvAnswer::parse(br#"{"Status":0,"Answer":[{"type":33,"TTL":9,"data":"0 0 0 ."}]}"#).unwrap().targets,
            []
        );
        assert_eq!(SrvAnswer::parse(br#"{"Status":2}"#), None);
        assert_eq!(SrvAnswer::parse(b"<html>"), None);
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(body: Vec<u8>, data in "\\PC{0,60}", ttl: u64) {
            let _ = SrvAnswer::parse(&body);
            let entry = serde_json::json!({"Status": 0, "Answer": [{"type": 33, "TTL": ttl, "data": data}]});
            let answer = SrvAnswer::parse(entry.to_string().as_bytes()).unwrap();
            prop_assert!(answer.lifetime <= MAX_LIFETIME);
        }
    }
}
