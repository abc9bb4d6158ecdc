//! ID tokens as they should not be.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::NOW_S;
use crate::gateway::simple;
use crate::provider::{MakeToken, Reply, key};

#[tokio::test]
async fn a2_wrong_claims_of_the_id_token_are_refused() {
    let (gateway, provider) = simple().await;
    for claims in [
        json!({"nonce": "another"}),
        json!({"nonce": null}),
        json!({"iss": "https://evil.example"}),
        json!({"iss": format!("{}/", provider.issuer)}),
        json!({"aud": "another"}),
        json!({"aud": ["gateway", "another"]}),
        json!({"azp": "another"}),
        json!({"exp": NOW_S - 60}),
        json!({"exp": null}),
        json!({"iat": NOW_S + 61}),
        json!({"nbf": NOW_S + 61}),
        json!({"sub": null}),
        json!({"auth_time": NOW_S + 3600}),
    ] {
        provider.set().claims = claims.clone();
        assert_eq!(gateway.outcome(&provider).await, "bad_id_token", "{claims}");
    }
    // Each of them alone stops it.
    provider.set().claims =
        json!({"aud": ["gateway", "another"], "azp": "gateway", "exp": NOW_S - 59, "iat": NOW_S + 60});
    assert_eq!(gateway.outcome(&provider).await, "ok");
}

#[tokio::test]
async fn a2_wrong_signatures_of_the_id_token_are_refused() {
    let (gateway, provider) = simple().await;
    provider.set().metadata = json!({"id_token_signing_alg_values_supported": null});
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = move |header: Value| -> MakeToken {
        Arc::new(move |_, claims| format!("{}.{}.", part(&header), part(&Value::Object(claims.clone()))))
    };
    let hmac: MakeToken = Arc::new(move |behaviour, claims| {
        // The public key, as everybody can read it, as shared secret.
        let secret = behaviour.keys[0].public_jwk().to_string();
        let message =
            format!("{}.{}", part(&json!({"alg": "HS256", "kid": "one"})), part(&Value::Object(claims.clone())));
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&secret, message.as_bytes())))
    });
    let stranger = Arc::new(key("one"));
    let forged: MakeToken = Arc::new(move |_, claims| stranger.sign("JWT", claims).unwrap().expose().clone());
    let other_kind: MakeToken =
        Arc::new(|behaviour, claims| behaviour.keys[0].sign("at+jwt", claims).unwrap().expose().clone());
    let changed: MakeToken = Arc::new(move |behaviour, claims| {
        let token = behaviour.sign(claims);
        let mut parts: Vec<&str> = token.split('.').collect();
        let mut claims = claims.clone();
        claims.insert("email".to_owned(), json!("boss@corp.example"));
        let payload = part(&Value::Object(claims));
        parts[1] = &payload;
        parts.join(".")
    });
    for (what, make) in [
        ("none", unsigned(json!({"alg": "none"}))),
        ("None", unsigned(json!({"alg": "None", "kid": "one"}))),
        ("no signature", unsigned(json!({"alg": "ES256", "kid": "one"}))),
        ("HS256", hmac),
        ("another key of that name", forged),
        ("access token", other_kind),
        ("changed", changed),
    ] {
        provider.set().token = Some(make);
        assert_eq!(gateway.outcome(&provider).await, "bad_id_token", "{what}");
    }
    provider.set().token = None;
    assert_eq!(gateway.outcome(&provider).await, "ok");
}

#[tokio::test]
async fn a2_algorithms_the_provider_does_not_list_are_refused() {
    let (gateway, provider) = simple().await;
    provider.set().metadata = json!({"id_token_signing_alg_values_supported": ["RS256", "HS256", "none"]});
    assert_eq!(gateway.outcome(&provider).await, "bad_id_token");
}

