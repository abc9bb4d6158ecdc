//! Every case on SQLite, and all of them on Postgres (O1: the whole test set on both).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;
#[path = "cases/oauth.rs"]
mod oauth;
#[path = "cases/scim.rs"]
mod scim;
#[path = "cases/sign_in.rs"]
mod sign_in;

use std::sync::Arc;

use bartizan_model::ManualClock;
use bartizan_store::feed::{Feed, News};
use bartizan_store::repo::audit_index::{self, Batch, Cursor, Filter, IndexRow, Position};
use bartizan_store::repo::sealed::{self, Key, Sealed};
use bartizan_store::repo::{change, client_profile, lease, meta, portal_state, replay, service_token};
use bartizan_store::{Store, StoreError};
use oauth::{
    case_a_deactivated_person_keeps_no_grant, case_a_token_is_exchanged_five_times_at_most,
    case_consent_is_for_one_resource, case_no_code_slips_past_a_sign_out, case_no_grant_slips_past_a_withdrawal,
    case_of_many_that_redeem_or_exchange_one_wins, case_registered_clients_are_trimmed,
};
use scim::{
    case_a_recycled_address_is_not_the_leaver, case_a_rename_takes_nobody_over, case_an_unclear_match_lets_nobody_in,
    case_deprovisioned_people_lose_everything, case_no_sign_in_slips_past_a_deactivation,
    case_provisioned_groups_count, case_provisioning_is_required, case_the_group_of_the_local_account_is_nobody_elses,
};
use sign_in::{
    case_accounts_go_with_the_address, case_browser_sessions, case_one_person_signs_in_twice_at_once, case_people,
    case_sign_ins_under_way,
};

async fn case_every_statement_is_prepared(store: Store, _: Arc<ManualClock>) {
    assert_eq!(store.refused_statements().await.unwrap(), Vec::<String>::new());
}

async fn case_ping_and_close(store: Store, _: Arc<ManualClock>) {
    store.ping().await.unwrap();
    store.close().await;
    let error = store.ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)) && error.is_transient(), "{error:?}");
}

async fn case_meta_values(store: Store, _: Arc<ManualClock>) {
    assert_eq!(meta::get(&store, "a").await.unwrap(), None);
    meta::set(&store, "a", "1").await.unwrap();
    meta::set(&store, "a", "zwei ü ' \" \u{0001}").await.unwrap();
    assert_eq!(meta::get(&store, "a").await.unwrap().as_deref(), Some("zwei ü ' \" \u{0001}"));
}

async fn case_meta_compare_and_set_has_one_winner(store: Store, _: Arc<ManualClock>) {
    let tries = (0..8).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { meta::compare_and_set(&store, "leader", None, &n.to_string()).await.unwrap() })
    });
    let mut won = 0;
    for one in tries.collect::<Vec<_>>() {
        won += u32::from(one.await.unwrap());
    }
    assert_eq!(won, 1);
    let now = meta::get(&store, "leader").await.unwrap().unwrap();
    assert!(!meta::compare_and_set(&store, "leader", Some("nobody"), "x").await.unwrap());
    assert!(meta::compare_and_set(&store, "leader", Some(&now), "x").await.unwrap());
}

async fn case_changes_are_seen_in_order(store: Store, clock: Arc<ManualClock>) {
    assert_eq!(change::head(&store).await.unwrap(), 0);
    let mut feed = Feed::at_head(&store).await.unwrap();
    assert_eq!(feed.poll().await.unwrap(), News::Changes(vec![]));
    change::append(&store, "a", "1").await.unwrap();
    clock.advance_ms(5);
    change::append(&store, "b", "2").await.unwrap();
    let News::Changes(changes) = feed.poll().await.unwrap() else { panic!("missed something") };
    let seen: Vec<_> = changes.iter().map(|c| (c.seq, c.topic.as_str(), c.name.as_str(), c.at_ms)).collect();
    assert_eq!(seen, [(1, "a", "1", common::NOW), (2, "b", "2", common::NOW + 5)]);
    assert_eq!(feed.poll().await.unwrap(), News::Changes(vec![]));
    assert_eq!(change::since(&store, 1, 10).await.unwrap().len(), 1);
    assert_eq!(change::since(&store, 0, 1).await.unwrap().len(), 1);
}

