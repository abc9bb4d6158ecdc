//! The authorization endpoint (RFC 6749 section 4.1.1; A9, A19).
//!
//! Until client and redirect URI are known to belong together, everything that is wrong is
//! a page; afterwards it is an error for the client, always with `iss` (RFC 9207).

pub(super) mod request;

use std::collections::HashSet;
use std::net::IpAddr;

use bartizan_oauth::OAuthCode;
use bartizan_oauth::params::{Builder, Params};
use bartizan_oauth::redirect::RedirectUri;
use bartizan_oauth::scope::ScopeSet;
use bartizan_store::StoreError;
use bartizan_store::repo::oauth_code::{self, Code};
use bartizan_store::repo::{oauth_consent, replay};
use http::StatusCode;

use super::client::{Client, ClientError};
use super::grant::{GrantContent, Terms, Told};
use super::transaction::{self, Request};
use super::{AuthorizationServer, ConsentView, Inner, ScopeView, Step, ms, scope, secrets};
use crate::event::Action;
use crate::login::BrowserSession;
use crate::problem::PageProblem;
use crate::sealing::GrantKey;
use crate::secret;
use request::{Checked, Wrong};

/// Longest sealed request that waits for a sign-in, bytes.
const MAX_PENDING: usize = 6 * 1024;

/// What a person sees who comes with a request that no client sends.
fn problem(code: &'static str, title: &str, text: impl Into<String>) -> Step {
    Step::Problem(PageProblem::new(StatusCode::BAD_REQUEST, code, title, text))
}

fn store_problem(error: &StoreError) -> Step {
    tracing::warn!(%error, "the authorization server cannot reach its store");
    let problem = PageProblem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "temporarily_unavailable",
        "Please try again",
        "The database does not answer at the moment.",
    );
    Step::Problem(problem)
}

fn expired() -> Step {
    let problem = PageProblem::new(
        StatusCode::BAD_REQUEST,
        "request_expired",
        "This page is no longer good",
        "It was answered already, is older than ten minutes, or belongs to another browser session.",
    );
    Step::Problem(problem.hint("Go back to your application and connect again."))
}

impl AuthorizationServer {
    /// Begins: the query as it came, and who is signed in with this browser.
    pub async fn authorize(&self, query: &str, session: Option<&BrowserSession>) -> Step {
        let step = self.inner.authorize(query, session, self.inner.now()).await;
        self.inner.note_refusal(query, session, &step, self.peer);
        step
    }

    /// Goes on after a sign-in. A transaction says nothing about who comes: whoever is
    /// signed in is asked.
    pub async fn resume(&self, transaction: &str, session: &BrowserSession) -> Step {
        match self.inner.open_pending(transaction) {
            Some(pending) => {
                let step = self.inner.authorize(&pending.query, Some(session), pending.begun_ms).await;
                self.inner.note_refusal(&pending.query, Some(session), &step, self.peer);
                step
            }
            None => expired(),
        }
    }

    /// Whether the request in a transaction wants the person to prove at the provider that
    /// they are there (`prompt=login`). `None` for what is no fresh transaction of ours: a
    /// sign-in must not begin for it.
    pub fn wants_login(&self, transaction: &str) -> Option<bool> {
        self.inner.open_pending(transaction).map(|pending| request::wants_login(&pending.query))
    }

    /// Takes the answer of the consent page; the caller has checked that the form came from
    /// a page of this session. Good once, in the session that saw the page, for ten minutes.
    pub async fn decide(&self, transaction: &str, session: &BrowserSession, approved: bool) -> Step {
        self.inner.decide(transaction, session, approved, self.peer).await
    }
}

impl Inner {
    /// Records that a request was refused, and who seems to have sent it.
    fn note_refusal(&self, query: &str, session: Option<&BrowserSession>, step: &Step, peer: Option<IpAddr>) {
        let code = match step {
            Step::Problem(problem) => problem.code.to_owned(),
            Step::Redirect(to) => match error_of(to) {
                Some(code) => code,
                None => return,
            },
            Step::SignIn { .. } | Step::Consent(_) => return,
        };
        let client = request::read(query).map(|found| found.client_id).unwrap_or_default();
        let mut event = self.event(Action::Authorize, false, &client, &code);
        event.person = session.map(|session| session.person.email.clone());
        event.provider = session.map(|session| session.provider.clone());
        event.ip = peer;
        self.record(event);
    }

