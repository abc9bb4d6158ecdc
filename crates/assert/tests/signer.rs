//! Keys of assertions over several replicas, and what an assertion says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use bartizan_assert::{
    Assertion, KEPT_MS, LIFE_S, NOTICE_MS, PERIOD_MS, Signer, SignerDeps, SignerError, derived_audience,
};
use bartizan_model::{Clock as _, ManualClock, Principal, PrincipalKind};
use bartizan_oauth::jwt::{Alg, Claims, Expect, Jwks, JwtError, SigningAlg, Typ, verify};
use bartizan_store::repo::sealed;
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

const NOW: i64 = 1_767_225_600_000;
const ISSUER: &str = "https://gw.example";

struct Bench {
    store: Store,
    vault: Vault,
    clock: Arc<ManualClock>,
    _dir: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let dir = TempDir::new().unwrap();
        let store = Store::open(&StoreUrl::Sqlite(dir.path().join("store.db")), clock.clone()).await.unwrap();
        let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
        Self { store, vault, clock, _dir: dir }
    }

    fn replica(&self, alg: SigningAlg) -> Signer {
        Signer::new(SignerDeps {
            store: self.store.clone(),
            vault: self.vault.clone(),
            clock: self.clock.clone(),
            public_url: format!("{ISSUER}/"),
            alg,
        })
    }

    fn check(&self, token: &str, keys: &[u8], audience: &str) -> Result<Claims, JwtError> {
        let expect = Expect {
            issuer: ISSUER,
            audience,
            algs: &[Alg::Es256, Alg::EdDsa],
            typ: Typ::Plain,
            nonce: None,
            now_s: self.clock.now_ms() / 1000,
            leeway_s: 0,
            max_age_s: None,
        };
        verify(token, &Jwks::parse(keys).unwrap(), &expect)
    }
}

fn ana() -> Principal {
    Principal::new(PrincipalKind::User, "ana@corp.example", ["eng".into(), "admins".into()])
}

async fn sign(signer: &Signer, audience: &str) -> String {
    let about = Assertion { principal: &ana(), audience, client: Some("desk-tool"), owner: None };
    signer.sign(&about).await.unwrap().expose().clone()
}

