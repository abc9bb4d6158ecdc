//! A9, A10, A19: rows of the authorization server under concurrency.

use std::sync::Arc;

use bartizan_model::ManualClock;
use bartizan_store::Store;
use bartizan_store::repo::oauth_code::{self, Code, FirstTokens};
use bartizan_store::repo::oauth_grant::{self, Grant, NewAccess};
use bartizan_store::repo::oauth_refresh::{self, Exchange, Exchanged, NewRefresh};
use bartizan_store::repo::{browser_session, oauth_client, oauth_consent, person};

use super::common::NOW;

fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..text.len()].copy_from_slice(text.as_bytes());
    hash
}

/// The browser session in which codes are issued; it may be there already.
async fn session(store: &Store) {
    let row = browser_session::BrowserSession {
        id: "session".to_owned(),
        provider: "idp".to_owned(),
        sealed: b"sealed".to_vec(),
        created_ms: NOW,
        expires_ms: NOW + 1_000_000,
    };
    let _ = browser_session::insert(store, b"session", "ana", &row).await;
}

async fn code(store: &Store, name: &str) {
    let code = Code {
        grant_id: format!("grant-{name}"),
        person: "ana".to_owned(),
        client_id: "client".to_owned(),
        redirect_uri: "http://127.0.0.1/cb".to_owned(),
        challenge: "c".to_owned(),
        content: "{}".to_owned(),
        wrapped: b"wrapped".to_vec(),
        expires_ms: NOW + 60_000,
        used_ms: None,
    };
    session(store).await;
    assert!(oauth_code::insert(store, &hash(name), "session", &code).await.unwrap());
    assert_eq!(oauth_code::get(store, &hash(name)).await.unwrap(), Some(code));
}

async fn redeem(store: &Store, name: &str, tokens: &str) -> bool {
    let grant = Grant {
        id: format!("grant-{name}"),
        person: "ana".to_owned(),
        client_id: "client".to_owned(),
        content: "{}".to_owned(),
        created_ms: NOW,
        expires_ms: NOW + 1_000_000,
        used_ms: NOW,
        revoked_ms: None,
    };
    let (access, refresh) = (hash(&format!("a-{tokens}")), hash(&format!("r-{tokens}")));
    let tokens =
        FirstTokens { access: new_access(&access), refresh: NewRefresh { hash: &refresh, wrapped: b"wrapped" } };
    oauth_code::redeem(store, &hash(name), &grant, tokens).await.unwrap()
}

fn new_access(hash: &[u8]) -> NewAccess<'_> {
    NewAccess { hash, wrapped: b"wrapped", scopes: "s", expires_ms: NOW + 900 }
}

async fn exchange(store: &Store, from: &str, parent: &str, to: &str) -> Exchanged {
    let parent = if parent.is_empty() { Vec::new() } else { hash(parent).to_vec() };
    let (old, access, refresh) = (hash(from), hash(&format!("a-{to}")), hash(to));
    let new = Exchange {
        hash: &old,
        parent: &parent,
        grant_id: "grant-code",
        client_id: "client",
        pair: b"sealed",
        pair_until_ms: NOW + 30_000,
        access: new_access(&access),
        refresh: NewRefresh { hash: &refresh, wrapped: b"wrapped" },
    };
    oauth_refresh::exchange(store, new).await.unwrap()
}

