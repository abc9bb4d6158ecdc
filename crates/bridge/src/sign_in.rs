//! Tokens for one server: from the key store, refreshed, or by the person's browser.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bartizan_accounts::{Found, Step, Trace, discover};
use bartizan_egress::{Egress, EgressError, Url};
use bartizan_model::{Clock, Secret};
use bartizan_oauth::authorization_answer::Outcome;
use bartizan_oauth::params::Builder;
use bartizan_oauth::{pkce, token_answer};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::BridgeError;
use crate::browser::{Opener, shown};
use crate::callback::Callback;
use crate::keys::Keys;

/// Time of one request to the authorization server.
const EXCHANGE: Duration = Duration::from_secs(15);
/// Largest answer of it.
const ANSWER: usize = 256 << 10;
/// A token is renewed when it ends within this time, milliseconds.
const EARLY_MS: i64 = 30_000;

/// What is kept between two runs.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    issuer: String,
    token_endpoint: String,
    resource: String,
    client_id: String,
    /// Port of the redirect URI that is registered.
    port: u16,
    #[serde(default)]
    access: Option<String>,
    #[serde(default)]
    refresh: Option<String>,
    /// Milliseconds since the epoch.
    #[serde(default)]
    expires_ms: Option<i64>,
    /// Counts tokens.
    version: u64,
}

/// How requests are authorized.
pub(crate) enum Way {
    /// By the token that was given.
    Fixed(Token),
    /// By a person.
    SignIn(Box<SignIn>),
}

impl Way {
    /// The present token.
    pub(crate) async fn current(&self) -> Option<Token> {
        match self {
            Self::Fixed(token) => Some(token.clone()),
            Self::SignIn(sign_in) => sign_in.current().await,
        }
    }

    /// After the server refused a token.
    pub(crate) async fn renew(
        &self,
        refused: Option<u64>,
        challenge: Option<&str>,
        more_scope: bool,
    ) -> Result<Token, BridgeError> {
        match self {
            Self::Fixed(_) => Err(BridgeError::SignIn("the server refuses the token that was given".to_owned())),
            Self::SignIn(sign_in) => sign_in.renew(refused, challenge, more_scope).await,
        }
    }
}

/// A token that was given.
pub(crate) fn fixed(token: &Secret<String>) -> Result<Token, BridgeError> {
    let bad = |_| BridgeError::SignIn("the token that was given is none".to_owned());
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(bad)?;
    header.set_sensitive(true);
    Ok(Token { header, version: 0 })
}

/// Signs in at one server. One sign-in at a time; whoever waits gets its token.
pub(crate) struct SignIn {
    pub(crate) server: String,
    pub(crate) egress: Egress,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keys: Arc<dyn Keys>,
    pub(crate) open: Opener,
    /// An own client at the authorization server, instead of a registration.
    pub(crate) client_id: Option<String>,
    kept: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: bool,
    kept: Option<Kept>,
}

/// A token and which one it is.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) version: u64,
}

impl SignIn {
    pub(crate) fn new(
        server: String,
        egress: Egress,
        clock: Arc<dyn Clock>,
        keys: Arc<dyn Keys>,
        open: Opener,
        client_id: Option<String>,
    ) -> Self {
        Self { server, egress, clock, keys, open, client_id, kept: Mutex::default() }
    }

    /// The present token, renewed if it is about to end; `None` when nobody signed in yet.
    pub(crate) async fn current(&self) -> Option<Token> {
        let mut state = self.kept.lock().await;
        self.load(&mut state);
        let kept = state.kept.clone()?;
        let soon = self.clock.now_ms() + EARLY_MS;
        if kept.expires_ms.is_some_and(|end| end <= soon) && kept.refresh.is_some() {
            // When it cannot be renewed now, the server will say whether it is still good.
            let _ = self.refresh(&mut state).await;
        }
        token(state.kept.as_ref()?)
    }

