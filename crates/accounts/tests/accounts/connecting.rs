//! Connecting and using accounts.

use std::time::Duration;

use bartizan_accounts::{AccountError, After};
use bartizan_identity::Action;
use bartizan_model::{Principal, PrincipalKind, ServerId};
use bartizan_oauth::params::Params;
use bartizan_store::repo::{person, upstream_revocation};
use futures_util::future::join_all;
use serde_json::json;

use crate::fake::{Fake, Reply};
use crate::gateway::{BROWSER, Gateway, NOW, PERSON, token, user};

#[tokio::test]
async fn p16_the_first_login_needs_nobody_but_the_person() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let ana = user("ana");
    assert_eq!(gateway.accounts.authorize(&gateway.spec(), &ana).await.unwrap_err(), AccountError::LoginNeeded);
    assert_eq!(gateway.accounts.login_url(&gateway.spec().id), "http://127.0.0.1:7420/connect/notes");

    let url = gateway.accounts.begin(&gateway.spec(), &ana, "/account", BROWSER).await.unwrap();
    let asked = Params::parse(url.split_once('?').unwrap().1.as_bytes()).unwrap();
    assert_eq!(asked.get("resource"), Some(fake.server.as_str()));
    assert_eq!(asked.get("scope"), Some("notes.read"), "the challenge's, not all that are supported");
    assert_eq!(asked.get("redirect_uri"), Some("http://127.0.0.1:7420/oauth/callback"));
    assert!(asked.get("state").unwrap().len() >= 43);
    let registered = fake.set().registrations.clone();
    assert_eq!(registered.len(), 1);
    assert_eq!(registered[0]["application_type"], "native");
    assert_eq!(registered[0]["redirect_uris"], json!(["http://127.0.0.1:7420/oauth/callback"]));

    let query = fake.approve(&url, "ana");
    gateway.accounts.finish(&query, &ana, BROWSER).await.unwrap();
    assert_eq!(fake.last("/token").get("resource"), Some(fake.server.as_str()));
    let sent = gateway.token("ana").await;
    assert_eq!(fake.set().access[&sent], "ana");
    // A second person needs no second registration.
    gateway.connect(&fake, "bob").await;
    assert_eq!(fake.set().registrations.len(), 1);

    let events = gateway.events.lock().unwrap().clone();
    let connected: Vec<_> = events.iter().map(|event| (event.action, event.ok, event.person.as_deref())).collect();
    assert_eq!(
        connected,
        [(Action::Connect, true, Some("ana@corp.example")), (Action::Connect, true, Some("bob@corp.example")),]
    );
    assert!(!format!("{events:?}").contains(&sent));
}

#[tokio::test]
async fn p57_accounts_are_listed_for_their_owner() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    gateway.token("ana").await;
    let views = gateway.accounts.list(&user("ana")).await.unwrap();
    assert_eq!(views.len(), 1);
    assert_eq!((views[0].server.as_str(), views[0].ready), ("notes", true));
    assert_eq!((views[0].issuer.as_str(), &views[0].scopes), (fake.issuer.as_str(), &vec!["notes.read".to_owned()]));
    assert_eq!((views[0].expires_ms, views[0].connected_ms), (Some(NOW + 3_600_000), NOW));
    assert!(!format!("{views:?}").contains("at-ana"));
    assert!(gateway.accounts.list(&user("bob")).await.unwrap().is_empty());
}

#[tokio::test]
async fn p16_ten_thousand_interleaved_calls_of_two_people_are_never_mixed() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    gateway.connect(&fake, "bob").await;
    let (one, other) = (gateway.process(), gateway.process());
    let spec = gateway.spec();
    for round in 0..100 {
        // In between the tokens change, by refresh and by signing in again.
        match round % 10 {
            3 => gateway.clock.advance_ms(3_590_000),
            7 => gateway.connect(&fake, "bob").await,
            _ => {}
        }
        let calls = (0..100).map(|call| {
            let (accounts, name) = (if call % 3 == 0 { &one } else { &other }, ["ana", "bob"][call % 2]);
            let (spec, fake) = (&spec, &fake);
            async move {
                let sent = token(accounts, spec, name).await;
                assert_eq!(fake.set().access[&sent], name);
            }
        });
        join_all(calls).await;
    }
}

