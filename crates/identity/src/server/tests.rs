//! The authorization server against clients, thieves and nuisances.

mod agents;
mod authorize;
mod code;
mod documents;
mod foreign;
mod id_jag;
mod keys;
mod record;
mod refresh;
mod register;
mod tokens;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};

use bartizan_config::{resources, settings};
use bartizan_model::ManualClock;
use bartizan_oauth::params::{Builder, Params};
use bartizan_oauth::pkce::challenge_of;
use bartizan_store::repo::{browser_session, person};
use bartizan_store::{Store, StoreUrl};
use bartizan_vault::{KeyRing, Vault};
use bytes::Bytes;
use http::{HeaderMap, Response};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::event::IdentityEvent;
use crate::facts::KeptFacts;
use crate::login::{BrowserSession, Person};
use crate::{Authenticated, Identity};

const NOW: i64 = 1_767_225_600_000;
const ISSUER: &str = "https://gw.example";
const RESOURCE: &str = "https://gw.example/mcp";
const OTHER_RESOURCE: &str = "https://gw.example/portals/other/mcp";
const CALLBACK: &str = "http://127.0.0.1:4711/cb";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// Configured, and without a secret.
const PUBLIC_CLIENT: &str = "desk-tool";
const SECRET_CLIENT: &str = "back-office";
const SECRET: &str = "s3cret: +%&=";

struct Bench {
    server: AuthorizationServer,
    store: Store,
    clock: Arc<ManualClock>,
    events: Arc<Mutex<Vec<IdentityEvent>>>,
    session: BrowserSession,
    dir: TempDir,
}

async fn bench() -> Bench {
    bench_with(SignIn::default(), egress(&settings::Egress::default())).await
}

fn egress(settings: &settings::Egress) -> Egress {
    Egress::new(settings, Duration::from_secs(2)).unwrap()
}

async fn bench_with(settings: SignIn, egress: Egress) -> Bench {
    let clock = Arc::new(ManualClock::at(NOW));
    let dir = TempDir::new().unwrap();
    let store = Store::open(&StoreUrl::Sqlite(dir.path().join("store.db")), clock.clone()).await.unwrap();
    let events: Arc<Mutex<Vec<IdentityEvent>>> = Arc::default();
    let sink = Arc::clone(&events);
    let secret = resources::Client {
        client_id: SECRET_CLIENT.to_owned(),
        name: "Back office".to_owned(),
        redirect_uris: vec!["https://office.example/cb".to_owned()],
        client_secret: Some(SECRET.to_owned()),
        jwks: None,
    };
    let public = resources::Client {
        client_id: PUBLIC_CLIENT.to_owned(),
        name: "Desk tool".to_owned(),
        redirect_uris: vec![CALLBACK.to_owned(), "https://desk.example/cb".to_owned()],
        client_secret: None,
        jwks: None,
    };
    let clients = Arc::new(vec![secret, public]);
    let server = AuthorizationServer::new(AuthorizationServerDeps {
        store: store.clone(),
        vault: Vault::new(KeyRing::ephemeral().unwrap()).unwrap(),
        documents: egress,
        clock: clock.clone(),
        issuer: ISSUER.to_owned(),
        settings: Arc::new(settings),
        clients: Arc::new(move || Arc::clone(&clients)),
        resources: Arc::new(|url| url == RESOURCE || url == OTHER_RESOURCE),
        record: Arc::new(move |event| sink.lock().unwrap().push(event)),
    });
    let session = sign_in(&store, "ana", "session-of-ana").await;
    Bench { server, store, clock, events, session, dir }
}

/// A person in the store and her browser session.
async fn sign_in(store: &Store, name: &str, session: &str) -> BrowserSession {
    let email = format!("{name}@corp.example");
    let new = person::SignIn {
        new_id: name,
        issuer: "https://idp.example",
        subject: name,
        provider: "idp",
        email: &email,
        name,
        groups_json: r#"["eng"]"#,
    };
    let person = person::sign_in(store, &new).await.unwrap().unwrap();
    let row = browser_session::BrowserSession {
        id: session.to_owned(),
        provider: "idp".to_owned(),
        sealed: b"sealed".to_vec(),
        created_ms: NOW,
        expires_ms: NOW + 3_600_000,
    };
    browser_session::insert(store, session.as_bytes(), &person.id, &row).await.unwrap();
    BrowserSession {
        id: session.to_owned(),
        person: Arc::new(Person::try_from(person).unwrap()),
        auth_time_ms: NOW,
        amr: vec!["pwd".to_owned()],
        acr: None,
        kept: KeptFacts::default(),
        provider: "idp".to_owned(),
        created_ms: NOW,
        expires_ms: NOW + 3_600_000,
    }
}

