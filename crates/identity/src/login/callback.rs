//! Back from the provider.

use std::net::IpAddr;

use bartizan_config::resources::IdentityProvider;
use bartizan_model::Secret;
use bartizan_oauth::authorization_answer::{AuthorizationAnswer, Outcome};
use bartizan_oauth::discovery::ServerMetadata;
use bartizan_oauth::jwt::{Alg, Claims, Expect, Typ};
use bartizan_oauth::params::Builder;
use bartizan_oauth::token_answer::{self, TokenAnswer};
use bartizan_oauth::token_request::{ClientAuth, basic};
use bartizan_store::repo::login_state;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;

use super::begin::{Pending, aad, cookie_name, record_id};
use super::claims;
use super::session::Authentication;
use super::{Inner, Said, SignedIn, problem};
use crate::event::{Action, IdentityEvent};
use crate::facts::{self, KeptFacts};
use crate::problem::PageProblem;
use crate::secret;

/// How far the provider's clock may differ, seconds.
pub(super) const LEEWAY_S: i64 = 60;
/// Longest answer of the userinfo endpoint, bytes.
const MAX_USERINFO: usize = 512 * 1024;
/// How long a sign-in waits for others before it, seconds.
const WAIT_S: u64 = 10;

impl Inner {
    pub(super) async fn callback(
        &self,
        path: Option<&str>,
        query: &str,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<SignedIn, PageProblem> {
        self.limits.check(peer, self.now())?;
        let mut attempt = None;
        let taken = self.taken(path, query, headers, peer, &mut attempt).await;
        taken.inspect_err(|problem| {
            // Not what the provider, the database or the load are to blame for.
            let counts = problem.status.is_client_error() && problem.code != "too_often";
            // Nor an answer to no sign-in of this browser: any page can send browsers here
            // with one, and would lock out the whole office behind their address.
            if let Some(account) = attempt.filter(|_| counts) {
                self.limits.failed(peer, &account, self.now());
            }
        })
    }

    /// `attempt` becomes something as soon as there is a sign-in that this is the answer to:
    /// the account it is about, empty until that is proved.
    async fn taken(
        &self,
        path: Option<&str>,
        query: &str,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        attempt: &mut Option<String>,
    ) -> Result<SignedIn, PageProblem> {
        let answer = AuthorizationAnswer::parse(query).map_err(|_| problem::bad_answer())?;
        let hash = secret::hash(answer.state());
        let name = cookie_name(&hash);
        let browser = self.cookies.find(headers, &name).map(secret::hash).ok_or_else(problem::unknown_state)?;
        let taken = login_state::take(&self.deps.store, &hash, &browser).await;
        let taken = taken.map_err(|error| problem::store(&error))?;
        let (provider, sealed) = taken.ok_or_else(problem::unknown_state)?;
        let account = attempt.insert(String::new());
        let pending = self.deps.vault.open(&aad(&record_id(&hash)), &sealed).map_err(|_| problem::unknown_state())?;
        let pending: Pending = serde_json::from_slice(&pending).map_err(|_| problem::unknown_state())?;

        // The sign-in is used up, so its cookie is of no more use. That of another one stays.
        let clear = self.cookies.clear(&name);
        let signed_in = async {
            if pending.redirect_uri != self.redirect_uri(path) {
                return Err(problem::other_provider());
            }
            let _turn = self.turn().await?;
            self.answered(&provider, pending, answer, headers, peer, account).await
        };
        match signed_in.await {
            Ok(mut signed_in) => {
                signed_in.set_cookies.push(clear);
                Ok(signed_in)
            }
            Err(mut problem) => {
                self.record_refusal(&provider, &problem, peer);
                problem.set_cookies.push(clear);
                Err(problem)
            }
        }
    }

    /// Only so many ask providers at once.
    async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, PageProblem> {
        let wait = std::time::Duration::from_secs(WAIT_S);
        match tokio::time::timeout(wait, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(problem::busy()),
        }
    }

    async fn answered(
        &self,
        provider: &str,
        pending: Pending,
        answer: AuthorizationAnswer,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        account: &mut String,
    ) -> Result<SignedIn, PageProblem> {
        let providers = (self.deps.providers)();
        let same = |known: &&IdentityProvider| {
            known.id == provider && known.issuer == pending.issuer && known.client_id == pending.client_id
        };
        // The configuration may have changed since the sign-in began.
        let known = providers.iter().find(same).ok_or_else(problem::unknown_state)?;
        let metadata = self.metadata(known).await?;
        let always_sends_iss = metadata.authorization_response_iss_parameter_supported;
        let code = match answer.accept(&known.issuer, always_sends_iss).map_err(|_| problem::other_provider())? {
            Outcome::Code(code) => code,
            Outcome::Refused { code, description } => return Err(problem::refused_by(&code, description.as_deref())),
        };
        let tokens = self.redeem(known, &metadata, &code, &pending).await?;
        let id = self.id_token(known, &metadata, &tokens, &pending).await?;
        let subject = id.text("sub").ok_or_else(|| problem::bad_claim("sub"))?;
        *account = format!("{}\n{subject}", known.issuer);
        self.limits.check_account(account, self.now())?;
        let same = |person: &(String, String)| person.0 == known.issuer && person.1 == subject;
        if !pending.same_person.as_ref().is_none_or(same) {
            return Err(problem::other_person());
        }
        let userinfo = self.userinfo(known, &metadata, &tokens, &id).await?;
        let who = claims::person(known, &id, userinfo.as_ref(), providers.len() > 1)?;
        let auth_time_ms = id.seconds("auth_time").map_or(0, |seconds| seconds.saturating_mul(1000));
        let (amr, acr, now) = (claims::amr(&id), claims::acr(&id), self.deps.clock.now_ms());
        let mfa_at_ms = facts::mfa_at(known, auth_time_ms, &amr, acr.as_deref(), now);
        let kept = KeptFacts { mfa_at_ms, claims: claims::kept(known, &id, userinfo.as_ref())?, purpose: None };
        let how = Authentication { auth_time_ms, amr, acr, kept };
        let said = Said {
            issuer: &known.issuer,
            subject,
            provider: &known.id,
            email: &who.email,
            name: &who.name,
            groups: &who.groups,
            peer,
        };
        let (session, cookie) = self.establish(&said, how, headers).await?;
        self.keep_tokens(&session.person.id, known, &tokens, &id).await;
        Ok(SignedIn { session, set_cookies: vec![cookie], return_to: pending.return_to.clone() })
    }

    async fn redeem(
        &self,
        provider: &IdentityProvider,
        metadata: &ServerMetadata,
        code: &Secret<String>,
        pending: &Pending,
    ) -> Result<TokenAnswer, PageProblem> {
        let body = Builder::new()
            .add("grant_type", "authorization_code")
            .add("code", code.expose())
            .add("redirect_uri", &pending.redirect_uri)
            .add("code_verifier", &pending.verifier);
        let (status, body) = self.ask_tokens(provider, metadata, body).await?;
        token_answer::parse(status.as_u16(), &body).map_err(|error| {
            tracing::warn!(%error, provider = provider.id, "no tokens for a code");
            problem::bad_tokens()
        })
    }

    /// A request to the token endpoint, with what proves us.
    pub(super) async fn ask_tokens(
        &self,
        provider: &IdentityProvider,
        metadata: &ServerMetadata,
        mut body: Builder,
    ) -> Result<(StatusCode, Bytes), PageProblem> {
        let endpoint = metadata.token_endpoint.as_ref().ok_or_else(problem::provider_settings)?;
        let client_secret = provider.client_secret.clone().map(Secret::new);
        let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
        let how = ClientAuth::choose(methods, client_secret.is_some()).ok_or_else(problem::provider_settings)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        match (how, &client_secret) {
            (ClientAuth::Basic, Some(secret)) => {
                headers.insert(AUTHORIZATION, header(basic(&provider.client_id, secret).expose())?);
            }
            (ClientAuth::Post, Some(secret)) => {
                body = body.add("client_id", &provider.client_id).add("client_secret", secret.expose());
            }
            _ => body = body.add("client_id", &provider.client_id),
        }
        let body = Bytes::from(body.finish());
        let sent = self.directory.send(endpoint, Method::POST, headers, body, token_answer::MAX_ANSWER).await;
        sent.map_err(|error| {
            tracing::warn!(%error, provider = provider.id, "the token endpoint cannot be asked");
            problem::provider_down()
        })
    }

    async fn id_token(
        &self,
        provider: &IdentityProvider,
        metadata: &ServerMetadata,
        tokens: &TokenAnswer,
        pending: &Pending,
    ) -> Result<Claims, PageProblem> {
        let token = tokens.id_token.as_ref().ok_or_else(problem::bad_tokens)?;
        let uri = metadata.jwks_uri.as_ref().ok_or_else(problem::provider_settings)?;
        let algs = algs(metadata);
        let expect = Expect {
            issuer: &provider.issuer,
            audience: &provider.client_id,
            algs: &algs,
            typ: Typ::Plain,
            nonce: Some(&pending.nonce),
            now_s: self.deps.clock.now_ms().div_euclid(1000),
            leeway_s: LEEWAY_S,
            max_age_s: pending.max_age_s,
        };
        let checked = self.directory.verify(token.expose(), uri, &expect).await;
        checked.map_err(|_| problem::provider_down())?.map_err(|error| {
            tracing::warn!(%error, provider = provider.id, "an ID token was refused");
            problem::bad_id_token(error)
        })
    }

    /// Asked when the ID token does not say everything. About the same person, or not at all
    /// (OpenID Connect Core, section 5.3.2).
    async fn userinfo(
        &self,
        provider: &IdentityProvider,
        metadata: &ServerMetadata,
        tokens: &TokenAnswer,
        id: &Claims,
    ) -> Result<Option<Claims>, PageProblem> {
        let Some(endpoint) = metadata.userinfo_endpoint.as_ref().filter(|_| claims::is_incomplete(provider, id)) else {
            return Ok(None);
        };
        let body = self.ask_userinfo(endpoint, &tokens.access_token).await?;
        let Ok(Value::Object(members)) = serde_json::from_slice(&body) else { return Err(problem::bad_userinfo()) };
        let userinfo = Claims::from(members);
        if userinfo.text("sub").is_none() || userinfo.text("sub") != id.text("sub") {
            return Err(problem::bad_userinfo());
        }
        Ok(Some(userinfo))
    }

    async fn ask_userinfo(&self, endpoint: &str, token: &Secret<String>) -> Result<Bytes, PageProblem> {
        let bearer = Secret::new(format!("Bearer {}", token.expose()));
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header(bearer.expose())?);
        self.directory.get(endpoint, headers, MAX_USERINFO).await.map_err(|error| {
            tracing::warn!(%error, endpoint, "the userinfo endpoint cannot be asked");
            problem::provider_down()
        })
    }