#[tokio::test]
async fn p16_only_people_have_accounts() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let service = Principal::new(PrincipalKind::Service, "ci", []);
    for who in [Principal::anonymous(), service, Principal::new(PrincipalKind::User, "an\u{430}@corp.example", [])] {
        let refused = gateway.accounts.authorize(&gateway.spec(), &who).await.unwrap_err();
        assert!(matches!(refused, AccountError::Misconfigured(_)), "{refused}");
        assert!(gateway.accounts.begin(&gateway.spec(), &who, "/", BROWSER).await.is_err());
    }
}

#[tokio::test]
async fn p16_a_client_named_by_its_document_is_not_registered() {
    let fake = Fake::start().await;
    fake.set().metadata = json!({ "client_id_metadata_document_supported": true });
    let gateway = Gateway::with(&fake.server, "https://gate.example", &json!(null), &["127.0.0.1"]).await;
    gateway.connect(&fake, "ana").await;
    assert_eq!(fake.count("/register"), 0);
    let id = "https://gate.example/.well-known/bartizan-client.json";
    assert_eq!(fake.last("/token").get("client_id"), Some(id));
    let document: serde_json::Value = serde_json::from_slice(&gateway.accounts.client_document()).unwrap();
    assert_eq!(document["client_id"], id);
    assert_eq!(document["redirect_uris"], json!(["https://gate.example/oauth/callback"]));
    let at = bartizan_oauth::client_document::DocumentUrl::parse(id).unwrap();
    let parsed = bartizan_oauth::client_document::parse(&at, &gateway.accounts.client_document());
    assert!(parsed.is_ok(), "our own authorization server takes it");
}

#[tokio::test]
async fn p16_a_configured_client_is_used_and_its_change_ends_the_account() {
    let fake = Fake::start().await;
    fake.set().metadata = json!({ "registration_endpoint": null });
    fake.set().clients.insert("by-hand".to_owned(), Some("s3cret".to_owned()));
    let config = json!({ "issuer": fake.issuer, "client_id": "by-hand", "client_secret": "s3cret", "scopes": ["x"] });
    let gateway = Gateway::with(&fake.server, "http://127.0.0.1:7420", &config, &["127.0.0.1"]).await;
    gateway.connect(&fake, "ana").await;
    assert_eq!(fake.last("/token").get("client_id"), Some("by-hand"));
    gateway.token("ana").await;
    gateway.spec.store(crate::gateway::spec(&fake.server, &json!({ "client_id": "another" })));
    let refused = gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.unwrap_err();
    assert_eq!(refused, AccountError::LoginNeeded);
}

#[tokio::test]
async fn p16_without_any_way_to_a_client_the_page_says_what_to_configure() {
    let fake = Fake::start().await;
    fake.set().metadata = json!({ "registration_endpoint": null });
    let gateway = Gateway::new(&fake).await;
    let problem = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap_err();
    assert_eq!(problem.code, "connect_settings");
    assert!(problem.text.contains("auth_config.client_id") && problem.text.contains("/oauth/callback"), "{problem:?}");
}

#[tokio::test]
async fn p16_the_ladder_without_a_challenge_and_without_resource_metadata() {
    let fake = Fake::start().await;
    // No `resource_metadata` in the challenge: the well-known place, and all its scopes.
    fake.set().challenge = Some("Basic realm=x, Bearer realm=\"y, z\"".to_owned());
    let gateway = Gateway::new(&fake).await;
    let url = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap();
    assert_eq!(Params::parse(url.split_once('?').unwrap().1.as_bytes()).unwrap().get("scope"), Some("a b"));
    // None at all: the configured issuer.
    let gone = Reply::Json(404, json!({}));
    fake.set().instead.insert("/.well-known/oauth-protected-resource/mcp".to_owned(), gone);
    let config = json!({ "issuer": fake.issuer, "scopes": ["mine"] });
    let gateway = Gateway::with(&fake.server, "http://127.0.0.1:7420", &config, &["127.0.0.1"]).await;
    let url = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap();
    let asked = Params::parse(url.split_once('?').unwrap().1.as_bytes()).unwrap();
    assert_eq!((asked.get("scope"), asked.get("resource")), (Some("mine"), Some(fake.server.as_str())));
}

#[tokio::test]
async fn p16_offline_access_is_asked_for_where_it_is_offered() {
    let fake = Fake::start().await;
    fake.set().metadata = json!({ "scopes_supported": ["openid", "offline_access"] });
    let gateway = Gateway::new(&fake).await;
    let url = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap();
    let asked = Params::parse(url.split_once('?').unwrap().1.as_bytes()).unwrap();
    assert_eq!((asked.get("scope"), asked.get("prompt")), (Some("notes.read offline_access"), Some("consent")));
}

