//! P17: what arrives at a server and at token endpoints, one strategy after the other, and
//! what an attacker would like to arrive.

use std::sync::{Arc, Mutex};

use bartizan_accounts::{
    AccountError, AccountKind, Accounts, After, Request, SubjectError, SubjectTokens, SubjectWanted,
};
use bartizan_assert::{Signer, SignerDeps, derived_audience};
use bartizan_catalog::{CompileOptions, ServerSpec, Snapshot};
use bartizan_config::resources::SubjectToken;
use bartizan_egress::Url;
use bartizan_identity::Action;
use bartizan_model::{Clock, Principal, PrincipalKind, Secret};
use bartizan_oauth::jwt::SigningAlg;
use bartizan_oauth::params::Params;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use crate::fake::{Fake, Reply, forbidden};
use crate::gateway::{Gateway, NOW, user};
use crate::trusted::without_issuer;

/// A server with these members, and a provider to speak of.
fn spec(url: &str, kind: &str, config: Value, issuer: &str) -> Arc<ServerSpec> {
    let mut server = json!({"server_id": "notes", "hostname": url, "auth_type": kind});
    if !config.is_null() {
        server["auth_config"] = config;
    }
    let provider = json!({"id": "idp", "issuer": issuer, "client_id": "gw", "client_secret": "idp-secret"});
    let resources = serde_json::from_value(json!({"servers": [server], "identity_providers": [provider]})).unwrap();
    let snapshot = Snapshot::compile(&resources, &CompileOptions::default(), NOW).unwrap();
    Arc::clone(&snapshot.order[0])
}

/// Headers of a POST with this body, as text.
async fn shown(accounts: &Accounts, spec: &ServerSpec, who: &Principal, body: &str) -> Vec<(String, String)> {
    let bartizan_catalog::Transport::Http { url } = &spec.transport else { panic!("remote") };
    let url = Url::parse(url).unwrap();
    let (mut headers, body) = (HeaderMap::new(), Bytes::from(body.to_owned()));
    headers.insert("content-type", "application/json".parse().unwrap());
    headers.insert("mcp-method", "tools/call".parse().unwrap());
    let request = Request { url: &url, method: &Method::POST, headers: &headers, body: &body };
    let shown = accounts.show(spec, who, request).await.unwrap();
    for (name, value) in &shown {
        let open = matches!(name.as_str(), "x-amz-date" | "x-amz-content-sha256");
        assert!(open || value.is_sensitive(), "{name}");
    }
    shown.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

/// Whether a request is not sent for want of its credential.
async fn is_kept(accounts: &Accounts, spec: &ServerSpec, who: &Principal) -> bool {
    let bartizan_catalog::Transport::Http { url } = &spec.transport else { panic!("remote") };
    let (url, headers, body) = (Url::parse(url).unwrap(), HeaderMap::new(), Bytes::new());
    let request = Request { url: &url, method: &Method::POST, headers: &headers, body: &body };
    accounts.show(spec, who, request).await.is_err()
}

fn bearer(token: &str) -> Vec<(String, String)> {
    vec![("authorization".to_owned(), format!("Bearer {token}"))]
}

fn token(fake: &Fake, answer: Value) {
    fake.set().instead.insert("/token".to_owned(), Reply::Json(200, answer));
}

/// Tokens of the provider: `id_token-ana@corp.example`. Notes what was asked for.
fn subjects() -> (SubjectTokens, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&asked);
    let tokens: SubjectTokens = Arc::new(move |wanted: SubjectWanted| {
        let kind = match wanted.token {
            SubjectToken::IdToken => "id_token",
            SubjectToken::AccessToken => "access_token",
            SubjectToken::RefreshToken => "refresh_token",
            SubjectToken::Assertion => panic!("made here"),
        };
        let token = format!("{kind}-{}", wanted.principal.id);
        noted.lock().unwrap().push(format!("{} {token}", wanted.provider));
        let gone = wanted.principal.id.starts_with("gone");
        Box::pin(async move { if gone { Err(SubjectError::SignInNeeded) } else { Ok(Secret::new(token)) } })
    });
    (tokens, asked)
}

