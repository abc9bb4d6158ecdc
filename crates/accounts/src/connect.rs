//! A person's browser to the authorization server of an upstream server and back.

use bartizan_catalog::ServerSpec;
use bartizan_identity::{Action, LocalPath, PageProblem};
use bartizan_model::{Principal, ServerId};
use bartizan_oauth::authorization_answer::{AuthorizationAnswer, Outcome};
use bartizan_oauth::discovery::ServerMetadata;
use bartizan_oauth::params::Builder;
use bartizan_oauth::pkce;
use bartizan_store::repo::browser_session;
use bartizan_store::repo::upstream_connect::{self, Connect};
use bartizan_vault::{Aad, RecordsError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::account::{ClientKind, Place, Stored};
use crate::accounts::{AccountError, Inner, hash};
use crate::client::{Redeemed, is_unknown_client};
use crate::problem;

/// Time to sign in (features section 1.3), milliseconds.
const STATE_MS: i64 = 10 * 60 * 1000;
/// Connections of one person under way.
const MOST: u32 = 20;
/// Attempts to store tokens next to somebody who does the same.
const STORE_ATTEMPTS: u32 = 5;

/// An account was connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// At which server.
    pub server: ServerId,
    /// Local path to go on to.
    pub return_to: LocalPath,
}

/// Where a person's browser would go to connect an account, for the page that asks first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Scheme, host and port of the authorization endpoint.
    pub origin: String,
    /// Name of the authorization server.
    pub issuer: String,
    /// Scopes that will be asked for; possibly none.
    pub scopes: Vec<String>,
}

impl Destination {
    fn new(metadata: &ServerMetadata, endpoint: &str, scopes: &str) -> Self {
        let scopes = scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect();
        Self { origin: origin(endpoint), issuer: metadata.issuer.clone(), scopes }
    }

    /// All of it as one text, to be sealed into the page that asks.
    pub fn text(&self) -> String {
        let parts = [&self.origin, &self.issuer].into_iter().chain(&self.scopes);
        parts.map(|part| format!("{}:{part}", part.len())).collect()
    }
}

/// What must be known again when the authorization server answers. Sealed in the store.
#[derive(Serialize, Deserialize)]
struct Pending {
    verifier: String,
    /// Who was asked, and so the only one whose answer counts (RFC 9207).
    issuer: String,
    server_url: String,
    resource: String,
    client_kind: ClientKind,
    client_id: String,
    scopes: String,
    return_to: LocalPath,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.verifier.zeroize();
    }
}

fn aad(id: &str) -> Aad<'_> {
    Aad { tenant: "", table: "upstream_connect", id, version: 1 }
}

fn place<'a>(spec: &'a ServerSpec, principal: &'a Principal) -> Result<Place<'a>, PageProblem> {
    Ok(Place::new(spec, principal)?)
}

/// The authorization endpoint of a server that can be used at all.
fn usable(metadata: &ServerMetadata) -> Result<&str, PageProblem> {
    let wrong = |why: &str| PageProblem::from(AccountError::Misconfigured(why.to_owned()));
    metadata.require_s256().map_err(|error| wrong(&error.to_string()))?;
    if metadata.token_endpoint.is_none() {
        return Err(wrong("the authorization server has no token endpoint"));
    }
    let no_endpoint = || wrong("the authorization server has no authorization endpoint");
    metadata.authorization_endpoint.as_deref().ok_or_else(no_endpoint)
}

/// Scheme, host and port; endpoints were checked to be web links without a user.
fn origin(endpoint: &str) -> String {
    let start = endpoint.find("://").map_or(0, |at| at + 3);
    let rest = endpoint.get(start..).unwrap_or_default();
    let end = start + rest.find(['/', '?', '#']).unwrap_or(rest.len());
    endpoint.get(..end).unwrap_or_default().to_owned()
}

impl Inner {
    pub(crate) async fn destination(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
    ) -> Result<Destination, PageProblem> {
        let place = place(spec, principal)?;
        let found = self.directory.discover(&place, None).await?;
        let (scopes, _) = self.wished(&place, &found.scopes).await?;
        Ok(Destination::new(&found.metadata, usable(&found.metadata)?, &scopes))
    }

