//! P17, P19: whole calls with every strategy. What arrives at the server, and that nothing of
//! it is anywhere else.

use std::sync::Arc;
use std::time::Duration;

use bartizan_accounts::{Accounts, AccountsDeps};
use bartizan_assert::{Signer, SignerDeps};
use bartizan_config::settings::Egress as EgressSettings;
use bartizan_egress::Egress;
use bartizan_model::{Clock, Principal, PrincipalKind, ReasonCode, Secret, ServerId};
use bartizan_oauth::jwt::SigningAlg;
use bartizan_store::repo::sealed::Key;
use bartizan_store::repo::upstream_account;
use bartizan_vault::{KeyRing, Records, Vault};
use serde_json::{Value, json};

use super::bench::{Bench, NOW_MS, legacy, modern};
use super::mock::Speaks;

const BOTH: &[(&str, Speaks)] = &[("old", Speaks::Legacy), ("new", Speaks::Modern)];

struct Office {
    bench: Bench,
    accounts: Accounts,
    records: Records,
}

impl Office {
    async fn open(members: Value) -> Self {
        let bench = Bench::with(BOTH, |resources| {
            for server in resources["servers"].as_array_mut().unwrap() {
                server.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            }
        })
        .await;
        let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
        let egress = EgressSettings { private_allow: vec!["127.0.0.1".into()], ..EgressSettings::default() };
        let snapshot = Arc::clone(&bench.snapshot);
        let signer = Signer::new(SignerDeps {
            store: bench.store.clone(),
            vault: vault.clone(),
            clock: Arc::clone(&bench.clock) as Arc<dyn Clock>,
            public_url: "https://gate.example".to_owned(),
            alg: SigningAlg::Es256,
        });
        let accounts = Accounts::new(AccountsDeps {
            store: bench.store.clone(),
            vault: vault.clone(),
            egress: Egress::new(&egress, Duration::from_secs(5)).unwrap(),
            clock: Arc::clone(&bench.clock) as Arc<dyn Clock>,
            public_url: "https://gate.example".to_owned(),
            servers: Arc::new(move |id: &ServerId| snapshot.load().servers.get(id).cloned()),
            record: Arc::new(|_| {}),
        })
        .with_signer(signer);
        let _ = bench.gate.clone().with_accounts(accounts.clone());
        let records = Records::new(vault, bench.store.clone());
        Self { bench, accounts, records }
    }

    async fn pat(&self, server: &str, who: &str, token: &str) {
        let spec = self.bench.snapshot.load().servers[&ServerId::parse(server).unwrap()].clone();
        let who = Principal::new(PrincipalKind::User, who, []);
        self.accounts.store_pat(&spec, &who, Secret::new(token.to_owned())).await.unwrap();
    }

    /// Everything that the server was shown, by request.
    fn heads(&self, server: &str) -> Vec<String> {
        self.bench.mock(server).state.heads.lock().unwrap().clone()
    }

    /// Lists and calls of both people in both eras; returns all that clients saw.
    async fn use_all(&self) -> String {
        let mut seen = String::new();
        for from in [modern("alice"), legacy("bob"), modern("bob"), legacy("alice")] {
            seen += &self.bench.list(&from, "tools/list").await.unwrap().to_string();
            for server in ["old", "new"] {
                let reply = self.bench.tool(&from, &format!("{server}_echo"), json!({"v": from.user})).await;
                assert_eq!(reply.text(), json!({"v": from.user}).to_string());
                seen += &reply.json().to_string();
            }
            seen += &self.bench.tool(&from, "portal_list_servers", json!({})).await.text();
        }
        seen
    }

    /// The secret is with the servers and nowhere else.
    async fn is_secret(&self, seen: &str, secrets: &[&str]) {
        let record = self.bench.whole_record().await;
        for secret in secrets {
            assert!(!seen.contains(secret), "a client saw {secret}");
            assert!(!record.contains(secret), "{secret} is on record");
        }
    }
}

