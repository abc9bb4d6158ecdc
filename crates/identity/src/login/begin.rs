//! To the provider.

use std::net::IpAddr;
use std::sync::Arc;

use bartizan_config::resources::IdentityProvider;
use bartizan_model::check_user_id;
use bartizan_oauth::discovery::ServerMetadata;
use bartizan_oauth::params::Builder;
use bartizan_oauth::pkce;
use bartizan_store::repo::login_state::{self, LoginState};
use bartizan_vault::Aad;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Ask, Begin, Inner, ProviderView, ReturnTo, problem, random};
use crate::problem::PageProblem;
use crate::secret;

/// Time to sign in at the provider (features section 1.3), milliseconds.
pub(super) const STATE_MS: i64 = 10 * 60 * 1000;
/// Sign-ins under way; the oldest give way to more.
const MOST_STATES: u32 = 50_000;
/// How often what expired is removed, milliseconds.
const PRUNE_MS: i64 = 5_000;
/// Most `acr_values` sent on.
const MAX_ACR: usize = 16;

/// What must be known again when the provider answers. Sealed in the store.
#[derive(Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) nonce: String,
    pub(super) verifier: String,
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) max_age_s: Option<u64>,
    pub(super) same_person: Option<(String, String)>,
    pub(super) redirect_uri: String,
    pub(super) return_to: ReturnTo,
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.nonce.zeroize();
        self.verifier.zeroize();
    }
}

/// Name of the record for the vault.
pub(super) fn aad(id: &str) -> Aad<'_> {
    Aad { tenant: "", table: "login_state", id, version: 1 }
}

/// Text form of a hash.
pub(super) fn record_id(hash: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(hash)
}

/// Cookie that binds a sign-in to a browser. One per sign-in, so that two tabs do not get
/// in each other's way.
pub(super) fn cookie_name(hash: &[u8; 32]) -> String {
    let id = record_id(hash);
    format!("bartizan-login-{}", id.get(..8).unwrap_or_default())
}

/// The domain of an address, lower case.
pub(super) fn domain(email: &str) -> Option<String> {
    email.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase())
}

pub(super) fn speaks_for(provider: &IdentityProvider, domain: &str) -> bool {
    provider.email_domains.iter().any(|known| known.eq_ignore_ascii_case(domain))
}

/// Which provider, or what to ask the person.
enum Choice<'a> {
    One(&'a IdentityProvider),
    Ask,
}

fn choose<'a>(providers: &'a [IdentityProvider], email: Option<&str>, ask: &Ask) -> Choice<'a> {
    if let Some(id) = &ask.provider {
        return providers.iter().find(|provider| provider.id == *id).map_or(Choice::Ask, Choice::One);
    }
    if let [only] = providers {
        return Choice::One(only);
    }
    let Some(domain) = email.and_then(|email| domain(email.trim())) else { return Choice::Ask };
    let mut fitting = providers.iter().filter(|provider| speaks_for(provider, &domain));
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Choice::One(one),
        _ => Choice::Ask,
    }
}

impl Inner {
    pub(super) async fn begin(
        &self,
        return_to: ReturnTo,
        email: Option<&str>,
        ask: Ask,
        peer: Option<IpAddr>,
    ) -> Begin {
        let providers = (self.deps.providers)();
        if providers.is_empty() {
            return match self.deps.demo_users.as_slice() {
                [] => Begin::Unavailable(problem::no_provider()),
                users => Begin::Demo(users.to_vec()),
            };
        }
        match choose(&providers, email, &ask) {
            Choice::Ask => Begin::Choose(providers.iter().map(view).collect()),
            Choice::One(provider) => {
                if let Err(problem) = self.limits.begin(peer, self.now()) {
                    return Begin::Unavailable(problem);
                }
                let several = providers.len() > 1;
                match self.redirect(provider, several, return_to, email, &ask).await {
                    Ok((url, set_cookie)) => Begin::Redirect { url, set_cookie },
                    Err(problem) => Begin::Unavailable(problem),
                }
            }
        }
    }

