//! A11: service tokens, and A18: nothing of them comes out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

#[path = "../../store/tests/common/mod.rs"]
mod stores;

use std::sync::Arc;
use std::time::Duration;

use bartizan_identity::{
    AuthErrorKind, Authenticated, CREDENTIAL_HEADERS, Identity, MAX_IDLE, TokenError, strip_credentials,
};
use bartizan_model::{ManualClock, Principal, PrincipalKind, ReasonCode, Secret};
use bartizan_store::Store;
use bartizan_store::repo::{change, service_token};
use http::{HeaderMap, HeaderName, HeaderValue};

const DAY: i64 = 24 * 3_600_000;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

fn bearer(secret: &str) -> HeaderMap {
    headers(&[("authorization", &format!("Bearer {secret}"))])
}

async fn kind(identity: &Identity, headers: &HeaderMap) -> AuthErrorKind {
    let error = identity.authenticate(headers).await.expect_err("refused");
    assert_eq!(error.code(), ReasonCode::Unauthenticated);
    error.kind
}

async fn good(identity: &Identity, headers: &HeaderMap) -> Authenticated {
    identity.authenticate(headers).await.expect("accepted").expect("a credential")
}

async fn case_every_form_of_a_token_is_accepted(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store, clock);
    let (id, secret) = identity.tokens().create("ci", None).await.unwrap();
    let secret = secret.expose().as_str();
    assert!(id.starts_with("bzc_") && secret.starts_with("bzs_"));
    let (id, all) = (id.as_str(), &identity);
    for form in [
        bearer(secret),
        headers(&[("authorization", &format!("bEARER   {secret}  "))]),
        headers(&[("cf-access-client-id", id), ("cf-access-client-secret", secret)]),
        headers(&[("bartizan-client-id", id), ("bartizan-client-secret", secret)]),
        // The same credential several times is one.
        headers(&[
            ("bartizan-client-id", id),
            ("bartizan-client-secret", secret),
            ("authorization", &format!("Bearer {secret}")),
        ]),
        headers(&[("cf-access-client-id", id), ("cf-access-client-id", id), ("cf-access-client-secret", secret)]),
    ] {
        let who = good(all, &form).await;
        assert_eq!(who.principal.kind, PrincipalKind::Service);
        assert_eq!((&**who.principal.key(), &*who.credential_id), ("service:ci", id));
        assert!(who.principal.groups.is_empty());
    }
    assert!(all.authenticate(&HeaderMap::new()).await.unwrap().is_none(), "none offered");
    assert!(all.authenticate(&headers(&[("x-other", "y")])).await.unwrap().is_none());
}