    async fn authorize(&self, query: &str, session: Option<&BrowserSession>, begun_ms: i64) -> Step {
        let found = match request::read(query) {
            Ok(found) => found,
            Err(why) => return problem("invalid_request", "This request is not complete", why),
        };
        // A document is only fetched for people who signed in.
        if session.is_none() && self.is_documented(&found.client_id) {
            return match self.document_url(&found.client_id) {
                Ok(_) => self.sign_in(query, begun_ms),
                Err(error) => unknown_client(error),
            };
        }
        let client = match self.client(&found.client_id).await {
            Ok(client) => client,
            Err(error) => return unknown_client(error),
        };
        let redirect = match RedirectUri::parse(&found.redirect_uri) {
            Ok(redirect) if client.allows(&redirect) => redirect,
            Ok(_) => {
                return problem(
                    "invalid_redirect_uri",
                    "The application asks for a wrong way back",
                    "The redirect URI of this request is not one that the application registered.",
                );
            }
            Err(refusal) => {
                return problem(
                    "invalid_redirect_uri",
                    "The application asks for a wrong way back",
                    // The rule and not the URI, which anybody may have written.
                    format!("The redirect URI of this request is not usable: {}.", refusal.rule.text()),
                );
            }
        };
        let checked = match self.check(&found.params, &client, &redirect) {
            Ok(checked) => checked,
            Err(wrong) => return self.refuse(&redirect, found.state.as_deref(), wrong.code, &wrong.text),
        };
        self.go_on(query, checked, &client, &redirect, session, begun_ms).await
    }

    /// A good request: sign-in, consent, or at once.
    async fn go_on(
        &self,
        query: &str,
        checked: Checked,
        client: &Client,
        redirect: &RedirectUri,
        session: Option<&BrowserSession>,
        begun_ms: i64,
    ) -> Step {
        let Checked { request, prompt } = checked;
        let quiet = prompt.none;
        let session = session.filter(|session| !prompt.login || session.created_ms >= begun_ms);
        let Some(session) = session else {
            return if quiet {
                self.refuse(redirect, request.state.as_deref(), OAuthCode::LoginRequired, "nobody is signed in")
            } else {
                self.sign_in(query, begun_ms)
            };
        };
        match self.has_agreed(&request, client, redirect, session).await {
            Err(error) => store_problem(&error),
            Ok(true) if !prompt.consent => self.issue(&request, session).await,
            Ok(_) if quiet => {
                self.refuse(redirect, request.state.as_deref(), OAuthCode::ConsentRequired, "nobody has agreed yet")
            }
            Ok(_) => self.ask(request, client, redirect, session),
        }
    }

    fn sign_in(&self, query: &str, begun_ms: i64) -> Step {
        match self.seal_pending(query, begun_ms) {
            // It is kept in the store while somebody signs in, who may be anybody.
            Some(transaction) if transaction.len() > MAX_PENDING => problem(
                "request_too_long",
                "This request is too long",
                "The application sent more than can be kept while you sign in.",
            ),
            Some(transaction) => Step::SignIn { transaction },
            None => problem("server_error", "Please try again", "The request could not be kept."),
        }
    }

    /// Whether this person agreed to this client, way back, resource and these scopes before.
    async fn has_agreed(
        &self,
        request: &Request,
        client: &Client,
        redirect: &RedirectUri,
        session: &BrowserSession,
    ) -> Result<bool, StoreError> {
        if client.is_anybody_at(redirect) {
            return Ok(false);
        }
        let Request { client_id, redirect_host, resource, .. } = request;
        let (store, person) = (&self.deps.store, &session.person.id);
        let before = oauth_consent::get(store, person, client_id, redirect_host, resource).await?;
        let wanted = ScopeSet::parse(&request.scopes).unwrap_or_default();
        Ok(before.is_some_and(|before| {
            ScopeSet::parse(&before.scopes).is_ok_and(|agreed| scope::within(&wanted, &agreed) == wanted)
        }))
    }

    fn ask(&self, request: Request, client: &Client, redirect: &RedirectUri, session: &BrowserSession) -> Step {
        let asked: HashSet<&str> = request.scopes.split(' ').collect();
        let scopes = super::SCOPES.iter().chain(&scope::ON_REQUEST).filter(|(name, _)| asked.contains(name));
        let mut scopes: Vec<ScopeView> =
            scopes.map(|(name, text)| ScopeView { name: (*name).to_owned(), text: (*text).to_owned() }).collect();
        let servers = request.scopes.split(' ').filter_map(|name| Some((name, scope::server(name)?)));
        scopes.extend(servers.map(|(name, text)| ScopeView { name: name.to_owned(), text }));
        let mut view = ConsentView {
            transaction: String::new(),
            client_name: client.name.clone(),
            client_host: client.host.clone(),
            redirect_host: redirect.host().to_owned(),
            redirect_origin: redirect.origin().to_owned(),
            loopback_only: redirect.stays_on_device(),
            scopes,
            resource: request.resource.clone(),
            kind: client.kind,
        };
        match self.seal_consent(&session.id, request) {
            Some(transaction) => {
                view.transaction = transaction;
                Step::Consent(Box::new(view))
            }
            None => problem("server_error", "Please try again", "The page could not be made."),
        }
    }