#[tokio::test]
async fn p17_client_credentials_is_one_token_for_everybody() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    token(&fake, json!({"access_token": "svc-1", "token_type": "bearer", "expires_in": 600}));
    let config = json!({"client_id": "gw:1", "client_secret": "s p%", "scopes": ["a", "b"],
        "token_endpoint": format!("{}/token", fake.issuer)});
    let spec = spec(&fake.server, "client_credentials", config, "https://idp.example");
    let processes = [gateway.accounts.clone(), gateway.process(), gateway.process()];
    let users = [user("ana"), user("bob"), Principal::new(PrincipalKind::Service, "robot", []), Principal::anonymous()];
    let calls = (0..120).map(|n| {
        let (accounts, who, spec) = (&processes[n % 3], &users[n % 4], &spec);
        async move { accounts.ready(spec, who).await.unwrap() }
    });
    for standing in join_all(calls).await {
        assert_eq!(&*standing.identity, "client_credentials");
    }
    assert_eq!(fake.count("/token"), 1, "one redemption");
    let form = fake.last("/token");
    assert_eq!(form.get("grant_type"), Some("client_credentials"));
    assert_eq!(form.get("scope"), Some("a b"));
    assert_eq!(form.get("resource"), Some(fake.server.as_str()));
    assert_eq!((form.get("client_secret"), form.get("client_id")), (None, None));
    let basic = format!("Basic {}", STANDARD.encode("gw%3A1:s+p%25"));
    assert!(fake.set().heads.iter().any(|head| head.contains(&basic)));
    for accounts in &processes {
        assert_eq!(shown(accounts, &spec, &users[0], "{}").await, bearer("svc-1"));
    }

    // 60 s before the end: one more, for all.
    token(&fake, json!({"access_token": "svc-2", "token_type": "bearer", "expires_in": 600}));
    gateway.clock.advance_ms(539_000);
    processes[0].ready(&spec, &users[0]).await.unwrap();
    assert_eq!(fake.count("/token"), 1);
    gateway.clock.advance_ms(1_500);
    for accounts in &processes {
        accounts.ready(&spec, &users[1]).await.unwrap();
        assert_eq!(shown(accounts, &spec, &users[1], "{}").await, bearer("svc-2"));
    }
    assert_eq!(fake.count("/token"), 2);

    // The token endpoint fails: the old token is used as long as it is good, no longer.
    fake.set().instead.insert("/token".to_owned(), Reply::Json(503, json!({})));
    gateway.clock.advance_ms(550_000);
    processes[0].ready(&spec, &users[0]).await.unwrap();
    gateway.clock.advance_ms(60_000);
    let refused = processes[0].ready(&spec, &users[0]).await.unwrap_err();
    assert!(matches!(refused, AccountError::Unavailable(_)), "{refused}");
    assert!(is_kept(&processes[0], &spec, &users[0]).await, "nothing that is over");
}

#[tokio::test]
async fn p17_a_refused_token_of_a_strategy_is_replaced_once() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    token(&fake, json!({"access_token": "svc-1", "expires_in": 6000}));
    let config = json!({"client_id": "c", "client_secret": "s", "token_endpoint": format!("{}/token", fake.issuer)});
    let spec = spec(&fake.server, "client_credentials", config, "https://idp.example");
    let (accounts, ana) = (&gateway.accounts, user("ana"));
    let standing = accounts.ready(&spec, &ana).await.unwrap();
    let early = accounts.declined(&spec, &ana, standing.version, None).await;
    assert!(matches!(early, After::Failed(_)), "one that was issued just now gets no better: {early:?}");
    assert_eq!(fake.count("/token"), 1);
    gateway.clock.advance_ms(31_000);
    token(&fake, json!({"access_token": "svc-2", "expires_in": 6000}));
    let again = (0..20).map(|_| accounts.declined(&spec, &ana, standing.version, None));
    assert!(join_all(again).await.iter().all(|after| *after == After::Retry));
    assert_eq!(fake.count("/token"), 2, "a storm of refusals is one redemption");
    assert_eq!(shown(accounts, &spec, &ana, "{}").await, bearer("svc-2"));
}

#[tokio::test]
async fn p17_discovery_finds_the_token_endpoint() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    token(&fake, json!({"access_token": "svc", "expires_in": 600}));
    let spec = spec(
        &fake.server,
        "client_credentials",
        json!({"issuer": fake.issuer, "client_id": "c", "client_secret": "s"}),
        "https://idp.example",
    );
    gateway.accounts.ready(&spec, &user("ana")).await.unwrap();
    let form = fake.last("/token");
    // As the authorization server said: in the body; scopes as the server said.
    assert_eq!((form.get("client_id"), form.get("client_secret")), (Some("c"), Some("s")));
    assert_eq!((form.get("scope"), form.get("resource")), (Some("notes.read"), Some(fake.server.as_str())));
}

/// A private key in PEM, and its public half.
fn key(rsa: bool) -> (String, Vec<u8>) {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    let (der, public) = if rsa {
        let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        (AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref().to_vec(), pair.public_key().as_ref().to_vec())
    } else {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        (pair.to_pkcs8v1().unwrap().as_ref().to_vec(), pair.public_key().as_ref().to_vec())
    };
    (format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der)), public)
}

