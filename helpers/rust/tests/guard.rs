//! Row P59: what did not come through the gateway does not get in.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::convert::Infallible;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::routing::get;
use bartizan_origin::{Claims, Guard, GuardLayer, HEADER};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

const ISSUER: &str = "https://mcp.example.com";
const NOW: i64 = 1_800_000_000;

struct Gateway {
    key: EcdsaKeyPair,
}

impl Gateway {
    fn new() -> Self {
        Self { key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap() }
    }

    fn point(&self) -> Vec<u8> {
        self.key.public_key().as_ref().to_vec()
    }

    fn jwk(&self, kid: &str) -> Value {
        let point = self.point();
        json!({"kid": kid, "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",
            "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..])})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", B64.encode(signature.as_ref()))
    }
}

fn header() -> Value {
    json!({"alg": "ES256", "typ": "JWT", "kid": "one"})
}

fn claims(id: &str) -> Value {
    json!({"iss": ISSUER, "aud": "tag", "sub": "user:ana", "email": "ana@corp.example", "groups": ["eng"],
        "iat": NOW, "exp": NOW + 60, "jti": id})
}

struct Origin {
    gateway: Gateway,
    clock: Arc<AtomicI64>,
    fetches: Arc<AtomicUsize>,
    set: Arc<Mutex<Value>>,
    app: Router,
}

fn origin() -> Origin {
    let gateway = Gateway::new();
    let (clock, fetches) = (Arc::new(AtomicI64::new(NOW)), Arc::new(AtomicUsize::new(0)));
    let set = Arc::new(Mutex::new(json!({"keys": [gateway.jwk("one"), {"kty": "RSA", "kid": "r"}]})));
    let (told, counted, read) = (Arc::clone(&set), Arc::clone(&fetches), Arc::clone(&clock));
    let fetch = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let text = told.lock().unwrap().to_string();
        async move { Ok::<_, Infallible>(text) }
    };
    let guard = Guard::with_clock(ISSUER, "tag", fetch, move || read.load(Ordering::SeqCst));
    let said = async |request: Request<Body>| {
        let claims = request.extensions().get::<Claims>().unwrap().clone();
        format!("{} {:?}", claims.text("email").unwrap(), claims.groups())
    };
    let app = Router::new().route("/", get(said)).layer(GuardLayer::new(guard));
    Origin { gateway, clock, fetches, set, app }
}

impl Origin {
    async fn ask(&self, tokens: &[&str]) -> (StatusCode, String) {
        let mut request = Request::get("/");
        for token in tokens {
            request = request.header(HEADER, *token);
        }
        let response = self.app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 4096).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn refuses(&self, token: &str, what: &str) {
        let (status, text) = self.ask(&[token]).await;
        assert_eq!((status, text.as_str()), (StatusCode::UNAUTHORIZED, "{\"error\":\"assertion_required\"}"), "{what}");
    }
}

#[tokio::test]
async fn p59_the_layer_lets_in_what_the_gateway_sent_and_once() {
    let origin = origin();
    assert_eq!(origin.ask(&[]).await.0, StatusCode::UNAUTHORIZED);
    let token = origin.gateway.sign(&header(), &claims("a"));
    assert_eq!(origin.ask(&[&token]).await, (StatusCode::OK, "ana@corp.example [\"eng\"]".to_owned()));
    origin.refuses(&token, "a second time").await;
    assert_eq!(origin.ask(&[&origin.gateway.sign(&header(), &claims("b"))]).await.0, StatusCode::OK);
    let (one, two) = (origin.gateway.sign(&header(), &claims("c")), origin.gateway.sign(&header(), &claims("d")));
    assert_eq!(origin.ask(&[&one, &two]).await.0, StatusCode::UNAUTHORIZED, "two headers");
    let several = json!(["other", "tag"]);
    let mut many = claims("e");
    many["aud"] = several;
    assert_eq!(origin.ask(&[&origin.gateway.sign(&header(), &many)]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn p59_the_layer_refuses_every_forgery() {
    let origin = origin();
    let gateway = &origin.gateway;
    let with = |name: &str, value: Value| {
        let mut all = claims(name);
        all[name] = value;
        gateway.sign(&header(), &all)
    };
    let head = |name: &str, value: Value| {
        let mut all = header();
        all[name] = value;
        all
    };
    let encoded =
        |header: &Value| format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims("x").to_string()));
    origin.refuses(&format!("{}.", encoded(&head("alg", json!("none")))), "alg none").await;
    // The public key as the secret of an HMAC, in every spelling somebody may have.
    for secret in [gateway.point(), gateway.jwk("one").to_string().into_bytes(), B64.encode(gateway.point()).into()] {
        let message = encoded(&head("alg", json!("HS256")));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), message.as_bytes());
        origin.refuses(&format!("{message}.{}", B64.encode(tag.as_ref())), "HS256 with the public key").await;
    }
    let foreign = Gateway::new();
    origin.refuses(&foreign.sign(&header(), &claims("f")), "our key id, another's key").await;
    origin.refuses(&foreign.sign(&head("kid", json!("two")), &claims("f")), "a key of another's set").await;
    let mut carried = head("jwk", foreign.jwk("one"));
    carried["jku"] = json!("https://evil.example/jwks.json");
    origin.refuses(&foreign.sign(&carried, &claims("f")), "a key it brings along").await;
    origin.refuses(&gateway.sign(&head("crit", json!(["b64"])), &claims("g")), "crit").await;
    origin.refuses(&gateway.sign(&head("alg", json!("EdDSA")), &claims("g")), "another algorithm's name").await;
    origin.refuses(&with("aud", json!("payroll")), "another server's").await;
    origin.refuses(&with("aud", json!([])), "nobody's").await;
    origin.refuses(&with("iss", json!("https://evil.example")), "another issuer").await;
    origin.refuses(&with("exp", json!(NOW - 6)), "expired").await;
    origin.refuses(&with("exp", json!(NOW + 3600)), "good for an hour").await;
    origin.refuses(&with("exp", json!("never")), "no end").await;
    origin.refuses(&with("iat", json!(NOW + 60)), "from the future").await;
    origin.refuses(&with("jti", Value::Null), "no id").await;
    origin.refuses(&with("sub", json!("")), "nobody").await;
    let good = gateway.sign(&header(), &claims("h"));
    let (message, signature) = good.rsplit_once('.').unwrap();
    origin.refuses(&format!("{message}.{}", signature.chars().rev().collect::<String>()), "a wrong signature").await;
    for text in ["", ".", "..", "...", "a.b.c", "e30.e30.e30", &"a".repeat(20_000)] {
        origin.refuses(text, "not a token").await;
    }
    // The same without a fault gets in: it was the faults that were refused.
    assert_eq!(origin.ask(&[&good]).await.0, StatusCode::OK);
}