#[tokio::test]
async fn p17_typed_tokens_reach_the_server_and_nothing_else() {
    let office = Office::open(json!({"auth_type": "pat_user", "auth_config": {"header": "X-Own-Token"}})).await;
    let params = json!({"name": "old_echo", "arguments": {"v": "1"}});
    for server in ["old", "new"] {
        for who in ["alice", "bob"] {
            office.pat(server, who, &format!("pat-{server}-{who}")).await;
        }
    }
    let seen = office.use_all().await;
    for server in ["old", "new"] {
        let heads = office.heads(server);
        assert!(heads.len() > 8);
        for who in ["alice", "bob"] {
            let own = format!("(\"x-own-token\", \"pat-{server}-{who}\")");
            assert!(heads.iter().any(|head| head.contains(&own)), "{who}");
        }
        let one = |head: &&String| head.matches("pat-").count() != 1;
        assert_eq!(heads.iter().filter(one).count(), 0, "exactly one on every request");
        // With whose token a call came is said by the call itself.
        let asked = office.bench.mock(server).state.seen.lock().unwrap().clone();
        assert!(asked.iter().any(|(method, ..)| method == "tools/call"));
    }
    office.is_secret(&seen, &["pat-old", "pat-new"]).await;
    let events = office.bench.events_of("call").await;
    assert!(events.iter().any(|event| event["upstream_identity"] == "pat_user:alice"));

    // Whoever has typed none is sent to the page.
    let carol = modern("carol").able(json!({}));
    assert!(office.bench.call(&carol, "tools/call", params.clone()).await.is_not_found());
    // A refused one is asked for again, in the way the client declared.
    office.bench.tool(&modern("alice").able(json!({})), "old_echo", json!({"v": "1"})).await.json();
    *office.bench.mock("old").state.tokens.lock().unwrap() = Some(["nothing".to_owned()].into());
    let refused = office.bench.tool(&modern("alice").able(json!({})), "old_echo", json!({"v": "2"})).await;
    let refusal = refused.refusal();
    assert_eq!(refusal.code, ReasonCode::LoginRequired);
    assert_eq!(refusal.url.as_deref(), Some("https://gate.example/connect/old"));
    let asked = office.bench.call(&modern("alice"), "tools/call", params.clone()).await.json();
    assert_eq!(asked["inputRequests"]["login"]["params"]["url"], "https://gate.example/connect/old");
}

#[tokio::test]
async fn p17_a13_assertions_name_the_caller_on_every_request() {
    let office = Office::open(json!({"auth_type": "assertion"})).await;
    let seen = office.use_all().await;
    let mut all = std::collections::HashSet::new();
    for server in ["old", "new"] {
        for head in office.heads(server) {
            let jwt = head.split("(\"cf-access-jwt-assertion\", \"").nth(1).expect("one on every request");
            let jwt = jwt.split('"').next().unwrap().to_owned();
            assert!(!seen.contains(&jwt));
            assert!(all.insert(jwt), "never the same twice");
        }
    }
    let record = office.bench.whole_record().await;
    assert!(all.iter().all(|jwt| !record.contains(jwt.as_str())));
    let events = office.bench.events_of("call").await;
    assert!(events.iter().any(|event| event["upstream_identity"] == "assertion:bob"));
}

#[tokio::test]
async fn p17_aws_signatures_are_on_every_request() {
    let config = json!({"service": "bedrock-agentcore", "region": "eu-west-1", "access_key_id": "AKIDEXAMPLE",
        "secret_access_key": "planted-key", "session_token": "planted-session"});
    let office = Office::open(json!({"auth_type": "aws_sigv4", "auth_config": config})).await;
    let seen = office.use_all().await;
    for server in ["old", "new"] {
        let heads = office.heads(server);
        assert!(heads.iter().all(|head| head.contains("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
            && head.contains("(\"x-amz-security-token\", \"planted-session\")")
            && !head.contains("planted-key")));
    }
    office.is_secret(&seen, &["planted-", "AKIDEXAMPLE", "AWS4"]).await;
}

#[tokio::test]
async fn p19_two_people_one_upstream_identity() {
    let config = json!({"admin_groups": ["platform"]});
    let members = json!({"auth_type": "oauth", "on_behalf": false, "auth_config": config});
    let office = Office::open(members).await;
    // Nobody but an administrator is asked to connect it.
    let early = office.bench.list(&modern("alice"), "tools/list").await.unwrap();
    assert!(!early.to_string().contains("connect/"), "{early}");
    for server in ["old", "new"] {
        let mock = office.bench.mock(server);
        let stored = json!({
            "access": format!("shared-{server}"), "refresh": null, "issued_ms": NOW_MS - 3_600_000, "expires_ms": null,
            "issuer": "https://as.example", "server_url": mock.url, "resource": mock.url,
            "client_kind": "registered", "client_id": "c", "scopes": "", "connected_ms": NOW_MS,
        });
        let id = upstream_account::name("shared", server);
        let key = Key { tenant: String::new(), kind: "upstream_token".to_owned(), id };
        office.records.put(&key, 0, stored.to_string().as_bytes()).await.unwrap();
    }
    office.bench.clock.advance_ms(60_000);
    let seen = office.use_all().await;
    for server in ["old", "new"] {
        let heads = office.heads(server);
        let own = format!("(\"authorization\", \"Bearer shared-{server}\")");
        assert!(heads.iter().all(|head| head.contains(&own)), "one identity");
        let lists = office.bench.mock(server).state.seen.lock().unwrap().clone();
        let lists = lists.iter().filter(|(method, ..)| method == "tools/list").count();
        // One for each declaration of capabilities; the modern server calls its lists private.
        assert!(lists <= 2 || server == "new", "lists are for all, not for each: {lists}");
    }
    office.is_secret(&seen, &["shared-old", "shared-new"]).await;
    let record = office.bench.whole_record().await;
    assert!(record.contains("user:alice") && record.contains("user:bob"), "the record names the human");
    let events = office.bench.events_of("call").await;
    let upstream = events.iter().filter(|event| event["server"].is_string());
    let identities: std::collections::HashSet<String> =
        upstream.map(|event| event["upstream_identity"].to_string()).collect();
    assert_eq!(identities, ["\"oauth_user:shared\"".to_owned()].into());
}