/// An answer as a client sees it.
struct Answer {
    status: u16,
    headers: HeaderMap,
    json: Value,
}

impl Answer {
    fn of(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        assert_eq!(parts.headers["cache-control"], "no-store");
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Self { status: parts.status.as_u16(), headers: parts.headers, json }
    }

    fn error(&self) -> &str {
        self.json["error"].as_str().unwrap_or("no error")
    }

    fn text(&self, name: &str) -> String {
        self.json[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.json)).to_owned()
    }

    #[track_caller]
    fn is_refused(&self, status: u16, error: &str) {
        assert_eq!((self.status, self.error()), (status, error), "{}", self.json);
        assert!(self.json.get("access_token").is_none());
    }
}

fn form_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/x-www-form-urlencoded".parse().unwrap());
    headers
}

fn form_of(pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(Builder::new(), |form, (name, value)| form.add(name, value)).finish()
}

impl Bench {
    async fn register(&self, redirect: &str) -> String {
        let body = serde_json::json!({ "client_name": "Inspector", "redirect_uris": [redirect] }).to_string();
        let answer = Answer::of(self.server.register(PEER, body.into()).await);
        assert_eq!(answer.status, 201, "{}", answer.json);
        answer.text("client_id")
    }

    async fn token(&self, pairs: &[(&str, &str)]) -> Answer {
        Answer::of(self.server.token(&form_headers(), PEER, form_of(pairs).into()).await)
    }

    /// The whole way of a browser: request, consent, code.
    async fn code(&self, client: &str) -> String {
        self.code_by(&request(client), &self.session).await
    }

    async fn code_by(&self, query: &str, session: &BrowserSession) -> String {
        let Step::SignIn { transaction } = self.server.authorize(query, None).await else { panic!("no sign-in") };
        let to = match self.server.resume(&transaction, session).await {
            Step::Consent(view) => match self.server.decide(&view.transaction, session, true).await {
                Step::Redirect(to) => to,
                other => panic!("{other:?}"),
            },
            Step::Redirect(to) => to,
            other => panic!("{other:?}"),
        };
        parameters(&to).get("code").unwrap().to_owned()
    }

    async fn redeem(&self, client: &str, code: &str) -> Answer {
        self.token(&redemption(client, code)).await
    }

    async fn refresh(&self, client: &str, token: &str) -> Answer {
        self.token(&[("grant_type", "refresh_token"), ("client_id", client), ("refresh_token", token)]).await
    }

    /// A client with its first tokens.
    async fn connected(&self) -> (String, Answer) {
        let client = self.register(CALLBACK).await;
        let answer = self.redeem(&client, &self.code(&client).await).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        (client, answer)
    }

    /// What another process thinks of an access token: it asks the database.
    async fn who(&self, access: &str) -> Option<Authenticated> {
        let identity = Identity::new(self.store.clone(), self.clock.clone());
        identity.authenticate(&bearer(access)).await.ok().flatten()
    }

    fn saw(&self, action: Action, ok: bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| event.action == action && event.ok == ok).count()
    }
}

fn bearer(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
    headers
}

fn redemption<'a>(client: &'a str, code: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("grant_type", "authorization_code"),
        ("client_id", client),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
        ("resource", RESOURCE),
    ]
}

/// The parameters of a good authorization request.
fn asked(client: &str) -> Vec<(String, String)> {
    [
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", CALLBACK),
        ("code_challenge", &challenge_of(VERIFIER)),
        ("code_challenge_method", "S256"),
        ("state", "st a&te"),
        ("scope", "mcp:read"),
        ("resource", RESOURCE),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn query_of(pairs: &[(String, String)]) -> String {
    pairs.iter().fold(Builder::new(), |query, (name, value)| query.add(name, value)).finish()
}

fn request(client: &str) -> String {
    query_of(&asked(client))
}

/// The same with one parameter replaced (`None`: left out).
fn request_with(client: &str, name: &str, value: Option<&str>) -> String {
    let mut pairs = asked(client);
    pairs.retain(|(known, _)| known != name);
    pairs.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    query_of(&pairs)
}

fn parameters(url: &str) -> Params {
    Params::parse(url.split_once('?').unwrap().1.as_bytes()).unwrap()
}