async fn case_no_change_is_skipped_under_concurrency(store: Store, _: Arc<ManualClock>) {
    let mut feed = Feed::at_head(&store).await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..10 {
                    change::append(&store, "t", &format!("{writer}-{n}")).await.unwrap();
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    while seen.len() < 80 {
        match feed.poll().await.unwrap() {
            News::Changes(changes) => seen.extend(changes.into_iter().map(|change| change.seq)),
            News::Everything => panic!("a number was skipped"),
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen, (1..=80).collect::<Vec<i64>>());
}

async fn case_a_reader_behind_pruned_changes_reads_everything(store: Store, clock: Arc<ManualClock>) {
    let mut feed = Feed::at_head(&store).await.unwrap();
    for n in 0..5 {
        change::append(&store, "t", &n.to_string()).await.unwrap();
        clock.advance_ms(10);
    }
    assert_eq!(change::prune(&store, common::NOW + 25).await.unwrap(), 3);
    assert_eq!(change::oldest(&store).await.unwrap(), Some(4));
    assert_eq!(feed.poll().await.unwrap(), News::Everything);
    assert_eq!(feed.poll().await.unwrap(), News::Changes(vec![]));
    change::append(&store, "t", "new").await.unwrap();
    assert!(matches!(feed.poll().await.unwrap(), News::Changes(changes) if changes.len() == 1));
}

async fn case_a_feed_waits_no_longer_than_a_poll(store: Store, _: Arc<ManualClock>) {
    let mut feed = Feed::at_head(&store).await.unwrap();
    change::append(&store, "t", "1").await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(30), feed.wait()).await.expect("it returns by itself");
    assert!(matches!(feed.poll().await.unwrap(), News::Changes(changes) if changes.len() == 1));
}

async fn case_a_waiting_feed_does_not_hold_up_closing(store: Store, _: Arc<ManualClock>) {
    let mut feed = Feed::at_head(&store).await.unwrap();
    let waiting = tokio::spawn(async move {
        for _ in 0..3 {
            feed.wait().await;
        }
        feed.poll().await.is_err()
    });
    store.ping().await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(30), store.close()).await.expect("closes");
    assert!(waiting.await.unwrap());
}

async fn case_leases_have_one_owner_and_a_growing_fence(store: Store, clock: Arc<ManualClock>) {
    let a = lease::claim(&store, "sync", "a", "10.0.0.1:1", 30_000).await.unwrap().unwrap();
    assert_eq!((a.owner.as_str(), a.address.as_str(), a.fence), ("a", "10.0.0.1:1", 1));
    assert_eq!(lease::claim(&store, "sync", "b", "", 30_000).await.unwrap(), None);
    clock.advance_ms(20_000);
    let renewed = lease::claim(&store, "sync", "a", "10.0.0.1:1", 30_000).await.unwrap().unwrap();
    assert_eq!((renewed.fence, renewed.expires_ms), (1, common::NOW + 50_000));
    clock.advance_ms(30_000);
    assert_eq!(lease::holder(&store, "sync").await.unwrap(), None);
    let b = lease::claim(&store, "sync", "b", "", 30_000).await.unwrap().unwrap();
    assert_eq!((b.owner.as_str(), b.fence), ("b", 2));
    assert!(!lease::release(&store, "sync", "a", 1).await.unwrap(), "an old owner releases nothing");
    assert!(!lease::release(&store, "sync", "b", 1).await.unwrap(), "an old fence releases nothing");
    assert!(lease::release(&store, "sync", "b", 2).await.unwrap());
    let again = lease::claim(&store, "sync", "b", "", 30_000).await.unwrap().unwrap();
    assert_eq!(again.fence, 3, "a gap is a change of owner");
}