#[tokio::test]
async fn a26_an_authorization_server_that_forgot_the_client_costs_one_login() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    fake.set().clients.clear();
    // Her account is over, because its tokens belong to that client ...
    gateway.clock.advance_ms(3_600_000);
    let refused = gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.unwrap_err();
    assert_eq!(refused, AccountError::LoginNeeded);
    // ... and her first try to connect it again succeeds.
    gateway.connect(&fake, "ana").await;
    assert_eq!(fake.set().registrations.len(), 2);
    gateway.token("ana").await;
    // Also when the first to notice is one who signs in.
    fake.set().clients.clear();
    gateway.connect(&fake, "bob").await;
    assert_eq!(fake.set().registrations.len(), 3);
}

#[tokio::test]
async fn p57_disconnecting_revokes_upstream_and_ends_the_account_everywhere() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let sent = gateway.token("ana").await;
    let other = gateway.process();
    assert_eq!(token(&other, &gateway.spec(), "ana").await, sent);

    let server = ServerId::parse("notes").unwrap();
    assert!(gateway.accounts.disconnect(&user("ana"), &server).await.unwrap());
    let revoked = fake.set().revoked.clone();
    assert!(revoked.contains(&sent) && revoked.iter().any(|token| token.starts_with("rt-ana")), "{revoked:?}");
    assert!(gateway.accounts.list(&user("ana")).await.unwrap().is_empty());
    assert!(!gateway.accounts.disconnect(&user("ana"), &server).await.unwrap());
    let gone = async {
        while other.authorize(&gateway.spec(), &user("ana")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), gone).await.expect("within two seconds");
    assert!(gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.is_err());
    assert!(other.current(&gateway.spec(), &user("ana")).is_none());
}

#[tokio::test]
async fn p57_a_failed_revocation_keeps_nothing() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    fake.set().instead.insert("/revoke".to_owned(), Reply::Cut);
    assert!(gateway.accounts.disconnect(&user("ana"), &ServerId::parse("notes").unwrap()).await.unwrap());
    assert!(gateway.accounts.authorize(&gateway.spec(), &user("ana")).await.is_err());
}

#[tokio::test]
async fn p37_a_refused_token_is_replaced_once_and_then_needs_a_login() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let (spec, ana) = (gateway.spec(), user("ana"));
    let old = gateway.accounts.authorize(&spec, &ana).await.unwrap();
    // Young tokens are not exchanged: it would never end.
    assert_eq!(gateway.accounts.refused(&spec, &ana, old.version, None).await, After::LoginNeeded);
    assert_eq!(fake.set().redemptions, 0);

    gateway.clock.advance_ms(60_000);
    let old = gateway.accounts.authorize(&spec, &ana).await.unwrap();
    let all = (0..20).map(|_| gateway.accounts.refused(&spec, &ana, old.version, None));
    assert!(join_all(all).await.iter().all(|after| *after == After::Retry));
    assert_eq!(fake.set().redemptions, 1, "one for all who were refused with it");
    let new = gateway.accounts.authorize(&spec, &ana).await.unwrap();
    assert!(new.version > old.version && new.header != old.header);

    gateway.clock.advance_ms(60_000);
    fake.set().refresh.clear();
    assert_eq!(gateway.accounts.refused(&spec, &ana, new.version, None).await, After::LoginNeeded);
    assert_eq!(gateway.accounts.authorize(&spec, &ana).await.unwrap_err(), AccountError::LoginNeeded);
    assert!(!gateway.accounts.list(&ana).await.unwrap()[0].ready);
    gateway.connect(&fake, "ana").await;
    gateway.token("ana").await;
    assert!(gateway.accounts.list(&ana).await.unwrap()[0].ready);
}

