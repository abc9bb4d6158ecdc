//! P16, P17: whom a configured client is shown to.

use std::sync::Arc;

use bartizan_catalog::{Credential, ServerSpec};
use serde_json::json;

use crate::fake::Fake;
use crate::gateway::{BROWSER, Gateway, spec, user};

/// Settings as the check of the configuration would not let them through.
pub fn without_issuer(mut spec: Arc<ServerSpec>) -> Arc<ServerSpec> {
    let open = Arc::get_mut(&mut spec).expect("nobody else has it");
    match &mut open.credential {
        Credential::OauthUser(config) => config.issuer = None,
        Credential::ClientCredentials(config)
        | Credential::TokenExchange(config)
        | Credential::EntraObo(config)
        | Credential::IdJag(config) => config.client.issuer = None,
        _ => panic!("there is no issuer"),
    }
    spec
}

#[tokio::test]
async fn p16_a_configured_secret_is_for_the_configured_authorization_server_only() {
    let (fake, other) = (Fake::start().await, Fake::start().await);
    // The server names whomever it likes.
    let mut config = json!({ "issuer": fake.issuer, "client_id": "by-hand", "client_secret": "s3cret" });
    let gateway = Gateway::with(&fake.server, "http://127.0.0.1:7420", &config, &["127.0.0.1"]).await;
    gateway.spec.store(without_issuer(spec(&fake.server, &config)));
    let problem = gateway.accounts.begin(&gateway.spec(), &user("ana"), "/", BROWSER).await.unwrap_err();
    assert!(problem.code == "connect_settings" && problem.text.contains("auth_config.issuer"), "{problem:?}");
    // The setting changes: the secret of the new one does not go to the old one, to revoke.
    fake.set().clients.insert("by-hand".to_owned(), Some("s3cret".to_owned()));
    gateway.spec.store(spec(&fake.server, &config));
    gateway.connect(&fake, "ana").await;
    gateway.token("ana").await;
    config["issuer"] = json!(other.issuer);
    config["client_secret"] = json!("of-the-other");
    gateway.spec.store(spec(&fake.server, &config));
    assert!(gateway.accounts.disconnect(&user("ana"), &gateway.spec().id).await.unwrap());
    assert_eq!(fake.count("/revoke"), 0);
    assert!(fake.set().asked.iter().all(|(_, body)| !body.contains("of-the-other")));
}

#[test]
fn p16_who_a_configured_client_is_shown_to() {
    let config = |issuer: Option<&str>, secret: Option<&str>| bartizan_catalog::OauthConfig {
        issuer: issuer.map(str::to_owned),
        client_id: Some("c".to_owned()),
        client_secret: secret.map(|secret| bartizan_model::Secret::new(secret.to_owned())),
        client_key: None,
        client_key_id: None,
        scopes: Vec::new(),
        shared: false,
        admin_groups: Vec::new(),
    };
    let (wanted, other) = ("https://as.example", "https://evil.example");
    let shown = |config: bartizan_catalog::OauthConfig, issuer| bartizan_accounts::trusted(&config, issuer).is_ok();
    assert!(shown(config(Some(wanted), Some("s")), wanted) && shown(config(None, None), other));
    for bad in [config(Some(wanted), Some("s")), config(None, Some("s")), config(Some(wanted), None)] {
        assert!(!shown(bad, other));
    }
    assert!(!shown(config(Some(wanted), Some("s")), "https://as.example/"), "byte for byte");
}