    /// After the server refused a token (or none, `refused` is `None`) with this challenge.
    pub(crate) async fn renew(
        &self,
        refused: Option<u64>,
        challenge: Option<&str>,
        more_scope: bool,
    ) -> Result<Token, BridgeError> {
        let mut state = self.kept.lock().await;
        self.load(&mut state);
        if let Some(newer) =
            state.kept.as_ref().filter(|kept| refused.is_none_or(|old| kept.version > old)).and_then(token)
        {
            // Somebody else got one while this one waited.
            return Ok(newer);
        }
        if !more_scope
            && self.refresh(&mut state).await
            && let Some(token) = state.kept.as_ref().and_then(token)
        {
            return Ok(token);
        }
        self.browser(&mut state, challenge).await?;
        state.kept.as_ref().and_then(token).ok_or_else(|| BridgeError::SignIn("there is no token".to_owned()))
    }

    fn load(&self, state: &mut State) {
        if !std::mem::replace(&mut state.loaded, true) {
            state.kept = self.keys.get(&self.server).and_then(|text| serde_json::from_str(text.expose()).ok());
        }
    }

    fn keep(&self, state: &mut State, kept: Kept) {
        if let Ok(text) = serde_json::to_string(&kept) {
            self.keys.put(&self.server, &Secret::new(text));
        }
        state.kept = Some(kept);
    }

    /// True when there is a new token.
    async fn refresh(&self, state: &mut State) -> bool {
        let Some(kept) = state.kept.clone() else { return false };
        let Some(refresh) = kept.refresh.clone() else { return false };
        let form = Builder::new()
            .add("grant_type", "refresh_token")
            .add("refresh_token", &refresh)
            .add("client_id", &kept.client_id)
            .add("resource", &kept.resource)
            .finish();
        match self.redeem(&kept.token_endpoint, form).await {
            Ok(answer) => {
                let next = self.next(&kept, &answer);
                self.keep(state, next);
                true
            }
            Err(Redeem::Permanent(_)) => {
                // The client identity may be what is refused: nothing of this is of use again.
                self.keys.forget(&self.server);
                state.kept = None;
                false
            }
            Err(Redeem::Failed(_)) => false,
        }
    }

    fn next(&self, kept: &Kept, answer: &token_answer::TokenAnswer) -> Kept {
        let life = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX / 2_000).saturating_mul(1_000);
        Kept {
            access: Some(answer.access_token.expose().clone()),
            refresh: answer.refresh_token.as_ref().map(|token| token.expose().clone()).or_else(|| kept.refresh.clone()),
            expires_ms: answer.expires_in_s.map(|seconds| self.clock.now_ms().saturating_add(life(seconds))),
            version: kept.version + 1,
            ..kept.clone()
        }
    }

    /// Discovery, registration, browser, code, token.
    async fn browser(&self, state: &mut State, challenge: Option<&str>) -> Result<(), BridgeError> {
        let found = discover(&self.egress, &self.server, challenge).await;
        let found = found.map_err(|error| BridgeError::SignIn(error.to_string()))?;
        let issuer = &found.metadata.issuer;
        let former = state.kept.as_ref().filter(|kept| kept.issuer == *issuer && self.client_id.is_none());
        let obtain = Obtain {
            egress: &self.egress,
            found: &found,
            client: self.client_id.as_deref().map(|id| (id, None)),
            former: former.map(|kept| (kept.port, kept.client_id.as_str())),
            open: &self.open,
            trace: &Trace::default(),
        };
        let obtained = obtain.run().await?;
        let fresh = Kept {
            issuer: issuer.clone(),
            token_endpoint: obtained.token_endpoint,
            resource: found.resource.clone(),
            client_id: obtained.client_id,
            port: obtained.port,
            access: None,
            refresh: None,
            expires_ms: None,
            version: state.kept.as_ref().map_or(0, |kept| kept.version),
        };
        let kept = self.next(&fresh, &obtained.answer);
        self.keep(state, kept);
        Ok(())
    }

    async fn redeem(&self, endpoint: &str, form: String) -> Result<token_answer::TokenAnswer, Redeem> {
        redeem(&self.egress, endpoint, form, &Trace::default()).await
    }
}

