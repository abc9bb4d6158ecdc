//! What the pages need from `identity`. A seam, so that tests can put every answer, also
//! those that must never come, in front of the pages.

use std::future::Future;
use std::net::IpAddr;

use bartizan_identity::{
    ApprovedClient, Ask, AuthorizationServer, Begin, BrowserSession, BrowserSessions, Login, PageProblem, ReturnTo,
    SignedIn, Step,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

/// The methods are those of [`AuthorizationServer`], [`Login`] and [`BrowserSessions`].
pub(crate) trait Backend: Send + Sync + 'static {
    fn metadata(&self) -> Bytes;
    fn openid_configuration(&self) -> Bytes;
    fn register(&self, peer: IpAddr, body: Bytes) -> impl Future<Output = Response<Bytes>> + Send;
    fn token(&self, headers: &HeaderMap, peer: IpAddr, body: Bytes) -> impl Future<Output = Response<Bytes>> + Send;
    fn revoke(&self, headers: &HeaderMap, peer: IpAddr, body: Bytes) -> impl Future<Output = Response<Bytes>> + Send;

    fn authorize(&self, query: &str, session: Option<&BrowserSession>) -> impl Future<Output = Step> + Send;
    fn resume(&self, transaction: &str, session: &BrowserSession) -> impl Future<Output = Step> + Send;
    fn decide(&self, transaction: &str, session: &BrowserSession, approved: bool) -> impl Future<Output = Step> + Send;

    fn wants_login(&self, transaction: &str) -> bool;
    fn begin(&self, return_to: ReturnTo, email: Option<&str>, ask: Ask) -> impl Future<Output = Begin> + Send;
    fn callback(&self, query: &str, headers: &HeaderMap) -> impl Future<Output = Result<SignedIn, PageProblem>> + Send;
    fn demo(
        &self,
        user: &str,
        return_to: ReturnTo,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<SignedIn, PageProblem>> + Send;

    fn session(&self, headers: &HeaderMap) -> impl Future<Output = Option<BrowserSession>> + Send;
    fn csrf(&self, session: &BrowserSession) -> String;
    fn check_csrf(&self, session: &BrowserSession, token: &str) -> bool;
    fn end(&self, session: &BrowserSession) -> impl Future<Output = Result<HeaderValue, PageProblem>> + Send;

    fn clients_of(&self, person: &str) -> impl Future<Output = Result<Vec<ApprovedClient>, PageProblem>> + Send;
    fn withdraw(&self, person: &str, client: &str) -> impl Future<Output = Result<(), PageProblem>> + Send;
    fn sign_out_everywhere(&self, person: &str) -> impl Future<Output = Result<(), PageProblem>> + Send;
}

/// The real parts.
pub(crate) struct Real {
    pub(crate) server: AuthorizationServer,
    pub(crate) login: Login,
    pub(crate) sessions: BrowserSessions,
}

impl Backend for Real {
    fn metadata(&self) -> Bytes {
        self.server.metadata()
    }

    fn openid_configuration(&self) -> Bytes {
        self.server.openid_configuration()
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

    async fn authorize(&self, query: &str, session: Option<&BrowserSession>) -> Step {
        self.server.authorize(query, session).await
    }

    async fn resume(&self, transaction: &str, session: &BrowserSession) -> Step {
        self.server.resume(transaction, session).await
    }

    async fn decide(&self, transaction: &str, session: &BrowserSession, approved: bool) -> Step {
        self.server.decide(transaction, session, approved).await
    }

    fn wants_login(&self, transaction: &str) -> bool {
        self.server.wants_login(transaction)
    }

    async fn begin(&self, return_to: ReturnTo, email: Option<&str>, ask: Ask) -> Begin {
        self.login.begin(return_to, email, ask).await
    }

    async fn callback(&self, query: &str, headers: &HeaderMap) -> Result<SignedIn, PageProblem> {
        self.login.callback(query, headers).await
    }

    async fn demo(&self, user: &str, return_to: ReturnTo, headers: &HeaderMap) -> Result<SignedIn, PageProblem> {
        self.login.demo(user, return_to, headers).await
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

    async fn sign_out_everywhere(&self, person: &str) -> Result<(), PageProblem> {
        self.server.sign_out_everywhere(person).await.map_err(unavailable)
    }
}

/// The store does not answer.
fn unavailable(error: impl std::fmt::Display) -> PageProblem {
    tracing::warn!(%error, "an account page met the database");
    let text = "The gateway cannot reach its database. Nothing was changed.";
    PageProblem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not just now", text)
        .hint("Try again in a moment.")
}
