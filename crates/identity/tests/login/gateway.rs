//! The side that signs people in, and a browser.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bartizan_config::resources::IdentityProvider;
use bartizan_config::settings;
use bartizan_egress::Egress;
use bartizan_identity::{
    Ask, Begin, BrowserSession, DemoUser, IdentityEvent, Login, LoginDeps, PageProblem, ReturnTo, SignedIn,
};
use bartizan_model::{Clock, ManualClock};
use bartizan_oauth::params::Params;
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use http::{HeaderMap, HeaderValue};

use crate::provider::{CLIENT, Provider, SECRET};

pub struct Gateway {
    pub login: Login,
    pub store: Store,
    pub clock: Arc<ManualClock>,
    pub providers: Arc<ArcSwap<Vec<IdentityProvider>>>,
    pub events: Arc<Mutex<Vec<IdentityEvent>>>,
    pub vault: Vault,
    /// Last part of the path to come back at, by `state`: browsers follow the redirect URI.
    paths: Mutex<HashMap<String, String>>,
    peers: AtomicU32,
}

pub fn config(id: &str, provider: &Provider, domains: &[&str]) -> IdentityProvider {
    let text = serde_json::json!({
        "id": id, "issuer": provider.issuer, "client_id": CLIENT, "client_secret": SECRET, "email_domains": domains,
    });
    serde_json::from_value(text).unwrap()
}

pub async fn gateway(public_url: &str, providers: Vec<IdentityProvider>, demo: &[&str]) -> Gateway {
    let clock = Arc::new(ManualClock::at(crate::NOW_S * 1000));
    let store = Store::open(&StoreUrl::Memory, clock.clone()).await.unwrap();
    let providers = Arc::new(ArcSwap::from_pointee(providers));
    let events: Arc<Mutex<Vec<IdentityEvent>>> = Arc::default();
    let outgoing = settings::Egress { private_allow: vec!["127.0.0.1".to_owned()], ..Default::default() };
    let user =
        |email: &&str| DemoUser { email: (*email).to_owned(), name: "Demo".to_owned(), groups: vec!["eng".to_owned()] };
    let vault = Vault::new(KeyRing::ephemeral().unwrap()).unwrap();
    let deps = LoginDeps {
        store: store.clone(),
        vault: vault.clone(),
        egress: Egress::new(&outgoing, Duration::from_secs(5)).unwrap(),
        clock: clock.clone() as Arc<dyn Clock>,
        public_url: public_url.to_owned(),
        providers: {
            let cell = Arc::clone(&providers);
            Arc::new(move || cell.load_full())
        },
        demo_users: demo.iter().map(user).collect(),
        break_glass: None,
        lifetimes: settings::Lifetimes::default(),
        record: {
            let events = Arc::clone(&events);
            Arc::new(move |event| events.lock().unwrap().push(event))
        },
    };
    let (paths, peers) = (Mutex::default(), AtomicU32::new(0x0a00_0000));
    Gateway { login: Login::new(deps), store, clock, providers, events, vault, paths, peers }
}

/// With one provider that speaks for everybody.
pub async fn simple() -> (Gateway, Provider) {
    let provider = Provider::start().await;
    let gateway = gateway("https://gate.example", vec![config("corp", &provider, &[])], &[]).await;
    (gateway, provider)
}

/// Keeps cookies.
#[derive(Clone, Default)]
pub struct Browser(pub BTreeMap<String, String>);

impl Browser {
    pub fn take(&mut self, cookies: &[HeaderValue]) {
        for cookie in cookies {
            let text = cookie.to_str().unwrap();
            let (pair, attributes) = text.split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    pub fn headers(&self) -> HeaderMap {
        let text = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let mut headers = HeaderMap::new();
        if !text.is_empty() {
            headers.insert("cookie", HeaderValue::from_str(&text).unwrap());
        }
        headers
    }
}

impl Gateway {
    /// Another address each time, so that nothing is limited that is not meant to be.
    pub fn peer(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.peers.fetch_add(1, Ordering::Relaxed)))
    }

    /// Begins in a browser; the URL at the provider.
    pub async fn begin(&self, browser: &mut Browser) -> String {
        self.begin_with(browser, None, Ask::default()).await
    }

    pub async fn begin_with(&self, browser: &mut Browser, email: Option<&str>, ask: Ask) -> String {
        self.begin_for(browser, ReturnTo::path("/account"), email, ask).await
    }

    pub async fn begin_for(&self, browser: &mut Browser, to: ReturnTo, email: Option<&str>, ask: Ask) -> String {
        match self.login.from_peer(self.peer()).begin(to, email, ask).await {
            Begin::Redirect { url, set_cookie } => {
                browser.take(&[set_cookie]);
                let (state, uri) = (param(&url, "state").unwrap(), param(&url, "redirect_uri").unwrap());
                let last = uri.split_once("/login/callback").unwrap().1.trim_start_matches('/').to_owned();
                self.paths.lock().unwrap().insert(state, last);
                url
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn callback(&self, browser: &mut Browser, query: &str) -> Result<SignedIn, PageProblem> {
        let state = param(&format!("x?{query}"), "state").unwrap_or_default();
        let path = self.paths.lock().unwrap().get(&state).cloned().filter(|path| !path.is_empty());
        self.callback_at(browser, self.peer(), path.as_deref(), query).await
    }

    pub async fn callback_at(
        &self,
        browser: &mut Browser,
        peer: IpAddr,
        path: Option<&str>,
        query: &str,
    ) -> Result<SignedIn, PageProblem> {
        let back = self.login.from_peer(peer).callback(path, query, &browser.headers()).await;
        browser.take(match &back {
            Ok(signed_in) => &signed_in.set_cookies,
            Err(problem) => &problem.set_cookies,
        });
        back
    }

    /// All of it.
    pub async fn sign_in(&self, browser: &mut Browser, provider: &Provider) -> Result<SignedIn, PageProblem> {
        let url = self.begin(browser).await;
        self.callback(browser, &provider.approve(&url)).await
    }

    /// The code of the refusal of all of it, `ok` for none.
    pub async fn outcome(&self, provider: &Provider) -> String {
        match self.sign_in(&mut Browser::default(), provider).await {
            Ok(_) => "ok".to_owned(),
            Err(problem) => problem.code.to_owned(),
        }
    }

    pub async fn current(&self, browser: &Browser) -> Option<BrowserSession> {
        self.login.sessions().current(&browser.headers()).await
    }
}

pub fn param(url: &str, name: &str) -> Option<String> {
    Params::parse(url.split_once('?').unwrap().1.as_bytes()).unwrap().get(name).map(str::to_owned)
}
