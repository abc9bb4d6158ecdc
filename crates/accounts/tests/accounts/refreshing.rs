//! P20: refreshing.

use std::sync::Arc;
use std::time::Duration;

use bartizan_accounts::AccountError;
use bartizan_identity::Action;
use bartizan_model::ManualClock;
use bartizan_store::Store;
use bartizan_store::repo::sealed::Key;
use bartizan_store::repo::upstream_account;
use bartizan_vault::Records;
use futures_util::future::join_all;
use serde_json::json;

use crate::fake::{Fake, Reply};
use crate::gateway::{Gateway, NOW, token, user};
use crate::stores;

/// Three processes, each with a database connection of its own where there can be several.
async fn storm(stores: [Store; 3], clock: Arc<ManualClock>) {
    let fake = Fake::start().await;
    let [first, second, third] = stores;
    let address = "http://127.0.0.1:7420";
    let gateway = Gateway::over(first, clock, &fake.server, address, &json!(null), &["127.0.0.1"]).await;
    gateway.connect(&fake, "ana").await;
    fake.set().token_pause = Duration::from_millis(300);
    let processes = [gateway.process(), gateway.process_over(&second), gateway.process_over(&third)];
    let spec = gateway.spec();
    for round in 1..=3 {
        gateway.clock.advance_ms(3_600_000);
        let calls = (0..300).map(|call| token(&processes[call % 3], &spec, "ana"));
        let tokens = join_all(calls).await;
        assert_eq!(fake.set().redemptions, round);
        assert!(tokens.iter().all(|token| *token == tokens[0] && fake.set().access.contains_key(token)));
    }
}

#[tokio::test]
async fn p20_three_processes_with_a_hundred_calls_each_redeem_once() {
    let clock = stores::manual();
    let (_dir, store) = stores::sqlite(clock.clone()).await;
    storm([store.clone(), store.clone(), store], clock).await;
}

#[tokio::test]
async fn p20_three_processes_over_postgres_redeem_once() {
    let Some(postgres) = stores::Postgres::start().await else { return };
    let clock = stores::manual();
    let url = postgres.empty().await;
    let open = || Store::open(&url, clock.clone());
    let stores = [open().await.unwrap(), open().await.unwrap(), open().await.unwrap()];
    storm(stores, clock.clone()).await;
}

#[tokio::test]
async fn p20_tokens_are_refreshed_before_their_end_and_short_ones_too() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let first = gateway.token("ana").await;
    gateway.clock.advance_ms(3_600_000 - 61_000);
    assert_eq!(gateway.token("ana").await, first);
    gateway.clock.advance_ms(1_000);
    fake.set().expires_in = Some(60);
    assert_ne!(gateway.token("ana").await, first);
    for n in 2..50 {
        let before = gateway.token("ana").await;
        gateway.clock.advance_ms(29_000);
        assert_eq!(gateway.token("ana").await, before, "not with every call");
        gateway.clock.advance_ms(1_000);
        assert_ne!(gateway.token("ana").await, before);
        assert_eq!(fake.set().redemptions, n);
    }
}

#[tokio::test]
async fn p20_a_failure_that_may_pass_keeps_the_token() {
    let fake = Fake::start().await;
    let mut gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let first = gateway.token("ana").await;
    gateway.clock.advance_ms(3_600_000 - 30_000);
    for bad in [
        Reply::Json(503, json!({})),
        Reply::Json(500, json!({ "error": "server_error" })),
        Reply::Json(429, json!({ "error": "temporarily_unavailable" })),
        Reply::Json(200, json!("what")),
        Reply::Json(400, json!({ "error": "invalid_request" })),
        // Nobody else is asked, with the refresh token in hand.
        Reply::Head(307, "location", "http://127.0.0.1:1/token".to_owned()),
    ] {
        fake.set().token_next = vec![(false, bad)];
        assert_eq!(gateway.token("ana").await, first);
        assert!(fake.set().token_next.is_empty(), "it was asked");
        // A pause: nobody hammers a server that is down.
        let asked = fake.count("/token");
        assert_eq!(gateway.token("ana").await, first);
        assert_eq!(fake.count("/token"), asked);
        gateway.clock.advance_ms(200);
        // Another process has not paused.
        gateway.accounts = gateway.process();
    }
    // Over, and still down: nothing is sent, and nobody must sign in.
    fake.set().token_next = vec![(false, Reply::Json(503, json!({})))];
    gateway.clock.advance_ms(30_000);
    let refused = gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.unwrap_err();
    assert!(matches!(refused, AccountError::Unavailable(_)), "{refused}");
    assert!(gateway.accounts.list(&user("ana")).await.unwrap()[0].ready);
    gateway.clock.advance_ms(120_000);
    assert_ne!(gateway.token("ana").await, first);
}