async fn case_what_is_wrong_is_refused_by_kind(store: Store, clock: Arc<ManualClock>) {
    use AuthErrorKind::{Ambiguous, Malformed, Unknown};
    let identity = Identity::new(store, clock);
    let (id, secret) = identity.tokens().create("ci", None).await.unwrap();
    let (other_id, other) = identity.tokens().create("other", None).await.unwrap();
    let (secret, other) = (secret.expose().as_str(), other.expose().as_str());
    let (id, other_id) = (id.as_str(), other_id.as_str());
    let mut wrong = secret.to_owned();
    let last = if wrong.pop() == Some('A') { 'B' } else { 'A' };
    wrong.push(last);
    let nobody = format!("bzs_0123456789abcdef_{}", "x".repeat(43));
    let pair = |id, secret| headers(&[("bartizan-client-id", id), ("bartizan-client-secret", secret)]);
    let mut binary = HeaderMap::new();
    binary.insert("authorization", HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap());
    let cases = [
        (bearer(&wrong), Unknown),
        (bearer(&nobody), Unknown),
        (bearer("some-other-token"), Unknown),
        (pair(id, &wrong), Unknown),
        (pair(id, other), Unknown),
        (pair(other_id, secret), Unknown),
        (pair("ci", secret), Malformed),
        (pair(id, "hunter2"), Malformed),
        (pair(id, ""), Malformed),
        (headers(&[("bartizan-client-id", id)]), Malformed),
        (headers(&[("bartizan-client-secret", secret)]), Malformed),
        (headers(&[("cf-access-client-id", id), ("bartizan-client-secret", secret)]), Malformed),
        (headers(&[("authorization", secret)]), Malformed),
        (headers(&[("authorization", "Bearer")]), Malformed),
        (headers(&[("authorization", "Bearer ")]), Malformed),
        (headers(&[("authorization", "")]), Malformed),
        (headers(&[("authorization", &format!("Basic {secret}"))]), Malformed),
        (headers(&[("authorization", &format!("Bearer {secret},Bearer {secret}"))]), Malformed),
        (headers(&[("authorization", &format!("Bearer {secret} {secret}"))]), Malformed),
        (bearer("bzs_short"), Malformed),
        (bearer(&secret.to_uppercase().replace("BZS_", "bzs_")), Malformed),
        (bearer(&"x".repeat(10_000)), Malformed),
        (binary, Malformed),
        (
            headers(&[("authorization", &format!("Bearer {secret}")), ("authorization", &format!("Bearer {other}"))]),
            Ambiguous,
        ),
        (headers(&[("authorization", &format!("Bearer {secret}")), ("authorization", "Bearer x")]), Ambiguous),
        (
            headers(&[
                ("bartizan-client-id", id),
                ("bartizan-client-secret", secret),
                ("authorization", &format!("Bearer {other}")),
            ]),
            Ambiguous,
        ),
        (
            headers(&[
                ("bartizan-client-id", id),
                ("bartizan-client-secret", secret),
                ("cf-access-client-id", other_id),
                ("cf-access-client-secret", other),
            ]),
            Ambiguous,
        ),
        (
            headers(&[
                ("bartizan-client-id", id),
                ("bartizan-client-secret", secret),
                ("bartizan-client-secret", other),
            ]),
            Ambiguous,
        ),
    ];
    for (headers, expected) in cases {
        // Twice: from the database and from memory.
        assert_eq!(kind(&identity, &headers).await, expected, "{headers:?}");
        assert_eq!(kind(&identity, &headers).await, expected, "{headers:?}");
    }
    good(&identity, &bearer(secret)).await;
}

async fn case_a_token_ends(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store, clock.clone());
    let (_, secret) = identity.tokens().create("ci", Some(Duration::from_secs(60))).await.unwrap();
    let form = bearer(secret.expose());
    clock.advance_ms(59_999);
    good(&identity, &form).await;
    clock.advance_ms(1);
    // To the millisecond, although it is in memory.
    let error = identity.authenticate(&form).await.err().unwrap();
    assert_eq!((error.kind, error.principal.as_deref()), (AuthErrorKind::Expired, Some("service:ci")));
}

async fn case_rotation_has_a_grace_time(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store, clock.clone());
    let (id, first) = identity.tokens().create("ci", None).await.unwrap();
    let first = bearer(first.expose());
    good(&identity, &first).await;
    let second = bearer(identity.tokens().rotate("ci", Duration::from_secs(60)).await.unwrap().expose());
    identity.refresh().await.unwrap();
    for form in [&first, &second] {
        assert_eq!(&*good(&identity, form).await.credential_id, id);
    }
    clock.advance_ms(59_999);
    good(&identity, &first).await;
    clock.advance_ms(1);
    assert_eq!(kind(&identity, &first).await, AuthErrorKind::Expired);
    good(&identity, &second).await;
    // By client id, and without grace: the one before ends at once, the first is forgotten.
    let third = bearer(identity.tokens().rotate(&id, Duration::ZERO).await.unwrap().expose());
    identity.refresh().await.unwrap();
    assert_eq!(kind(&identity, &second).await, AuthErrorKind::Expired);
    assert_eq!(kind(&identity, &first).await, AuthErrorKind::Unknown);
    good(&identity, &third).await;
}

