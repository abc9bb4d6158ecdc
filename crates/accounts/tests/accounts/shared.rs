//! P19: one account for all, which an administrator connects.

use std::sync::Arc;

use bartizan_accounts::{AccountError, Accounts};
use bartizan_catalog::{CompileOptions, ServerSpec, Snapshot};
use bartizan_identity::Action;
use bartizan_model::{Principal, PrincipalKind};
use serde_json::json;

use crate::fake::Fake;
use crate::gateway::{BROWSER, Gateway, NOW, user};

fn spec(url: &str) -> Arc<ServerSpec> {
    let server = json!({"server_id": "notes", "hostname": url, "auth_type": "oauth", "on_behalf": false,
        "auth_config": {"admin_groups": ["platform"]}});
    let resources = serde_json::from_value(json!({"servers": [server]})).unwrap();
    Arc::clone(&Snapshot::compile(&resources, &CompileOptions::default(), NOW).unwrap().order[0])
}

fn admin(name: &str) -> Principal {
    Principal::new(PrincipalKind::User, format!("{name}@corp.example"), ["platform".into()])
}

#[tokio::test]
async fn p19_one_account_for_all_that_only_administrators_connect() {
    let fake = Fake::start().await;
    let gateway = Gateway::new(&fake).await;
    let spec = spec(&fake.server);
    gateway.spec.store(Arc::clone(&spec));
    let accounts = &gateway.accounts;
    let robot = Principal::new(PrincipalKind::Service, "robot", ["platform".into()]);

    // Only those who can connect it are asked to.
    assert_eq!(accounts.ready(&spec, &admin("root")).await.unwrap_err(), AccountError::LoginNeeded);
    for caller in [user("ana"), robot.clone()] {
        let refused = accounts.ready(&spec, &caller).await.unwrap_err();
        assert!(
            matches!(&refused, AccountError::Misconfigured(why) if why.contains("nobody has connected")),
            "{refused}"
        );
        assert!(!Accounts::may_connect(&spec, &caller));
        assert!(accounts.begin(&spec, &caller, "/", BROWSER).await.is_err());
        assert!(!accounts.disconnect(&caller, &spec.id).await.unwrap());
    }
    assert!(fake.set().registrations.is_empty(), "nobody got as far as the authorization server");

    let url = accounts.begin(&spec, &admin("root"), "/account", BROWSER).await.unwrap();
    let query = fake.approve(&url, "company");
    // The answer is good in the browser of the one who began, and for nobody else.
    assert!(accounts.finish(&query, &admin("other"), BROWSER).await.is_err());
    accounts.finish(&query, &admin("root"), BROWSER).await.unwrap();

    let mut tokens = std::collections::HashSet::new();
    for caller in [user("ana"), user("bob"), robot, admin("root"), Principal::anonymous()] {
        let ready = accounts.authorize(&spec, &caller).await.unwrap();
        assert_eq!(&*ready.identity, "oauth_user:shared");
        tokens.insert(ready.header.to_str().unwrap().to_owned());
    }
    assert_eq!(tokens.len(), 1, "one upstream identity");
    let connected = gateway.events.lock().unwrap().iter().find(|event| event.action == Action::Connect).cloned();
    assert_eq!(connected.unwrap().person.as_deref(), Some("root@corp.example"), "the record names the human");

    // Nobody else takes it away.
    assert!(!accounts.disconnect(&user("ana"), &spec.id).await.unwrap());
    accounts.authorize(&spec, &user("bob")).await.unwrap();
    assert!(accounts.disconnect(&admin("other"), &spec.id).await.unwrap());
    assert!(accounts.authorize(&spec, &user("bob")).await.is_err());
    assert_eq!(fake.set().revoked.len(), 2, "and it is revoked upstream");
}