#[tokio::test]
async fn p20_a_lost_answer_is_asked_for_again() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    fake.set().grace = true;
    fake.set().token_next = vec![(true, Reply::Cut)];
    gateway.clock.advance_ms(3_600_000);
    let sent = gateway.token("ana").await;
    assert_eq!(fake.set().access[&sent], "ana");
    assert_eq!(fake.set().redemptions, 2);
}

#[tokio::test]
async fn p20_what_was_redeemed_is_stored_before_it_is_used() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    gateway.clock.advance_ms(3_600_000);
    let sent = gateway.token("ana").await;
    // Another process that begins now has it, and the next refresh uses the new refresh token.
    let other = gateway.process();
    assert_eq!(token(&other, &gateway.spec(), "ana").await, sent);
    assert_eq!(fake.set().redemptions, 1);
    gateway.clock.advance_ms(3_600_000);
    token(&other, &gateway.spec(), "ana").await;
    assert_eq!(fake.set().redemptions, 2);
}

#[tokio::test]
async fn p20_a_grant_that_is_gone_asks_for_a_login() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    gateway.connect(&fake, "bob").await;
    fake.set().token_next = vec![(false, Reply::Json(400, json!({ "error": "invalid_grant" })))];
    gateway.clock.advance_ms(3_600_000);
    let refused = gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.unwrap_err();
    assert_eq!(refused, AccountError::LoginNeeded);
    let asked = fake.count("/token");
    assert!(gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.is_err());
    assert_eq!(fake.count("/token"), asked, "a dead token is not tried again");
    let views = gateway.accounts.list(&user("ana")).await.unwrap();
    assert!(!views[0].ready);
    let events = gateway.events.lock().unwrap().clone();
    let last = events.last().unwrap();
    assert_eq!((last.action, last.note.as_deref()), (Action::Disconnect, Some("invalid_grant")));
    // Others are not concerned.
    gateway.token("bob").await;
}

#[tokio::test]
async fn p20_without_a_refresh_token_the_account_ends_with_the_token() {
    let fake = Fake::start().await;
    fake.set().no_refresh = true;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let first = gateway.token("ana").await;
    gateway.clock.advance_ms(3_599_000);
    assert_eq!(gateway.token("ana").await, first);
    gateway.clock.advance_ms(1_000);
    let refused = gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.unwrap_err();
    assert_eq!(refused, AccountError::LoginNeeded);
    // A token of unknown life lasts until it is refused.
    fake.set().expires_in = None;
    gateway.connect(&fake, "ana").await;
    let first = gateway.token("ana").await;
    gateway.clock.advance_ms(100 * 24 * 3_600_000);
    assert_eq!(gateway.token("ana").await, first);
}

/// The account of ana at rest.
fn at_rest() -> Key {
    let id = upstream_account::name("user:ana@corp.example", "notes");
    Key { tenant: String::new(), kind: "upstream_token".to_owned(), id }
}

async fn until_asked(fake: &Fake, before: usize) {
    let asked = async {
        while fake.count("/token") == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.expect("asked");
}

#[tokio::test]
async fn p20_a_lost_refresh_leaves_the_account_that_was_connected_meanwhile() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    gateway.clock.advance_ms(3_600_000);
    fake.set().token_next = vec![(false, Reply::Json(400, json!({ "error": "invalid_grant" })))];
    fake.set().token_pause = Duration::from_millis(400);
    let (accounts, spec, before) = (gateway.accounts.clone(), gateway.spec(), fake.count("/token"));
    let refreshing = tokio::spawn(async move { accounts.authorize(&spec, &user("ana")).await });
    until_asked(&fake, before).await;
    // The same person comes back from the authorization server, at another process.
    let records = Records::new(gateway.vault.clone(), gateway.store.clone());
    let (version, plain) = records.get(&at_rest()).await.unwrap().unwrap();
    let mut stored: serde_json::Value = serde_json::from_slice(&plain).unwrap();
    stored["access"] = "anew".into();
    stored["expires_ms"] = (NOW + 100 * 3_600_000).into();
    records.put(&at_rest(), version, stored.to_string().as_bytes()).await.unwrap();
    let sent = refreshing.await.unwrap().unwrap();
    assert_eq!(sent.header.to_str().unwrap(), "Bearer anew");
    assert_eq!(token(&gateway.process(), &gateway.spec(), "ana").await, "anew");
}

