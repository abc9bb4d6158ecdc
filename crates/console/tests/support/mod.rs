//! The pages over the real authorization server and login, with demo people, in a store of
//! their own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use bartizan_config::settings::{Egress as EgressSettings, Lifetimes, SignIn};
use bartizan_console::{Brand, ConsoleDeps, HomeAsk, PortalView, router};
use bartizan_egress::Egress;
use bartizan_identity::{AuthorizationServer, AuthorizationServerDeps, DemoUser, Login, LoginDeps, Recorder};
use bartizan_model::SystemClock;
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use tempfile::TempDir;

/// The router at `url`, the events so far, and the folder of the store.
pub(crate) async fn app(url: &str) -> (Router, Arc<Mutex<Vec<String>>>, TempDir) {
    let clock = Arc::new(SystemClock);
    let dir = TempDir::new().expect("a folder");
    let store = Store::open(&StoreUrl::Sqlite(dir.path().join("store.db")), clock.clone()).await.expect("a store");
    let vault = Vault::new(KeyRing::ephemeral().expect("keys")).expect("a vault");
    let egress = Egress::new(&EgressSettings::default(), Duration::from_secs(2)).expect("a way out");
    let events: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&events);
    let record: Recorder = Arc::new(move |event| {
        let line = format!("{} {}", event.action.as_str(), event.ok);
        sink.lock().expect("no panic").push(line);
    });
    let endpoint = format!("{url}/mcp");
    let resource = endpoint.clone();
    let server = AuthorizationServer::new(AuthorizationServerDeps {
        store: store.clone(),
        vault: vault.clone(),
        documents: egress.clone(),
        clock: clock.clone(),
        issuer: url.to_owned(),
        settings: Arc::new(SignIn::default()),
        clients: Arc::new(Arc::default),
        resources: Arc::new(move |url| url == resource),
        record: Arc::clone(&record),
    });
    let login = Login::new(LoginDeps {
        store,
        vault,
        egress,
        clock: clock.clone(),
        public_url: url.to_owned(),
        providers: Arc::new(Arc::default),
        demo_users: people(),
        break_glass: None,
        lifetimes: Lifetimes::default(),
        record,
    });
    let home = Arc::new(move |ask: HomeAsk<'_>| {
        ask.portal.is_none().then(|| PortalView {
            id: "default".into(),
            name: String::new(),
            description: String::new(),
            endpoint: endpoint.clone(),
            own_host: false,
        })
    });
    let sessions = login.sessions();
    let jwks: bartizan_console::KeySource = Arc::new(|| Box::pin(async { None }));
    let (public_url, brand) = (url.to_owned(), Brand::default());
    (
        router(ConsoleDeps {
            server,
            login,
            sessions,
            home,
            clock,
            public_url,
            brand,
            jwks,
            upstream: None,
            selection: None,
            approvals: None,
        }),
        events,
        dir,
    )
}

fn people() -> Vec<DemoUser> {
    let person = |email: &str, name: &str, group: &str| DemoUser {
        email: email.into(),
        name: name.into(),
        groups: vec![group.into()],
    };
    vec![person("ada@example.com", "Ada", "engineering"), person("eve@example.com", "Eve", "finance")]
}
