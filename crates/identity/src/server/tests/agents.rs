//! A27: agents, and jobs that would like to be one.

use std::sync::RwLock;

use bartizan_config::agents::Agent;
use serde_json::{Map, json};

use super::foreign::{IdP, agents_of, bench_of, changed, forged, hmac, key, machines, replica};
use super::*;

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const AUDIENCE: &str = "https://gw.example";
const AGENT_SECRET: &str = "0123456789abcdef-deploy";

fn agents(idp: &IdP) -> Value {
    json!([
        {"id": "deploy", "owner": "ana@corp.example", "groups": ["eng", "admins"], "auth": {"client_secret": AGENT_SECRET}},
        {"id": "ci", "owner": "ana@corp.example", "auth": {"workload": {
            "issuer": idp.url, "audience": AUDIENCE,
            "claims": {"repository": "acme/shop", "ref": "refs/heads/main"},
        }}},
        {"id": "orphan", "owner": "nobody@corp.example", "auth": {"client_secret": AGENT_SECRET}},
    ])
}

/// Claims of the token of a CI job, with changes.
fn job(idp: &IdP, jti: &str, changes: &[(&str, Value)]) -> Map<String, Value> {
    let now = NOW / 1000;
    let good = json!({
        "iss": idp.url, "sub": "repo:acme/shop:ref:refs/heads/main", "aud": AUDIENCE, "jti": jti, "iat": now,
        "nbf": now - 5, "exp": now + 600, "repository": "acme/shop", "ref": "refs/heads/main",
    });
    changed(good, changes)
}

fn signed(idp: &IdP, claims: &Map<String, Value>) -> String {
    idp.key.sign("JWT", claims).unwrap().expose().clone()
}

async fn exchange(bench: &Bench, token: &str) -> Answer {
    let pairs = [
        ("grant_type", EXCHANGE),
        ("client_id", "ci"),
        ("subject_token_type", JWT),
        ("subject_token", token),
        ("resource", RESOURCE),
    ];
    bench.token(&pairs).await
}

async fn with_secret(bench: &Bench, id: &str, secret: &str) -> Answer {
    let pairs = [
        ("grant_type", "client_credentials"),
        ("client_id", id),
        ("client_secret", secret),
        ("resource", RESOURCE),
        ("scope", "mcp:read"),
    ];
    bench.token(&pairs).await
}

/// Another process that has this list of agents.
async fn who(bench: &Bench, agents: &Arc<Vec<Agent>>, token: &str) -> Option<Authenticated> {
    let agents = Arc::clone(agents);
    let identity =
        Identity::new(bench.store.clone(), bench.clock.clone()).with_agents(Arc::new(move || Arc::clone(&agents)));
    identity.authenticate(&bearer(token)).await.ok().flatten()
}

#[tokio::test]
async fn a27_an_agent_with_a_secret_is_itself_and_names_its_owner() {
    let idp = IdP::start().await;
    let bench = bench_of(&idp, Vec::new(), agents(&idp)).await;
    let answer = with_secret(&bench, "deploy", AGENT_SECRET).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert!(answer.json.get("refresh_token").is_none() && answer.json.get("issued_token_type").is_none());
    assert_eq!((answer.text("scope"), answer.json["expires_in"].as_i64()), ("mcp:read".into(), Some(900)));
    let list = agents_of(agents(&idp));
    let known = who(&bench, &list, &answer.text("access_token")).await.unwrap();
    assert_eq!(&**known.principal.key(), "agent:deploy");
    // The owner is in `eng` only: the agent is in no other group.
    assert_eq!(&*known.principal.groups, &["eng".into()][..]);
    assert_eq!(known.resource.as_deref(), Some(RESOURCE));
    assert_eq!(known.grant.unwrap().owner.as_deref(), Some("ana@corp.example"));
    let event = bench.events_of(Action::Token).pop().unwrap();
    assert_eq!((event.person.as_deref(), event.client.as_deref()), (Some("ana@corp.example"), Some("agent:deploy")));

    let scope = async |asked: &str| {
        let pairs = [
            ("grant_type", "client_credentials"),
            ("client_id", "deploy"),
            ("client_secret", AGENT_SECRET),
            ("scope", asked),
        ];
        let answer = bench.token(&pairs).await;
        if answer.status == 200 { answer.text("scope") } else { answer.error().to_owned() }
    };
    assert_eq!(scope("mcp:read mcp:admin server:a").await, "mcp:read server:a", "nobody agreed to more");
    assert_eq!((scope("mcp:admin").await, scope("x").await), ("invalid_scope".into(), "invalid_scope".into()));

    for (id, secret) in
        [("deploy", "guess"), ("deploy", ""), ("ci", AGENT_SECRET), ("nobody", AGENT_SECRET), (SECRET_CLIENT, SECRET)]
    {
        with_secret(&bench, id, secret).await.is_refused(401, "invalid_client");
    }
    with_secret(&bench, "orphan", AGENT_SECRET).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: its owner is unknown or deactivated");
    // An agent is no client of people.
    let page = bench.server.authorize(&request("deploy"), None).await;
    assert!(matches!(page, Step::Problem(_)), "{page:?}");
}