    pub(crate) async fn begin(
        &self,
        spec: &ServerSpec,
        principal: &Principal,
        return_to: &str,
        binding: &str,
        agreed: &(dyn Fn(&Destination) -> bool + Send + Sync),
    ) -> Result<Option<String>, PageProblem> {
        let place = place(spec, principal)?;
        let found = self.directory.discover(&place, None).await?;
        let metadata = &found.metadata;
        let endpoint = usable(metadata)?;
        let (scopes, more) = self.wished(&place, &found.scopes).await?;
        // The server may name another place from one moment to the next.
        if !agreed(&Destination::new(metadata, endpoint, &scopes)) {
            return Ok(None);
        }
        // A token of this client was good just now where only more scopes are wanted.
        let client = self.client(&place, metadata, more).await?;

        let (Some(state), Some(verifier)) = (pkce::new_verifier(), pkce::new_verifier()) else {
            return Err(problem::unavailable());
        };
        let pending = Pending {
            verifier: verifier.expose().clone(),
            issuer: metadata.issuer.clone(),
            server_url: place.url.to_owned(),
            resource: found.resource.clone(),
            client_kind: client.kind,
            client_id: client.id.clone(),
            scopes: scopes.clone(),
            return_to: LocalPath::parse(return_to).unwrap_or_default(),
        };
        let hashed = hash("upstream state", state.expose());
        let plain = Zeroizing::new(serde_json::to_vec(&pending).map_err(|_| problem::unavailable())?);
        let sealed = self.deps.vault.seal(&aad(&URL_SAFE_NO_PAD.encode(&hashed)), &plain);
        let under_way = Connect {
            hash: hashed,
            browser: hash("upstream browser", binding),
            // The browser is the person's, whosever the account is.
            owner: place.person.to_owned(),
            server: place.server.to_owned(),
            sealed: sealed.map_err(|_| problem::unavailable())?,
            expires_ms: self.deps.clock.now_ms() + STATE_MS,
        };
        upstream_connect::insert(&self.deps.store, &under_way, MOST).await.map_err(AccountError::from)?;

        let asks_offline = scopes.split(' ').any(|scope| scope == "offline_access");
        let query = Builder::new()
            .add("response_type", "code")
            .add("client_id", &client.id)
            .add("redirect_uri", &self.redirect_uri())
            .add("state", state.expose())
            .add("code_challenge", &pkce::challenge_of(verifier.expose()))
            .add("code_challenge_method", pkce::METHOD)
            .add("resource", &found.resource)
            .add_some("scope", Some(scopes.as_str()).filter(|scopes| !scopes.is_empty()))
            // Without it the scope is ignored (OpenID Connect Core, section 11).
            .add_some("prompt", asks_offline.then_some("consent"));
        Ok(Some(query.append_to(endpoint)))
    }

    pub(crate) async fn finish(
        &self,
        query: &str,
        principal: &Principal,
        binding: &str,
    ) -> Result<Connected, PageProblem> {
        let answer = AuthorizationAnswer::parse(query).map_err(|_| problem::bad_answer())?;
        let hashed = hash("upstream state", answer.state());
        let browser = hash("upstream browser", binding);
        let taken = upstream_connect::take(&self.deps.store, &hashed, &browser, principal.key()).await;
        let (server, sealed) = taken.map_err(AccountError::from)?.ok_or_else(problem::unknown_state)?;
        let opened = self.deps.vault.open(&aad(&URL_SAFE_NO_PAD.encode(&hashed)), &sealed);
        let opened = opened.map_err(|_| problem::unknown_state())?;
        let pending: Pending = serde_json::from_slice(&opened).map_err(|_| problem::unknown_state())?;
        let server = ServerId::parse(&server).map_err(|_| problem::unknown_state())?;
        let spec = (self.deps.servers)(&server).ok_or_else(problem::unknown_state)?;
        let place = place(&spec, principal)?;

        let mut done = self.answered(&place, &pending, answer).await;
        if done.is_ok() && !self.still_there(binding).await {
            // Whoever was shut out meanwhile keeps no token. What ends after this question takes
            // the account along by itself.
            if let Err(error) = self.disconnect(principal, &server).await {
                tracing::error!(%error, server = place.server, "an account of a person who is out stays");
            }
            done = Err(problem::unknown_state());
        }
        let note = done.as_ref().err().map(|problem| problem.code);
        self.event(&place, Action::Connect, done.is_ok(), &pending.issuer, note);
        done?;
        Ok(Connected { server, return_to: pending.return_to.clone() })
    }

