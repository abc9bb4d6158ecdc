//! People, browser sessions, sign-ins under way.

use std::sync::Arc;

use bartizan_model::ManualClock;
use bartizan_store::repo::{browser_session, change, login_state, person, sealed, upstream_account};
use bartizan_store::{Store, StoreError};

use super::common;

fn signs_in<'a>(id: &'a str, subject: &'a str, email: &'a str) -> person::SignIn<'a> {
    let (issuer, provider, name, groups_json) = ("https://idp.example", "corp", "Ana", "[]");
    person::SignIn { new_id: id, issuer, subject, provider, email, name, groups_json }
}

pub(super) async fn case_people(store: Store, clock: Arc<ManualClock>) {
    let head = change::head(&store).await.unwrap();
    let ana = person::sign_in(&store, &signs_in("p1", "s1", "ana@corp.example")).await.unwrap().unwrap();
    assert_eq!((ana.id.as_str(), ana.created_ms), ("p1", common::NOW));
    assert_eq!(change::head(&store).await.unwrap(), head + 1);
    clock.advance_ms(5);
    // Nothing new: no change for others to hear of. The id stays the first one.
    let again = person::sign_in(&store, &signs_in("p2", "s1", "ana@corp.example")).await.unwrap().unwrap();
    assert_eq!((again.id.as_str(), again.created_ms, again.signed_in_ms), ("p1", common::NOW, common::NOW + 5));
    assert_eq!(change::head(&store).await.unwrap(), head + 1);
    // The address is taken, for another subject and for another issuer; nothing is left of the attempt.
    for taken in [
        signs_in("p3", "s2", "ana@corp.example"),
        person::SignIn { issuer: "https://other.example", ..signs_in("p3", "s1", "ana@corp.example") },
    ] {
        assert!(matches!(person::sign_in(&store, &taken).await, Err(StoreError::Conflict)));
    }
    let other = person::sign_in(&store, &signs_in("p4", "s2", "ben@corp.example")).await.unwrap().unwrap();
    assert!(matches!(
        person::sign_in(&store, &signs_in("p5", "s2", "ana@corp.example")).await,
        Err(StoreError::Conflict)
    ));
    assert_eq!(person::by_id(&store, &other.id).await.unwrap().unwrap().email, "ben@corp.example");
    assert!(person::deactivate(&store, "p1").await.unwrap());
    assert!(!person::deactivate(&store, "p1").await.unwrap());
    assert_eq!(person::sign_in(&store, &signs_in("p6", "s1", "new@corp.example")).await.unwrap(), None);
    assert_eq!(
        person::by_email(&store, "ana@corp.example").await.unwrap().unwrap().deactivated_ms,
        Some(common::NOW + 5)
    );
    assert!(person::reactivate(&store, "p1").await.unwrap() && !person::reactivate(&store, "p1").await.unwrap());
    assert!(person::sign_in(&store, &signs_in("p6", "s1", "new@corp.example")).await.unwrap().is_some());
    assert!(person::delete(&store, "p1").await.unwrap() && !person::delete(&store, "p1").await.unwrap());
    assert_eq!(person::by_id(&store, "p1").await.unwrap(), None);
}

pub(super) async fn case_one_person_signs_in_twice_at_once(store: Store, _: Arc<ManualClock>) {
    let tries = (0..8).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { person::sign_in(&store, &signs_in(&format!("p{n}"), "s", "ana@corp.example")).await })
    });
    let mut ids = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        match one.await.unwrap() {
            Ok(person) => ids.push(person.unwrap().id),
            // The caller asks once more.
            Err(error) => assert!(matches!(error, StoreError::Conflict), "{error:?}"),
        }
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

pub(super) async fn case_browser_sessions(store: Store, clock: Arc<ManualClock>) {
    let session = |id: &str, life: i64| browser_session::BrowserSession {
        id: id.to_owned(),
        provider: "corp".to_owned(),
        sealed: b"sealed".to_vec(),
        created_ms: common::NOW,
        expires_ms: common::NOW + life,
    };
    person::sign_in(&store, &signs_in("p1", "s1", "ana@corp.example")).await.unwrap();
    for (hash, id, life) in [(b"1", "a", 100), (b"2", "b", 50), (b"3", "c", 100), (b"4", "d", 100)] {
        browser_session::insert(&store, hash, "p1", &session(id, life)).await.unwrap();
    }
    assert!(matches!(browser_session::insert(&store, b"1", "p1", &session("x", 9)).await, Err(StoreError::Conflict)));
    let (found, who) = browser_session::current(&store, b"1").await.unwrap().unwrap();
    assert_eq!((found, who.id.as_str()), (session("a", 100), "p1"));
    assert_eq!(browser_session::current(&store, b"9").await.unwrap(), None);
    clock.advance_ms(50);
    assert_eq!(browser_session::current(&store, b"2").await.unwrap(), None);
    assert_eq!(browser_session::prune(&store).await.unwrap(), 1);
    assert!(browser_session::end(&store, "a").await.unwrap() && !browser_session::end(&store, "a").await.unwrap());
    assert_eq!(browser_session::current(&store, b"1").await.unwrap(), None);
    assert!(browser_session::end_by_hash(&store, b"3").await.unwrap());
    assert!(browser_session::current(&store, b"4").await.unwrap().is_some());
    person::deactivate(&store, "p1").await.unwrap();
    assert_eq!(browser_session::current(&store, b"4").await.unwrap(), None);
    // A sign-in that was under way at that moment.
    browser_session::insert(&store, b"6", "p1", &session("f", 100)).await.unwrap();
    assert_eq!(browser_session::current(&store, b"6").await.unwrap(), None);
    person::reactivate(&store, "p1").await.unwrap();
    assert_eq!(browser_session::current(&store, b"4").await.unwrap(), None, "ended, not only hidden");
    browser_session::insert(&store, b"5", "p1", &session("e", 100)).await.unwrap();
    assert_eq!(browser_session::end_all(&store, "p1").await.unwrap(), 1);
}