    async fn decide(&self, transaction: &str, session: &BrowserSession, approved: bool, peer: Option<IpAddr>) -> Step {
        let Some(consent) = self.open_consent(transaction, &session.id) else { return expired() };
        let (marker, until) = (transaction::marker(&consent), transaction::marker_until(&consent));
        match replay::consume(&self.deps.store, &marker, until).await {
            Ok(true) => {}
            Ok(false) => return expired(),
            Err(error) => return store_problem(&error),
        }
        let request = consent.request;
        let mut event = self.event(Action::Consent, approved, &request.client_id, &request.scopes);
        event.person = Some(session.person.email.clone());
        event.provider = Some(session.provider.clone());
        event.ip = peer;
        if !approved {
            self.record(event);
            return self.answer(&request, |query| {
                query.add("error", OAuthCode::AccessDenied.as_str()).add("error_description", "the person said no")
            });
        }
        let agreed = oauth_consent::Consent {
            person: session.person.id.clone(),
            client_id: request.client_id.clone(),
            redirect_host: request.redirect_host.clone(),
            resource: request.resource.clone(),
            client_name: request.client_name.clone(),
            client_kind: request.client_kind.clone(),
            scopes: request.scopes.clone(),
            granted_ms: self.now(),
        };
        if let Err(error) = oauth_consent::put(&self.deps.store, &agreed).await {
            return store_problem(&error);
        }
        self.record(event);
        self.issue(&request, session).await
    }

    /// A code for the client.
    async fn issue(&self, request: &Request, session: &BrowserSession) -> Step {
        let none = || problem("server_error", "Please try again", "No code could be made.");
        let (Some(code), Some(grant_id), Some(key)) = (secrets::mint(secrets::CODE), secrets::id(), GrantKey::new())
        else {
            return none();
        };
        let content = GrantContent::new(Terms::new(request, session), &Told::of(session), &grant_id, &key);
        let (Some(content), Some(wrapped)) = (content, key.wrap(code.expose(), &grant_id)) else { return none() };
        let row = Code {
            grant_id,
            person: session.person.id.clone(),
            client_id: request.client_id.clone(),
            redirect_uri: request.redirect_uri.clone(),
            challenge: request.challenge.clone(),
            content: serde_json::to_string(&content).unwrap_or_default(),
            wrapped,
            expires_ms: self.now().saturating_add(ms(self.deps.settings.lifetimes.code_s)),
            used_ms: None,
        };
        match oauth_code::insert(&self.deps.store, &secret::hash(code.expose()), &session.id, &row).await {
            // Somebody signed this person out a moment ago.
            Ok(false) => expired(),
            Ok(true) => self.answer(request, |query| query.add("code", code.expose())),
            Err(error) => store_problem(&error),
        }
    }

    fn answer(&self, request: &Request, fill: impl FnOnce(Builder) -> Builder) -> Step {
        self.redirect(&request.redirect_uri, request.state.as_deref(), fill)
    }

    fn refuse(&self, redirect: &RedirectUri, state: Option<&str>, code: OAuthCode, text: &str) -> Step {
        let error = bartizan_oauth::OAuthError::new(code, text);
        self.redirect(redirect.as_str(), state, |query| {
            query.add("error", code.as_str()).add("error_description", &error.description)
        })
    }

    /// Back to the client. `iss` is always there (RFC 9207), also with errors.
    fn redirect(&self, to: &str, state: Option<&str>, fill: impl FnOnce(Builder) -> Builder) -> Step {
        let query = fill(Builder::new()).add_some("state", state).add("iss", &self.deps.issuer);
        Step::Redirect(query.append_to(to))
    }

    /// Checks what remains when client and redirect URI are known to belong together.
    fn check(&self, params: &Params, client: &Client, redirect: &RedirectUri) -> Result<Checked, Wrong> {
        request::check(params, client, redirect, &self.scopes, &self.deps.issuer, &*self.deps.resources)
    }
}

/// The error that a redirect tells the client.
fn error_of(to: &str) -> Option<String> {
    let query = to.split_once('?')?.1;
    Params::parse(query.as_bytes()).ok()?.get("error").map(str::to_owned)
}

fn unknown_client(error: ClientError) -> Step {
    let title = "This application is not known";
    match error {
        ClientError::Unknown => {
            let problem = PageProblem::new(
                StatusCode::BAD_REQUEST,
                "unknown_client",
                title,
                "Nobody registered an application under this id, or it was removed.",
            );
            Step::Problem(problem.hint("Remove the connection in your application and add it again."))
        }
        ClientError::Document(why) => problem("invalid_client_document", title, why),
        // One text whatever happened, or the page would tell who listens where.
        ClientError::Fetch(error) => {
            tracing::info!(%error, "a client's document could not be fetched");
            let text = "The description of this application, at the address that is its id, cannot be used now.";
            problem("client_document_unavailable", title, text)
        }
        ClientError::Store(error) => store_problem(&error),
    }
}
