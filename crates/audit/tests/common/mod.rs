//! Shared by the tests of this crate.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared test helpers"
)]

use std::path::Path;

use bartizan_audit::{Query, Row, search};
use bartizan_model::event::{AuditEvent, EventKind, Outcome, Verdict, Who};
use bartizan_model::{Era, EventId, PortalId, PrincipalKind, ReasonCode, ServerId, ToolClass};
use bartizan_store::Store;

#[path = "../../../store/tests/common/mod.rs"]
pub mod stores;

pub const NOW: i64 = stores::NOW;

/// The `n`th event of a run: kinds, callers and outcomes vary.
pub fn event(n: i64) -> AuditEvent {
    let kinds = [
        EventKind::Call,
        EventKind::Intent,
        EventKind::List,
        EventKind::Auth,
        EventKind::Token,
        EventKind::Admin,
        EventKind::System,
    ];
    let kind = *kinds.iter().cycle().nth(n as usize % 7).unwrap();
    let at_ms = NOW + n;
    let who = Who {
        principal: format!("user:u{}", n % 5),
        groups: (0..n % 3).map(|group| format!("g{group}")).collect(),
        ip: (n % 2 == 0).then(|| "192.0.2.7".to_owned()),
        client: Some("some \"client\"".to_owned()),
        purpose: (n % 5 == 0).then(|| "an outage".to_owned()),
        client_version: (n % 4 == 0).then(|| "1.0".to_owned()),
        country: (n % 3 == 0).then(|| "DE".to_owned()),
        device: (n % 4 == 1).then(|| "managed".to_owned()),
        owner: (n % 6 == 0).then(|| "bo@corp.example".to_owned()),
    };
    let mut event = AuditEvent::new(EventId::new(at_ms), at_ms, kind, PrincipalKind::User, who, "tools/call");
    event.portal = (n % 2 == 0).then(|| PortalId::parse("default").unwrap());
    event.server = Some(ServerId::parse(&format!("s{}", n % 3)).unwrap());
    event.server_version = Some("v1".to_owned());
    event.server_url = Some("https://s.example/mcp".to_owned());
    event.grant = Some("00112233aabbccdd".to_owned());
    event.target = Some(format!("tool_{}", n % 4));
    event.exposed = Some(format!("s_tool_{}", n % 4));
    event.class = Some(ToolClass::Write);
    event.pin = Some("ab".repeat(32));
    event.arguments_digest = Some("cd".repeat(32));
    event.policy_version = u64::MAX - n as u64;
    event.labels = vec!["pii".to_owned()];
    (event.request_bytes, event.response_bytes) = (100 + n as u64, 200);
    (event.total_us, event.upstream_us) = (300, 250);
    event.upstream_identity = Some("bearer:s".to_owned());
    event.era = Some(Era::Modern);
    event.session = Some("0123456789abcdef".to_owned());
    event.trace_id = Some("0af7651916cd43dd8448eb211c80319c".to_owned());
    event.related = (n % 3 == 0).then(|| EventId::new(at_ms - 1));
    event.note = Some("note\nwith ünicode".to_owned());
    if n % 10 == 0 {
        event.verdict = Verdict::refused("authorize", ReasonCode::PolicyDenied, Some("rule-1".to_owned()));
        event.outcome = Outcome::Refused;
    }
    event
}

/// Everything in the index, newest first.
pub async fn all(store: &Store, query: Query) -> Vec<Row> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = search(store, &Query { after, limit: 100, ..query.clone() }).await.unwrap();
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            return rows;
        }
    }
}

/// Whole lines of all segments of a writer, in order.
pub fn lines(dir: &Path, writer: &str) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(dir.join(writer))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "log"))
        .collect();
    names.sort();
    names
        .iter()
        .flat_map(|name| std::fs::read_to_string(name).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