    /// What the userinfo endpoint says, whoever it is about.
    pub(super) async fn said_of(&self, endpoint: &str, token: &Secret<String>) -> Option<Claims> {
        let body = self.ask_userinfo(endpoint, token).await.ok()?;
        match serde_json::from_slice(&body) {
            Ok(Value::Object(members)) => Some(Claims::from(members)),
            _ => None,
        }
    }

    fn record_refusal(&self, provider: &str, problem: &PageProblem, peer: Option<IpAddr>) {
        // Who it was is on record already when that is known.
        if matches!(problem.code, "deactivated" | "address_taken") {
            return;
        }
        let mut event = IdentityEvent::new(self.deps.clock.now_ms(), Action::SignIn, false);
        event.provider = Some(provider.to_owned());
        event.note = Some(problem.code.to_owned());
        event.ip = peer;
        (self.deps.record)(event);
    }
}

/// What the provider says it never uses is not accepted in its name.
pub(super) fn algs(metadata: &ServerMetadata) -> Vec<Alg> {
    let listed = metadata.id_token_signing_alg_values_supported.as_ref();
    let is_listed = |alg: &Alg| listed.is_none_or(|names| names.iter().any(|name| Alg::parse(name) == Some(*alg)));
    Alg::ALL.into_iter().filter(is_listed).collect()
}

/// A header value that no log shows.
fn header(text: &str) -> Result<HeaderValue, PageProblem> {
    let mut value = HeaderValue::from_str(text).map_err(|_| problem::provider_settings())?;
    value.set_sensitive(true);
    Ok(value)
}