#[tokio::test]
async fn p24_a_client_proves_itself_with_its_key() {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    for (rsa, alg) in [(false, "ES256"), (true, "RS256")] {
        let fake = Fake::start().await;
        let gateway = Gateway::new(&fake).await;
        fake.set().metadata = json!({"token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": [alg]});
        token(&fake, json!({"access_token": "svc", "token_type": "Bearer", "expires_in": 600}));
        let (pem, public) = key(rsa);
        let found = json!({"issuer": fake.issuer, "client_id": "gw", "private_key": pem, "private_key_id": "k1"});
        let mut named = found.clone();
        named["token_endpoint"] = json!(format!("{}/token", fake.issuer));
        let mut seen: Vec<String> = Vec::new();
        for config in [found, named] {
            let spec = spec(&fake.server, "client_credentials", config, "https://idp.example");
            gateway.process().ready(&spec, &user("ana")).await.unwrap();
            let form = fake.last("/token");
            let get = |name: &str| form.get(name).unwrap_or_default().to_owned();
            assert_eq!((get("client_id").as_str(), form.get("client_secret")), ("gw", None));
            assert_eq!(get("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
            let assertion = get("client_assertion");
            let (message, signature) = assertion.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            let verified = if rsa {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &public).verify(message.as_bytes(), &signature)
            } else {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &public).verify(message.as_bytes(), &signature)
            };
            verified.unwrap();
            let part =
                |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
            let (header, claims) = message.split_once('.').unwrap();
            assert_eq!((&part(header)["alg"], &part(header)["kid"]), (&json!(alg), &json!("k1")));
            let claims = part(claims);
            assert_eq!(
                (&claims["iss"], &claims["sub"], &claims["aud"]),
                (&json!("gw"), &json!("gw"), &json!(fake.issuer))
            );
            assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 300, "{claims}");
            seen.push(claims["jti"].as_str().unwrap().to_owned());
        }
        assert_ne!(seen[0], seen[1], "each assertion is another one");
        // What the authorization server does not take is not sent to it.
        let other = if rsa { "ES256" } else { "RS256" };
        for metadata in [
            json!({"token_endpoint_auth_methods_supported": ["client_secret_basic"]}),
            json!({"token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "token_endpoint_auth_signing_alg_values_supported": [other]}),
        ] {
            let fake = Fake::start().await;
            let gateway = Gateway::new(&fake).await;
            fake.set().metadata = metadata;
            let config = json!({"issuer": fake.issuer, "client_id": "gw", "private_key": key(rsa).0});
            let spec = spec(&fake.server, "client_credentials", config, "https://idp.example");
            let refused = gateway.accounts.ready(&spec, &user("ana")).await.unwrap_err();
            assert!(matches!(refused, AccountError::Misconfigured(_)), "{refused}");
            assert_eq!(fake.count("/token"), 0);
        }
    }
}

#[test]
fn p24_keys_of_clients_are_checked_with_the_configuration() {
    let refused = |config: Value| {
        let server = json!({"server_id": "notes", "hostname": "https://notes.example/mcp",
            "auth_type": "client_credentials", "auth_config": config});
        let resources = serde_json::from_value(json!({"servers": [server]})).unwrap();
        match Snapshot::compile(&resources, &CompileOptions::default(), NOW) {
            Ok(_) => String::new(),
            Err(found) => format!("{found:?}"),
        }
    };
    let (pem, _) = key(false);
    let whole = json!({"issuer": "https://as.example", "client_id": "c", "private_key": pem});
    let with = |name: &str, value: Value| {
        let mut config = whole.clone();
        config[name] = value;
        refused(config)
    };
    assert_eq!(refused(whole.clone()), "");
    for (found, wanted) in [
        (with("private_key", json!("secret")), "private key in PEM"),
        (with("client_secret", json!("s")), "both are given"),
        (with("client_id", Value::Null), "client_id"),
        (with("issuer", Value::Null), "issuer"),
        (
            refused(
                json!({"issuer": "https://as.example", "client_id": "c", "client_secret": "s", "private_key_id": "k"}),
            ),
            "private_key_id",
        ),
    ] {
        assert!(found.contains(wanted) && !found.contains("MII") && !found.contains("MIG"), "{wanted}: {found}");
    }
}

#[tokio::test]
async fn p17_token_exchange_is_for_each_person() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let (tokens, asked) = subjects();
    let accounts = gateway.accounts.clone().with_subject_tokens(tokens);
    let spec = spec(
        &fake.server,
        "token_exchange",
        json!({"client_id": "c", "client_secret": "s", "audience": "notes-api", "scopes": ["read"],
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_endpoint": format!("{}/token", fake.issuer), "token_endpoint_auth_method": "client_secret_post"}),
        "https://idp.example",
    );
    for who in ["ana", "bob"] {
        let issued = "urn:ietf:params:oauth:token-type:access_token";
        let answer = json!({"access_token": format!("for-{who}"), "token_type": "Bearer", "issued_token_type": issued});
        token(&fake, answer);
        let standing = accounts.ready(&spec, &user(who)).await.unwrap();
        assert_eq!(&*standing.identity, format!("token_exchange:{who}@corp.example"));
        let form = fake.last("/token");
        for (name, value) in [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token", &format!("id_token-{who}@corp.example")),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", "notes-api"),
            ("resource", &fake.server),
            ("scope", "read"),
            ("client_id", "c"),
            ("client_secret", "s"),
        ] {
            assert_eq!(form.get(name), Some(value), "{name}");
        }
    }
    for who in ["ana", "bob", "ana"] {
        assert_eq!(shown(&accounts, &spec, &user(who), "{}").await, bearer(&format!("for-{who}")));
    }
    assert!(is_kept(&accounts, &spec, &user("carol")).await, "nobody's token for somebody else");
    assert_eq!(fake.count("/token"), 2);
    assert_eq!(*asked.lock().unwrap(), ["idp id_token-ana@corp.example", "idp id_token-bob@corp.example"]);
    for nobody in [Principal::new(PrincipalKind::Service, "robot", []), Principal::anonymous()] {
        let refused = accounts.ready(&spec, &nobody).await.unwrap_err();
        assert!(matches!(refused, AccountError::Misconfigured(_)), "{refused}");
    }
    // Who has no token any more can do something about it, every time, and nobody waits after it.
    for _ in 0..2 {
        assert_eq!(accounts.ready(&spec, &user("gone")).await.unwrap_err(), AccountError::LoginNeeded);
    }
    assert_eq!(Accounts::kind(&spec), AccountKind::SignIn { provider: "idp".to_owned() });
    // Without anybody who keeps tokens, nothing is asked.
    let refused = gateway.process().ready(&spec, &user("ana")).await.unwrap_err();
    assert!(refused.to_string().contains("keeps no tokens"), "{refused}");
    assert_eq!(fake.count("/token"), 2);
}

#[tokio::test]
async fn p17_token_exchange_takes_the_gateways_own_assertion() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let accounts = gateway.accounts.clone().with_signer(signer(&gateway));
    token(&fake, json!({"access_token": "t", "token_type": "Bearer"}));
    let spec = spec(
        &fake.server,
        "token_exchange",
        json!({"client_id": "c", "client_secret": "s", "subject_token": "assertion", "issuer": fake.issuer,
            "token_endpoint": format!("{}/token", fake.issuer)}),
        "https://idp.example",
    );
    accounts.ready(&spec, &Principal::new(PrincipalKind::Service, "robot", [])).await.unwrap();
    let form = fake.last("/token");
    assert_eq!(form.get("subject_token_type"), Some("urn:ietf:params:oauth:token-type:jwt"));
    let claims = claims(form.get("subject_token").unwrap());
    assert_eq!((&claims["sub"], &claims["aud"]), (&json!("service:robot"), &json!(fake.issuer)));
}