#[tokio::test]
async fn a2_rolled_keys_are_fetched_once() {
    let (gateway, provider) = simple().await;
    assert_eq!(gateway.outcome(&provider).await, "ok");
    assert_eq!(gateway.outcome(&provider).await, "ok");
    assert_eq!(provider.asked("/jwks"), 1);
    assert_eq!(provider.asked("/.well-known/openid-configuration"), 1);
    // The provider rolls over: the next sign-in works at once.
    provider.set().keys.push(key("two"));
    provider.set().signs = 1;
    assert_eq!(gateway.outcome(&provider).await, "ok");
    assert_eq!(provider.asked("/jwks"), 2);
    // A flood of unknown names asks no more than once in a while.
    provider.set().keys.push(key("three"));
    provider.set().signs = 2;
    provider.set().served = Some(vec![0, 1]);
    for _ in 0..10 {
        assert_eq!(gateway.outcome(&provider).await, "bad_id_token");
    }
    assert_eq!(provider.asked("/jwks"), 2);
    gateway.clock.advance_ms(30_000);
    for _ in 0..10 {
        assert_eq!(gateway.outcome(&provider).await, "bad_id_token");
    }
    assert_eq!(provider.asked("/jwks"), 3);
    // A key that was withdrawn stops being good within the hour.
    provider.set().signs = 0;
    provider.set().served = Some(vec![1]);
    assert_eq!(gateway.outcome(&provider).await, "ok");
    gateway.clock.advance_ms(3_600_000);
    provider.set().claims = json!({"exp": NOW_S + 99_999});
    assert_eq!(gateway.outcome(&provider).await, "bad_id_token");
}

#[tokio::test]
async fn a2_a_provider_that_stumbles_does_not_lock_everybody_out() {
    let (gateway, provider) = simple().await;
    provider.set().claims = json!({"exp": NOW_S + 999_999});
    assert_eq!(gateway.outcome(&provider).await, "ok");
    let broken = Reply::Text(503, "down".to_owned());
    for path in ["/jwks", "/.well-known/openid-configuration"] {
        provider.set().instead.insert(path.to_owned(), broken.clone());
    }
    gateway.clock.advance_ms(3_600_000);
    assert_eq!(gateway.outcome(&provider).await, "ok");
    // For a day; then nobody knows whether the keys are good still.
    gateway.clock.advance_ms(24 * 3_600_000);
    let mut browser = crate::gateway::Browser::default();
    let begun =
        gateway.login.begin(bartizan_identity::ReturnTo::path("/"), None, bartizan_identity::Ask::default()).await;
    assert!(matches!(begun, bartizan_identity::Begin::Unavailable(problem) if problem.code == "provider_unavailable"));
    provider.set().instead.clear();
    gateway.clock.advance_ms(5_000);
    gateway.begin(&mut browser).await;
}

#[tokio::test]
async fn a2_strange_token_answers_are_refused() {
    let (gateway, provider) = simple().await;
    for reply in [
        Reply::Json(200, json!({"access_token": "at-1"})),
        Reply::Json(200, json!({"access_token": "at-1", "id_token": 7})),
        Reply::Json(200, json!({"id_token": "a.b.c"})),
        Reply::Json(400, json!({"error": "invalid_grant", "error_description": "<b>"})),
        Reply::Text(500, "oops".to_owned()),
        Reply::Text(302, "http://127.0.0.1:9/".to_owned()),
        Reply::Text(200, "<html>".to_owned()),
    ] {
        provider.set().instead.insert("/token".to_owned(), reply);
        assert_eq!(gateway.outcome(&provider).await, "bad_tokens");
    }
    provider.set().instead.insert("/token".to_owned(), Reply::Endless);
    assert_eq!(gateway.outcome(&provider).await, "provider_unavailable");
    for reply in [Reply::Text(200, "[]".to_owned()), Reply::Endless, Reply::Text(302, "http://127.0.0.1:9/".to_owned())]
    {
        provider.set().instead.clear();
        provider.set().instead.insert("/jwks".to_owned(), reply);
        gateway.clock.advance_ms(5_000);
        assert_eq!(gateway.outcome(&provider).await, "provider_unavailable");
    }
}
