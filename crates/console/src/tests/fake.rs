use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use bartizan_accounts::Connected;
use bartizan_identity::{
    ApprovedClient, Ask, Begin, BrowserSession, ClientKind, ConsentView, DemoUser, LocalPath, PageProblem, Person,
    ProviderView, ReturnTo, ScopeView, SignedIn, Step, StepUpNext, StepUpView, Want,
};
use bartizan_model::{ManualClock, Secret, ServerId};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use crate::backend::Backend;
use crate::console::{Brand, Console, HomeAsk, PortalView};
use crate::routes::routes;
use crate::selection::{Selection, SelectionError};
use crate::sign_out::Left;
use crate::upstream::{ConnectView, OwnAccount, SignInView, TypedView, Upstream, Visit};

/// 22 Nov 2026, 16:05 UTC.
pub(crate) const NOW: i64 = 1_795_363_500_000;
pub(crate) const ORIGIN: &str = "https://mcp.example.com";
/// What `session` takes for a session.
pub(crate) const COOKIE: &str = "__Host-bartizan=ada";
pub(crate) const CSRF: &str = "csrf-of-s1";

/// Answers as told, and writes down what it was asked to do.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) done: Arc<Mutex<Vec<String>>>,
    pub(crate) step: Option<fn() -> Step>,
    pub(crate) begin: Option<fn() -> Begin>,
    pub(crate) clients: Vec<ApprovedClient>,
    pub(crate) person_name: Option<String>,
    /// The keys cannot be had.
    pub(crate) no_keys: bool,
    pub(crate) own: Vec<OwnAccount>,
    pub(crate) missing: Vec<String>,
    pub(crate) connect_origin: Option<String>,
    pub(crate) connect_url: Option<String>,
    /// What a link to the selection page is; `None` for no such page.
    pub(crate) selection: Option<Result<Selection, SelectionError>>,
    /// Answering and asking; `None` for no such pages.
    pub(crate) approvals: Option<crate::ApprovalPages>,
    /// The check of the token in forms is off.
    pub(crate) any_token: bool,
}

impl Fake {
    fn did(&self, what: impl Into<String>) {
        self.done.lock().unwrap().push(what.into());
    }

    pub(crate) fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn step(&self) -> Step {
        self.step.map_or_else(|| Step::Redirect("https://app.example.com/cb?code=c&iss=i".into()), |step| step())
    }

    fn person(&self) -> BrowserSession {
        let name = self.person_name.clone().unwrap_or_else(|| "Ada Lovelace".to_owned());
        BrowserSession {
            id: "s1".into(),
            person: Arc::new(Person {
                id: "p1".into(),
                provider: "corp".into(),
                issuer: "https://idp.example.com".into(),
                subject: "1".into(),
                email: "ada@example.com".into(),
                name,
                groups: vec!["engineering".into(), "finance".into()],
            }),
            auth_time_ms: NOW,
            amr: Vec::new(),
            acr: None,
            kept: bartizan_identity::KeptFacts::default(),
            provider: "corp".into(),
            created_ms: NOW,
            expires_ms: NOW + 3_600_000,
        }
    }

    fn signed_in(&self, return_to: ReturnTo) -> SignedIn {
        let set_cookies = vec![HeaderValue::from_static("__Host-bartizan=ada; Path=/; Secure; HttpOnly; SameSite=Lax")];
        SignedIn { session: self.person(), set_cookies, return_to }
    }
}