/// A token by a person's browser, once discovery is done.
pub struct Obtain<'a> {
    /// The way to the authorization server.
    pub egress: &'a Egress,
    /// What discovery found.
    pub found: &'a Found,
    /// Id and secret of a client that exists; without it one is registered.
    pub client: Option<(&'a str, Option<&'a Secret<String>>)>,
    /// Port and id of an earlier registration.
    pub former: Option<(u16, &'a str)>,
    /// Shows the page.
    pub open: &'a Opener,
    /// Takes notes of every step.
    pub trace: &'a Trace,
}

/// What came of it.
pub struct Obtained {
    /// The token endpoint's answer.
    pub answer: token_answer::TokenAnswer,
    /// Where that is.
    pub token_endpoint: String,
    /// The client.
    pub client_id: String,
    /// Port of the redirect URI.
    pub port: u16,
}

fn wrong(text: impl Into<String>) -> BridgeError {
    BridgeError::SignIn(text.into())
}

impl Obtain<'_> {
    /// Registration, browser, code, token.
    ///
    /// # Errors
    /// [`BridgeError::SignIn`]; the trace's step is where it ended.
    pub async fn run(&self) -> Result<Obtained, BridgeError> {
        let (found, metadata) = (self.found, &self.found.metadata);
        self.trace.at(Step::ServerMetadata);
        metadata.require_s256().map_err(|error| wrong(error.to_string()))?;
        let missing = |what: &str| wrong(format!("the authorization server has no {what}"));
        let endpoint = metadata.authorization_endpoint.as_deref().ok_or_else(|| missing("authorization endpoint"))?;
        let token_endpoint = metadata.token_endpoint.clone().ok_or_else(|| missing("token endpoint"))?;
        self.trace.at(Step::Registration);
        let callback = Callback::open(self.former.map(|(port, _)| port)).await?;
        let client_id = match (self.client, self.former) {
            (Some((own, _)), _) => own.to_owned(),
            (None, Some((port, id))) if port == callback.port() => id.to_owned(),
            (None, _) => self.register(&callback).await?,
        };
        self.trace.at(Step::Authorize);
        let random = || pkce::new_verifier().ok_or_else(|| wrong("no random bytes"));
        let (verifier, sent) = (random()?, random()?);
        let asked = Builder::new()
            .add("response_type", "code")
            .add("client_id", &client_id)
            .add("redirect_uri", &callback.redirect_uri())
            .add("state", sent.expose())
            .add("code_challenge", &pkce::challenge_of(verifier.expose()))
            .add("code_challenge_method", pkce::METHOD)
            .add("resource", &found.resource)
            .add_some("scope", Some(found.scopes.as_str()).filter(|scopes| !scopes.is_empty()))
            .append_to(endpoint);
        let address = shown(&asked).ok_or_else(|| wrong("the server names an address that no browser is given"))?;
        say(&format!("Sign in to go on: {address}"));
        if let Err(error) = (self.open)(&address) {
            say(&format!("No browser could be started ({error}); open the address yourself."));
        }
        let answer = callback.wait(sent.expose()).await?;
        let always = metadata.authorization_response_iss_parameter_supported;
        let code = match answer.accept(&metadata.issuer, always).map_err(|error| wrong(error.to_string()))? {
            Outcome::Code(code) => code,
            Outcome::Refused { code, description } => {
                return Err(wrong(format!("{code}: {}", description.unwrap_or_else(|| "it was refused".to_owned()))));
            }
        };
        self.trace.at(Step::Token);
        let secret = self.client.and_then(|(_, secret)| secret);
        let form = Builder::new()
            .add("grant_type", "authorization_code")
            .add("code", code.expose())
            .add("redirect_uri", &callback.redirect_uri())
            .add("client_id", &client_id)
            .add_some("client_secret", secret.map(|secret| secret.expose().as_str()))
            .add("code_verifier", verifier.expose())
            .add("resource", &found.resource)
            .finish();
        let answer = redeem(self.egress, &token_endpoint, form, self.trace).await.map_err(|error| match error {
            Redeem::Permanent(text) | Redeem::Failed(text) => wrong(text),
        })?;
        Ok(Obtained { answer, token_endpoint, client_id, port: callback.port() })
    }

    /// RFC 7591.
    async fn register(&self, callback: &Callback) -> Result<String, BridgeError> {
        let endpoint = self.found.metadata.registration_endpoint.as_deref();
        let endpoint = endpoint
            .ok_or_else(|| wrong("the authorization server registers no clients: one must be made there by hand"))?;
        let body = serde_json::json!({
            "client_name": "bartizan stdio",
            "redirect_uris": [callback.redirect_uri()],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "application_type": "native",
        });
        let sent = post(self.egress, endpoint, "application/json", body.to_string(), self.trace).await;
        let (status, body) = sent.map_err(wrong)?;
        if !status.is_success() {
            let text: String = String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(wrong(format!("registration was refused with status {}: {text}", status.as_u16())));
        }
        let answer: serde_json::Value =
            serde_json::from_slice(&body).map_err(|_| wrong("the registration's answer is no JSON"))?;
        let id = answer.get("client_id").and_then(serde_json::Value::as_str);
        let id = id.filter(|id| !id.is_empty() && id.len() <= 2_048);
        id.map(str::to_owned).ok_or_else(|| wrong("the registration's answer has no client_id"))
    }
}