async fn case_one_of_many_claims_wins(store: Store, _: Arc<ManualClock>) {
    let tries: Vec<_> = (0..12)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { lease::claim(&store, "x", &format!("n{n}"), "", 1_000).await.unwrap() })
        })
        .collect();
    let mut owners = Vec::new();
    for one in tries {
        owners.extend(one.await.unwrap().map(|lease| lease.owner));
    }
    assert_eq!(owners.len(), 1, "{owners:?}");
    assert_eq!(lease::holder(&store, "x").await.unwrap().map(|lease| lease.owner), owners.pop());
}

async fn case_service_tokens(store: Store, clock: Arc<ManualClock>) {
    service_token::insert(&store, "id1", "ci", &[1; 32], Some(99)).await.unwrap();
    for (id, name) in [("id2", "ci"), ("id1", "other")] {
        let error = service_token::insert(&store, id, name, &[2; 32], None).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict), "{error:?}");
    }
    assert_eq!(change::head(&store).await.unwrap(), 1, "what failed is no change");
    let token = service_token::by_id(&store, "id1").await.unwrap().unwrap();
    assert_eq!((token.name.as_str(), token.hash.as_slice(), token.expires_ms), ("ci", [1u8; 32].as_slice(), Some(99)));
    assert_eq!((token.created_ms, token.last_used_ms, token.suspended_ms), (common::NOW, None, None));
    assert!(service_token::by_name(&store, "ci").await.unwrap() == Some(token));
    assert!(service_token::rotate(&store, "id1", &[3; 32], 50).await.unwrap());
    let token = service_token::by_id(&store, "id1").await.unwrap().unwrap();
    assert_eq!((token.hash, token.previous_hash, token.previous_until_ms), (vec![3; 32], Some(vec![1; 32]), Some(50)));
    assert!(service_token::suspend(&store, "id1").await.unwrap());
    assert!(!service_token::suspend(&store, "id1").await.unwrap());
    assert!(service_token::resume(&store, "id1").await.unwrap());
    assert!(!service_token::resume(&store, "id1").await.unwrap());
    assert!(!service_token::rotate(&store, "nope", &[3; 32], 50).await.unwrap());
    let changes = change::since(&store, 0, 100).await.unwrap();
    assert_eq!(changes.len(), 4);
    assert!(changes.iter().all(|change| change.topic == service_token::TOPIC && change.name == "id1"));
    clock.advance_ms(1);
    assert!(service_token::delete(&store, "id1").await.unwrap());
    assert!(!service_token::delete(&store, "id1").await.unwrap());
}

async fn case_last_use_is_written_at_most_every_five_minutes(store: Store, _: Arc<ManualClock>) {
    const FIVE: i64 = 300_000;
    service_token::insert(&store, "id1", "ci", &[1; 32], None).await.unwrap();
    let head = change::head(&store).await.unwrap();
    assert!(service_token::used(&store, "id1", 1_000_000, FIVE).await.unwrap());
    assert!(!service_token::used(&store, "id1", 1_000_000 + FIVE - 1, FIVE).await.unwrap());
    assert!(service_token::used(&store, "id1", 1_000_000 + FIVE, FIVE).await.unwrap());
    assert!(!service_token::used(&store, "id1", 5, FIVE).await.unwrap(), "never backwards");
    let token = service_token::by_id(&store, "id1").await.unwrap().unwrap();
    assert_eq!(token.last_used_ms, Some(1_000_000 + FIVE));
    assert_eq!(change::head(&store).await.unwrap(), head, "a use is no change");
}