#[tokio::test]
async fn a27_an_agent_with_keys_proves_itself_once() {
    let idp = IdP::start().await;
    let own = key("own");
    let set = json!({"keys": [own.public_jwk()]}).to_string();
    let bench =
        bench_of(&idp, Vec::new(), json!([{"id": "bot", "owner": "ana@corp.example", "auth": {"jwks": set}}])).await;
    let proof = |changes: &[(&str, Value)]| {
        let now = NOW / 1000;
        let claims = json!({"iss": "bot", "sub": "bot", "aud": ISSUER, "jti": "j", "iat": now, "exp": now + 60});
        own.sign("JWT", &changed(claims, changes)).unwrap().expose().clone()
    };
    let ask = async |assertion: &str| {
        let kind = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        bench
            .token(&[
                ("grant_type", "client_credentials"),
                kind,
                ("client_assertion", assertion),
                ("resource", RESOURCE),
            ])
            .await
    };
    ask(&proof(&[("aud", "https://other.example".into())])).await.is_refused(401, "invalid_client");
    ask(&proof(&[("iss", "deploy".into())])).await.is_refused(401, "invalid_client");
    let good = proof(&[]);
    assert_eq!(ask(&good).await.status, 200);
    ask(&good).await.is_refused(401, "invalid_client");
}

#[tokio::test]
async fn a27_the_token_of_a_ci_job_is_exchanged() {
    let idp = IdP::start().await;
    let bench = bench_of(&idp, Vec::new(), agents(&idp)).await;
    let token = signed(&idp, &job(&idp, "1", &[]));
    let answer = exchange(&bench, &token).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    assert_eq!(answer.text("issued_token_type"), "urn:ietf:params:oauth:token-type:access_token");
    assert!(answer.json.get("refresh_token").is_none());
    let known = who(&bench, &agents_of(agents(&idp)), &answer.text("access_token")).await.unwrap();
    assert_eq!((&**known.principal.key(), known.principal.groups.len()), ("agent:ci", 0));
    // Once, on whatever replica.
    let second = replica(&bench, machines(&idp, Vec::new(), agents_of(agents(&idp))));
    let form = form_of(&[
        ("grant_type", EXCHANGE),
        ("client_id", "ci"),
        ("subject_token_type", JWT),
        ("subject_token", &token),
        ("resource", RESOURCE),
    ]);
    Answer::of(second.token(&form_headers(), PEER, form.into()).await).is_refused(400, "invalid_grant");
    assert_eq!((bench.last_refusal().as_str(), bench.saw(Action::Replay, false)), ("invalid_grant: replay", 1));
    bench.store_forgets_markers().await;
    assert_eq!(exchange(&bench, &token).await.status, 200, "it is the marker that refuses");
    // A platform whose tokens have no `jti`: the token itself is the name.
    let nameless = signed(&idp, &job(&idp, "", &[("jti", Value::Null)]));
    assert_eq!(exchange(&bench, &nameless).await.status, 200);
    exchange(&bench, &nameless).await.is_refused(400, "invalid_grant");
    let metadata: Value = serde_json::from_slice(&bench.server.metadata()).unwrap();
    let grants = json!(["authorization_code", "refresh_token", "client_credentials", EXCHANGE]);
    assert_eq!(metadata["grant_types_supported"], grants);
}