#[tokio::test]
async fn p17_entra_on_behalf_of() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let (tokens, _) = subjects();
    let accounts = gateway.accounts.clone().with_subject_tokens(tokens);
    token(&fake, json!({"access_token": "obo", "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599}));
    let spec = spec(
        &fake.server,
        "entra_obo",
        json!({"client_id": "c", "client_secret": "s", "scopes": ["api://notes/.default"],
            "token_endpoint": format!("{}/token", fake.issuer)}),
        "https://idp.example",
    );
    accounts.ready(&spec, &user("ana")).await.unwrap();
    let form = fake.last("/token");
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("requested_token_use", "on_behalf_of"),
        ("assertion", "access_token-ana@corp.example"),
        ("scope", "api://notes/.default"),
        ("client_id", "c"),
        ("client_secret", "s"),
    ] {
        assert_eq!(form.get(name), Some(value), "{name}");
    }
    assert_eq!(shown(&accounts, &spec, &user("ana"), "{}").await, bearer("obo"));
}

const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

#[tokio::test]
async fn p17_id_jag_asks_the_provider_and_then_the_server_of_the_resource() {
    let (fake, idp) = (Fake::start().await, Fake::start().await);
    let gateway = Gateway::new(&fake).await;
    let (tokens, asked) = subjects();
    let accounts = gateway.accounts.clone().with_subject_tokens(tokens);
    token(&idp, json!({"access_token": "jag-1", "token_type": "N_A", "issued_token_type": ID_JAG, "expires_in": 300}));
    token(&fake, json!({"access_token": "at-1", "token_type": "Bearer", "expires_in": 600}));
    let spec = spec(
        &fake.server,
        "id_jag",
        json!({"issuer": fake.issuer, "client_id": "c", "client_secret": "s", "subject_token": "refresh_token"}),
        &idp.issuer,
    );
    let standing = accounts.ready(&spec, &user("ana")).await.unwrap();
    assert_eq!(&*standing.identity, "id_jag:ana@corp.example");
    let form = idp.last("/token");
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("requested_token_type", ID_JAG),
        ("audience", fake.issuer.as_str()),
        ("resource", &fake.server),
        ("subject_token", "refresh_token-ana@corp.example"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
        ("client_id", "gw"),
        ("client_secret", "idp-secret"),
    ] {
        assert_eq!(form.get(name), Some(value), "{name}");
    }
    let form = fake.last("/token");
    for (name, value) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", "jag-1"),
        ("client_id", "c"),
        ("client_secret", "s"),
    ] {
        assert_eq!(form.get(name), Some(value), "{name}");
    }
    assert_eq!(shown(&accounts, &spec, &user("ana"), "{}").await, bearer("at-1"));
    assert_eq!(asked.lock().unwrap().len(), 1);

    // Another kind of token of the provider is not handed on.
    let access = "urn:ietf:params:oauth:token-type:access_token";
    token(&idp, json!({"access_token": "theirs", "token_type": "Bearer", "issued_token_type": access}));
    let refused = accounts.ready(&spec, &user("bob")).await.unwrap_err();
    assert!(matches!(&refused, AccountError::Misconfigured(why) if why.contains("other than an ID-JAG")), "{refused}");
    assert_eq!(fake.count("/token"), 1);
    assert!(fake.set().asked.iter().all(|(_, body)| !body.contains("theirs") && !body.contains("refresh_token-")));
}