pub(super) async fn case_sign_ins_under_way(store: Store, clock: Arc<ManualClock>) {
    let state = |n: u8, life: i64| login_state::LoginState {
        hash: vec![n],
        browser: b"browser".to_vec(),
        provider: "corp".to_owned(),
        sealed: vec![n, n],
        expires_ms: common::NOW + life,
    };
    for n in 1..=5 {
        login_state::insert(&store, &state(n, 100 + i64::from(n))).await.unwrap();
    }
    assert_eq!(login_state::take(&store, &[1], b"another").await.unwrap(), None);
    // Of many that come at once one gets it.
    let tries = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { login_state::take(&store, &[1], b"browser").await.unwrap() })
    });
    let mut taken = Vec::new();
    for one in tries.collect::<Vec<_>>() {
        taken.extend(one.await.unwrap());
    }
    assert_eq!(taken, [("corp".to_owned(), vec![1, 1])]);
    clock.advance_ms(102);
    assert_eq!(login_state::take(&store, &[2], b"browser").await.unwrap(), None);
    // One is over, and of the three others the oldest is beyond the bound.
    assert_eq!(login_state::prune(&store, 2).await.unwrap(), 2);
    assert_eq!(login_state::take(&store, &[3], b"browser").await.unwrap(), None);
    assert!(login_state::take(&store, &[5], b"browser").await.unwrap().is_some());
}

/// The next holder of an address gets nothing of the one before.
pub(super) async fn case_accounts_go_with_the_address(store: Store, _: Arc<ManualClock>) {
    let connect = async |owner: &str| {
        let account = upstream_account::Account {
            owner: owner.to_owned(),
            server: "git".to_owned(),
            status: "ready".to_owned(),
            issuer: "https://git.example".to_owned(),
            scopes: String::new(),
            expires_ms: None,
            version: 1,
            connected_ms: common::NOW,
            last_used_ms: None,
        };
        upstream_account::put(&store, &account).await.unwrap();
        let record = sealed::Sealed { key: token(owner), version: 1, key_id: "k".to_owned(), sealed: vec![1] };
        assert!(sealed::insert(&store, &record).await.unwrap());
    };
    let has = async |owner: &str| {
        let listed = !upstream_account::list(&store, owner).await.unwrap().is_empty();
        (listed, sealed::get(&store, &token(owner)).await.unwrap().is_some())
    };
    let arrive = async |email: &str| {
        let new = person::SignIn {
            new_id: "p1",
            issuer: "https://idp.example",
            subject: "1",
            provider: "idp",
            email,
            name: "N",
            groups_json: "[]",
        };
        person::sign_in(&store, &new).await.unwrap().unwrap()
    };
    arrive("ana@corp.example").await;
    for owner in ["user:ana@corp.example", "user:mariana@corp.example", "user:bob@corp.example"] {
        connect(owner).await;
    }
    arrive("ana@corp.example").await;
    assert_eq!(has("user:ana@corp.example").await, (true, true), "the same address");
    let before = change::head(&store).await.unwrap();
    arrive("bob@corp.example").await;
    assert_eq!(has("user:ana@corp.example").await, (false, false));
    assert_eq!(has("user:mariana@corp.example").await, (true, true), "another person's");
    let told = change::since(&store, before, 10).await.unwrap();
    let told = |name: &str| told.iter().any(|c| c.topic == upstream_account::TOPIC && c.name == name);
    assert!(told("git/user:ana@corp.example"));
    assert!(person::delete(&store, "p1").await.unwrap());
    assert_eq!(has("user:bob@corp.example").await, (false, false));
    assert_eq!(has("user:mariana@corp.example").await, (true, true));
    assert!(!person::delete(&store, "p1").await.unwrap());
}

fn token(owner: &str) -> sealed::Key {
    let id = upstream_account::name(owner, "git");
    sealed::Key { tenant: String::new(), kind: "upstream_token".to_owned(), id }
}
