//! People's accounts at upstream servers (P16, P57), for the pages. What a person may not use
//! does not exist here.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use bartizan_accounts::{AccountError, AccountKind, AccountView, Accounts, Connected, Destination};
use bartizan_catalog::ServerSpec;
use bartizan_identity::{BrowserSession, PageProblem};
use bartizan_model::{Principal, PrincipalKind, Secret, ServerId};
use bytes::Bytes;

use crate::backend::{Real, unavailable};

/// The server of this id if the person may use it, by the same policies as calls.
pub type ServerSource =
    Arc<dyn Fn(&BrowserSession, Option<IpAddr>, &ServerId) -> Option<Arc<ServerSpec>> + Send + Sync>;

/// People's accounts, and the servers they may have them at.
#[derive(Clone)]
pub struct UpstreamAccounts {
    /// The accounts.
    pub accounts: Accounts,
    /// The servers.
    pub servers: ServerSource,
    /// Servers whose login is on the way of signing a client in (P18), in the order of the
    /// configuration.
    pub on_sign_in: Arc<dyn Fn() -> Vec<ServerId> + Send + Sync>,
}

/// Somebody in front of a page.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) session: &'a BrowserSession,
    pub(crate) ip: Option<IpAddr>,
}

/// A server at which an account would be connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectView {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Where the browser goes.
    pub(crate) origin: String,
    pub(crate) scopes: Vec<String>,
    /// All of what is asked for, sealed to the session: what the person agrees to.
    pub(crate) shown: String,
}

/// A server that takes a token which the person types (P17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypedView {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Page on which people make such a token.
    pub(crate) help_url: Option<String>,
}

/// A server that is used with the person's own sign-in at the company's provider (P17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignInView {
    /// Id of the provider.
    pub(crate) provider: String,
    /// What the sign-in left is still good.
    pub(crate) ready: bool,
}

/// An account with the name of its server, if the person may still use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnAccount {
    pub(crate) name: Option<String>,
    pub(crate) account: AccountView,
}

