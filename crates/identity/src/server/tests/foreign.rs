//! An issuer of tokens, served over TLS, and gateways that trust it.

use bartizan_config::agents::Agent;
use bartizan_config::resources::IdentityProvider;
use bartizan_oauth::jwt::{SigningAlg, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, json};

use super::documents::Site;
use super::*;

pub(super) const CLIENT_SECRET: [(&str, &str); 2] = [("client_id", SECRET_CLIENT), ("client_secret", SECRET)];

/// An issuer with a key.
pub(super) struct IdP {
    pub(super) site: Site,
    pub(super) key: SigningKey,
    pub(super) url: String,
}

pub(super) fn key(kid: &str) -> SigningKey {
    SigningKey::from_pkcs8(SigningAlg::Es256, kid, &SigningKey::generate(SigningAlg::Es256).unwrap()).unwrap()
}

impl IdP {
    pub(super) async fn start() -> Self {
        let site = Site::start().await;
        let url = site.url("");
        let idp = Self { site, key: key("k1"), url };
        let document = json!({
            "issuer": idp.url, "jwks_uri": format!("{}/keys", idp.url),
            "authorization_endpoint": format!("{}/auth", idp.url), "token_endpoint": format!("{}/token", idp.url),
        });
        idp.site.page("/.well-known/openid-configuration", "content-type: application/json\r\n", &document.to_string());
        idp.publish(&[&idp.key]);
        idp
    }

    pub(super) fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.public_jwk()).collect();
        let keys = json!({ "keys": keys }).to_string();
        self.site.page("/keys", "content-type: application/json\r\n", &keys);
    }

    pub(super) fn provider(&self) -> IdentityProvider {
        let text = json!({"id": "idp", "issuer": self.url, "client_id": "bartizan", "id_jag": true});
        serde_json::from_value(text).unwrap()
    }
}

/// A bench that trusts an issuer.
pub(super) async fn bench_of(idp: &IdP, providers: Vec<IdentityProvider>, agents: Value) -> Bench {
    let bench = bench().await;
    let server = bench.server.clone().with_machines(machines(idp, providers, agents_of(agents)));
    Bench { server, ..bench }
}

pub(super) fn agents_of(agents: Value) -> Arc<Vec<Agent>> {
    Arc::new(serde_json::from_value(agents).unwrap())
}

pub(super) fn machines(idp: &IdP, providers: Vec<IdentityProvider>, agents: Arc<Vec<Agent>>) -> Machines {
    let providers = Arc::new(providers);
    Machines {
        egress: idp.site.egress.clone(),
        providers: Arc::new(move || Arc::clone(&providers)),
        agents: Arc::new(move || Arc::clone(&agents)),
    }
}

/// Another process over the same store.
pub(super) fn replica(bench: &Bench, machines: Machines) -> AuthorizationServer {
    let inner = &bench.server.inner.deps;
    let sink = Arc::clone(&bench.events);
    AuthorizationServer::new(AuthorizationServerDeps {
        store: bench.store.clone(),
        vault: Vault::new(KeyRing::ephemeral().unwrap()).unwrap(),
        documents: inner.documents.clone(),
        clock: bench.clock.clone(),
        issuer: ISSUER.to_owned(),
        settings: Arc::clone(&inner.settings),
        clients: Arc::clone(&inner.clients),
        resources: Arc::clone(&inner.resources),
        record: Arc::new(move |event| sink.lock().unwrap().push(event)),
    })
    .with_machines(machines)
}

/// Claims with changes; `null` leaves one out, text `null` is JSON null.
pub(super) fn changed(claims: Value, changes: &[(&str, Value)]) -> Map<String, Value> {
    let Value::Object(mut map) = claims else { panic!("no object") };
    for (name, value) in changes {
        match value {
            Value::Null => drop(map.remove(*name)),
            Value::String(text) if text == "null" => drop(map.insert((*name).to_owned(), Value::Null)),
            value => drop(map.insert((*name).to_owned(), value.clone())),
        }
    }
    map
}

/// A token with any header, signed or not as the caller likes.
pub(super) fn forged(header: &Value, claims: &Map<String, Value>, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", part(header.to_string().as_bytes()), part(&serde_json::to_vec(claims).unwrap()));
    let signature = part(&sign(message.as_bytes()));
    format!("{message}.{signature}")
}

/// A signature with a shared secret.
pub(super) fn hmac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    aws_lc_rs::hmac::sign(&key, message).as_ref().to_vec()
}

impl Bench {
    /// The note of the last refused token.
    pub(super) fn last_refusal(&self) -> String {
        let events = self.events.lock().unwrap();
        let last = events.iter().rev().find(|event| event.action == Action::Token && !event.ok);
        last.and_then(|event| event.note.clone()).unwrap_or_default()
    }

    pub(super) fn events_of(&self, action: Action) -> Vec<IdentityEvent> {
        self.events.lock().unwrap().iter().filter(|event| event.action == action).cloned().collect()
    }
}

impl Bench {
    /// As if nobody had kept what was used.
    pub(super) async fn store_forgets_markers(&self) {
        replay::prune(&self.store, i64::MAX).await.unwrap();
    }
}