#[tokio::test]
async fn p37_lacking_scopes_are_asked_for_with_those_there_were_and_the_account_stays() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let (spec, ana) = (gateway.spec(), user("ana"));
    let held = gateway.accounts.authorize(&spec, &ana).await.unwrap();
    let before = gateway.accounts.destination(&spec, &ana).await.unwrap().scopes;
    let more = Some("Bearer error=\"insufficient_scope\", scope=\"notes.admin\"");
    let refused = async |challenge| gateway.accounts.refused(&spec, &ana, held.version, challenge).await;
    assert_eq!(refused(more).await, After::LoginNeeded);
    // What works goes on working, with the same token.
    assert_eq!(gateway.accounts.authorize(&spec, &ana).await.unwrap().version, held.version);
    assert!(gateway.accounts.list(&ana).await.unwrap()[0].ready);

    let wanted = gateway.accounts.destination(&spec, &ana).await.unwrap().scopes;
    assert!(wanted.iter().any(|scope| scope == "notes.admin"), "{wanted:?}");
    assert!(before.iter().all(|scope| wanted.contains(scope)), "{before:?} {wanted:?}");
    // Nobody else is asked for more.
    assert_eq!(gateway.accounts.destination(&spec, &user("bo")).await.unwrap().scopes, before);
    gateway.connect(&fake, "ana").await;
    assert_eq!(gateway.accounts.destination(&spec, &ana).await.unwrap().scopes, before, "asked for once");

    // What was granted, or is not named, is not asked for again.
    for hopeless in [format!("scope=\"{}\"", before.join(" ")), "realm=\"x\"".to_owned()] {
        let challenge = format!("Bearer error=\"insufficient_scope\", {hopeless}");
        let held = gateway.accounts.authorize(&spec, &ana).await.unwrap();
        let after = gateway.accounts.refused(&spec, &ana, held.version, Some(&challenge)).await;
        assert!(matches!(after, After::Failed(AccountError::Misconfigured(_))), "{challenge}: {after:?}");
    }
}

/// Waits for what the accounts do by themselves.
async fn in_time(what: &str, mut done: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if done().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("in vain: {what}");
}

async fn waiting(gateway: &Gateway) -> i64 {
    // Nothing is due at the beginning of time: only looks.
    let taken = upstream_revocation::take(&gateway.store, i64::MAX, 0).await.unwrap();
    i64::try_from(taken.len()).unwrap()
}

#[tokio::test]
async fn p57_accounts_of_a_person_who_is_deactivated_are_revoked_upstream() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, PERSON).await;
    gateway.connect(&fake, "bob").await;
    let (access, refresh) = {
        let state = fake.set();
        let access = state.access.keys().find(|token| token.contains(PERSON)).unwrap().clone();
        (access, state.refresh.keys().find(|token| token.contains(PERSON)).unwrap().clone())
    };
    // The authorization server is not there at first.
    fake.set().instead.insert("/revoke".to_owned(), Reply::Json(503, json!({})));
    person::forget_accounts(&gateway.store, PERSON).await.unwrap();
    in_time("it is tried", async || fake.count("/revoke") > 0).await;
    assert!(fake.set().revoked.is_empty());
    assert!(gateway.accounts.list(&user(PERSON)).await.unwrap().is_empty(), "here it has ended at once");
    fake.set().instead.clear();
    gateway.clock.advance_ms(31_000);
    in_time("the tokens are revoked", async || fake.set().revoked.len() == 2).await;
    assert!(fake.set().revoked.contains(&access) && fake.set().revoked.contains(&refresh));
    assert_eq!(fake.last("/revoke").get("client_secret"), Some("secret-1"), "as the client they were issued to");
    in_time("nothing is kept", async || waiting(&gateway).await == 0).await;
    assert_eq!(gateway.token("bob").await.split('-').nth(1), Some("bob"), "nobody else's");
}

#[tokio::test]
async fn p57_a_revocation_that_never_works_is_given_up_after_a_day() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    fake.set().instead.insert("/revoke".to_owned(), Reply::Cut);
    let server = gateway.spec().id.clone();
    assert!(gateway.accounts.disconnect(&user("ana"), &server).await.unwrap(), "here it ends all the same");
    let asked = fake.count("/revoke");
    assert!(asked >= 1);
    let before = fake.count("/revoke");
    gateway.clock.advance_ms(25 * 3_600_000);
    in_time("the last attempt", async || fake.count("/revoke") > before).await;
    in_time("nothing is kept", async || waiting(&gateway).await == 0).await;
    assert!(fake.set().revoked.is_empty());
}

#[tokio::test]
async fn p57_a_disconnected_account_is_revoked_later_when_it_does_not_work_at_once() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    fake.set().instead.insert("/revoke".to_owned(), Reply::Json(500, json!({})));
    let server = gateway.spec().id.clone();
    assert!(gateway.accounts.disconnect(&user("ana"), &server).await.unwrap());
    fake.set().instead.clear();
    assert!(fake.set().revoked.is_empty());
    // Meanwhile she connects it again: the new tokens are not those.
    gateway.connect(&fake, "ana").await;
    gateway.clock.advance_ms(31_000);
    in_time("the tokens are revoked", async || fake.set().revoked.len() == 2).await;
    let token = gateway.token("ana").await;
    assert!(!fake.set().revoked.contains(&token));
}