fn signer(gateway: &Gateway) -> Signer {
    Signer::new(SignerDeps {
        store: gateway.store.clone(),
        vault: gateway.vault.clone(),
        clock: Arc::clone(&gateway.clock) as Arc<dyn Clock>,
        public_url: gateway.public_url.clone(),
        alg: SigningAlg::Es256,
    })
}

fn claims(jwt: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn p17_a13_every_request_has_an_assertion_of_its_own() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let accounts = gateway.accounts.clone().with_signer(signer(&gateway));
    let spec = spec(&fake.server, "assertion", Value::Null, "https://idp.example");
    let mut ids = std::collections::HashSet::new();
    for (who, subject) in
        [(user("ana"), "user:ana@corp.example"), (Principal::new(PrincipalKind::Service, "robot", []), "service:robot")]
    {
        let standing = accounts.ready(&spec, &who).await.unwrap();
        assert_eq!(&*standing.identity, format!("assertion:{}", who.id));
        for _ in 0..3 {
            let shown = shown(&accounts, &spec, &who, "{}").await;
            let [(name, jwt)] = shown.as_slice() else { panic!("{shown:?}") };
            assert_eq!(name, "cf-access-jwt-assertion");
            let claims = claims(jwt);
            assert_eq!(claims["sub"], subject);
            assert_eq!(claims["aud"], derived_audience(&gateway.public_url, "notes"));
            assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 60);
            assert!(ids.insert(claims["jti"].to_string()), "one of its own");
        }
    }
    assert!(accounts.ready(&spec, &Principal::anonymous()).await.is_err());
    assert!(gateway.process().ready(&spec, &user("ana")).await.is_err(), "without a signer nothing is sent");
}

#[tokio::test]
async fn p17_a13_an_agents_assertion_names_who_answers_for_it() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let owners: bartizan_accounts::Owners = Arc::new(|id| (id == "nightly").then(|| "ana@corp.example".into()));
    let accounts = gateway.accounts.clone().with_signer(signer(&gateway)).with_owners(owners);
    let spec = spec(&fake.server, "assertion", Value::Null, "https://idp.example");
    let said = async |kind, id| {
        let who = Principal::new(kind, id, []);
        let shown = shown(&accounts, &spec, &who, "{}").await;
        claims(&shown[0].1)
    };
    let agent = said(PrincipalKind::Agent, "nightly").await;
    assert_eq!((&agent["sub"], &agent["client_id"]), (&json!("agent:nightly"), &json!("nightly")));
    assert_eq!(agent["owner"], "ana@corp.example");
    assert_eq!(agent.get("email"), None, "the owner is not the caller");
    // Nobody is named for one that is not configured, or for a service of the same name.
    assert_eq!(said(PrincipalKind::Agent, "other").await.get("owner"), None);
    let service = said(PrincipalKind::Service, "nightly").await;
    assert_eq!((service.get("owner"), service.get("client_id")), (None, None));
}

#[tokio::test]
async fn p17_aws_signs_the_request_that_is_sent() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let config = json!({"service": "bedrock-agentcore", "region": "eu-west-1", "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "wJalr/secret", "session_token": "session=="});
    let spec = spec(&fake.server, "aws_sigv4", config, "https://idp.example");
    let ana = user("ana");
    assert_eq!(&*gateway.accounts.ready(&spec, &ana).await.unwrap().identity, "aws_sigv4");
    let one = shown(&gateway.accounts, &spec, &ana, "{}").await;
    let names: Vec<&str> = one.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "authorization"]);
    let day = one[0].1[..8].to_owned();
    let start = format!("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{day}/eu-west-1/bedrock-agentcore/aws4_request, ");
    assert!(one[3].1.starts_with(&start), "{}", one[3].1);
    let signed = "content-type;host;mcp-method;x-amz-content-sha256;x-amz-date;x-amz-security-token";
    assert!(one[3].1.contains(&format!("SignedHeaders={signed}, ")), "{}", one[3].1);
    assert_eq!(one[2].1, "session==");
    assert!(one.iter().all(|(_, value)| !value.contains("wJalr")));
    assert_ne!(shown(&gateway.accounts, &spec, &ana, "{ }").await[3].1, one[3].1, "the body is signed");
    assert_eq!(shown(&gateway.accounts, &spec, &user("bob"), "{}").await, one, "it is the gateway's own");
}