/// `None` is always: no such server for this person.
pub(crate) trait Upstream: Send + Sync + 'static {
    fn client_document(&self) -> Option<Bytes>;
    fn server_name(&self, visit: Visit<'_>, server: &str) -> Option<String>;
    fn ask(
        &self,
        visit: Visit<'_>,
        server: &str,
    ) -> impl Future<Output = Option<Result<ConnectView, PageProblem>>> + Send;
    /// `shown` is of the view that the person agreed to; `Some(Ok(None))` when it would be
    /// something else now.
    fn leave(
        &self,
        visit: Visit<'_>,
        server: &str,
        return_to: &str,
        shown: &str,
    ) -> impl Future<Output = Option<Result<Option<String>, PageProblem>>> + Send;
    /// Where a token is typed; `None` also for servers of other kinds.
    fn typed(&self, visit: Visit<'_>, server: &str) -> Option<TypedView> {
        let _ = (visit, server);
        None
    }
    /// Keeps what was typed.
    fn keep(
        &self,
        visit: Visit<'_>,
        server: &str,
        token: Secret<String>,
    ) -> impl Future<Output = Option<Result<(), PageProblem>>> + Send {
        let _ = (visit, server, token);
        std::future::ready(None)
    }
    /// Whose sign-in a server needs; `None` also for servers of other kinds.
    fn signed(
        &self,
        visit: Visit<'_>,
        server: &str,
    ) -> impl Future<Output = Option<Result<SignInView, PageProblem>>> + Send {
        let _ = (visit, server);
        std::future::ready(None)
    }
    fn back(&self, visit: Visit<'_>, query: &str) -> impl Future<Output = Result<Connected, PageProblem>> + Send;
    /// Servers that the person is led to on the way of signing a client in.
    fn missing(&self, visit: Visit<'_>) -> impl Future<Output = Vec<String>> + Send;
    fn agree(&self, session: &BrowserSession, what: &str) -> String;
    fn has_agreed(&self, session: &BrowserSession, what: &str, text: &str) -> bool;
    fn own(&self, visit: Visit<'_>) -> impl Future<Output = Result<Vec<OwnAccount>, PageProblem>> + Send;
    fn disconnect(&self, visit: Visit<'_>, server: &str) -> impl Future<Output = Result<(), PageProblem>> + Send;
}

/// The caller that the person's clients are.
pub(crate) fn principal(session: &BrowserSession) -> Principal {
    let groups = session.person.groups.iter().map(|group| Arc::from(group.as_str()));
    Principal::new(PrincipalKind::User, session.person.email.as_str(), groups)
}

impl Real {
    fn server(&self, visit: Visit<'_>, server: &str) -> Option<(&Accounts, Arc<ServerSpec>)> {
        let upstream = self.upstream.as_ref()?;
        let spec = (upstream.servers)(visit.session, visit.ip, &ServerId::parse(server).ok()?)?;
        Some((&upstream.accounts, spec))
    }
}

/// What somebody agrees to who connects an account; no name of anything else.
fn agreement(server: &str, to: &Destination) -> String {
    format!("connect\n{server}\n{}", to.text())
}

fn failed(error: AccountError) -> PageProblem {
    match error {
        AccountError::Unavailable(_) => unavailable(error),
        error => error.into(),
    }
}

impl Upstream for Real {
    fn client_document(&self) -> Option<Bytes> {
        self.upstream.as_ref().map(|upstream| upstream.accounts.client_document())
    }

    fn server_name(&self, visit: Visit<'_>, server: &str) -> Option<String> {
        self.server(visit, server).map(|(_, spec)| spec.name.to_string())
    }

    async fn ask(&self, visit: Visit<'_>, server: &str) -> Option<Result<ConnectView, PageProblem>> {
        let (accounts, spec) = self.server(visit, server)?;
        let (id, name) = (spec.id.to_string(), spec.name.to_string());
        let destination = accounts.destination(&spec, &principal(visit.session)).await;
        Some(destination.map(|to| {
            let shown = self.sessions.agree(visit.session, &agreement(&id, &to));
            ConnectView { id, name, origin: to.origin, scopes: to.scopes, shown }
        }))
    }

    async fn leave(
        &self,
        visit: Visit<'_>,
        server: &str,
        return_to: &str,
        shown: &str,
    ) -> Option<Result<Option<String>, PageProblem>> {
        let (accounts, spec) = self.server(visit, server)?;
        let id = spec.id.to_string();
        let agreed = |to: &Destination| self.sessions.has_agreed(visit.session, &agreement(&id, to), shown);
        // Whoever brings the cookie of this session is the browser that began.
        Some(accounts.begin_if(&spec, &principal(visit.session), return_to, &visit.session.id, &agreed).await)
    }

    fn typed(&self, visit: Visit<'_>, server: &str) -> Option<TypedView> {
        let (_, spec) = self.server(visit, server)?;
        let AccountKind::Pat { help_url } = Accounts::kind(&spec) else { return None };
        Some(TypedView { id: spec.id.to_string(), name: spec.name.to_string(), help_url })
    }

    async fn keep(&self, visit: Visit<'_>, server: &str, token: Secret<String>) -> Option<Result<(), PageProblem>> {
        let (accounts, spec) = self.server(visit, server)?;
        Some(accounts.store_pat(&spec, &principal(visit.session), token).await)
    }

    async fn signed(&self, visit: Visit<'_>, server: &str) -> Option<Result<SignInView, PageProblem>> {
        let (accounts, spec) = self.server(visit, server)?;
        let AccountKind::SignIn { provider } = Accounts::kind(&spec) else { return None };
        Some(match accounts.ready(&spec, &principal(visit.session)).await {
            Ok(_) => Ok(SignInView { provider, ready: true }),
            Err(AccountError::LoginNeeded) => Ok(SignInView { provider, ready: false }),
            Err(error) => Err(failed(error)),
        })
    }

    async fn back(&self, visit: Visit<'_>, query: &str) -> Result<Connected, PageProblem> {
        let Some(upstream) = &self.upstream else { return Err(unavailable("this process has no accounts")) };
        upstream.accounts.finish(query, &principal(visit.session), &visit.session.id).await
    }

    async fn missing(&self, visit: Visit<'_>) -> Vec<String> {
        let Some(upstream) = &self.upstream else { return Vec::new() };
        let wanted: Vec<String> = (upstream.on_sign_in)().iter().map(ToString::to_string).collect();
        if wanted.is_empty() {
            return wanted;
        }
        // Signing in does not depend on it.
        let Ok(own) = self.own(visit).await else { return Vec::new() };
        let ready = |id: &String| own.iter().any(|own| own.account.ready && own.account.server == *id);
        wanted.into_iter().filter(|id| !ready(id) && self.server(visit, id).is_some()).collect()
    }

    fn agree(&self, session: &BrowserSession, what: &str) -> String {
        self.sessions.agree(session, what)
    }

    fn has_agreed(&self, session: &BrowserSession, what: &str, text: &str) -> bool {
        self.sessions.has_agreed(session, what, text)
    }

    async fn own(&self, visit: Visit<'_>) -> Result<Vec<OwnAccount>, PageProblem> {
        let Some(upstream) = &self.upstream else { return Ok(Vec::new()) };
        let listed = upstream.accounts.list(&principal(visit.session)).await.map_err(failed)?;
        let named = |account: AccountView| OwnAccount { name: self.server_name(visit, &account.server), account };
        Ok(listed.into_iter().map(named).collect())
    }

    async fn disconnect(&self, visit: Visit<'_>, server: &str) -> Result<(), PageProblem> {
        // Also where the server may not be used any more: the account is the person's own.
        let (Some(upstream), Ok(server)) = (&self.upstream, ServerId::parse(server)) else { return Ok(()) };
        upstream.accounts.disconnect(&principal(visit.session), &server).await.map(drop).map_err(failed)
    }
}