async fn case_suspended_and_resumed(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store, clock);
    let (_, secret) = identity.tokens().create("ci", None).await.unwrap();
    let form = bearer(secret.expose());
    good(&identity, &form).await;
    assert!(identity.tokens().suspend("ci").await.unwrap());
    assert!(!identity.tokens().suspend("ci").await.unwrap());
    identity.refresh().await.unwrap();
    let error = identity.authenticate(&form).await.err().unwrap();
    assert_eq!((error.kind, error.principal.as_deref()), (AuthErrorKind::Suspended, Some("service:ci")));
    assert!(identity.tokens().list().await.unwrap()[0].suspended_ms.is_some());
    assert!(identity.tokens().resume("ci").await.unwrap());
    assert!(!identity.tokens().resume("ci").await.unwrap());
    identity.refresh().await.unwrap();
    good(&identity, &form).await;
    identity.tokens().delete("ci").await.unwrap();
    identity.refresh().await.unwrap();
    assert_eq!(kind(&identity, &form).await, AuthErrorKind::Unknown);
}

/// Two replicas on one store; nobody calls `refresh`.
async fn case_another_replica_sees_a_suspension_by_itself(store: Store, clock: Arc<ManualClock>) {
    let (here, there) = (Identity::new(store.clone(), clock.clone()), Identity::new(store, clock));
    let (_, secret) = here.tokens().create("ci", None).await.unwrap();
    let form = bearer(secret.expose());
    good(&there, &form).await;
    here.tokens().suspend("ci").await.unwrap();
    // The bound is two seconds; the wait is longer only for a machine that stands still.
    for _ in 0..400 {
        if there.authenticate(&form).await.is_err() {
            assert_eq!(kind(&there, &form).await, AuthErrorKind::Suspended);
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("never seen");
}

async fn case_a_new_token_is_seen_although_it_was_tried_before(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store.clone(), clock);
    let (_, secret) = identity.tokens().create("ci", None).await.unwrap();
    let form = bearer(secret.expose());
    identity.tokens().delete("ci").await.unwrap();
    identity.refresh().await.unwrap();
    assert_eq!(kind(&identity, &form).await, AuthErrorKind::Unknown);
    // The same row again, as from a backup.
    let id = &secret.expose()[4..20];
    let hash = [7u8; 32];
    service_token::insert(&store, id, "ci", &hash, None).await.unwrap();
    identity.refresh().await.unwrap();
    assert_eq!(kind(&identity, &form).await, AuthErrorKind::Unknown, "another hash");
}

async fn case_a_warm_check_makes_no_round_trip(store: Store, clock: Arc<ManualClock>) {
    // Made outside of the runtime it has no task whose first look, which empties the
    // memory, could come after ours.
    let own = store.clone();
    let identity = std::thread::spawn(move || Identity::new(own, clock)).join().unwrap();
    let (_, secret) = identity.tokens().create("ci", None).await.unwrap();
    let form = bearer(secret.expose());
    identity.refresh().await.unwrap();
    let first = good(&identity, &form).await;
    identity.refresh().await.unwrap();
    store.close().await;
    let second = good(&identity, &form).await;
    assert!(Arc::ptr_eq(&first.principal, &second.principal), "not built again");
    // After two seconds without news memory is no longer believed.
    for _ in 0..400 {
        match identity.authenticate(&form).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(25)).await,
            Err(error) => return assert_eq!(error.kind, AuthErrorKind::Unavailable),
        }
    }
    panic!("believed for ever");
}