#[tokio::test]
async fn p17_a_typed_token_is_for_one_person_and_one_server() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let config = json!({"header": "PRIVATE-TOKEN", "help_url": "https://notes.example/tokens"});
    let notes = spec(&fake.server, "pat_user", config.clone(), "https://idp.example");
    gateway.spec.store(Arc::clone(&notes));
    let (ana, bob) = (user("ana"), user("bob"));
    assert_eq!(Accounts::kind(&notes), AccountKind::Pat { help_url: Some("https://notes.example/tokens".to_owned()) });
    assert_eq!(gateway.accounts.ready(&notes, &ana).await.unwrap_err(), AccountError::LoginNeeded);
    for bad in ["", "two words", "x\r\nX-Admin: 1"] {
        let refused = gateway.accounts.store_pat(&notes, &ana, Secret::new(bad.to_owned())).await.unwrap_err();
        assert!(!format!("{refused:?}").contains("X-Admin"), "{refused:?}");
    }
    gateway.accounts.store_pat(&notes, &ana, Secret::new(" pat-ana\n".to_owned())).await.unwrap();
    let other = gateway.process();
    for accounts in [&gateway.accounts, &other] {
        assert_eq!(&*accounts.ready(&notes, &ana).await.unwrap().identity, "pat_user:ana@corp.example");
        let expected = vec![("private-token".to_owned(), "pat-ana".to_owned())];
        assert_eq!(shown(accounts, &notes, &ana, "{}").await, expected);
        assert_eq!(accounts.ready(&notes, &bob).await.unwrap_err(), AccountError::LoginNeeded);
        assert!(is_kept(accounts, &notes, &bob).await, "nobody uses another one's");
    }
    let listed = gateway.accounts.list(&ana).await.unwrap();
    assert_eq!((listed[0].server.as_str(), listed[0].ready), ("notes", true));
    assert!(!format!("{listed:?}").contains("pat-ana"));

    // At another address, and as another kind of account, it is worth nothing.
    let moved = spec("http://127.0.0.1:9/mcp", "pat_user", config, "https://idp.example");
    assert_eq!(other.ready(&moved, &ana).await.unwrap_err(), AccountError::LoginNeeded);
    assert!(is_kept(&other, &moved, &ana).await);
    let oauth = spec(&fake.server, "oauth", Value::Null, "https://idp.example");
    assert_eq!(other.ready(&oauth, &ana).await.unwrap_err(), AccountError::LoginNeeded);

    // A refused one is asked for again, and not sent a second time.
    let version = gateway.accounts.ready(&notes, &ana).await.unwrap().version;
    assert_eq!(gateway.accounts.declined(&notes, &ana, version, None).await, After::LoginNeeded);
    assert_eq!(gateway.accounts.ready(&notes, &ana).await.unwrap_err(), AccountError::LoginNeeded);
    gateway.accounts.store_pat(&notes, &ana, Secret::new("pat-2".to_owned())).await.unwrap();
    gateway.accounts.ready(&notes, &ana).await.unwrap();
    assert!(gateway.accounts.disconnect(&ana, &notes.id).await.unwrap());
    assert_eq!(gateway.accounts.ready(&notes, &ana).await.unwrap_err(), AccountError::LoginNeeded);
    let events: Vec<_> = gateway.events.lock().unwrap().iter().cloned().collect();
    let connects = events.iter().filter(|event| event.action == Action::Connect && event.ok).count();
    assert_eq!(connects, 2);
    assert!(!format!("{events:?}").contains("pat-"));
    // Nobody is sent through an authorization server for it.
    assert!(gateway.accounts.begin(&notes, &ana, "/", "b").await.is_err());
}