async fn redeem(
    egress: &Egress,
    endpoint: &str,
    form: String,
    trace: &Trace,
) -> Result<token_answer::TokenAnswer, Redeem> {
    let sent = post(egress, endpoint, "application/x-www-form-urlencoded", form, trace).await;
    let (status, body) = sent.map_err(Redeem::Failed)?;
    token_answer::parse(status.as_u16(), &body).map_err(|error| match error.is_permanent() {
        true => Redeem::Permanent(error.to_string()),
        false => Redeem::Failed(error.to_string()),
    })
}

async fn post(
    egress: &Egress,
    url: &str,
    kind: &'static str,
    body: String,
    trace: &Trace,
) -> Result<(StatusCode, Bytes), String> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let exchange = async {
        let to = Url::parse(url)?;
        let answer = egress.client().send(&to, Method::POST, headers, Bytes::from(body.clone())).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok::<_, EgressError>((status, headers, answer.into_body().collect_bytes(ANSWER).await?))
    };
    let done = match tokio::time::timeout(EXCHANGE, exchange).await {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(_) => Err("the authorization server does not answer".to_owned()),
    };
    let noted = done.as_ref().map(|(status, headers, body)| (status.as_u16(), headers, &**body));
    trace.note(&Method::POST, url, body.as_bytes(), noted.map_err(Clone::clone));
    done.map(|(status, _, body)| (status, body))
}

/// No token.
enum Redeem {
    /// Asking again will not help.
    Permanent(String),
    /// It may.
    Failed(String),
}

fn token(kept: &Kept) -> Option<Token> {
    let mut header = HeaderValue::try_from(format!("Bearer {}", kept.access.as_deref()?)).ok()?;
    header.set_sensitive(true);
    Some(Token { header, version: kept.version })
}

/// Where words for the person go.
static TELL: OnceLock<fn(&str)> = OnceLock::new();

/// Sets where words for the person go; nowhere before that. The first one counts.
pub fn tell_with(tell: fn(&str)) {
    // A second one changes nothing.
    let _ = TELL.set(tell);
}

/// For the person; stdout is for messages alone.
pub(crate) fn say(text: &str) {
    if let Some(tell) = TELL.get() {
        tell(text);
    }
}