pub(super) async fn case_of_many_that_redeem_or_exchange_one_wins(store: Store, clock: Arc<ManualClock>) {
    code(&store, "code").await;
    let tries: Vec<_> = (0..8)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { redeem(&store, "code", &n.to_string()).await.then_some(n) })
        })
        .collect();
    let mut winners = Vec::new();
    for one in tries {
        winners.extend(one.await.unwrap());
    }
    assert_eq!(winners.len(), 1);
    let first = format!("r-{}", winners[0]);
    let tries: Vec<_> = (0..8)
        .map(|n| {
            let (store, first) = (store.clone(), first.clone());
            tokio::spawn(async move { exchange(&store, &first, "", &format!("x-{n}")).await })
        })
        .collect();
    let mut done = 0;
    for one in tries {
        match one.await.unwrap() {
            Exchanged::Done => done += 1,
            other => assert_eq!(other, Exchanged::Overtaken),
        }
    }
    assert_eq!(done, 1);
    let row = oauth_refresh::get(&store, &hash(&first)).await.unwrap().unwrap();
    assert_eq!(
        (row.pair.as_deref(), row.pair_until_ms, row.retired_ms),
        (Some(&b"sealed"[..]), Some(NOW + 30_000), None)
    );
    // A second child; of the two children one can be used, whoever is faster.
    clock.advance_ms(30_000);
    assert_eq!(exchange(&store, &first, "", "y").await, Exchanged::Done);
    let mut child = String::new();
    for n in 0..8 {
        if oauth_refresh::get(&store, &hash(&format!("x-{n}"))).await.unwrap().is_some() {
            child = format!("x-{n}");
        }
    }
    let (one, other) = tokio::join!(exchange(&store, &child, &first, "x2"), exchange(&store, "y", &first, "y2"));
    let mut outcomes = [one, other];
    outcomes.sort_by_key(|outcome| *outcome != Exchanged::Done);
    assert_eq!(outcomes, [Exchanged::Done, Exchanged::Overtaken]);
    let row = oauth_refresh::get(&store, &hash(&first)).await.unwrap().unwrap();
    assert!(row.retired_ms.is_some() && row.pair.is_none());
    assert!(oauth_grant::revoke(&store, "grant-code", "test").await.unwrap());
    assert!(!oauth_grant::revoke(&store, "grant-code", "test").await.unwrap());
    assert_eq!(exchange(&store, "y", &first, "z").await, Exchanged::Ended);
}

pub(super) async fn case_no_grant_slips_past_a_withdrawal(store: Store, _: Arc<ManualClock>) {
    for round in 0..20 {
        let name = format!("code-{round}");
        code(&store, &name).await;
        let redeeming = tokio::spawn({
            let (store, name) = (store.clone(), name.clone());
            async move { redeem(&store, &name, &name).await }
        });
        let withdrawing = tokio::spawn({
            let store = store.clone();
            async move { oauth_consent::withdraw(&store, "ana", "client").await.unwrap() }
        });
        let (redeemed, ended) = (redeeming.await.unwrap(), withdrawing.await.unwrap());
        assert_eq!(ended, u64::from(redeemed), "round {round}");
        assert!(oauth_grant::of_person(&store, "ana").await.unwrap().is_empty(), "round {round}");
    }
}

pub(super) async fn case_registered_clients_are_trimmed(store: Store, clock: Arc<ManualClock>) {
    for n in 0..6 {
        clock.advance_ms(1);
        oauth_client::insert(&store, &format!("c{n}"), "{}", 3).await.unwrap();
    }
    assert_eq!(oauth_client::count(&store).await.unwrap(), 3);
    assert!(oauth_client::by_id(&store, "c2").await.unwrap().is_none());
    assert_eq!(oauth_client::by_id(&store, "c3").await.unwrap().unwrap().metadata, "{}");
    assert_eq!(oauth_client::sweep(&store, NOW + 100, 0).await.unwrap(), 3);
    // Nothing but what ended is swept.
    code(&store, "code").await;
    assert!(redeem(&store, "code", "t").await);
    assert_eq!(oauth_code::sweep(&store, NOW).await.unwrap(), 0);
    assert_eq!(oauth_grant::sweep(&store, NOW, NOW).await.unwrap(), 0);
    assert_eq!(oauth_refresh::sweep(&store).await.unwrap(), 0);
    assert_eq!(oauth_code::sweep(&store, NOW + 60_001).await.unwrap(), 1);
    assert_eq!(oauth_grant::sweep(&store, NOW + 901, NOW + 1_000_001).await.unwrap(), 2);
    assert_eq!(oauth_refresh::sweep(&store).await.unwrap(), 1);
}