#[tokio::test]
async fn p17_a_token_follows_neither_a_changed_address_nor_a_redirect() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let config = |endpoint: String| json!({"client_id": "c", "client_secret": "s3cret", "token_endpoint": endpoint});
    let here = config(format!("{}/token", fake.issuer));
    let old = spec(&fake.server, "client_credentials", here.clone(), "https://idp.example");
    token(&fake, json!({"access_token": "for-old", "expires_in": 600}));
    gateway.accounts.ready(&old, &user("ana")).await.unwrap();
    let new = spec("http://127.0.0.1:9/mcp", "client_credentials", here.clone(), "https://idp.example");
    assert!(is_kept(&gateway.accounts, &new, &user("ana")).await);
    token(&fake, json!({"access_token": "for-new", "expires_in": 600}));
    gateway.accounts.ready(&new, &user("ana")).await.unwrap();
    assert_eq!(shown(&gateway.accounts, &new, &user("ana"), "{}").await, bearer("for-new"));

    // Not even when somebody asks for it elsewhere.
    let (elsewhere, headers, body) = (Url::parse("http://127.0.0.1:10/mcp").unwrap(), HeaderMap::new(), Bytes::new());
    let request = Request { url: &elsewhere, method: &Method::POST, headers: &headers, body: &body };
    assert!(gateway.accounts.show(&new, &user("ana"), request).await.is_err());

    // The token endpoint sends us on: the secret does not go there.
    let (address, count) = forbidden("127.0.0.1:0").await;
    let away = Reply::Head(307, "location", format!("http://{address}/token"));
    fake.set().instead.insert("/token".to_owned(), away);
    let mut third = here;
    third["audience"] = "x".into();
    let third = spec(&fake.server, "client_credentials", third, "https://idp.example");
    let refused = gateway.accounts.ready(&third, &user("ana")).await.unwrap_err();
    assert!(refused.to_string().contains("redirect"), "{refused}");
    assert_eq!(*count.lock().unwrap(), 0);
}

#[tokio::test]
async fn p17_a_token_endpoint_is_no_way_into_private_networks() {
    let fake = Fake::start().await;
    let (address, count) = forbidden("127.0.0.1:0").await;
    for (allow, expected) in [(&[][..], 0), (&["127.0.0.1"][..], 1)] {
        let gateway = Gateway::with(&fake.server, "http://127.0.0.1:7420", &Value::Null, allow).await;
        for host in [format!("http://{address}"), format!("http://localhost:{}", address.port())] {
            let endpoint = format!("{host}/token");
            let config = json!({"client_id": "c", "client_secret": "s", "token_endpoint": endpoint});
            let spec = spec(&fake.server, "client_credentials", config, "https://idp.example");
            let ana = user("ana");
            let asking = gateway.accounts.ready(&spec, &ana);
            let _ = tokio::time::timeout(std::time::Duration::from_millis(300), asking).await;
        }
        // With the rule lifted it is reached, so the rule is what kept it from being.
        assert!(*count.lock().unwrap() >= expected, "{allow:?}");
        assert_eq!(*count.lock().unwrap() == 0, expected == 0, "{allow:?}");
    }
    let gateway = Gateway::with(&fake.server, "http://127.0.0.1:7420", &Value::Null, &[]).await;
    for endpoint in
        ["https://169.254.169.254/t", "https://[::ffff:10.0.0.1]/t", "https://0x7f.1/t", "https://2130706433/t"]
    {
        let config = json!({"client_id": "c", "client_secret": "s", "token_endpoint": endpoint});
        let spec = spec(&fake.server, "client_credentials", config, "https://idp.example");
        let refused = gateway.accounts.ready(&spec, &user("ana")).await.unwrap_err();
        assert!(matches!(refused, AccountError::Misconfigured(_)), "{endpoint}: {refused}");
        gateway.clock.advance_ms(120_000);
    }
}

#[tokio::test]
async fn p17_errors_of_token_endpoints_repeat_no_secret() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let config =
        json!({"client_id": "c", "client_secret": "hunter2", "token_endpoint": format!("{}/token", fake.issuer)});
    let spec = spec(&fake.server, "client_credentials", config, "https://idp.example");
    for answer in [
        Reply::Json(400, json!({"error": "invalid_client", "error_description": "bad secret hunter2"})),
        Reply::Json(200, json!({"access_token": "hunter2\r\nX-Admin: 1", "token_type": "Bearer"})),
        Reply::Json(200, json!({"access_token": "hunter2", "token_type": "DPoP"})),
        Reply::Json(200, json!({"nothing": "hunter2"})),
        Reply::Json(500, json!({"error": {"code": 1, "message": "hunter2"}})),
    ] {
        fake.set().instead.insert("/token".to_owned(), answer);
        gateway.clock.advance_ms(120_000);
        let refused = gateway.accounts.ready(&spec, &user("ana")).await.unwrap_err();
        assert!(!refused.to_string().contains("hunter2") && !format!("{refused:?}").contains("hunter2"), "{refused}");
        assert!(is_kept(&gateway.accounts, &spec, &user("ana")).await);
    }
    // What is asked is a form, whatever is in it.
    let sent = fake.last("/token");
    assert_eq!(Params::parse(b"a=b").unwrap().get("a"), Some("b"));
    assert_eq!(sent.get("grant_type"), Some("client_credentials"));
}