async fn case_last_use_is_written_behind(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store.clone(), clock.clone());
    let (_, secret) = identity.tokens().create("ci", None).await.unwrap();
    let form = bearer(secret.expose());
    let used = async |expected: i64| {
        for _ in 0..400 {
            if identity.tokens().list().await.unwrap()[0].last_used_ms == Some(expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never written: {expected}: {:?}", identity.tokens().list().await.unwrap());
    };
    let start = stores::NOW;
    good(&identity, &form).await;
    used(start).await;
    // Uses within five minutes are not written; the next one after them is.
    for _ in 0..4 {
        clock.advance_ms(60_000);
        good(&identity, &form).await;
    }
    clock.advance_ms(60_000);
    good(&identity, &form).await;
    used(start + 300_000).await;
    let head = change::head(&store).await.unwrap();
    assert_eq!(head, 1, "uses are no changes, or every use would empty every cache");
}

async fn case_inactive_tokens_are_removed(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store, clock.clone());
    let tokens = identity.tokens();
    let mut forms = Vec::new();
    for name in ["never-used", "used-once", "used-late"] {
        forms.push(bearer(tokens.create(name, None).await.unwrap().1.expose()));
    }
    good(&identity, &forms[1]).await;
    clock.advance_ms(80 * DAY);
    good(&identity, &forms[2]).await;
    tokens.create("young", None).await.unwrap();
    for _ in 0..400 {
        if tokens.list().await.unwrap().iter().filter(|token| token.last_used_ms.is_some()).count() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(tokens.sweep_inactive(MAX_IDLE).await.unwrap().is_empty(), "not yet 90 days");
    clock.advance_ms(10 * DAY + 1);
    let names = |list: Vec<bartizan_identity::TokenInfo>| list.into_iter().map(|token| token.name).collect::<Vec<_>>();
    assert_eq!(names(tokens.sweep_inactive(MAX_IDLE).await.unwrap()), ["never-used", "used-once"]);
    assert_eq!(names(tokens.list().await.unwrap()), ["used-late", "young"]);
    identity.refresh().await.unwrap();
    assert_eq!(kind(&identity, &forms[0]).await, AuthErrorKind::Unknown);
}

async fn case_names_and_missing_tokens(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store, clock);
    let tokens = identity.tokens();
    for bad in ["", "CI", "a b", "ü", "a/b", &"x".repeat(65), "bzc_0123456789abcdef", "a\n"] {
        assert!(matches!(tokens.create(bad, None).await, Err(TokenError::Name(_))), "{bad}");
    }
    for name in ["a", "ci-1.deploy_x", &"x".repeat(64)] {
        tokens.create(name, None).await.unwrap();
        assert!(matches!(tokens.create(name, None).await, Err(TokenError::Taken(taken)) if taken == name));
    }
    for missing in ["nobody", "bzc_0123456789abcdef", "' OR 1=1 --"] {
        assert!(matches!(tokens.rotate(missing, MAX_IDLE).await, Err(TokenError::Missing(_))));
        assert!(matches!(tokens.suspend(missing).await, Err(TokenError::Missing(_))));
        assert!(matches!(tokens.resume(missing).await, Err(TokenError::Missing(_))));
        assert!(matches!(tokens.delete(missing).await, Err(TokenError::Missing(_))));
    }
    // An endless life is no overflow.
    tokens.create("for-ever", Some(Duration::MAX)).await.unwrap();
    assert_eq!(tokens.list().await.unwrap().len(), 4);
}

async fn case_secrets_are_hashed_at_rest(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store.clone(), clock);
    let (id, first) = identity.tokens().create("ci", None).await.unwrap();
    let second = identity.tokens().rotate("ci", Duration::from_secs(9)).await.unwrap();
    let row = service_token::by_id(&store, &id[4..]).await.unwrap().unwrap();
    let previous = row.previous_hash.clone().unwrap();
    assert_eq!((row.hash.len(), previous.len()), (32, 32));
    for secret in [first.expose(), second.expose()] {
        for part in [secret.as_bytes(), &secret.as_bytes()[21..]] {
            for stored in [&row.hash, &previous] {
                assert!(!stored.windows(8).any(|window| part.windows(8).any(|piece| piece == window)));
            }
        }
    }
}

async fn case_nothing_of_a_credential_comes_out(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store, clock).with_dev_users(vec![(
        Principal::new(PrincipalKind::User, "alice", []),
        Secret::new("alice-token-value".to_owned()),
    )]);
    let (_, secret) = identity.tokens().create("ci", None).await.unwrap();
    let random = &secret.expose()[21..];
    let mut seen = String::new();
    for form in [bearer(secret.expose()), bearer("alice-token-value"), bearer("bzs_wrong"), bearer("alice-token-valuf")]
    {
        match identity.authenticate(&form).await {
            Ok(who) => seen.push_str(&format!("{who:?}")),
            Err(error) => seen.push_str(&format!("{error} {error:?}")),
        }
    }
    identity.tokens().suspend("ci").await.unwrap();
    identity.refresh().await.unwrap();
    let error = identity.authenticate(&bearer(secret.expose())).await.err().unwrap();
    seen.push_str(&format!("{error} {error:?} {:?}", identity.tokens().list().await.unwrap()));
    for hidden in [random, "alice-token", "bzs_wrong"] {
        assert!(!seen.contains(hidden), "{seen}");
    }
}