impl Upstream for Fake {
    fn client_document(&self) -> Option<Bytes> {
        Some(Bytes::from_static(br#"{"client_id":"https://mcp.example.com/.well-known/bartizan-client.json"}"#))
    }

    fn server_name(&self, _: Visit<'_>, server: &str) -> Option<String> {
        (server == "notes").then(|| "Notes".to_owned())
    }

    async fn ask(&self, _: Visit<'_>, server: &str) -> Option<Result<ConnectView, PageProblem>> {
        self.did(format!("ask {server}"));
        let origin = self.connect_origin.clone().unwrap_or_else(|| "https://auth.notes.example".to_owned());
        let (shown, scopes) = (format!("shown-{}", origin.len()), vec!["notes.read".into()]);
        let view = ConnectView { id: server.into(), name: "Notes".into(), origin, scopes, shown };
        (server == "notes").then_some(Ok(view))
    }

    async fn leave(
        &self,
        visit: Visit<'_>,
        server: &str,
        return_to: &str,
        shown: &str,
    ) -> Option<Result<Option<String>, PageProblem>> {
        let origin = self.connect_origin.as_deref().unwrap_or("https://auth.notes.example");
        if server == "notes" && !self.any_token && shown != format!("shown-{}", origin.len()) {
            return Some(Ok(None));
        }
        self.did(format!("leave {} {server} {return_to}", visit.session.id));
        let url = self.connect_url.clone().unwrap_or_else(|| "https://auth.notes.example/authorize?state=s".to_owned());
        (server == "notes").then_some(Ok(Some(url)))
    }

    async fn signed(&self, _: Visit<'_>, server: &str) -> Option<Result<SignInView, PageProblem>> {
        (server == "ledger").then(|| Ok(SignInView { provider: "corp".into(), ready: false }))
    }

    fn typed(&self, _: Visit<'_>, server: &str) -> Option<TypedView> {
        let help_url = Some("https://vault.example/tokens?a=1&b=<2>".to_owned());
        (server == "vault").then(|| TypedView { id: server.into(), name: "Vault".into(), help_url })
    }

    async fn keep(&self, visit: Visit<'_>, server: &str, token: Secret<String>) -> Option<Result<(), PageProblem>> {
        self.did(format!("keep {} {server} {}", visit.session.id, token.expose()));
        let bad = || PageProblem::new(StatusCode::BAD_REQUEST, "connect_token", "No", "This is not a token.");
        (server == "vault").then(|| if token.expose() == "bad" { Err(bad()) } else { Ok(()) })
    }

    async fn back(&self, visit: Visit<'_>, query: &str) -> Result<Connected, PageProblem> {
        self.did(format!("back {} {query}", visit.session.id));
        if query == "bad" {
            return Err(PageProblem::new(StatusCode::BAD_REQUEST, "connect_state", "No", "No such connection."));
        }
        let return_to = LocalPath::parse("/connect/notes/done").unwrap();
        Ok(Connected { server: ServerId::parse("notes").unwrap(), return_to })
    }

    async fn missing(&self, _: Visit<'_>) -> Vec<String> {
        self.missing.clone()
    }

    fn agree(&self, session: &BrowserSession, what: &str) -> String {
        format!("agreed-{}-{what}", session.id)
    }

    fn has_agreed(&self, session: &BrowserSession, what: &str, text: &str) -> bool {
        self.any_token || text == self.agree(session, what)
    }

    async fn own(&self, _: Visit<'_>) -> Result<Vec<OwnAccount>, PageProblem> {
        Ok(self.own.clone())
    }

    async fn disconnect(&self, visit: Visit<'_>, server: &str) -> Result<(), PageProblem> {
        self.did(format!("disconnect {} {server}", visit.session.id));
        Ok(())
    }
}

impl Backend for Fake {
    fn approvals(&self) -> Option<&crate::ApprovalPages> {
        self.approvals.as_ref()
    }

    async fn selection(&self, _visit: Visit<'_>, handle: &str) -> Option<Result<Selection, SelectionError>> {
        self.did(format!("look {handle}"));
        self.selection.clone()
    }

    async fn select(
        &self,
        _visit: Visit<'_>,
        handle: &str,
        on: Vec<String>,
    ) -> Option<Result<Selection, SelectionError>> {
        self.did(format!("select {handle} {on:?}"));
        self.selection.clone()
    }

    fn metadata(&self) -> Bytes {
        Bytes::from_static(br#"{"issuer":"https://mcp.example.com"}"#)
    }

    fn openid_configuration(&self) -> Bytes {
        self.metadata()
    }

    async fn jwks(&self) -> Option<Bytes> {
        (!self.no_keys).then(|| Bytes::from_static(br#"{"keys":[]}"#))
    }

    async fn register(&self, peer: IpAddr, body: Bytes) -> http::Response<Bytes> {
        self.did(format!("register {peer} {}", body.len()));
        json(201)
    }

    async fn token(&self, headers: &HeaderMap, peer: IpAddr, body: Bytes) -> http::Response<Bytes> {
        let authorization = headers.get("authorization").is_some();
        self.did(format!("token {peer} {} {authorization}", body.len()));
        json(200)
    }

    async fn revoke(&self, _: &HeaderMap, _: IpAddr, body: Bytes) -> http::Response<Bytes> {
        self.did(format!("revoke {}", body.len()));
        json(200)
    }

    async fn authorize(&self, _: IpAddr, query: &str, session: Option<&BrowserSession>) -> Step {
        self.did(format!("authorize {query} {}", session.is_some()));
        self.step()
    }

    async fn resume(&self, _: IpAddr, transaction: &str, session: &BrowserSession) -> Step {
        self.did(format!("resume {transaction} {}", session.id));
        self.step()
    }

    async fn decide(&self, _: IpAddr, transaction: &str, session: &BrowserSession, approved: bool) -> Step {
        self.did(format!("decide {transaction} {} {approved}", session.id));
        self.step()
    }

    fn wants_login(&self, transaction: &str) -> Option<bool> {
        (transaction != "made-up").then(|| transaction.starts_with("fresh"))
    }

    async fn begin(&self, _: IpAddr, return_to: ReturnTo, email: Option<&str>, ask: Ask) -> Begin {
        self.did(format!("begin {return_to:?} {email:?} {:?}", ask.provider));
        if let Some(prompt) = &ask.prompt {
            self.did(format!("prompt {prompt}"));
        }
        if let Some((issuer, subject)) = &ask.same_person {
            self.did(format!("only {subject} of {issuer}"));
        }
        match self.begin {
            Some(begin) => begin(),
            None => to_provider("https://idp.example.com/auth?state=s"),
        }
    }

    async fn callback(
        &self,
        _: IpAddr,
        provider: Option<&str>,
        query: &str,
        _: &HeaderMap,
    ) -> Result<SignedIn, PageProblem> {
        let at = provider.map(|provider| format!(" at {provider}")).unwrap_or_default();
        self.did(format!("callback {query}{at}"));
        match query {
            "bad" => {
                let mut problem = PageProblem::new(StatusCode::BAD_REQUEST, "sign_in_state", "No", "No such sign-in.");
                problem.set_cookies.push(HeaderValue::from_static("__Host-bartizan-login=; Max-Age=0"));
                Err(problem)
            }
            "step-up" => Ok(self.signed_in(ReturnTo::StepUp("h1".into()))),
            "page" => Ok(self.signed_in(ReturnTo::path("/account"))),
            _ => Ok(self.signed_in(ReturnTo::Authorize("t&1".into()))),
        }
    }

    fn is_step_up(&self, handle: &str) -> bool {
        handle != "old"
    }

    async fn step_up(&self, _: IpAddr, handle: &str, session: &BrowserSession) -> Result<StepUpView, PageProblem> {
        match handle {
            "other" => Err(PageProblem::new(StatusCode::FORBIDDEN, "other_person", "Not yours", "Not yours.")),
            handle => Ok(step_up_view(handle, session)),
        }
    }

    async fn step_up_go(&self, _: IpAddr, handle: &str, session: &BrowserSession, purpose: Option<&str>) -> StepUpNext {
        self.did(format!("step up {handle} {purpose:?}"));
        match purpose {
            Some(_) => StepUpNext::Done(step_up_view(handle, session)),
            None => StepUpNext::Provider(Ask { prompt: Some("login".into()), ..Ask::default() }),
        }
    }

    async fn step_up_return(
        &self,
        _: IpAddr,
        handle: &str,
        session: &BrowserSession,
    ) -> Result<StepUpView, PageProblem> {
        self.did(format!("returned {handle} {}", session.id));
        Ok(step_up_view(handle, session))
    }

    fn has_break_glass(&self) -> bool {
        true
    }

    async fn break_glass(
        &self,
        _: IpAddr,
        password: &str,
        code: &str,
        return_to: ReturnTo,
        _: &HeaderMap,
    ) -> Result<SignedIn, PageProblem> {
        self.did(format!("break glass {password} {code} {return_to:?}"));
        Ok(self.signed_in(return_to))
    }

    async fn demo(&self, _: IpAddr, user: &str, return_to: ReturnTo, _: &HeaderMap) -> Result<SignedIn, PageProblem> {
        self.did(format!("demo {user} {return_to:?}"));
        Ok(self.signed_in(return_to))
    }

    async fn session(&self, headers: &HeaderMap) -> Option<BrowserSession> {
        let cookie = headers.get("cookie")?;
        (cookie.as_bytes() == COOKIE.as_bytes()).then(|| self.person())
    }

    fn csrf(&self, session: &BrowserSession) -> String {
        format!("csrf-of-{}", session.id)
    }

    fn check_csrf(&self, session: &BrowserSession, token: &str) -> bool {
        self.any_token || token == self.csrf(session)
    }

    async fn end(&self, session: &BrowserSession) -> Result<HeaderValue, PageProblem> {
        self.did(format!("end {}", session.id));
        Ok(HeaderValue::from_static("__Host-bartizan=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"))
    }

    async fn clients_of(&self, _: &str) -> Result<Vec<ApprovedClient>, PageProblem> {
        Ok(self.clients.clone())
    }

    async fn withdraw(&self, person: &str, client: &str) -> Result<(), PageProblem> {
        self.did(format!("withdraw {person} {client}"));
        Ok(())
    }

    async fn sign_out_everywhere(&self, visit: Visit<'_>, accounts: bool) -> Result<Left, PageProblem> {
        self.did(format!("everywhere {} {accounts}", visit.session.person.id));
        let url = "https://corp.example/logout?client_id=bartizan&id_token_hint=e30".to_owned();
        // Whoever keeps the accounts signed in without an ID token, here.
        let provider = Some(bartizan_identity::ProviderSignOut { url, is_known: accounts });
        Ok(Left { clients: 2, browsers: 3, accounts: usize::from(accounts), provider })
    }
}

/// A handle that begins with `p` asks for a purpose.
fn step_up_view(handle: &str, _: &BrowserSession) -> StepUpView {
    StepUpView {
        about: "tool <pay> of bank".into(),
        client_name: "Claude Code".into(),
        provider_name: "Example Corp".into(),
        want: if handle.starts_with('p') { Want::Purpose } else { Want::Mfa { max_age_s: 900, acr: None } },
    }
}

fn json(status: u16) -> http::Response<Bytes> {
    let answer = http::Response::builder().status(status).header("content-type", "application/json");
    answer.header("cache-control", "no-store").body(Bytes::from_static(b"{}")).unwrap()
}

pub(crate) fn to_provider(url: &str) -> Begin {
    let set_cookie = HeaderValue::from_static("__Host-bartizan-login=x; Path=/; Secure; HttpOnly; SameSite=Lax");
    Begin::Redirect { url: url.to_owned(), set_cookie }
}

pub(crate) fn providers() -> Begin {
    let provider = |id: &str, name: &str| ProviderView { id: id.into(), name: name.into() };
    Begin::Choose(vec![provider("corp", "Example Corp"), provider("partners", "Partners (Keycloak)")])
}

pub(crate) fn people() -> Begin {
    let user = |email: &str, name: &str, groups: &[&str]| DemoUser {
        email: email.into(),
        name: name.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    Begin::Demo(vec![
        user("ada@example.com", "Ada Lovelace", &["engineering"]),
        user("grace@example.com", "Grace Hopper", &["finance", "governance"]),
        user("alan@example.com", "Alan Turing", &[]),
    ])
}

pub(crate) fn view() -> ConsentView {
    let scope = |name: &str, text: &str| ScopeView { name: name.into(), text: text.into() };
    ConsentView {
        transaction: "t1".into(),
        client_name: "Claude Code".into(),
        client_host: None,
        redirect_host: "localhost".into(),
        redirect_origin: "http://localhost:53682".into(),
        loopback_only: true,
        scopes: vec![
            scope("mcp:read", "See and read with the tools you may use"),
            scope("mcp:write", "Change things with the tools you may use"),
        ],
        resource: "https://mcp.example.com/mcp".into(),
        kind: ClientKind::Registered,
    }
}

pub(crate) fn web_view() -> ConsentView {
    ConsentView {
        client_name: "Claude".into(),
        client_host: Some("claude.ai".into()),
        redirect_host: "claude.ai".into(),
        redirect_origin: "https://claude.ai".into(),
        loopback_only: false,
        kind: ClientKind::Document,
        ..view()
    }
}

/// The router at `https://mcp.example.com`.
pub(crate) fn app(fake: &Fake) -> Router {
    app_at(fake, ORIGIN)
}

pub(crate) fn app_at(fake: &Fake, public_url: &str) -> Router {
    let url = public_url.to_owned();
    let home = Arc::new(move |ask: HomeAsk<'_>| {
        let view = |id: &str, name: &str, path: &str| PortalView {
            id: id.into(),
            name: name.into(),
            description: String::new(),
            endpoint: format!("{url}{path}"),
            own_host: false,
        };
        match (ask.portal, ask.host) {
            (None, Some("hr.example.com")) => {
                let endpoint = "https://hr.example.com/mcp".into();
                Some(PortalView { endpoint, own_host: true, ..view("hr", "Human resources", "") })
            }
            (None | Some("default"), _) => Some(view("default", "", "/mcp")),
            (Some("hr"), _) => Some(view("hr", "Human resources", "/portals/hr/mcp")),
            _ => None,
        }
    });
    let brand = Brand { name: "Acme Tools".into(), support: Some("Questions: it-help@example.com".into()) };
    routes(Console::new(fake.clone(), home, Arc::new(ManualClock::at(NOW)), public_url, brand))
}

/// A request by a browser of whoever `cookie` says.
pub(crate) fn get(path: &str, cookie: Option<&str>) -> Request<Body> {
    let request = Request::get(path).header("accept", "text/html,*/*;q=0.8").header("host", "mcp.example.com");
    let request = cookie.into_iter().fold(request, |request, cookie| request.header("cookie", cookie));
    request.body(Body::empty()).unwrap()
}

/// A form of ours, sent by the browser of Ada.
pub(crate) fn form(path: &str, body: &str) -> Request<Body> {
    let request = Request::post(path).header("accept", "text/html").header("host", "mcp.example.com");
    let request = request.header("origin", ORIGIN).header("sec-fetch-site", "same-origin").header("cookie", COOKIE);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body(Body::from(body.to_owned())).unwrap()
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> Response {
    app.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn text(answer: Response) -> String {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Status and body.
pub(crate) async fn ask(app: &Router, request: Request<Body>) -> (u16, String) {
    let answer = send(app, request).await;
    (answer.status().as_u16(), text(answer).await)
}

pub(crate) fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}
