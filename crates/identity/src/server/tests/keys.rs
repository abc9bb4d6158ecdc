//! RFC 7523: clients that prove themselves with a signed assertion.

use bartizan_oauth::jwt::{SigningAlg, SigningKey};

use super::documents::Site;
use super::*;

fn key(kid: &str) -> SigningKey {
    SigningKey::from_pkcs8(SigningAlg::Es256, kid, &SigningKey::generate(SigningAlg::Es256).unwrap()).unwrap()
}

/// The claims of a good assertion, with changes.
fn assertion(key: &SigningKey, client: &str, jti: &str, changes: &[(&str, Value)]) -> String {
    let now = NOW / 1000;
    let mut claims = serde_json::json!({
        "iss": client, "sub": client, "aud": ISSUER, "jti": jti, "iat": now, "exp": now + 300,
    });
    let map = claims.as_object_mut().unwrap();
    for (name, value) in changes {
        if value.is_null() {
            map.remove(*name);
        } else {
            map.insert((*name).to_owned(), value.clone());
        }
    }
    key.sign("JWT", map).unwrap().expose().clone()
}

#[tokio::test]
async fn a8_private_key_jwt_is_demanded_and_good_once() {
    let site = Site::start().await;
    let bench = bench_with(SignIn::default(), site.egress.clone()).await;
    let (good, other) = (key("k1"), key("k1"));
    let uri = site.url("/keys");
    let keys = serde_json::json!({ "keys": [good.public_jwk()] }).to_string();
    site.page("/keys", "content-type: application/jwk-set+json\r\n", &keys);
    let by_uri = format!(r#","token_endpoint_auth_method":"private_key_jwt","jwks_uri":"{uri}""#);
    let inline = format!(r#","token_endpoint_auth_method":"private_key_jwt","jwks":{keys}"#);
    for (path, more) in [("/uri.json", by_uri), ("/inline.json", inline)] {
        let client = site.document(path, &more);
        let code = bench.code(&client).await;
        let ask = async |proof: &[(&str, &str)]| {
            let mut pairs = redemption(&client, &code).to_vec();
            pairs.extend_from_slice(proof);
            bench.token(&pairs).await
        };
        let kind = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        ask(&[]).await.is_refused(401, "invalid_client");
        ask(&[("client_secret", "x")]).await.is_refused(401, "invalid_client");
        let valid = assertion(&good, &client, &format!("{path}-1"), &[]);
        ask(&[("client_assertion", &valid)]).await.is_refused(400, "invalid_request");
        let now = NOW / 1000;
        for (name, signed) in [
            ("another key", assertion(&other, &client, "a", &[])),
            ("another client", assertion(&good, "https://evil.example/c", "b", &[])),
            ("issuer", assertion(&good, &client, "c", &[("iss", "x".into())])),
            ("subject", assertion(&good, &client, "d", &[("sub", "x".into())])),
            ("audience", assertion(&good, &client, "e", &[("aud", "https://other.example".into())])),
            ("expired", assertion(&good, &client, "f", &[("exp", (now - 61).into())])),
            ("too long a life", assertion(&good, &client, "g", &[("exp", (now + 3600).into())])),
            ("no end", assertion(&good, &client, "h", &[("exp", Value::Null)])),
            ("no id", assertion(&good, &client, "", &[("jti", Value::Null)])),
            ("unsigned", format!("eyJhbGciOiJub25lIn0.{}.", valid.split('.').nth(1).unwrap())),
            ("nonsense", "x".to_owned()),
        ] {
            let answer = ask(&[kind, ("client_assertion", &signed)]).await;
            assert!(matches!(answer.error(), "invalid_client" | "invalid_request"), "{name}: {}", answer.json);
        }
        let answer = ask(&[kind, ("client_assertion", &valid)]).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        let token = answer.text("refresh_token");
        let refresh = async |signed: &str| {
            let pairs = [
                ("grant_type", "refresh_token"),
                ("refresh_token", token.as_str()),
                kind,
                ("client_assertion", signed),
            ];
            bench.token(&pairs).await
        };
        refresh(&valid).await.is_refused(401, "invalid_client"); // the same assertion again
        let endpoint = format!("{ISSUER}/token");
        let second = assertion(&good, &client, &format!("{path}-2"), &[("aud", endpoint.as_str().into())]);
        assert_eq!(refresh(&second).await.status, 200);
    }
}

#[tokio::test]
async fn a8_new_keys_of_a_client_are_found() {
    let site = Site::start().await;
    let bench = bench_with(SignIn::default(), site.egress.clone()).await;
    let (old, new) = (key("old"), key("new"));
    let publish = |key: &SigningKey| {
        let keys = serde_json::json!({ "keys": [key.public_jwk()] }).to_string();
        site.page("/keys", "content-type: application/json\r\n", &keys);
    };
    publish(&old);
    let more = format!(r#","token_endpoint_auth_method":"private_key_jwt","jwks_uri":"{}""#, site.url("/keys"));
    let client = site.document("/c.json", &more);
    let code = bench.code(&client).await;
    let kind = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let signed = assertion(&old, &client, "1", &[]);
    let mut pairs = redemption(&client, &code).to_vec();
    pairs.extend([kind, ("client_assertion", signed.as_str())]);
    let answer = bench.token(&pairs).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    publish(&new);
    let token = answer.text("refresh_token");
    let refresh = async |jti: &str| {
        let signed = assertion(&new, &client, jti, &[]);
        let pairs =
            [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), kind, ("client_assertion", &signed)];
        bench.token(&pairs).await.status
    };
    let before = site.count();
    assert_eq!(refresh("2").await, 401, "keys were fetched a moment ago");
    assert_eq!(site.count(), before, "and are not fetched for every attempt");
    bench.clock.advance_ms(30_000);
    assert_eq!(refresh("3").await, 200);
}

#[tokio::test]
async fn a8_keys_that_cannot_be_fetched_are_no_wrong_proof() {
    let site = Site::start().await;
    let bench = bench_with(SignIn::default(), site.egress.clone()).await;
    let more = format!(r#","token_endpoint_auth_method":"private_key_jwt","jwks_uri":"{}""#, site.url("/gone"));
    let client = site.document("/c.json", &more);
    let code = bench.code(&client).await;
    let signed = assertion(&key("k1"), &client, "1", &[]);
    let mut pairs = redemption(&client, &code).to_vec();
    pairs.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
    pairs.push(("client_assertion", &signed));
    bench.token(&pairs).await.is_refused(503, "temporarily_unavailable");
}