#[tokio::test]
async fn p59_keys_follow_the_gateway_and_unknown_ones_ask_it_seldom() {
    let origin = origin();
    assert_eq!(origin.ask(&[&origin.gateway.sign(&header(), &claims("a"))]).await.0, StatusCode::OK);
    let before = origin.fetches.load(Ordering::SeqCst);
    let unknown = json!({"alg": "ES256", "kid": "two"});
    for number in 0..50 {
        origin.refuses(&origin.gateway.sign(&unknown, &claims(&number.to_string())), "unknown").await;
    }
    assert_eq!(origin.fetches.load(Ordering::SeqCst), before, "a flood reaches the gateway");
    // A new key is known once the pause is over.
    let edwards = Ed25519KeyPair::generate().unwrap();
    let jwk = json!({"kid": "two", "kty": "OKP", "crv": "Ed25519", "x": B64.encode(edwards.public_key().as_ref())});
    *origin.set.lock().unwrap() = json!({"keys": [jwk]});
    origin.clock.fetch_add(11, Ordering::SeqCst);
    let message = format!(
        "{}.{}",
        B64.encode(json!({"alg": "EdDSA", "kid": "two"}).to_string()),
        B64.encode(claims("b").to_string())
    );
    let token = format!("{message}.{}", B64.encode(edwards.sign(message.as_bytes()).as_ref()));
    assert_eq!(origin.ask(&[&token]).await.0, StatusCode::OK);
    // The old one is gone.
    origin.refuses(&origin.gateway.sign(&header(), &claims("c")), "a withdrawn key").await;
}

#[tokio::test]
async fn p59_without_keys_nobody_gets_in() {
    let guard = Guard::with_clock(ISSUER, "tag", || async { Err::<String, _>("no network") }, || NOW);
    let token = Gateway::new().sign(&header(), &claims("a"));
    assert_eq!(guard.verify(&token).await.unwrap_err().to_string(), "no keys");
}

/// A gateway that answers once and is silent from then on.
fn silent_after_one(gateway: &Gateway) -> (Guard, Arc<AtomicUsize>, Arc<AtomicI64>) {
    let (fetches, clock) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicI64::new(NOW)));
    let text = json!({"keys": [gateway.jwk("one")]}).to_string();
    let (counted, read) = (Arc::clone(&fetches), Arc::clone(&clock));
    let fetch = move || {
        let (first, text) = (counted.fetch_add(1, Ordering::SeqCst) == 0, text.clone());
        async move {
            if !first {
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(text)
        }
    };
    let guard = Guard::with_clock(ISSUER, "tag", fetch, move || read.load(Ordering::SeqCst));
    (guard, fetches, clock)
}

#[tokio::test(start_paused = true)]
async fn p59_an_invented_key_holds_up_nobody_while_the_gateway_is_silent() {
    let gateway = Gateway::new();
    let (guard, fetches, clock) = silent_after_one(&gateway);
    guard.verify(&gateway.sign(&header(), &claims("a"))).await.unwrap();
    clock.fetch_add(11, Ordering::SeqCst);
    let invented = gateway.sign(&json!({"alg": "ES256", "kid": "invented"}), &claims("b"));
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let (guard, invented) = (guard.clone(), invented.clone());
            tokio::spawn(async move { guard.verify(&invented).await })
        })
        .collect();
    while fetches.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    // The timer does not move while somebody works: were this one behind the fetch, it would need five seconds of it.
    let before = tokio::time::Instant::now();
    guard.verify(&gateway.sign(&header(), &claims("c"))).await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 0);
    // The fetch is given up, once for all who wait; the pause begins at its end.
    clock.fetch_add(5, Ordering::SeqCst);
    for one in waiting {
        assert_eq!(one.await.unwrap().unwrap_err().to_string(), "unknown key");
    }
    assert_eq!((before.elapsed().as_secs(), fetches.load(Ordering::SeqCst)), (5, 2));
    clock.fetch_add(9, Ordering::SeqCst);
    guard.verify(&invented).await.unwrap_err();
    assert_eq!(fetches.load(Ordering::SeqCst), 2);
    guard.verify(&gateway.sign(&header(), &claims("d"))).await.unwrap();
}
