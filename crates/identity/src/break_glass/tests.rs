use bartizan_model::ManualClock;
use bartizan_store::StoreUrl;
use bartizan_vault::KeyRing;

use super::*;

/// An account over a store of its own, and the clock.
async fn bench() -> (BreakGlass, Arc<ManualClock>, Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::at(1_790_000_000_000));
    let store =
        Store::open(&StoreUrl::Sqlite(dir.path().join("db")), Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    let vault = Vault::new(KeyRing::from_keys([7; 32], []).unwrap()).unwrap();
    (BreakGlass::new(vault, store.clone(), Arc::clone(&clock) as Arc<dyn Clock>), clock, store, dir)
}

/// What an authenticator shows, made from nothing but the URI.
fn code(created: &Created, clock: &ManualClock) -> String {
    let totp = TOTP::from_url(created.second_factor.expose()).unwrap();
    totp.generate(u64::try_from(clock.now_ms() / 1_000).unwrap())
}

#[tokio::test]
async fn a31_password_and_code_open_it_and_each_code_once() {
    let (account, clock, _, _dir) = bench().await;
    let made = account.create("Root@Corp.Example").await.unwrap();
    let now = code(&made, &clock);
    let password = made.password.expose();
    assert_eq!(account.check(password, &now).await.unwrap(), "root@corp.example");
    assert!(matches!(account.check(password, &now).await, Err(BreakGlassError::Wrong)), "a code is good once");
    clock.advance_ms(30_000);
    assert_eq!(account.check(password, &code(&made, &clock)).await.unwrap(), "root@corp.example");
    let standing = account.standing().await.unwrap().unwrap();
    assert_eq!((standing.email.as_str(), standing.used_ms), ("root@corp.example", Some(clock.now_ms())));
}

#[tokio::test]
async fn a31_neither_alone_opens_it() {
    let (account, clock, _, _dir) = bench().await;
    let made = account.create("root@corp.example").await.unwrap();
    let now = code(&made, &clock);
    let password = made.password.expose().clone();
    for (password, code) in [
        (password.as_str(), ""),
        (password.as_str(), "000000"),
        ("", now.as_str()),
        ("wrong", now.as_str()),
        (&password.to_uppercase(), now.as_str()),
        (&"x".repeat(10_000), now.as_str()),
        ("", ""),
    ] {
        assert!(matches!(account.check(password, code).await, Err(BreakGlassError::Wrong)), "{password:?} {code:?}");
    }
    clock.advance_ms(90_000);
    assert!(matches!(account.check(&password, &now).await, Err(BreakGlassError::Wrong)), "too old");
    // All of that did not keep its owner out.
    account.check(&password, &code(&made, &clock)).await.unwrap();
}

#[tokio::test]
async fn a31_the_same_code_at_two_processes_counts_once() {
    let (account, clock, store, _dir) = bench().await;
    let other = BreakGlass::new(
        Vault::new(KeyRing::from_keys([7; 32], []).unwrap()).unwrap(),
        store,
        Arc::clone(&clock) as Arc<dyn Clock>,
    );
    let made = account.create("root@corp.example").await.unwrap();
    let (now, password) = (code(&made, &clock), made.password.expose());
    let (one, two) = tokio::join!(account.check(password, &now), other.check(password, &now));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1, "{one:?} {two:?}");
}

#[tokio::test]
async fn a31_there_is_one_account_and_none_by_itself() {
    let (account, _, store, _dir) = bench().await;
    assert!(matches!(account.check("x", "000000").await, Err(BreakGlassError::Wrong)));
    assert_eq!(account.standing().await.unwrap(), None);
    for bad in ["", "root", "a b@c", "root@corp.example\nx"] {
        assert!(matches!(account.create(bad).await, Err(BreakGlassError::Address(_))), "{bad:?}");
    }
    let made = account.create("root@corp.example").await.unwrap();
    assert!(matches!(account.create("two@corp.example").await, Err(BreakGlassError::Exists)));
    assert!(made.password.expose().len() >= 26 + 6, "128 bits: {}", made.password.expose().len());
    // Nothing of it can be read from the store.
    let kept = bartizan_store::repo::sealed::get(&store, &key()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&kept.sealed).into_owned();
    assert!(!text.contains("argon2") && !text.contains("corp.example"), "{text}");
    account.remove().await.unwrap();
    assert!(matches!(account.remove().await, Err(BreakGlassError::Missing)));
    assert!(matches!(account.check(made.password.expose(), "000000").await, Err(BreakGlassError::Wrong)));
}

#[test]
fn a31_passwords_can_be_read_from_paper() {
    assert_eq!(words(&[0; 16]), "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aa");
    assert_eq!(words(&[0xff; 16]), "9999-9999-9999-9999-9999-9999-96");
    assert!(!words(&random::<16>().unwrap()).contains(['0', '1', 'l', 'o', ' ']));
}