#[tokio::test]
async fn p20_a_refresh_never_overwrites_an_account_that_was_connected_anew() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let first = gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.unwrap().version;
    gateway.clock.advance_ms(3_600_000);
    fake.set().token_pause = Duration::from_millis(400);
    let (accounts, spec, before) = (gateway.accounts.clone(), gateway.spec(), fake.count("/token"));
    let refreshing = tokio::spawn(async move { accounts.authorize(&spec, &user("ana")).await });
    until_asked(&fake, before).await;
    let records = Records::new(gateway.vault.clone(), gateway.store.clone());
    assert!(records.delete(&at_rest()).await.unwrap());
    fake.set().token_pause = Duration::ZERO;
    gateway.connect(&fake, "ana").await;
    let anew = token(&gateway.process(), &gateway.spec(), "ana").await;
    assert_ne!(gateway.process().authorize(&gateway.spec(), &user("ana")).await.unwrap().version, first);
    let _ = refreshing.await.unwrap();
    assert_eq!(token(&gateway.process(), &gateway.spec(), "ana").await, anew);
}

/// The same numbers every time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// 24 hours of tokens that last a minute and rotate, three processes, an authorization server
/// that fails now and then: nobody must sign in again, and what is sent is always good.
#[tokio::test]
async fn p20_a_day_of_tokens_that_last_a_minute_loses_nobody() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    fake.set().expires_in = Some(60);
    fake.set().grace = true;
    for name in ["ana", "bob"] {
        gateway.connect(&fake, name).await;
    }
    let spec = gateway.spec();
    let mut processes = [gateway.process(), gateway.process(), gateway.process()];
    let mut chance = Chance(20);
    // Token, and when it was seen first.
    let mut seen: std::collections::HashMap<String, i64> = std::collections::HashMap::new();
    let (mut calls, mut unavailable, mut faults, mut restarts) = (0u32, 0u32, 0u32, 0usize);
    // Until when the authorization server is down, and whether that is longer than a token lasts.
    let (mut down_until, mut long) = (NOW, false);
    let mut now = NOW;
    while now < NOW + DAY_MS {
        let step = 1_000 + i64::try_from(chance.below(3_000)).unwrap();
        gateway.clock.advance_ms(step);
        now += step;
        if now >= down_until {
            fake.set().instead.remove("/token");
            // After a long one a process may be pausing before its next attempt for a minute.
            long = long && now < down_until + 61_000;
            match if long { u64::MAX } else { chance.below(150) } {
                0 => {
                    long = chance.below(6) == 0;
                    let for_ms = if long { 90_000 } else { 2_000 + chance.below(6_000) };
                    down_until = now + i64::try_from(for_ms).unwrap();
                    fake.set().instead.insert("/token".to_owned(), Reply::Json(503, json!({})));
                    faults += 1;
                }
                // One bad answer, or one that is lost after it was carried out.
                1 => fake.set().token_next = vec![(false, Reply::Json(500, json!({"error": "server_error"})))],
                2 | 3 => fake.set().token_next = vec![(true, Reply::Cut)],
                _ => {}
            }
        }
        if chance.below(4_000) == 0 {
            processes[restarts % 3] = gateway.process();
            restarts += 1;
        }
        let accounts = &processes[usize::try_from(chance.below(3)).unwrap()];
        for name in ["ana", "bob"] {
            calls += 1;
            match accounts.authorize(&spec, &user(name)).await {
                Ok(sent) => {
                    let sent = sent.header.to_str().unwrap().trim_start_matches("Bearer ").to_owned();
                    assert_eq!(fake.set().access.get(&sent).map(String::as_str), Some(name));
                    let first = *seen.entry(sent).or_insert(now);
                    assert!(now - first < 60_000, "a token that is over was sent");
                }
                Err(AccountError::Unavailable(_)) if long => unavailable += 1,
                Err(error) => panic!("{name} after {} min, long {long}: {error}", (now - NOW) / 60_000),
            }
        }
    }
    fake.set().instead.clear();
    fake.set().token_next.clear();
    gateway.clock.advance_ms(61_000);
    for name in ["ana", "bob"] {
        gateway.token(name).await;
        assert!(gateway.accounts.list(&user(name)).await.unwrap()[0].ready);
    }
    let lost = gateway.events.lock().unwrap().iter().filter(|event| event.action == Action::Disconnect).count();
    let redeemed = fake.set().redemptions;
    println!(
        "{calls} calls, {redeemed} redemptions, {faults} outages, {restarts} restarts, {unavailable} calls had to wait"
    );
    assert_eq!(lost, 0, "nobody had to sign in again");
    assert!(redeemed > 3_000 && faults > 50 && restarts > 3, "{redeemed} {faults} {restarts}");
}