async fn case_inactive_tokens(store: Store, clock: Arc<ManualClock>) {
    for name in ["a", "b", "c"] {
        service_token::insert(&store, name, name, &[1; 32], None).await.unwrap();
    }
    service_token::used(&store, "b", common::NOW + 100, 1).await.unwrap();
    clock.advance_ms(60);
    service_token::insert(&store, "d", "d", &[1; 32], None).await.unwrap();
    let inactive = service_token::inactive(&store, common::NOW + 50, 10).await.unwrap();
    assert_eq!(inactive.iter().map(|token| token.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    assert!(!service_token::delete_inactive(&store, "b", common::NOW + 50).await.unwrap());
    assert!(service_token::delete_inactive(&store, "a", common::NOW + 50).await.unwrap());
    let names: Vec<_> = service_token::list(&store, "", 10).await.unwrap().into_iter().map(|t| t.name).collect();
    assert_eq!(names, ["b", "c", "d"]);
    assert_eq!(service_token::list(&store, "b", 1).await.unwrap().len(), 1);
}

fn sealed_row(id: &str, version: i64, key_id: &str, sealed: &[u8]) -> Sealed {
    let key = Key { tenant: String::new(), kind: "k".to_owned(), id: id.to_owned() };
    Sealed { key, version, key_id: key_id.to_owned(), sealed: sealed.to_vec() }
}

async fn case_sealed_records_compare_and_set(store: Store, _: Arc<ManualClock>) {
    let first = sealed_row("a", 1, "k1", &[0, 255, 7]);
    assert!(sealed::insert(&store, &first).await.unwrap());
    assert!(!sealed::insert(&store, &sealed_row("a", 9, "k1", b"x")).await.unwrap());
    assert!(sealed::get(&store, &first.key).await.unwrap() == Some(first.clone()));
    assert!(!sealed::replace(&store, 7, &sealed_row("a", 8, "k1", b"x")).await.unwrap());
    assert!(sealed::replace(&store, 1, &sealed_row("a", 2, "k1", b"two")).await.unwrap());
    assert!(!sealed::reseal(&store, "k1", &sealed_row("a", 1, "k2", b"old")).await.unwrap(), "an older version");
    assert!(sealed::reseal(&store, "k1", &sealed_row("a", 2, "k2", b"TWO")).await.unwrap());
    assert!(!sealed::reseal(&store, "k1", &sealed_row("a", 2, "k2", b"again")).await.unwrap());
    let now = sealed::get(&store, &first.key).await.unwrap().unwrap();
    assert_eq!((now.version, now.key_id.as_str(), now.sealed.as_slice()), (2, "k2", b"TWO".as_slice()));
    assert!(sealed::delete(&store, &first.key).await.unwrap());
    assert!(!sealed::delete(&store, &first.key).await.unwrap());
}

async fn case_sealed_records_under_other_keys_are_paged(store: Store, _: Arc<ManualClock>) {
    for n in 0..25 {
        let key = if n % 2 == 0 { "old" } else { "new" };
        sealed::insert(&store, &sealed_row(&format!("{n:02}"), 1, key, b"x")).await.unwrap();
    }
    let mut after = Key { tenant: String::new(), kind: String::new(), id: String::new() };
    let mut ids = Vec::new();
    loop {
        let page = sealed::under_other_keys(&store, "new", &after, 4).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.len() <= 4);
        after = last.key.clone();
        ids.extend(page.into_iter().map(|row| row.key.id));
    }
    assert_eq!(ids, (0..25).step_by(2).map(|n| format!("{n:02}")).collect::<Vec<_>>());
}

async fn case_client_profiles(store: Store, clock: Arc<ManualClock>) {
    assert_eq!(client_profile::get(&store, "d").await.unwrap(), None);
    client_profile::put(&store, "d", "{}").await.unwrap();
    client_profile::put(&store, "e", "{\"a\":1}").await.unwrap();
    clock.advance_ms(10);
    client_profile::put(&store, "d", "{\"b\":2}").await.unwrap();
    assert_eq!(client_profile::prune(&store, common::NOW + 5).await.unwrap(), 1);
    assert_eq!(client_profile::get(&store, "e").await.unwrap(), None);
    assert_eq!(client_profile::get(&store, "d").await.unwrap().as_deref(), Some("{\"b\":2}"));
}

/// A session that gives way takes its profile along, unless another one has it.
async fn case_surplus_sessions_leave_no_profile(store: Store, clock: Arc<ManualClock>) {
    let session = |id: &str, profile: &str, at_ms: i64| portal_state::PortalState {
        id: format!("s:{id}"),
        counted: "ana".to_owned(),
        profile: profile.to_owned(),
        off: "[]".to_owned(),
        log_level: None,
        created_ms: at_ms,
        seen_ms: at_ms,
    };
    let mut now = common::NOW;
    let mut open = async |id: &str, profile: &str| {
        clock.advance_ms(3_000);
        now += 3_000;
        portal_state::open(&store, &session(id, profile, now), "{}", 2).await.unwrap()
    };
    assert!(open("1", "one").await.is_empty());
    assert!(open("2", "shared").await.is_empty());
    assert_eq!(open("3", "shared").await, ["s:1"]);
    assert_eq!(client_profile::get(&store, "one").await.unwrap(), None);
    assert_eq!(open("4", "four").await, ["s:2"]);
    assert!(client_profile::get(&store, "shared").await.unwrap().is_some(), "another session has it");
    assert_eq!(open("5", "five").await, ["s:3"]);
    assert_eq!(client_profile::get(&store, "shared").await.unwrap(), None);
    // One that was seen a moment ago may be of a session that begins elsewhere just now.
    assert_eq!(portal_state::open(&store, &session("6", "six", now), "{}", 2).await.unwrap(), ["s:4"]);
    client_profile::put(&store, "five", "{}").await.unwrap();
    assert_eq!(portal_state::open(&store, &session("7", "seven", now), "{}", 1).await.unwrap().len(), 2);
    assert!(client_profile::get(&store, "five").await.unwrap().is_some());
}

fn index_row(writer: &str, seq: i64) -> IndexRow {
    let refused = seq % 10 == 0;
    IndexRow {
        // Several records share a millisecond.
        at_ms: common::NOW + seq / 3,
        writer: writer.to_owned(),
        seq,
        kind: if seq % 2 == 0 { "call" } else { "list" }.to_owned(),
        principal: Some(format!("user:u{}", seq % 5)),
        portal: (seq % 4 == 0).then(|| "default".to_owned()),
        server: Some(format!("s{}", seq % 3)),
        target: Some(format!("tool{}", seq % 7)),
        allow: !refused,
        code: refused.then(|| "policy_denied".to_owned()),
        id: format!("{writer}-{seq}"),
        who: Some("{}".to_owned()),
        record: format!("{{\"seq\":{seq}}}"),
        outcome: "ok".to_owned(),
        total_us: 0,
    }
}

fn position(offset: i64, seq: i64) -> Position {
    Position { segment: 1, byte_offset: offset, seq, hash: "00".to_owned() }
}

/// 300 records of two writers: more than four statements of many rows, and a rest.
async fn fill(store: &Store) -> Vec<IndexRow> {
    let mut all = Vec::new();
    for writer in ["aaaa", "bbbb"] {
        let rows: Vec<IndexRow> = (1..=150).map(|seq| index_row(writer, seq)).collect();
        let batch = Batch { writer, from: None, to: &position(1_000, 150), rows: &rows, hits: &[] };
        assert!(audit_index::index(store, &batch).await.unwrap());
        all.extend(rows);
    }
    all.sort_by(|a, b| (b.at_ms, &b.writer, b.seq).cmp(&(a.at_ms, &a.writer, a.seq)));
    all
}

async fn search_all(store: &Store, filter: Filter) -> Vec<IndexRow> {
    let (mut rows, mut after) = (Vec::new(), filter.after.clone());
    loop {
        let page = audit_index::search(store, &Filter { after, ..filter.clone() }).await.unwrap();
        rows.extend(page.rows);
        // Through its text, as a caller would carry it.
        after = page.next.map(|cursor| Cursor::parse(&cursor.to_string()).unwrap());
        if after.is_none() {
            return rows;
        }
    }
}

async fn case_index_pages_have_no_gap_and_no_repeat(store: Store, _: Arc<ManualClock>) {
    let all = fill(&store).await;
    for limit in [1, 7, 64, 299, 300, 301, 1_000, 0] {
        let rows = search_all(&store, Filter { limit, ..Filter::default() }).await;
        assert_eq!(rows, all, "limit {limit}");
    }
}

async fn case_index_filters(store: Store, _: Arc<ManualClock>) {
    let all = fill(&store).await;
    let text = |value: &str| Some(value.to_owned());
    type Check = fn(&IndexRow) -> bool;
    let cases: [(Filter, Check); 10] = [
        (Filter { principal: text("user:u3"), ..Filter::default() }, |r| r.principal.as_deref() == Some("user:u3")),
        (Filter { portal: text("default"), ..Filter::default() }, |r| r.portal.is_some()),
        (Filter { server: text("s1"), ..Filter::default() }, |r| r.server.as_deref() == Some("s1")),
        (Filter { target: text("tool2"), ..Filter::default() }, |r| r.target.as_deref() == Some("tool2")),
        (Filter { allow: Some(false), ..Filter::default() }, |r| !r.allow),
        (Filter { code: text("policy_denied"), ..Filter::default() }, |r| r.code.is_some()),
        (Filter { kind: text("list"), ..Filter::default() }, |r| r.kind == "list"),
        (Filter { id: text("aaaa-17"), ..Filter::default() }, |r| r.id == "aaaa-17"),
        (Filter { since_ms: Some(common::NOW + 10), until_ms: Some(common::NOW + 20), ..Filter::default() }, |r| {
            (common::NOW + 10..common::NOW + 20).contains(&r.at_ms)
        }),
        (Filter { principal: text("user:u0"), server: text("s0"), allow: Some(true), ..Filter::default() }, |r| {
            r.principal.as_deref() == Some("user:u0") && r.server.as_deref() == Some("s0") && r.allow
        }),
    ];
    for (mut filter, check) in cases {
        filter.limit = 13;
        let wanted: Vec<IndexRow> = all.iter().filter(|row| check(row)).cloned().collect();
        assert!(filter.allow == Some(true) || !wanted.is_empty());
        assert_eq!(search_all(&store, filter.clone()).await, wanted, "{filter:?}");
    }
    let none = Filter { principal: text("' OR 1=1 --"), ..Filter::default() };
    assert!(search_all(&store, none).await.is_empty());
}

async fn case_index_batches_are_exactly_once(store: Store, _: Arc<ManualClock>) {
    let rows: Vec<IndexRow> = (1..=3).map(|seq| index_row("aaaa", seq)).collect();
    let (p1, p2) = (position(100, 3), position(200, 6));
    let first = Batch { writer: "aaaa", from: None, to: &p1, rows: &rows, hits: &[] };
    assert!(audit_index::index(&store, &first).await.unwrap());
    assert!(!audit_index::index(&store, &first).await.unwrap(), "the same again");
    let more: Vec<IndexRow> = (4..=6).map(|seq| index_row("aaaa", seq)).collect();
    let stale = position(50, 1);
    let wrong = Batch { writer: "aaaa", from: Some(&stale), to: &p2, rows: &more, hits: &[] };
    assert!(!audit_index::index(&store, &wrong).await.unwrap());
    assert_eq!(audit_index::count(&store, "aaaa").await.unwrap(), 3);
    let second = Batch { writer: "aaaa", from: Some(&p1), to: &p2, rows: &more, hits: &[] };
    assert!(audit_index::index(&store, &second).await.unwrap());
    assert_eq!(audit_index::count(&store, "aaaa").await.unwrap(), 6);
    assert_eq!(audit_index::position(&store, "aaaa").await.unwrap(), Some(p2));
    assert_eq!(audit_index::writers(&store).await.unwrap(), ["aaaa"]);
}

async fn case_two_indexers_do_not_double_a_record(store: Store, _: Arc<ManualClock>) {
    let rows: Vec<IndexRow> = (1..=100).map(|seq| index_row("aaaa", seq)).collect();
    let tries: Vec<_> = (0..4)
        .map(|_| {
            let (store, rows) = (store.clone(), rows.clone());
            tokio::spawn(async move {
                let to = position(100, 100);
                let batch = Batch { writer: "aaaa", from: None, to: &to, rows: &rows, hits: &[] };
                audit_index::index(&store, &batch).await.unwrap()
            })
        })
        .collect();
    let mut won = 0;
    for one in tries {
        won += u32::from(one.await.unwrap());
    }
    assert_eq!(won, 1);
    assert_eq!(audit_index::count(&store, "aaaa").await.unwrap(), 100);
}

async fn case_index_forgets_erases_and_prunes(store: Store, _: Arc<ManualClock>) {
    fill(&store).await;
    assert_eq!(audit_index::erase(&store, "user:u2").await.unwrap(), 60);
    let erased = search_all(&store, Filter { principal: Some("user:u2".to_owned()), ..Filter::default() }).await;
    assert!(erased.is_empty());
    let rows = search_all(&store, Filter::default()).await;
    assert_eq!(rows.iter().filter(|row| row.principal.is_none() && row.who.is_none()).count(), 60);
    audit_index::forget(&store, "aaaa").await.unwrap();
    assert_eq!(audit_index::count(&store, "aaaa").await.unwrap(), 0);
    assert_eq!(audit_index::count(&store, "bbbb").await.unwrap(), 150);
    assert_eq!(audit_index::position(&store, "aaaa").await.unwrap(), None);
    assert_eq!(audit_index::prune(&store, common::NOW + 1).await.unwrap(), 2);
}

/// Two replicas, sixteen that try at once: one has the use, however the ids look.
async fn case_a_marker_is_used_once(store: Store, clock: Arc<ManualClock>) {
    let now = bartizan_model::Clock::now_ms(&*clock);
    for id in ["a", "", "\u{1f9ea}", "x".repeat(500).as_str()] {
        let tries = (0..16).map(|_| {
            let (store, id) = (store.clone(), id.to_owned());
            tokio::spawn(async move { replay::consume(&store, &id, now + 1_000).await.unwrap() })
        });
        let mut won = 0;
        for attempt in tries.collect::<Vec<_>>() {
            won += usize::from(attempt.await.unwrap());
        }
        assert_eq!(won, 1, "{id}");
    }
    assert!(replay::consume(&store, "later", now + 2_000).await.unwrap());
    assert_eq!(replay::prune(&store, now + 1_000).await.unwrap(), 0, "kept until its expiry");
    // The clock of the replica that prunes may be ahead of the one that would accept the id.
    let late = now + 1_000 + replay::SKEW_MS;
    assert_eq!(replay::prune(&store, late).await.unwrap(), 0, "and as long as clocks may differ");
    assert!(!replay::consume(&store, "a", now + 1_000).await.unwrap());
    assert_eq!(replay::prune(&store, late + 1).await.unwrap(), 4);
    assert!(!replay::consume(&store, "later", now + 2_000).await.unwrap());
    assert!(replay::consume(&store, "a", now + 9_000).await.unwrap());
    store.close().await;
    assert!(replay::consume(&store, "b", now + 9_000).await.is_err(), "without an answer nothing is used");
}

macro_rules! cases {
    ($($case:ident => $sqlite:ident),+ $(,)?) => {
        mod on_sqlite {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $sqlite() {
                    let clock = common::manual();
                    let (_dir, store) = common::sqlite(clock.clone()).await;
                    $case(store, clock).await;
                }
            )+
        }

        /// One server for all, one database for each.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn o1_every_case_on_postgres() {
            let Some(postgres) = common::Postgres::start().await else { return };
            $(
                let clock = common::manual();
                let store = postgres.store(clock.clone()).await;
                let done = tokio::spawn($case(store.clone(), clock)).await;
                assert!(done.is_ok(), "{} failed on Postgres: {done:?}", stringify!($case));
                store.close().await;
            )+
        }

        /// The database of `dev`: one connection for everything.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn o1_every_case_in_memory() {
            $(
                let clock = common::manual();
                let store = Store::open(&bartizan_store::StoreUrl::Memory, clock.clone()).await.unwrap();
                let done = tokio::spawn($case(store, clock)).await;
                assert!(done.is_ok(), "{} failed in memory: {done:?}", stringify!($case));
            )+
        }
    };
}