pub(super) async fn case_no_code_slips_past_a_sign_out(store: Store, _: Arc<ManualClock>) {
    for round in 0..20 {
        session(&store).await;
        let row = Code {
            grant_id: format!("g{round}"),
            person: "ana".to_owned(),
            client_id: "client".to_owned(),
            redirect_uri: "http://127.0.0.1/cb".to_owned(),
            challenge: "c".to_owned(),
            content: "{}".to_owned(),
            wrapped: b"wrapped".to_vec(),
            expires_ms: NOW + 60_000,
            used_ms: None,
        };
        let issuing = tokio::spawn({
            let (store, row) = (store.clone(), row.clone());
            async move { oauth_code::insert(&store, &hash(&row.grant_id), "session", &row).await.unwrap() }
        });
        let ending = tokio::spawn({
            let store = store.clone();
            async move { oauth_grant::revoke_of_person(&store, "ana", "test").await.unwrap() }
        });
        issuing.await.unwrap();
        ending.await.unwrap();
        assert_eq!(oauth_code::get(&store, &hash(&row.grant_id)).await.unwrap(), None, "round {round}");
        let late = oauth_code::insert(&store, &hash(&row.grant_id), "session", &row).await.unwrap();
        assert!(!late, "the session is gone");
    }
    // Nor in the session of somebody else.
    session(&store).await;
    let row = Code {
        grant_id: "g".to_owned(),
        person: "bob".to_owned(),
        client_id: "client".to_owned(),
        redirect_uri: "http://127.0.0.1/cb".to_owned(),
        challenge: "c".to_owned(),
        content: "{}".to_owned(),
        wrapped: b"wrapped".to_vec(),
        expires_ms: NOW + 60_000,
        used_ms: None,
    };
    assert!(!oauth_code::insert(&store, &hash("g"), "session", &row).await.unwrap());
}

pub(super) async fn case_a_deactivated_person_keeps_no_grant(store: Store, _: Arc<ManualClock>) {
    for way in ["deactivated", "deleted"] {
        let new = person::SignIn {
            new_id: "ana",
            issuer: "https://idp.example",
            subject: "ana",
            provider: "idp",
            email: "ana@corp.example",
            name: "Ana",
            groups_json: "[]",
        };
        person::sign_in(&store, &new).await.unwrap().unwrap();
        code(&store, way).await;
        assert!(redeem(&store, way, way).await);
        let waiting = format!("{way}-2");
        code(&store, &waiting).await;
        match way {
            "deactivated" => assert!(person::deactivate(&store, "ana").await.unwrap()),
            _ => assert!(person::delete(&store, "ana").await.unwrap()),
        }
        assert!(oauth_grant::of_person(&store, "ana").await.unwrap().is_empty(), "{way}");
        assert!(!redeem(&store, &waiting, "late").await, "{way}");
        if way == "deactivated" {
            person::reactivate(&store, "ana").await.unwrap();
            assert!(oauth_grant::of_person(&store, "ana").await.unwrap().is_empty(), "none comes back");
        }
    }
}

pub(super) async fn case_a_token_is_exchanged_five_times_at_most(store: Store, clock: Arc<ManualClock>) {
    code(&store, "code").await;
    assert!(redeem(&store, "code", "0").await);
    for n in 1..=5 {
        assert_eq!(exchange(&store, "r-0", "", &format!("x-{n}")).await, Exchanged::Done, "{n}");
        let row = oauth_refresh::get(&store, &hash("r-0")).await.unwrap().unwrap();
        assert_eq!((row.exchanges, row.pair_until_ms), (n, Some(NOW + 30_000)), "only the first opens the window");
        clock.advance_ms(30_000);
    }
    assert_eq!(exchange(&store, "r-0", "", "x-6").await, Exchanged::Overtaken);
}

pub(super) async fn case_consent_is_for_one_resource(store: Store, _: Arc<ManualClock>) {
    let consent = |resource: &str| oauth_consent::Consent {
        person: "ana".to_owned(),
        client_id: "client".to_owned(),
        redirect_host: "desk.example".to_owned(),
        resource: resource.to_owned(),
        client_name: "Desk".to_owned(),
        client_kind: "registered".to_owned(),
        scopes: "s".to_owned(),
        granted_ms: NOW,
    };
    let get =
        async |resource: &str| oauth_consent::get(&store, "ana", "client", "desk.example", resource).await.unwrap();
    oauth_consent::put(&store, &consent("one")).await.unwrap();
    assert_eq!((get("one").await, get("two").await), (Some(consent("one")), None));
    oauth_consent::put(&store, &consent("two")).await.unwrap();
    assert_eq!(oauth_consent::list(&store, "ana").await.unwrap().len(), 2);
    oauth_consent::withdraw(&store, "ana", "client").await.unwrap();
    assert_eq!((get("one").await, get("two").await), (None, None), "withdrawn for the client");
}
