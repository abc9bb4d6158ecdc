//! P5: of secrets only their existence and a version can be read back.

use std::sync::Arc;

use bartizan_catalog::{CompileOptions, ServerSpec, Snapshot};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::gateway::{Gateway, NOW};

fn spec(members: Value) -> Arc<ServerSpec> {
    let mut server = json!({"server_id": "notes", "hostname": "https://notes.example/mcp"});
    server.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let resources = serde_json::from_value(json!({"servers": [server]})).unwrap();
    Arc::clone(&Snapshot::compile(&resources, &CompileOptions::default(), NOW).unwrap().order[0])
}

fn oauth(secret: &str) -> Arc<ServerSpec> {
    let config = json!({"issuer": "https://as.example", "client_id": "c", "client_secret": secret});
    spec(json!({"auth_type": "oauth", "auth_config": config}))
}

#[tokio::test]
async fn p5_a_new_value_raises_the_version() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let replica = gateway.process();
    let count = |accounts: bartizan_accounts::Accounts, spec: Arc<ServerSpec>| async move {
        let summary = accounts.count_secrets(&spec).await.unwrap();
        assert_eq!(accounts.summary(&spec), Some(summary));
        (summary.has_client_secret, summary.client_secret_version)
    };
    let (one, two) = (gateway.accounts.clone(), replica.clone());
    assert!(one.summary(&oauth("planted-1")).is_none());
    let without = spec(json!({"auth_type": "oauth"}));
    assert_eq!(count(one.clone(), without.clone()).await, (false, 0));
    assert_eq!(count(one.clone(), oauth("planted-1")).await, (true, 1));
    // The same value, here, on a replica and after restarts: the same version.
    for accounts in [&one, &two, &gateway.process()] {
        assert_eq!(count(accounts.clone(), oauth("planted-1")).await, (true, 1));
    }
    // Many replicas see the new one at once.
    let all =
        join_all((0..8).map(|n| count(if n % 2 == 0 { one.clone() } else { two.clone() }, oauth("planted-2")))).await;
    assert!(all.iter().all(|summary| *summary == (true, 2)), "{all:?}");
    assert_eq!(count(two.clone(), without).await, (false, 2));
    assert_eq!(count(two.clone(), oauth("planted-2")).await, (true, 2));
    let bearer = spec(json!({"auth_type": "bearer", "auth_credentials": "planted-3"}));
    assert_eq!(count(two, bearer).await, (true, 3));
}

#[tokio::test]
async fn p5_what_is_shown_and_stored_has_no_part_of_a_secret() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let spec = oauth("planted-secret");
    let summary = gateway.accounts.count_secrets(&spec).await.unwrap();
    let shown = serde_json::to_value(summary).unwrap();
    assert_eq!(shown, json!({"has_client_secret": true, "client_secret_version": 1}));
    for text in [format!("{spec:?}"), format!("{summary:?}"), spec.version.to_string()] {
        assert!(!text.contains("planted"), "{text}");
    }
    // A guess cannot be tried against what is in the database: the same value is never the
    // same bytes.
    use bartizan_store::repo::sealed::{self, Key};
    let key = Key { tenant: String::new(), kind: "secret_version".to_owned(), id: "notes".to_owned() };
    let row = sealed::get(&gateway.store, &key).await.unwrap().unwrap();
    let hashed = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"planted-secret");
    for part in [b"planted".as_slice(), hashed.as_ref()] {
        assert!(!row.sealed.windows(part.len()).any(|window| window == part));
    }
}
