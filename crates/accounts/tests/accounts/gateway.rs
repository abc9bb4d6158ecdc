//! The side under test: processes over one store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_accounts::{Accounts, AccountsDeps};
use bartizan_catalog::{CompileOptions, ServerSpec, Snapshot};
use bartizan_config::settings;
use bartizan_egress::Egress;
use bartizan_identity::IdentityEvent;
use bartizan_model::{Clock, ManualClock, Principal, PrincipalKind, ServerId};
use bartizan_store::repo::browser_session::{self, BrowserSession};
use bartizan_store::repo::person;
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use serde_json::{Value, json};

use crate::fake::Fake;

pub const NOW: i64 = 1_767_225_600_000;
pub const BROWSER: &str = "browser-session";

pub struct Gateway {
    pub accounts: Accounts,
    pub store: Store,
    pub vault: Vault,
    pub clock: Arc<ManualClock>,
    pub spec: Arc<ArcSwap<ServerSpec>>,
    pub events: Arc<Mutex<Vec<IdentityEvent>>>,
    pub public_url: String,
    pub allow: Vec<String>,
}

pub fn spec(url: &str, config: &Value) -> Arc<ServerSpec> {
    let mut server = json!({ "server_id": "notes", "hostname": url, "auth_type": "oauth" });
    if !config.is_null() {
        server["auth_config"] = config.clone();
    }
    let resources = serde_json::from_value(json!({ "servers": [server] })).unwrap();
    let snapshot = Snapshot::compile(&resources, &CompileOptions::default(), NOW).unwrap();
    Arc::clone(&snapshot.order[0])
}

pub fn user(name: &str) -> Principal {
    Principal::new(PrincipalKind::User, format!("{name}@corp.example"), [])
}

/// Whose the browser is does not matter here: each connection under way names its person.
pub const PERSON: &str = "someone";

/// Somebody signs in here with the browser.
pub async fn sign_in(store: &Store) {
    let new = person::SignIn {
        new_id: PERSON,
        issuer: "https://idp.example",
        subject: PERSON,
        provider: "corp",
        email: "someone@corp.example",
        name: PERSON,
        groups_json: "[]",
    };
    person::sign_in(store, &new).await.unwrap().unwrap();
    let session = BrowserSession {
        id: BROWSER.to_owned(),
        provider: "corp".to_owned(),
        sealed: b"sealed".to_vec(),
        created_ms: NOW,
        expires_ms: i64::MAX,
    };
    browser_session::insert(store, b"cookie", PERSON, &session).await.unwrap();
}

impl Gateway {
    pub async fn new(fake: &Fake) -> Self {
        Self::with(&fake.server, "http://127.0.0.1:7420", &Value::Null, &["127.0.0.1"]).await
    }

    pub async fn with(server: &str, public_url: &str, config: &Value, allow: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let store = Store::open(&StoreUrl::Memory, clock.clone()).await.unwrap();
        Self::over(store, clock, server, public_url, config, allow).await
    }

    pub async fn over(
        store: Store,
        clock: Arc<ManualClock>,
        server: &str,
        public_url: &str,
        config: &Value,
        allow: &[&str],
    ) -> Self {
        sign_in(&store).await;
        let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
        let spec = Arc::new(ArcSwap::new(spec(server, config)));
        let events: Arc<Mutex<Vec<IdentityEvent>>> = Arc::default();
        let allow: Vec<String> = allow.iter().map(|text| (*text).to_owned()).collect();
        let public_url = public_url.to_owned();
        let accounts = accounts(&store, &vault, &clock, &spec, &events, &public_url, &allow);
        Self { accounts, store, vault, clock, spec, events, public_url, allow }
    }

    /// Another process over the same store.
    pub fn process(&self) -> Accounts {
        accounts(&self.store, &self.vault, &self.clock, &self.spec, &self.events, &self.public_url, &self.allow)
    }

    /// The same over a connection of its own.
    pub fn process_over(&self, store: &Store) -> Accounts {
        accounts(store, &self.vault, &self.clock, &self.spec, &self.events, &self.public_url, &self.allow)
    }

    pub fn spec(&self) -> Arc<ServerSpec> {
        self.spec.load_full()
    }

    /// The whole way of a person who agrees.
    pub async fn connect(&self, fake: &Fake, name: &str) {
        let who = user(name);
        let url = self.accounts.begin(&self.spec(), &who, "/account", BROWSER).await.unwrap();
        let query = fake.approve(&url, name);
        let connected = self.accounts.finish(&query, &who, BROWSER).await.unwrap();
        assert_eq!((connected.server.as_str(), connected.return_to.as_str()), ("notes", "/account"));
    }

    /// The token that would be sent.
    pub async fn token(&self, name: &str) -> String {
        token(&self.accounts, &self.spec(), name).await
    }
}

pub async fn token(accounts: &Accounts, spec: &ServerSpec, name: &str) -> String {
    let authorization = accounts.authorize(spec, &user(name)).await.unwrap();
    assert!(authorization.header.is_sensitive());
    assert_eq!(&*authorization.identity, format!("oauth_user:{name}@corp.example"));
    authorization.header.to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned()
}

fn accounts(
    store: &Store,
    vault: &Vault,
    clock: &Arc<ManualClock>,
    spec: &Arc<ArcSwap<ServerSpec>>,
    events: &Arc<Mutex<Vec<IdentityEvent>>>,
    public_url: &str,
    allow: &[String],
) -> Accounts {
    let outgoing = settings::Egress { private_allow: allow.to_vec(), ..Default::default() };
    let (spec, events) = (Arc::clone(spec), Arc::clone(events));
    Accounts::new(AccountsDeps {
        store: store.clone(),
        vault: vault.clone(),
        egress: Egress::new(&outgoing, Duration::from_secs(5)).unwrap(),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        public_url: public_url.to_owned(),
        servers: Arc::new(move |id: &ServerId| (id.as_str() == "notes").then(|| spec.load_full())),
        record: Arc::new(move |event| events.lock().unwrap().push(event)),
    })
}
