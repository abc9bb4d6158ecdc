//! L3: bodies apart.

use bartizan_config::settings::AuditMode;
use bartizan_model::ManualClock;
use bartizan_store::StoreUrl;
use bartizan_vault::KeyRing;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{Query, search};

const NOW: i64 = 1_767_225_600_000;
const KNOWN: &str = "s3cr3t-of-\"the\"-server";

struct Bench {
    dir: TempDir,
    store: Store,
    audit: Audit,
    bodies: Bodies,
}

async fn bench() -> Bench {
    let dir = TempDir::new().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
    let store = Store::open(&StoreUrl::Sqlite(dir.path().join("db")), Arc::clone(&clock)).await.unwrap();
    let audit =
        Audit::open(&dir.path().join("audit"), AuditMode::Strict, Some(store.clone()), Arc::clone(&clock)).unwrap();
    let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
    let masks = [Secret::new(KNOWN.to_owned()), Secret::new("short".to_owned())];
    let bodies = Bodies::new(["wiki".to_owned()], masks, store.clone(), vault, clock);
    Bench { dir, store, audit, bodies }
}

fn reader(roles: RoleSet) -> BodyReader {
    let who = Who { principal: "user:ana".to_owned(), ..Who::default() };
    BodyReader { kind: PrincipalKind::User, who, roles }
}

async fn kept(bench: &Bench, arguments: Value, result: Value) -> String {
    let event_id = EventId::new(NOW);
    let (arguments, result) = (Some(arguments.to_string()), Some(result.to_string()));
    bench.bodies.keep(NewBody { event_id, at_ms: NOW, server: "wiki".to_owned(), arguments, result });
    let id = event_id.to_string();
    while repo::get(&bench.store, &id).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    id
}

#[tokio::test]
async fn l3_off_unless_the_server_is_named() {
    let bench = bench().await;
    assert!(bench.bodies.wants("wiki") && !bench.bodies.wants("tracker") && !bench.bodies.wants("*"));
}

#[tokio::test]
async fn l3_only_an_auditor_reads_and_each_reading_is_an_event() {
    let bench = bench().await;
    let id = kept(&bench, json!({"q": "salaries"}), json!({"content": [{"text": "a plain answer"}]})).await;
    let owner = RoleSet::NONE.with(Role::Owner).with(Role::Governance).with(Role::Security);
    for roles in [RoleSet::NONE, owner] {
        assert!(matches!(bench.bodies.read(&bench.audit, &id, reader(roles)).await, Err(BodyError::NotAuditor)));
    }
    let auditor = RoleSet::NONE.with(Role::Auditor);
    let body = bench.bodies.read(&bench.audit, &id, reader(auditor)).await.unwrap().unwrap();
    assert_eq!(body.arguments, Some(json!({"q": "salaries"})));
    assert_eq!(body.result, Some(json!({"content": [{"text": "a plain answer"}]})));
    assert_eq!(bench.bodies.read(&bench.audit, "nothing", reader(auditor)).await.unwrap(), None);
    bench.audit.flush().await.unwrap();
    let page = search(&bench.store, &Query { kind: Some("admin".to_owned()), ..Query::default() }).await.unwrap();
    let events: Vec<(bool, &str)> =
        page.rows.iter().rev().map(|row| (row.event.verdict.allow, row.event.target.as_deref().unwrap())).collect();
    assert_eq!(events, [(false, id.as_str()), (false, id.as_str()), (true, id.as_str()), (true, "nothing")]);
    assert!(page.rows.iter().all(|row| row.event.method == "audit/read_body"));
    assert!(page.rows.iter().all(|row| row.event.who.principal == "user:ana"));
}

#[tokio::test]
async fn l3_nothing_is_shown_when_the_reading_cannot_be_put_on_record() {
    let bench = bench().await;
    let id = kept(&bench, json!({}), json!({})).await;
    bench.audit.close().await;
    let auditor = reader(RoleSet::NONE.with(Role::Auditor));
    assert!(matches!(bench.bodies.read(&bench.audit, &id, auditor).await, Err(BodyError::Audit(AuditError::Closed))));
}

#[tokio::test]
async fn l3_bodies_are_masked_and_sealed() {
    let bench = bench().await;
    let arguments = json!({"a": format!("x{KNOWN}y{KNOWN}"), "apiKey": "k", "X-Auth-Token": 7, KNOWN: [KNOWN],
                           "password": {"hint": "kept"}, "s": "short stays"});
    let id = kept(&bench, arguments, json!("needle-in-a-result")).await;
    let body = bench.bodies.read(&bench.audit, &id, reader(RoleSet::NONE.with(Role::Auditor))).await.unwrap().unwrap();
    let expected = json!({"a": "x[masked]y[masked]", "apiKey": "[masked]", "X-Auth-Token": "[masked]",
                          "[masked]": ["[masked]"], "password": {"hint": "kept"}, "s": "short stays"});
    assert_eq!(body.arguments, Some(expected));
    // Nowhere on the disk in the clear.
    bench.audit.close().await;
    bench.store.close().await;
    let mut folders = vec![bench.dir.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            for text in ["needle-in-a-result", "short stays", "s3cr3t-of-"] {
                assert!(!bytes.windows(text.len()).any(|part| part == text.as_bytes()), "{text} in {}", path.display());
            }
        }
    }
}

#[tokio::test]
async fn l3_a_body_of_another_call_does_not_open_and_old_ones_go() {
    let bench = bench().await;
    let id = kept(&bench, json!({}), json!({})).await;
    // Somebody who can write the database puts it under another call.
    let mut moved = repo::get(&bench.store, &id).await.unwrap().unwrap();
    moved.event_id = "another".to_owned();
    repo::insert(&bench.store, &moved).await.unwrap();
    let auditor = || reader(RoleSet::NONE.with(Role::Auditor));
    assert!(matches!(bench.bodies.read(&bench.audit, "another", auditor()).await, Err(BodyError::Sealed)));
    assert_eq!(bench.bodies.prune(NOW).await.unwrap(), 0);
    assert_eq!(bench.bodies.prune(NOW + 1).await.unwrap(), 2);
    assert_eq!(bench.bodies.read(&bench.audit, &id, auditor()).await.unwrap(), None);
}

#[tokio::test]
async fn l3_what_cannot_be_read_is_not_kept_and_memory_is_bounded() {
    let bench = bench().await;
    let new = |arguments: String| NewBody {
        event_id: EventId::new(NOW),
        at_ms: NOW,
        server: "wiki".to_owned(),
        arguments: Some(arguments),
        result: None,
    };
    let broken = new("{\"password\": \"open".to_owned());
    let id = broken.event_id.to_string();
    bench.bodies.keep(broken);
    while repo::get(&bench.store, &id).await.unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let body = bench.bodies.read(&bench.audit, &id, reader(RoleSet::NONE.with(Role::Auditor))).await.unwrap().unwrap();
    assert_eq!(body.arguments, Some(json!("[unreadable]")));
    // No await between: the task cannot take any.
    for _ in 0..5 {
        bench.bodies.keep(new("1".repeat(20 << 20)));
    }
    assert_eq!(bench.bodies.lost(), 2, "64 MiB hold three of 20");
}