#[tokio::test]
async fn a27_a_job_of_another_repository_or_branch_is_refused() {
    let idp = IdP::start().await;
    let bench = bench_of(&idp, Vec::new(), agents(&idp)).await;
    let now = NOW / 1000;
    let repository = "claim repository";
    let cases: Vec<(&str, Value, &str)> = vec![
        ("repository", "acme/shop2".into(), repository),
        ("repository", "Acme/shop".into(), repository),
        ("repository", "acme/shop ".into(), repository),
        ("repository", "acme/shop\u{0}".into(), repository),
        ("repository", "evil/acme/shop".into(), repository),
        ("repository", "acme/*".into(), repository),
        ("repository", Value::Null, repository),
        ("repository", "null".into(), repository),
        ("repository", json!(["acme/shop"]), repository),
        ("repository", json!(["evil/x", "acme/shop"]), repository),
        ("repository", json!({"acme/shop": true}), repository),
        ("repository", 1.into(), repository),
        ("repository", true.into(), repository),
        ("ref", "refs/heads/feature".into(), "claim ref"),
        ("ref", "refs/tags/main".into(), "claim ref"),
        ("ref", "main".into(), "claim ref"),
        ("ref", Value::Null, "claim ref"),
        ("ref", json!(["refs/heads/main"]), "claim ref"),
        ("aud", "https://elsewhere.example".into(), "audience"),
        ("aud", json!([AUDIENCE, "https://elsewhere.example"]), "audience"),
        ("iss", "https://other-ci.example".into(), "issuer"),
        ("exp", (now - 61).into(), "expired"),
        ("exp", (now + 90_000).into(), "lifetime"),
        ("nbf", (now + 61).into(), "future"),
        ("jti", 7.into(), "jti"),
    ];
    for (at, (name, value, why)) in cases.into_iter().enumerate() {
        let token = signed(&idp, &job(&idp, &format!("case {at}"), &[(name, value.clone())]));
        exchange(&bench, &token).await.is_refused(400, "invalid_grant");
        assert_eq!(bench.last_refusal(), format!("invalid_grant: {why}"), "{name} {value}");
    }
    // The last of two members of one name is what everybody sees; a signature covers both.
    let good = job(&idp, "forged", &[]);
    let public = idp.key.public_jwk().to_string();
    for (name, token) in [
        ("none", forged(&json!({"alg": "none"}), &good, |_| Vec::new())),
        ("HS256", forged(&json!({"alg": "HS256", "kid": "k1"}), &good, |m| hmac(public.as_bytes(), m))),
        ("another key", key("k1").sign("JWT", &good).unwrap().expose().clone()),
        ("an ID-JAG", idp.key.sign("oauth-id-jag+jwt", &good).unwrap().expose().clone()),
        ("an access token", idp.key.sign("at+jwt", &good).unwrap().expose().clone()),
    ] {
        let answer = exchange(&bench, &token).await;
        assert_eq!((answer.status, answer.error()), (400, "invalid_grant"), "{name}");
    }
    let token = signed(&idp, &job(&idp, "p", &[]));
    let base =
        vec![("grant_type", EXCHANGE), ("client_id", "ci"), ("subject_token", token.as_str()), ("resource", RESOURCE)];
    let with = |more: &[(&'static str, &'static str)]| {
        let mut pairs = base.clone();
        pairs.extend_from_slice(more);
        pairs
    };
    bench.token(&with(&[])).await.is_refused(400, "invalid_request");
    let access = "urn:ietf:params:oauth:token-type:access_token";
    bench.token(&with(&[("subject_token_type", access)])).await.is_refused(400, "invalid_request");
    bench.token(&with(&[("subject_token_type", JWT), ("actor_token", "x")])).await.is_refused(400, "invalid_request");
    bench.token(&with(&[("subject_token_type", JWT), ("audience", "x")])).await.is_refused(400, "invalid_target");
    let refresh = "urn:ietf:params:oauth:token-type:refresh_token";
    bench
        .token(&with(&[("subject_token_type", JWT), ("requested_token_type", refresh)]))
        .await
        .is_refused(400, "invalid_request");
    bench.token(&with(&[("subject_token_type", JWT), ("client_secret", "x")])).await.is_refused(401, "invalid_client");
    assert_eq!(exchange(&bench, &token).await.status, 200, "none of that used it up");
}

#[tokio::test]
async fn a27_a_token_of_a_person_does_not_become_an_agent() {
    // The platform and the company's provider are the same issuer: `aud` tells them apart.
    let idp = IdP::start().await;
    let bench = bench_of(&idp, vec![idp.provider()], agents(&idp)).await;
    let id_token = signed(&idp, &job(&idp, "1", &[("aud", "bartizan".into())]));
    exchange(&bench, &id_token).await.is_refused(400, "invalid_grant");
    let as_jag = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("assertion", id_token.as_str()),
        ("client_id", SECRET_CLIENT),
        ("client_secret", SECRET),
    ];
    bench.token(&as_jag).await.is_refused(400, "invalid_grant");
}

