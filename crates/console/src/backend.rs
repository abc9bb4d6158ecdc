//! What the pages need from `identity`. A seam, so that tests can put every answer, also
//! those that must never come, in front of the pages.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use bartizan_identity::{
    ApprovedClient, Ask, AuthorizationServer, Begin, BrowserSession, BrowserSessions, Login, PageProblem, ReturnTo,
    SignedIn, Step, StepUpNext, StepUpView,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::approvals::ApprovalPages;
use crate::selection::{Selection, SelectionError, SelectionPages};
use crate::sign_out::Left;
use crate::upstream::{Upstream, UpstreamAccounts, Visit};

/// The methods are those of [`AuthorizationServer`], [`Login`] and [`BrowserSessions`].
pub(crate) trait Backend: Upstream + Send + Sync + 'static {
    fn metadata(&self) -> Bytes;
    fn openid_configuration(&self) -> Bytes;
    /// The key set of assertions to upstreams; `None` while it cannot be had.
    fn jwks(&self) -> impl Future<Output = Option<Bytes>> + Send;
    fn register(&self, peer: IpAddr, body: Bytes) -> impl Future<Output = Response<Bytes>> + Send;
    fn token(&self, headers: &HeaderMap, peer: IpAddr, body: Bytes) -> impl Future<Output = Response<Bytes>> + Send;
    fn revoke(&self, headers: &HeaderMap, peer: IpAddr, body: Bytes) -> impl Future<Output = Response<Bytes>> + Send;

    fn authorize(
        &self,
        peer: IpAddr,
        query: &str,
        session: Option<&BrowserSession>,
    ) -> impl Future<Output = Step> + Send;
    fn resume(&self, peer: IpAddr, transaction: &str, session: &BrowserSession) -> impl Future<Output = Step> + Send;
    fn decide(
        &self,
        peer: IpAddr,
        transaction: &str,
        session: &BrowserSession,
        approved: bool,
    ) -> impl Future<Output = Step> + Send;

    fn has_break_glass(&self) -> bool;
    fn break_glass(
        &self,
        peer: IpAddr,
        password: &str,
        code: &str,
        return_to: ReturnTo,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<SignedIn, PageProblem>> + Send;

    fn wants_login(&self, transaction: &str) -> Option<bool>;
    fn begin(
        &self,
        peer: IpAddr,
        return_to: ReturnTo,
        email: Option<&str>,
        ask: Ask,
    ) -> impl Future<Output = Begin> + Send;
    fn callback(
        &self,
        peer: IpAddr,
        provider: Option<&str>,
        query: &str,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<SignedIn, PageProblem>> + Send;
    fn demo(
        &self,
        peer: IpAddr,
        user: &str,
        return_to: ReturnTo,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<SignedIn, PageProblem>> + Send;

    /// Whether a step-up link is fresh, whoever's it is.
    fn is_step_up(&self, handle: &str) -> bool;
    fn step_up(
        &self,
        peer: IpAddr,
        handle: &str,
        session: &BrowserSession,
    ) -> impl Future<Output = Result<StepUpView, PageProblem>> + Send;
    fn step_up_go(
        &self,
        peer: IpAddr,
        handle: &str,
        session: &BrowserSession,
        purpose: Option<&str>,
    ) -> impl Future<Output = StepUpNext> + Send;
    fn step_up_return(
        &self,
        peer: IpAddr,
        handle: &str,
        session: &BrowserSession,
    ) -> impl Future<Output = Result<StepUpView, PageProblem>> + Send;

    fn session(&self, headers: &HeaderMap) -> impl Future<Output = Option<BrowserSession>> + Send;
    fn csrf(&self, session: &BrowserSession) -> String;
    fn check_csrf(&self, session: &BrowserSession, token: &str) -> bool;
    fn end(&self, session: &BrowserSession) -> impl Future<Output = Result<HeaderValue, PageProblem>> + Send;

    fn clients_of(&self, person: &str) -> impl Future<Output = Result<Vec<ApprovedClient>, PageProblem>> + Send;
    fn withdraw(&self, person: &str, client: &str) -> impl Future<Output = Result<(), PageProblem>> + Send;
    /// Ends everything of a person; what that was. The accounts at servers if wanted.
    fn sign_out_everywhere(
        &self,
        visit: Visit<'_>,
        accounts: bool,
    ) -> impl Future<Output = Result<Left, PageProblem>> + Send;

    /// Answering and asking; `None` where that is not possible.
    fn approvals(&self) -> Option<&ApprovalPages> {
        None
    }
    /// What a link to the selection page shows; `None` where there is no such page.
    fn selection(
        &self,
        visit: Visit<'_>,
        handle: &str,
    ) -> impl Future<Output = Option<Result<Selection, SelectionError>>> + Send {
        let _ = (visit, handle);
        std::future::ready(None)
    }
    /// Keeps which servers stay on.
    fn select(
        &self,
        visit: Visit<'_>,
        handle: &str,
        on: Vec<String>,
    ) -> impl Future<Output = Option<Result<Selection, SelectionError>>> + Send {
        let _ = (visit, handle, on);
        std::future::ready(None)
    }
}

/// Gives the key set of assertions to upstreams; `None` while it cannot be had.
pub type KeySource = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Option<Bytes>> + Send>> + Send + Sync>;

/// The real parts.
pub(crate) struct Real {
    pub(crate) server: AuthorizationServer,
    pub(crate) login: Login,
    pub(crate) sessions: BrowserSessions,
    /// Absent where nobody can have accounts at servers.
    pub(crate) upstream: Option<UpstreamAccounts>,
    pub(crate) jwks: KeySource,
    /// Absent where nobody is sent to the selection page.
    pub(crate) selection: Option<SelectionPages>,
    /// Absent where nobody is asked.
    pub(crate) approvals: Option<ApprovalPages>,
}

impl Backend for Real {
    fn metadata(&self) -> Bytes {
        self.server.metadata()
    }

    fn openid_configuration(&self) -> Bytes {
        self.server.openid_configuration()
    }

    async fn jwks(&self) -> Option<Bytes> {
        (self.jwks)().await
    }

    async fn register(&self, peer: IpAddr, body: Bytes) -> Response<Bytes> {
        self.server.register(peer, body).await
    }

    async fn token(&self, headers: &HeaderMap, peer: IpAddr, body: Bytes) -> Response<Bytes> {
        self.server.token(headers, peer, body).await
    }

    async fn revoke(&self, headers: &HeaderMap, peer: IpAddr, body: Bytes) -> Response<Bytes> {
        self.server.revoke(headers, peer, body).await
    }

    async fn authorize(&self, peer: IpAddr, query: &str, session: Option<&BrowserSession>) -> Step {
        self.server.from_peer(peer).authorize(query, session).await
    }

    async fn resume(&self, peer: IpAddr, transaction: &str, session: &BrowserSession) -> Step {
        self.server.from_peer(peer).resume(transaction, session).await
    }

    async fn decide(&self, peer: IpAddr, transaction: &str, session: &BrowserSession, approved: bool) -> Step {
        self.server.from_peer(peer).decide(transaction, session, approved).await
    }

    fn wants_login(&self, transaction: &str) -> Option<bool> {
        self.server.wants_login(transaction)
    }

    fn has_break_glass(&self) -> bool {
        self.login.has_break_glass()
    }

    async fn break_glass(
        &self,
        peer: IpAddr,
        password: &str,
        code: &str,
        return_to: ReturnTo,
        headers: &HeaderMap,
    ) -> Result<SignedIn, PageProblem> {
        self.login.from_peer(peer).break_glass(password, code, return_to, headers).await
    }

    async fn begin(&self, peer: IpAddr, return_to: ReturnTo, email: Option<&str>, ask: Ask) -> Begin {
        self.login.from_peer(peer).begin(return_to, email, ask).await
    }

    async fn callback(
        &self,
        peer: IpAddr,
        provider: Option<&str>,
        query: &str,
        headers: &HeaderMap,
    ) -> Result<SignedIn, PageProblem> {
        self.login.from_peer(peer).callback(provider, query, headers).await
    }

    async fn demo(
        &self,
        peer: IpAddr,
        user: &str,
        return_to: ReturnTo,
        headers: &HeaderMap,
    ) -> Result<SignedIn, PageProblem> {
        self.login.from_peer(peer).demo(user, return_to, headers).await
    }

    fn is_step_up(&self, handle: &str) -> bool {
        self.login.step_ups().is_fresh(handle)
    }

    async fn step_up(&self, peer: IpAddr, handle: &str, session: &BrowserSession) -> Result<StepUpView, PageProblem> {
        self.login.from_peer(peer).step_up(handle, session).await
    }

    async fn step_up_go(
        &self,
        peer: IpAddr,
        handle: &str,
        session: &BrowserSession,
        purpose: Option<&str>,
    ) -> StepUpNext {
        self.login.from_peer(peer).step_up_go(handle, session, purpose).await
    }

    async fn step_up_return(
        &self,
        peer: IpAddr,
        handle: &str,
        session: &BrowserSession,
    ) -> Result<StepUpView, PageProblem> {
        self.login.from_peer(peer).step_up_return(handle, session).await
    }

    async fn session(&self, headers: &HeaderMap) -> Option<BrowserSession> {
        self.sessions.current(headers).await
    }

    fn csrf(&self, session: &BrowserSession) -> String {
        self.sessions.csrf(session)
    }

    fn check_csrf(&self, session: &BrowserSession, token: &str) -> bool {
        self.sessions.check_csrf(session, token)
    }

    async fn end(&self, session: &BrowserSession) -> Result<HeaderValue, PageProblem> {
        let ended = self.sessions.end(session).await?;
        self.login.signed_out(session);
        Ok(ended)
    }

    async fn clients_of(&self, person: &str) -> Result<Vec<ApprovedClient>, PageProblem> {
        self.server.clients_of(person).await.map_err(unavailable)
    }

    async fn withdraw(&self, person: &str, client: &str) -> Result<(), PageProblem> {
        self.server.withdraw(person, client).await.map_err(unavailable)
    }

    async fn sign_out_everywhere(&self, visit: Visit<'_>, accounts: bool) -> Result<Left, PageProblem> {
        self.leave(visit, accounts).await
    }

    fn approvals(&self) -> Option<&ApprovalPages> {
        self.approvals.as_ref()
    }

    async fn selection(&self, visit: Visit<'_>, handle: &str) -> Option<Result<Selection, SelectionError>> {
        let asked = (self.selection.as_ref()?.look)(visit.session, visit.ip, handle);
        Some(asked.await)
    }

    async fn select(
        &self,
        visit: Visit<'_>,
        handle: &str,
        on: Vec<String>,
    ) -> Option<Result<Selection, SelectionError>> {
        let asked = (self.selection.as_ref()?.choose)(visit.session, visit.ip, handle, on);
        Some(asked.await)
    }
}

/// The store does not answer.
pub(crate) fn unavailable(error: impl std::fmt::Display) -> PageProblem {
    tracing::warn!(%error, "an account page met the database");
    let text = "The gateway cannot reach its database. Nothing was changed.";
    PageProblem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not just now", text)
        .hint("Try again in a moment.")
}