/// A stream opened with a credential asks this until it ends.
async fn case_a_held_credential_ends_with_its_token(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store.clone(), clock.clone());
    let elsewhere = Identity::new(store, clock.clone());
    let tokens = elsewhere.tokens();
    let held = async |name: &str, ttl| {
        let (_, secret) = tokens.create(name, ttl).await.unwrap();
        good(&identity, &bearer(secret.expose())).await.held
    };
    let short = held("short", Some(Duration::from_secs(60))).await;
    let (gone, stopped, kept) = (held("gone", None).await, held("stopped", None).await, held("kept", None).await);
    for held in [&short, &gone, &stopped, &kept] {
        assert!(identity.still_good(held).await);
    }
    tokens.delete("gone").await.unwrap();
    tokens.suspend("stopped").await.unwrap();
    clock.advance_ms(60_000);
    identity.refresh().await.unwrap();
    assert!(!identity.still_good(&gone).await, "deleted");
    assert!(!identity.still_good(&gone).await, "and stays so");
    assert!(!identity.still_good(&stopped).await, "suspended");
    assert!(!identity.still_good(&short).await, "expired");
    assert!(identity.still_good(&kept).await);
    tokens.resume("stopped").await.unwrap();
    identity.refresh().await.unwrap();
    assert!(identity.still_good(&stopped).await, "resumed");
}

async fn case_a_held_secret_ends_with_its_grace(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store, clock.clone());
    let (_, first) = identity.tokens().create("ci", None).await.unwrap();
    let old = good(&identity, &bearer(first.expose())).await.held;
    let second = identity.tokens().rotate("ci", Duration::from_secs(30)).await.unwrap();
    identity.refresh().await.unwrap();
    let new = good(&identity, &bearer(second.expose())).await.held;
    assert!(old != new, "one token, two secrets");
    assert!(identity.still_good(&old).await && identity.still_good(&new).await, "in its grace");
    clock.advance_ms(30_000);
    assert!(!identity.still_good(&old).await, "after its grace");
    assert!(identity.still_good(&new).await);
}