    async fn redirect(
        &self,
        provider: &IdentityProvider,
        several: bool,
        return_to: ReturnTo,
        email: Option<&str>,
        ask: &Ask,
    ) -> Result<(String, HeaderValue), PageProblem> {
        let metadata = self.metadata(provider).await?;
        let endpoint = metadata.authorization_endpoint.as_ref().ok_or_else(problem::provider_settings)?;
        let (state, nonce, browser) = (random()?, random()?, random()?);
        let verifier = pkce::new_verifier().ok_or_else(problem::no_randomness)?;
        let hash = secret::hash(state.expose());
        let pending = Pending {
            nonce: nonce.expose().clone(),
            verifier: verifier.expose().clone(),
            issuer: provider.issuer.clone(),
            client_id: provider.client_id.clone(),
            max_age_s: ask.max_age_s,
            same_person: ask.same_person.clone(),
            redirect_uri: self.redirect_uri(several.then_some(provider.id.as_str())),
            return_to,
        };
        let plain = Zeroizing::new(serde_json::to_vec(&pending).map_err(|_| problem::unknown_state())?);
        let sealed = self.deps.vault.seal(&aad(&record_id(&hash)), &plain).map_err(|_| problem::no_randomness())?;
        let new = LoginState {
            hash: hash.to_vec(),
            browser: secret::hash(browser.expose()).to_vec(),
            provider: provider.id.clone(),
            sealed,
            expires_ms: self.deps.clock.now_ms().saturating_add(STATE_MS),
        };
        self.prune().await;
        login_state::insert(&self.deps.store, &new).await.map_err(|error| problem::store(&error))?;

        let mut scopes = provider.scopes.join(" ");
        if !provider.scopes.iter().any(|scope| scope == "openid") {
            scopes = format!("openid {scopes}");
        }
        // Only an address: whatever else was typed is not passed on.
        let hint = email.and_then(|email| check_user_id(email).ok()).filter(|email| email.contains('@'));
        let acr: Vec<&str> = ask.acr_values.iter().map(String::as_str).take(MAX_ACR).collect();
        let url = Builder::new()
            .add("response_type", "code")
            .add("client_id", &provider.client_id)
            .add("redirect_uri", &pending.redirect_uri)
            .add("scope", scopes.trim())
            .add("state", state.expose())
            .add("nonce", nonce.expose())
            .add("code_challenge", &pkce::challenge_of(verifier.expose()))
            .add("code_challenge_method", pkce::METHOD)
            .add_some("login_hint", hint.as_deref())
            .add_some("max_age", ask.max_age_s.map(|age| age.to_string()).as_deref())
            .add_some("acr_values", Some(acr.join(" ")).filter(|acr| !acr.is_empty()).as_deref())
            .add_some("prompt", ask.prompt.as_deref())
            .append_to(endpoint);
        let cookie = self.cookies.set(&cookie_name(&hash), browser.expose(), STATE_MS / 1000);
        Ok((url, cookie))
    }

    /// The provider's description, with what signing in needs.
    pub(super) async fn metadata(&self, provider: &IdentityProvider) -> Result<Arc<ServerMetadata>, PageProblem> {
        let metadata = self.directory.metadata(&provider.issuer).await.map_err(|_| problem::provider_down())?;
        // Many providers know PKCE and do not say so; one that says it has only others is no good.
        if metadata.code_challenge_methods_supported.is_some() && metadata.require_s256().is_err() {
            return Err(problem::provider_settings());
        }
        Ok(metadata)
    }

    /// Where a provider sends people back to. With several each has its own, so that an
    /// answer of one cannot pass for another's (RFC 9700 section 4.4.2).
    pub(super) fn redirect_uri(&self, provider: Option<&str>) -> String {
        let base = format!("{}/login/callback", self.deps.public_url);
        provider.map_or_else(|| base.clone(), |id| format!("{base}/{id}"))
    }

    /// Removes what expired, now and then. Failing does no harm: nothing expired is used.
    async fn prune(&self) {
        use std::sync::atomic::Ordering;
        let now = self.deps.clock.now_ms();
        let last = self.pruned_ms.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= PRUNE_MS;
        if !due || self.pruned_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        let states = login_state::prune(&self.deps.store, MOST_STATES).await;
        let sessions = bartizan_store::repo::browser_session::prune(&self.deps.store).await;
        if let Err(error) = states.and(sessions) {
            tracing::warn!(%error, "what expired of signing in was not removed");
        }
    }
}

fn view(provider: &IdentityProvider) -> ProviderView {
    let name = provider.name.clone().unwrap_or_else(|| provider.id.clone());
    ProviderView { id: provider.id.clone(), name }
}