fn kid(token: &str) -> String {
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a13_an_assertion_says_who_calls_to_one_server_for_a_minute() {
    let bench = Bench::new().await;
    for alg in [SigningAlg::Es256, SigningAlg::EdDsa] {
        let bench = if alg == SigningAlg::Es256 { &bench } else { &Bench::new().await };
        let signer = bench.replica(alg);
        let tag = derived_audience(ISSUER, "github");
        let token = sign(&signer, &tag).await;
        let keys = signer.jwks().await.unwrap();
        let claims = bench.check(&token, &keys, &tag).unwrap();
        assert_eq!(claims.text("iss"), Some(ISSUER));
        assert_eq!(claims.text("sub"), Some("user:ana@corp.example"));
        assert_eq!(claims.text("email"), Some("ana@corp.example"));
        assert_eq!(claims.text("client_id"), Some("desk-tool"));
        assert_eq!(claims.get("groups"), Some(&json!(["admins", "eng"])));
        assert_eq!(claims.seconds("exp").unwrap() - claims.seconds("iat").unwrap(), LIFE_S);
        const { assert!(LIFE_S <= 60) };
        assert_ne!(claims.text("jti"), bench.check(&sign(&signer, &tag).await, &keys, &tag).unwrap().text("jti"));

        let other = derived_audience(ISSUER, "payroll");
        assert_eq!(bench.check(&token, &keys, &other), Err(JwtError::Audience));
        bench.clock.advance_ms(LIFE_S * 1000);
        assert_eq!(bench.check(&token, &keys, &tag), Err(JwtError::Expired));
        // Only public halves leave.
        let document = String::from_utf8(keys.to_vec()).unwrap();
        assert!(!document.contains("\"d\"") && document.contains(alg.alg().as_str()), "{document}");
    }
}

#[tokio::test]
async fn a13_callers_of_other_kinds_and_large_groups() {
    let bench = Bench::new().await;
    let signer = bench.replica(SigningAlg::Es256);
    let claims_of = async |principal: Principal| {
        let about = Assertion { principal: &principal, audience: "tag", client: None, owner: Some("bo@corp.example") };
        let token = signer.sign(&about).await?.expose().clone();
        Ok::<_, SignerError>((bench.check(&token, &signer.jwks().await?, "tag").unwrap(), token.len()))
    };
    let (claims, _) = claims_of(Principal::new(PrincipalKind::Service, "ana@corp.example", [])).await.unwrap();
    assert_eq!(claims.text("sub"), Some("service:ana@corp.example"));
    assert_eq!((claims.get("email"), claims.text("owner")), (None, Some("bo@corp.example")), "a service is no person");
    let many = (0..5000).map(|n| format!("group-{n}").into());
    let (claims, size) = claims_of(Principal::new(PrincipalKind::User, "ana@corp.example", many)).await.unwrap();
    assert_eq!((claims.get("groups"), claims.get("groups_omitted")), (None, Some(&json!(true))));
    assert!(size < 2048);
    for nobody in [Principal::anonymous(), Principal::new(PrincipalKind::User, "\u{430}na@corp.example", [])] {
        assert!(matches!(claims_of(nobody).await, Err(SignerError::Nobody)));
    }
}

#[tokio::test]
async fn a13_keys_rotate_with_overlap_and_an_old_key_is_refused_after_it() {
    let bench = Bench::new().await;
    let (one, two) = (bench.replica(SigningAlg::Es256), bench.replica(SigningAlg::Es256));
    let first = sign(&one, "tag").await;
    let (old, old_keys) = (kid(&first), one.jwks().await.unwrap());
    assert_eq!(kid(&sign(&two, "tag").await), old, "one key for all replicas");

    // The next key is published before anybody signs with it.
    bench.clock.advance_ms(PERIOD_MS - NOTICE_MS);
    one.refresh().await.unwrap();
    two.refresh().await.unwrap();
    let announced = two.jwks().await.unwrap();
    assert_eq!(announced, one.jwks().await.unwrap());
    assert_eq!(Jwks::parse(&announced).unwrap().len(), 2);
    assert_eq!(kid(&sign(&one, "tag").await), old);

    // Six weeks are over: all sign with the next one, and who read the key set before knows it.
    bench.clock.advance_ms(NOTICE_MS - 1000);
    let last = sign(&one, "tag").await;
    bench.clock.advance_ms(1000);
    let next = sign(&two, "tag").await;
    assert_ne!(kid(&next), old);
    assert_eq!(kid(&next), kid(&sign(&one, "tag").await));
    assert!(bench.check(&next, &announced, "tag").is_ok());
    assert_eq!(bench.check(&next, &old_keys, "tag"), Err(JwtError::UnknownKey), "what happens without overlap");

    // What the old key signed stays good until it expires.
    bench.clock.advance_ms(LIFE_S * 1000 - 2000);
    assert!(bench.check(&last, &two.jwks().await.unwrap(), "tag").is_ok());

    // Then the old key is gone, also for who tells the time as he likes.
    bench.clock.advance_ms(KEPT_MS);
    two.refresh().await.unwrap();
    one.refresh().await.unwrap();
    let keys = one.jwks().await.unwrap();
    assert_eq!(Jwks::parse(&keys).unwrap().len(), 1);
    assert_eq!(bench.check(&last, &keys, "tag"), Err(JwtError::UnknownKey));
    assert!(bench.check(&sign(&one, "tag").await, &keys, "tag").is_ok());
}

#[tokio::test]
async fn a13_of_many_replicas_one_makes_the_key() {
    let bench = Bench::new().await;
    let replicas: Vec<Signer> = (0..8).map(|_| bench.replica(SigningAlg::EdDsa)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for replica in replicas.clone() {
        tasks.spawn(async move { kid(&sign(&replica, "tag").await) });
    }
    let mut kids = tasks.join_all().await;
    kids.dedup();
    assert_eq!(kids.len(), 1);
    for replica in &replicas {
        assert_eq!(Jwks::parse(&replica.jwks().await.unwrap()).unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a13_a_replica_hears_of_a_new_key_by_itself() {
    let bench = Bench::new().await;
    let (one, two) = (bench.replica(SigningAlg::Es256), bench.replica(SigningAlg::Es256));
    assert_eq!(one.jwks().await.unwrap(), two.jwks().await.unwrap());
    // Nobody calls `refresh`: the tasks see the calendar, one makes the key, both know it.
    bench.clock.advance_ms(PERIOD_MS - NOTICE_MS);
    let both_know = async {
        loop {
            let (a, b) = (one.jwks().await.unwrap(), two.jwks().await.unwrap());
            if a == b && Jwks::parse(&a).unwrap().len() == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), both_know).await.unwrap();
}

#[tokio::test]
async fn a13_private_keys_are_sealed_at_rest_and_open_with_the_same_key_only() {
    let bench = Bench::new().await;
    sign(&bench.replica(SigningAlg::Es256), "tag").await;
    let name = sealed::Key { tenant: String::new(), kind: "assertion_keys".to_owned(), id: "all".to_owned() };
    let row = sealed::get(&bench.store, &name).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&row.sealed);
    assert!(!text.contains("pkcs8") && !text.contains("kid"), "not in clear");
    let stranger = Signer::new(SignerDeps {
        store: bench.store.clone(),
        vault: Vault::new(KeyRing::ephemeral().unwrap()).unwrap(),
        clock: bench.clock.clone(),
        public_url: ISSUER.to_owned(),
        alg: SigningAlg::Es256,
    });
    let principal = ana();
    let about = Assertion { principal: &principal, audience: "tag", client: None, owner: None };
    assert!(matches!(stranger.sign(&about).await, Err(SignerError::Records(_))), "fails closed, makes no other key");
    assert_eq!(sealed::get(&bench.store, &name).await.unwrap().unwrap().version, row.version);
}