#[tokio::test]
async fn a27_owner_expiry_and_configuration_end_an_agent_at_once() {
    let idp = IdP::start().await;
    let bench = bench_of(&idp, Vec::new(), agents(&idp)).await;
    let token = with_secret(&bench, "deploy", AGENT_SECRET).await.text("access_token");
    let current = Arc::new(RwLock::new(agents_of(agents(&idp))));
    let source = Arc::clone(&current);
    let identity = Identity::new(bench.store.clone(), bench.clock.clone())
        .with_agents(Arc::new(move || Arc::clone(&source.read().unwrap())));
    let good = async || {
        identity.refresh().await.unwrap();
        identity.authenticate(&bearer(&token)).await.is_ok_and(|known| known.is_some())
    };
    let set = |change: &dyn Fn(&mut Value)| {
        let mut list = agents(&idp);
        change(&mut list[0]);
        *current.write().unwrap() = agents_of(list);
    };
    assert!(good().await);
    // Not configured (any more), another owner, expired: each is seen at the next request.
    *current.write().unwrap() = Arc::default();
    assert!(!good().await);
    set(&|agent| agent["owner"] = "bo@corp.example".into());
    assert!(!good().await);
    set(&|agent| agent["expires"] = "2020-01-01T00:00:00Z".into());
    assert!(!good().await);
    set(&|agent| agent["expires"] = "soon".into());
    assert!(!good().await, "what cannot be read has ended");
    set(&|_| ());
    assert!(good().await);
    // A process that knows of no agents believes none.
    assert!(bench.who(&token).await.is_none());
    // The owner leaves.
    assert!(person::deactivate(&bench.store, "ana").await.unwrap());
    assert!(!good().await);
    with_secret(&bench, "deploy", AGENT_SECRET).await.is_refused(400, "invalid_grant");
    // Coming back does not bring old tokens back.
    assert!(person::reactivate(&bench.store, "ana").await.unwrap());
    assert!(!good().await);
    assert_eq!(with_secret(&bench, "deploy", AGENT_SECRET).await.status, 200);
}

#[tokio::test]
async fn a27_no_token_outlives_its_agent() {
    let idp = IdP::start().await;
    let ends = "2026-01-01T00:01:00Z";
    let list = json!([{"id": "deploy", "owner": "ana@corp.example", "expires": ends, "auth": {"client_secret": AGENT_SECRET}}]);
    let bench = bench_of(&idp, Vec::new(), list.clone()).await;
    let answer = with_secret(&bench, "deploy", AGENT_SECRET).await;
    assert_eq!(answer.json["expires_in"].as_i64(), Some(60), "{}", answer.json);
    let list = agents_of(list);
    assert!(who(&bench, &list, &answer.text("access_token")).await.is_some());
    bench.clock.advance_ms(60_000);
    assert!(who(&bench, &list, &answer.text("access_token")).await.is_none());
    with_secret(&bench, "deploy", AGENT_SECRET).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: it has expired");
}

#[tokio::test]
async fn a27_many_owners_and_replicas_hear_of_a_departure() {
    let idp = IdP::start().await;
    let bench = bench_of(&idp, Vec::new(), agents(&idp)).await;
    let token = with_secret(&bench, "deploy", AGENT_SECRET).await.text("access_token");
    let list = agents_of(agents(&idp));
    let replicas: Vec<Identity> = (0..3)
        .map(|_| {
            let list = Arc::clone(&list);
            Identity::new(bench.store.clone(), bench.clock.clone()).with_agents(Arc::new(move || Arc::clone(&list)))
        })
        .collect();
    let headers = bearer(&token);
    for replica in &replicas {
        assert!(replica.authenticate(&headers).await.unwrap().is_some());
    }
    assert!(person::deactivate(&bench.store, "ana").await.unwrap());
    let heard = async {
        for replica in &replicas {
            while replica.authenticate(&headers).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(2), heard).await.expect("within two seconds");
}

#[tokio::test]
async fn a27_an_agent_ends_when_its_owner_left_at_the_provider() {
    use crate::server::fresh::{Again, AtRefresh};
    let idp = IdP::start().await;
    let bench = bench_of(&idp, Vec::new(), agents(&idp)).await;
    let token = with_secret(&bench, "deploy", AGENT_SECRET).await.text("access_token");
    let list = agents_of(agents(&idp));
    assert!(who(&bench, &list, &token).await.is_some());
    let said = Arc::new(Mutex::new(Again::Unknown { since_ms: NOW }));
    let says = Arc::clone(&said);
    let checks = AtRefresh {
        again: Arc::new(move |_| {
            let again = *says.lock().unwrap();
            Box::pin(async move { again })
        }),
        may_enter: Arc::new(|_| true),
    };
    drop(bench.server.clone().with_refresh(checks));
    assert_eq!(with_secret(&bench, "deploy", AGENT_SECRET).await.status, 200, "not to be asked now");
    *said.lock().unwrap() = Again::Unknown { since_ms: NOW - 24 * 3_600_000 - 1 };
    assert_eq!(with_secret(&bench, "deploy", AGENT_SECRET).await.status, 200, "an owner has holidays");
    assert!(who(&bench, &list, &token).await.is_some());
    *said.lock().unwrap() = Again::Ended("the provider ended the sign-in");
    with_secret(&bench, "deploy", AGENT_SECRET).await.is_refused(400, "invalid_grant");
    assert_eq!(bench.last_refusal(), "invalid_grant: its owner may not sign in any more");
    exchange(&bench, &signed(&idp, &job(&idp, "1", &[]))).await.is_refused(400, "invalid_grant");
    assert!(who(&bench, &list, &token).await.is_none(), "what was issued before ends too");
}