cases! {
    case_every_statement_is_prepared => o1_every_statement_is_prepared,
    case_ping_and_close => o1_ping_and_close,
    case_meta_values => o1_meta_values,
    case_meta_compare_and_set_has_one_winner => o1_meta_compare_and_set_has_one_winner,
    case_changes_are_seen_in_order => o1_changes_are_seen_in_order,
    case_no_change_is_skipped_under_concurrency => o1_no_change_is_skipped_under_concurrency,
    case_a_reader_behind_pruned_changes_reads_everything => o1_a_reader_behind_pruned_changes_reads_everything,
    case_a_feed_waits_no_longer_than_a_poll => o1_a_feed_waits_no_longer_than_a_poll,
    case_a_waiting_feed_does_not_hold_up_closing => o1_a_waiting_feed_does_not_hold_up_closing,
    case_leases_have_one_owner_and_a_growing_fence => o2_leases_have_one_owner_and_a_growing_fence,
    case_one_of_many_claims_wins => o2_one_of_many_claims_wins,
    case_service_tokens => a11_rows_of_service_tokens,
    case_last_use_is_written_at_most_every_five_minutes => a11_last_use_is_written_at_most_every_five_minutes,
    case_inactive_tokens => a11_inactive_tokens,
    case_sealed_records_compare_and_set => p21_sealed_records_compare_and_set,
    case_sealed_records_under_other_keys_are_paged => p21_sealed_records_under_other_keys_are_paged,
    case_client_profiles => o1_client_profiles,
    case_surplus_sessions_leave_no_profile => p34_surplus_sessions_leave_no_profile,
    case_of_many_that_redeem_or_exchange_one_wins => a10_of_many_that_redeem_or_exchange_one_wins,
    case_no_grant_slips_past_a_withdrawal => a19_no_grant_slips_past_a_withdrawal,
    case_registered_clients_are_trimmed => a7_registered_clients_are_trimmed,
    case_no_code_slips_past_a_sign_out => a25_no_code_slips_past_a_sign_out,
    case_a_deactivated_person_keeps_no_grant => a25_a_deactivated_person_keeps_no_grant,
    case_a_token_is_exchanged_five_times_at_most => a10_a_token_is_exchanged_five_times_at_most,
    case_consent_is_for_one_resource => a19_consent_is_for_one_resource,
    case_a_marker_is_used_once => p9_a_marker_is_used_once,
    case_people => a2_people,
    case_one_person_signs_in_twice_at_once => a2_one_person_signs_in_twice_at_once,
    case_browser_sessions => a2_browser_sessions,
    case_accounts_go_with_the_address => p16_accounts_go_with_the_address,
    case_deprovisioned_people_lose_everything => a14_deprovisioned_people_lose_everything,
    case_provisioning_is_required => a14_provisioning_is_required,
    case_provisioned_groups_count => a14_provisioned_groups_count,
    case_a_rename_takes_nobody_over => a14_a_rename_takes_nobody_over,
    case_a_recycled_address_is_not_the_leaver => a14_a_recycled_address_is_not_the_leaver,
    case_an_unclear_match_lets_nobody_in => a14_an_unclear_match_lets_nobody_in,
    case_the_group_of_the_local_account_is_nobody_elses => a31_the_group_of_the_local_account_is_nobody_elses,
    case_no_sign_in_slips_past_a_deactivation => a14_no_sign_in_slips_past_a_deactivation,
    case_sign_ins_under_way => a2_sign_ins_under_way,
    case_index_pages_have_no_gap_and_no_repeat => l9_index_pages_have_no_gap_and_no_repeat,
    case_index_filters => l9_index_filters,
    case_index_batches_are_exactly_once => l9_index_batches_are_exactly_once,
    case_two_indexers_do_not_double_a_record => l9_two_indexers_do_not_double_a_record,
    case_index_forgets_erases_and_prunes => l9_index_forgets_erases_and_prunes,
}