async fn case_a_held_credential_is_not_believed_for_ever(store: Store, clock: Arc<ManualClock>) {
    let identity = Identity::new(store.clone(), clock);
    let (_, secret) = identity.tokens().create("ci", None).await.unwrap();
    let held = good(&identity, &bearer(secret.expose())).await.held;
    identity.refresh().await.unwrap();
    assert!(identity.still_good(&held).await);
    store.close().await;
    assert!(identity.still_good(&held).await, "a moment without a database ends nothing");
    for _ in 0..400 {
        if !identity.still_good(&held).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("believed for ever");
}

macro_rules! cases {
    ($($case:ident => $sqlite:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $sqlite() {
                let clock = stores::manual();
                let (_dir, store) = stores::sqlite(clock.clone()).await;
                $case(store, clock).await;
            }
        )+

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn o1_service_tokens_on_postgres() {
            let Some(postgres) = stores::Postgres::start().await else { return };
            $(
                let clock = stores::manual();
                let store = postgres.store(clock.clone()).await;
                let done = tokio::spawn($case(store, clock)).await;
                assert!(done.is_ok(), "{} failed on Postgres: {done:?}", stringify!($case));
            )+
        }
    };
}

cases! {
    case_every_form_of_a_token_is_accepted => a11_every_form_of_a_token_is_accepted,
    case_what_is_wrong_is_refused_by_kind => a11_what_is_wrong_is_refused_by_kind,
    case_a_token_ends => a11_a_token_ends,
    case_rotation_has_a_grace_time => a11_rotation_has_a_grace_time,
    case_suspended_and_resumed => a11_suspended_and_resumed,
    case_another_replica_sees_a_suspension_by_itself => a11_another_replica_sees_a_suspension_by_itself,
    case_a_new_token_is_seen_although_it_was_tried_before => a11_a_restored_row_with_another_secret_is_refused,
    case_a_warm_check_makes_no_round_trip => a11_a_warm_check_makes_no_round_trip,
    case_last_use_is_written_behind => a11_last_use_is_written_behind,
    case_inactive_tokens_are_removed => a11_inactive_tokens_are_removed,
    case_names_and_missing_tokens => a11_names_and_missing_tokens,
    case_secrets_are_hashed_at_rest => a11_secrets_are_hashed_at_rest,
    case_a_held_credential_ends_with_its_token => a11_a_held_credential_ends_with_its_token,
    case_a_held_secret_ends_with_its_grace => a11_a_held_secret_ends_with_its_grace,
    case_a_held_credential_is_not_believed_for_ever => a11_a_held_credential_is_not_believed_for_ever,
    case_nothing_of_a_credential_comes_out => a18_nothing_of_a_credential_comes_out,
}

#[tokio::test]
async fn u1_dev_users_have_fixed_tokens() {
    let (_dir, store) = stores::sqlite(stores::manual()).await;
    let user = |name: &str, groups: &[&str]| {
        let groups: Vec<Arc<str>> = groups.iter().map(|group| Arc::from(*group)).collect();
        (Principal::new(PrincipalKind::User, name, groups), Secret::new(format!("{name}-token")))
    };
    let plain = Identity::new(store, stores::manual());
    let identity = plain.clone().with_dev_users(vec![user("alice", &["eng"]), user("bob", &[])]);
    let alice = good(&identity, &bearer("alice-token")).await;
    assert_eq!((&**alice.principal.key(), &*alice.credential_id), ("user:alice", "dev:alice"));
    assert_eq!(alice.principal.groups.iter().map(|group| &**group).collect::<Vec<_>>(), ["eng"]);
    assert!(Arc::ptr_eq(&alice.principal, &good(&identity, &bearer("alice-token")).await.principal));
    assert!(identity.still_good(&alice.held).await && plain.still_good(&alice.held).await);
    assert_eq!(kind(&identity, &bearer("alice-toke")).await, AuthErrorKind::Unknown);
    assert_eq!(kind(&plain, &bearer("alice-token")).await, AuthErrorKind::Unknown, "only where they were given");
    let pair = headers(&[("bartizan-client-id", "alice"), ("bartizan-client-secret", "alice-token")]);
    assert_eq!(kind(&identity, &pair).await, AuthErrorKind::Malformed);
    let both = headers(&[("authorization", "Bearer alice-token"), ("authorization", "Bearer bob-token")]);
    assert_eq!(kind(&identity, &both).await, AuthErrorKind::Ambiguous);
}

#[tokio::test]
async fn a18_credential_headers_are_stripped() {
    let mut map = headers(&[
        ("Authorization", "Bearer a"),
        ("authorization", "Bearer b"),
        ("Cookie", "a=b"),
        ("CF-Access-Client-Id", "x"),
        ("CF-Access-Client-Secret", "x"),
        ("Cf-Access-Token", "x"),
        ("Cf-Access-Jwt-Assertion", "x"),
        ("Bartizan-Client-Id", "x"),
        ("Bartizan-Client-Secret", "x"),
        ("Bartizan-Assertion", "x"),
        ("Proxy-Authorization", "x"),
        ("X-Api-Key", "x"),
        ("mcp-protocol-version", "2025-11-25"),
    ]);
    strip_credentials(&mut map);
    assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["mcp-protocol-version"]);
    assert_eq!(CREDENTIAL_HEADERS.len(), 11);
}

#[test]
fn a11_without_a_runtime_every_request_asks_the_database() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let clock = stores::manual();
    let (_dir, store) = first.block_on(stores::sqlite(clock.clone()));
    let identity = Identity::new(store.clone(), clock);
    let (_, secret) = first.block_on(identity.tokens().create("ci", None)).unwrap();
    let form = bearer(secret.expose());
    first.block_on(good(&identity, &form));
    first.block_on(identity.tokens().suspend("ci")).unwrap();
    assert_eq!(first.block_on(kind(&identity, &form)), AuthErrorKind::Suspended, "at once");
}