#[tokio::test]
async fn p17_a_request_goes_out_with_its_credential_or_not_at_all() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    gateway.connect(&fake, "ana").await;
    let (spec, ana) = (gateway.spec(), user("ana"));
    gateway.accounts.ready(&spec, &ana).await.unwrap();
    assert_eq!(shown(&gateway.accounts, &spec, &ana, "{}").await.len(), 1);
    // Between the two steps of a call the account goes.
    assert!(gateway.accounts.disconnect(&ana, &spec.id).await.unwrap());
    assert!(is_kept(&gateway.accounts, &spec, &ana).await);
}

#[tokio::test]
async fn p17_nothing_is_exchanged_at_a_server_that_the_upstream_chose() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let (tokens, _) = subjects();
    let accounts = gateway.accounts.clone().with_subject_tokens(tokens);
    token(&fake, json!({"access_token": "t", "token_type": "Bearer"}));
    for kind in ["client_credentials", "token_exchange", "entra_obo", "id_jag"] {
        let mut config = json!({"issuer": fake.issuer, "client_id": "c", "client_secret": "planted", "scopes": ["x"]});
        for public in [false, true] {
            if public && matches!(kind, "client_credentials" | "entra_obo") {
                continue;
            }
            if public {
                config.as_object_mut().unwrap().remove("client_secret");
            }
            let spec = without_issuer(spec(&fake.server, kind, config.clone(), &fake.issuer));
            let refused = accounts.ready(&spec, &user("ana")).await.unwrap_err();
            assert!(refused.to_string().contains("auth_config.issuer"), "{kind}: {refused}");
            gateway.clock.advance_ms(120_000);
        }
    }
    assert_eq!(fake.count("/token"), 0);
    assert!(fake.set().heads.iter().all(|head| !head.contains("planted")));
}

/// A server with an exchanged token of every person.
async fn exchanging() -> (Fake, Gateway, Accounts, Arc<ServerSpec>) {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let accounts = gateway.accounts.clone().with_subject_tokens(subjects().0);
    let config = json!({"client_id": "c", "client_secret": "s", "token_endpoint": format!("{}/token", fake.issuer)});
    let spec = spec(&fake.server, "token_exchange", config, "https://idp.example");
    token(&fake, json!({"access_token": "one", "token_type": "Bearer", "expires_in": 86400}));
    (fake, gateway, accounts, spec)
}

#[tokio::test]
async fn p17_an_exchanged_token_is_for_the_groups_it_was_exchanged_with() {
    let (fake, _gateway, accounts, spec) = exchanging().await;
    let with =
        |groups: &[&str]| Principal::new(PrincipalKind::User, "ana@corp.example", groups.iter().map(|g| (*g).into()));
    let (before, same, after) = (with(&["admins", "staff"]), with(&["staff", "admins"]), with(&["staff"]));
    accounts.ready(&spec, &before).await.unwrap();
    accounts.ready(&spec, &same).await.unwrap();
    assert_eq!(fake.count("/token"), 1);
    assert!(is_kept(&accounts, &spec, &after).await, "not what the admin was given");
    token(&fake, json!({"access_token": "two", "token_type": "Bearer", "expires_in": 86400}));
    accounts.ready(&spec, &after).await.unwrap();
    assert_eq!(shown(&accounts, &spec, &after, "{}").await, bearer("two"));
    assert_eq!(fake.count("/token"), 2);
}

#[tokio::test]
async fn p17_an_exchanged_token_of_unknown_life_is_not_believed_for_ever() {
    let (fake, gateway, accounts, spec) = exchanging().await;
    token(&fake, json!({"access_token": "one", "token_type": "Bearer"}));
    let ana = user("ana");
    accounts.ready(&spec, &ana).await.unwrap();
    gateway.clock.advance_ms(200_000);
    accounts.ready(&spec, &ana).await.unwrap();
    assert_eq!(fake.count("/token"), 1);
    gateway.clock.advance_ms(100_000);
    assert!(is_kept(&accounts, &spec, &ana).await);
    accounts.ready(&spec, &ana).await.unwrap();
    assert_eq!(fake.count("/token"), 2);
}

#[tokio::test]
async fn p17_an_exchanged_token_ends_when_people_change() {
    use bartizan_store::repo::change;
    let (fake, gateway, accounts, spec) = exchanging().await;
    let ana = user("ana");
    accounts.ready(&spec, &ana).await.unwrap();
    fake.set().instead.insert("/token".to_owned(), Reply::Json(403, json!({"error": "access_denied"})));
    assert!(accounts.ready(&spec, &ana).await.is_ok(), "in memory");
    change::append(&gateway.store, bartizan_store::repo::person::TOPIC, "id-of-ana").await.unwrap();
    let gone = async {
        while accounts.ready(&spec, &ana).await.is_ok() || !is_kept(&accounts, &spec, &ana).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("asked for again, and refused");
}