    /// Whether the browser session runs and its person is active. What cannot be said is no.
    async fn still_there(&self, session: &str) -> bool {
        let runs = browser_session::runs(&self.deps.store, session).await;
        runs.inspect_err(|error| tracing::warn!(%error, "a browser session cannot be read")).unwrap_or(false)
    }

    async fn answered(
        &self,
        place: &Place<'_>,
        pending: &Pending,
        answer: AuthorizationAnswer,
    ) -> Result<(), PageProblem> {
        // The configuration may have changed since: what is issued for the old address, or by
        // an issuer that is not wanted any more, is for nobody.
        let issuer_wanted = place.config.issuer.as_ref().is_none_or(|issuer| *issuer == pending.issuer);
        if pending.server_url != place.url || !issuer_wanted {
            return Err(problem::unknown_state());
        }
        let metadata = self.directory.metadata(&pending.issuer).await?;
        let always_sends_iss = metadata.authorization_response_iss_parameter_supported;
        let outcome = answer.accept(&metadata.issuer, always_sends_iss).map_err(|_| problem::other_issuer())?;
        let code = match outcome {
            Outcome::Code(code) => code,
            Outcome::Refused { code, description } => return Err(problem::refused(&code, description.as_deref())),
        };
        let client = self.known_client(place.config, &metadata, pending.client_kind).await?;
        let client = client.filter(|client| client.id == pending.client_id).ok_or_else(problem::unknown_state)?;
        let form = Builder::new()
            .add("grant_type", "authorization_code")
            .add("code", code.expose())
            .add("redirect_uri", &self.redirect_uri())
            .add("code_verifier", &pending.verifier)
            .add("resource", &pending.resource);
        let tokens = match self.redeem(&metadata, &client, form).await {
            Redeemed::Tokens(tokens) => tokens,
            Redeemed::Refused(error) => {
                tracing::warn!(%error, server = place.server, issuer = pending.issuer, "no tokens for a code");
                if is_unknown_client(&error) && client.kind == ClientKind::Registered {
                    self.forget_client(&metadata.issuer, &client.id).await?;
                }
                return Err(problem::no_tokens());
            }
            Redeemed::Failed(error) => {
                tracing::warn!(%error, server = place.server, "the token endpoint cannot be asked");
                return Err(problem::unavailable());
            }
            Redeemed::Unusable => return Err(problem::no_tokens()),
        };
        let now = self.deps.clock.now_ms();
        let mut stored = Stored {
            access: None,
            refresh: None,
            issued_ms: now,
            expires_ms: None,
            issuer: pending.issuer.clone(),
            server_url: pending.server_url.clone(),
            resource: pending.resource.clone(),
            client_kind: client.kind,
            client_id: client.id.clone(),
            scopes: pending.scopes.clone(),
            connected_ms: now,
            whom: None,
        };
        stored.renew(&tokens, now);
        self.store_connected(place, &stored).await?;
        self.forget_wish(place).await;
        Ok(())
    }

    pub(crate) async fn store_connected(&self, place: &Place<'_>, stored: &Stored) -> Result<(), PageProblem> {
        for _ in 0..STORE_ATTEMPTS {
            let old = self.records.get(&place.record()).await.map_err(AccountError::from)?;
            match self.save(place, old.map_or(0, |(version, _)| version), stored).await {
                Ok(_) => {
                    self.failing.invalidate(&place.name);
                    self.held.invalidate(&place.name);
                    return Ok(());
                }
                Err(RecordsError::Conflict) => {}
                Err(error) => return Err(AccountError::from(error).into()),
            }
        }
        Err(problem::unavailable())
    }
}
