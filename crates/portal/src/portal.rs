//! One request: admit → authenticate → decode → dispatch → respond.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bartizan_gate::{
    Access, Caller, Changed, Circumstances, Endpoint, Gate, Revocation, SEEN_EVERY_MS, Scopes, Selection,
    credential_holder,
};
use bartizan_identity::{Held, Identity};
use bartizan_model::{Clock, Era, EventId, PortalId, Principal, PrincipalKind};
use bartizan_telemetry::{Metrics, TraceContext};
use bartizan_tls::PublicTls;
use bartizan_wire::{ClientProfile, Params};
use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as HttpBody;
use tokio::net::TcpListener;

use crate::admit::{BodyError, Door, DoorError, client_address, discard_rest, read_body};
use crate::authenticate::{Recognised, Refused, authenticate, challenge, endpoint_path};
use crate::body::Body;
use crate::cluster::{self, Passage, Replicas};
use crate::credentials::{self, Credentials};
use crate::decode::{Incoming, decode, media, single_header};
use crate::drain::{Drain, Phase};
use crate::failures::{self, Failure, Failures};
use crate::listener::{Bounds, H2_RESETS, H2_STREAMS, Security, serve};
use crate::places::{CallerTicket, Places, owner};
use crate::respond::{self, Problem, ProblemKind, REQUEST_ID, Reply};
use crate::route::Place;
use crate::sessions::{Asker, Lost, Session, Sessions, SessionsDeps, Transport};
use crate::settings::Settings;
use crate::streams::Seat;
use crate::web::{self, Pages};
use crate::{cors, legacy, modern, narrowing, route};

/// What the data plane needs.
#[derive(Clone)]
pub struct PortalDeps {
    /// Decides everything.
    pub gate: Gate,
    /// Tells who calls.
    pub identity: Arc<Identity>,
    /// Prepared settings.
    pub settings: Arc<Settings>,
    /// Wall clock, for session ages and event ids.
    pub clock: Arc<dyn Clock>,
    /// Counters.
    pub metrics: Metrics,
    /// Phase of the process; shared with the operations listener.
    pub drain: Drain,
    /// Pages and sign-in; without them only service tokens come in.
    pub pages: Option<Pages>,
}

/// The data plane. Cheap to clone.
#[derive(Clone)]
pub struct Portal(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) gate: Gate,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Drain,
    pages: Option<Pages>,
    /// The other processes of the installation, when there are some.
    pub(crate) replicas: OnceLock<Arc<dyn Replicas>>,
    pub(crate) sessions: Sessions,
    pub(crate) credentials: Arc<Credentials>,
    calls: Arc<Places<Arc<str>>>,
    streams: Arc<Places<Arc<str>>>,
    failures: Failures,
    identity: Arc<Identity>,
    anonymous: Arc<Principal>,
}

/// A request whose sender and endpoint are known.
pub(crate) struct Arrival<'r> {
    pub(crate) headers: &'r HeaderMap,
    pub(crate) endpoint: Endpoint,
    pub(crate) principal: Arc<Principal>,
    /// The credential, to ask later whether it is good still; None for anonymous callers.
    pub(crate) held: Option<Held>,
    /// Which credential: a grant or a service token.
    credential: Option<Arc<str>>,
    /// What was switched off for the credential; of modern requests only.
    pub(crate) selection: Selection,
    /// What the credential lets its holder do at most.
    scopes: Scopes,
    /// What is known about the sign-in and the device.
    circumstances: Circumstances,
    /// What ends the calls of the credential.
    revocation: Revocation,
    pub(crate) ip: IpAddr,
    /// The portal's own host name, if that was used.
    own_host: Option<&'r str>,
    /// How the request came, to pass it on.
    pub(crate) passage: Passage<'r>,
}

/// How often idle sessions are looked for.
const SWEEP: Duration = Duration::from_secs(60);

impl Portal {
    /// A data plane over these parts. Within a runtime it also starts the task that
    /// ends idle sessions; that task ends with the last clone or with draining.
    pub fn new(deps: PortalDeps) -> Self {
        let limits = &deps.settings.limits;
        let sessions = Sessions::new(SessionsDeps {
            states: deps.gate.states().clone(),
            handles: deps.gate.handles().clone(),
            clock: Arc::clone(&deps.clock),
            idle_ms: limits.session_idle_ms,
            per_owner: limits.sessions_per_principal,
            node: Arc::clone(deps.gate.node()),
            metrics: deps.metrics.clone(),
        });
        let portal = Self(Arc::new(Inner {
            gate: deps.gate,
            sessions,
            credentials: Arc::default(),
            calls: Places::new(limits.streams_per_principal),
            streams: Places::new(limits.streams_per_principal),
            failures: Failures::default(),
            settings: deps.settings,
            clock: deps.clock,
            metrics: deps.metrics,
            drain: deps.drain,
            pages: deps.pages,
            replicas: OnceLock::new(),
            identity: deps.identity,
            anonymous: Arc::new(Principal::anonymous()),
        }));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(sweep(Arc::downgrade(&portal.0)));
            runtime.spawn(watch(Arc::downgrade(&portal.0)));
            runtime.spawn(follow(Arc::downgrade(&portal.0), portal.0.gate.states().changes()));
            portal.0.drain.spawn(sum_up(Arc::downgrade(&portal.0)));
        }
        portal
    }

    /// Serves connections until draining closes the listener. Connections go on in
    /// tasks of their own; [`Drain::run`] waits for them.
    pub async fn serve(&self, listener: TcpListener) {
        self.serve_with(listener, Security::None).await;
    }

    /// The same behind TLS (O8).
    pub async fn serve_tls(&self, listener: TcpListener, tls: PublicTls) {
        self.serve_with(listener, Security::Public(tls)).await;
    }

    async fn serve_with(&self, listener: TcpListener, security: Security) {
        let portal = self.clone();
        let settings = &self.0.settings;
        let bounds = Bounds {
            head: settings.client_read(),
            connections: settings.max_connections,
            per_address: settings.limits.connections_per_address,
            idle: Duration::from_millis(settings.limits.connection_idle_ms),
            streams: H2_STREAMS,
            resets: H2_RESETS,
            uncounted: settings.trusted_proxies.clone(),
        };
        let drain = self.0.drain.clone();
        serve(listener, security, drain, bounds, move |request, peer| {
            let portal = portal.clone();
            async move { portal.handle(request, peer).await }
        })
        .await;
    }

    /// Goes down in order (O3): readiness off, a while for balancers to notice, then no
    /// new connections, calls end, streams close. True when everything ended by itself
    /// before the deadline.
    pub async fn drain(&self) -> bool {
        let limits = &self.0.settings.limits;
        let wait = Duration::from_millis(limits.drain_wait_ms);
        let deadline = Duration::from_millis(limits.drain_deadline_ms);
        let gate = async {
            self.0.drain.closing().await;
            self.0.gate.drain(deadline).await
        };
        let (connections, calls) = tokio::join!(self.0.drain.run(wait, deadline), gate);
        connections && calls
    }

    /// Legacy sessions this process has in memory at this moment.
    pub fn session_count(&self) -> usize {
        self.0.sessions.len()
    }

    /// Ends idle sessions now; otherwise done once a minute.
    pub async fn sweep(&self) {
        self.0.sessions.sweep().await;
    }

    /// Answers one request. Never fails: what goes wrong is an answer.
    pub async fn handle<B>(&self, request: Request<B>, peer: SocketAddr) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        let (parts, mut body) = request.into_parts();
        let mut answer = match self.answer(&parts, &mut body, peer).await {
            Ok(answer) => answer,
            Err(problem) => problem.respond(),
        };
        discard_rest(body).await;
        if !answer.headers().contains_key(REQUEST_ID) {
            respond::set_request_id(&mut answer, EventId::new(self.0.clock.now_ms()));
        }
        if self.0.drain.phase() >= Phase::Leaving {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn answer<B>(&self, parts: &Parts, body: B, peer: SocketAddr) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        let inner = &self.0;
        let passed = cluster::is_passed(parts);
        // Another process passes on what it saw, and no pages.
        let (peer, _) = cluster::seen_by(parts, peer).ok_or(ProblemKind::Endpoint)?;
        let own_host = |host: &str| inner.gate.portal_by_hostname(host).is_some();
        let door = Door { settings: &inner.settings, loopback: inner.settings.loopback, addresses: false };
        let host = door.host(parts, own_host).map_err(turned_away)?;
        let host_portal = inner.portal_of(host);
        let way = route::parse(parts.uri.path(), &inner.settings.base_path);
        // A person who opens an endpoint in a browser sees a page that explains it (P56).
        if passed && (way.0 == route::Path::Unknown || way.1 == Place::Metadata) {
            return Err(ProblemKind::Endpoint.into());
        }
        let person =
            !passed && parts.method == Method::GET && way.1 != Place::Metadata && respond::wants_page(&parts.headers);
        if let (Some(pages), true) = (&inner.pages, person || way == (route::Path::Unknown, Place::Mcp)) {
            let from = client_address(peer.ip(), &parts.headers, &inner.settings.trusted_proxies);
            return self.page(pages, parts, body, from).await;
        }
        if way.0 == route::Path::Administration && host_portal.is_none() && inner.pages.is_some() {
            let url = format!("{}{}", inner.settings.public_url, route::ADMINISTRATION);
            return web::metadata(inner.pages.as_ref(), parts, &url);
        }
        let endpoint = way.0.endpoint(host_portal.clone()).ok_or(ProblemKind::Endpoint);
        if let (Ok(endpoint), Place::Metadata) = (&endpoint, way.1) {
            // Public, and the same for every page that asks.
            let url = inner.endpoint_url(endpoint, host_portal.is_some().then_some(host));
            return web::metadata(inner.pages.as_ref(), parts, &url);
        }
        let origin = door.origin(parts, own_host).map_err(turned_away)?;
        let answer = match endpoint {
            Ok(endpoint) => {
                self.inside(parts, body, peer, host_portal.is_some().then_some(host), endpoint, way.1).await
            }
            Err(problem) => Err(problem.into()),
        };
        match origin {
            None => answer,
            // A page of an allowed origin may read refusals too.
            Some(origin) => {
                let mut answer = answer.unwrap_or_else(Problem::respond);
                cors::allow(&mut answer, origin);
                Ok(answer)
            }
        }
    }

    async fn inside<B>(
        &self,
        parts: &Parts,
        body: B,
        peer: SocketAddr,
        own_host: Option<&str>,
        endpoint: Endpoint,
        place: Place,
    ) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        let inner = &self.0;
        if parts.method == Method::OPTIONS {
            return Ok(cors::preflight(&parts.headers));
        }
        let url = || inner.endpoint_url(&endpoint, own_host);
        if parts.method == Method::GET && respond::wants_page(&parts.headers) {
            return Err(ProblemKind::Method { allow: ALLOW, page: Some(url()) }.into());
        }
        let to_challenge = |invalid| challenge(&inner.settings, &endpoint, own_host, invalid, inner.scopes());
        let ip = client_address(peer.ip(), &parts.headers, &inner.settings.trusted_proxies);
        let known = authenticate(&inner.identity, &inner.anonymous, &parts.headers, url, to_challenge).await;
        let Recognised { principal, held, credential, scopes, mut circumstances } = match known {
            Ok(known) => known,
            Err(refused) => return Ok(inner.refuse(refused, ip, &endpoint)),
        };
        let scopes = narrowing::apply(scopes, &narrowing::read(parts)?);
        circumstances.country = inner.settings.facts.country(peer.ip(), ip, &parts.headers);
        circumstances.device = cluster::device(self, parts, peer);
        if held.is_some() {
            inner.metrics.auth("ok");
        }
        match inner.gate.visible_endpoint(&principal, &endpoint, Some(ip), &circumstances) {
            Access::Allowed if held.is_none() => inner.metrics.auth("anonymous"),
            Access::Allowed => {}
            Access::Denied | Access::Unknown if principal.kind == PrincipalKind::Anonymous => {
                inner.metrics.auth("none");
                return Err(ProblemKind::Unauthenticated(to_challenge(false)).into());
            }
            Access::Denied | Access::Unknown => return Err(ProblemKind::Endpoint.into()),
        }
        let revocation = credentials::revocation(&inner.credentials, &inner.identity, held.as_ref());
        let arrival = Arrival {
            headers: &parts.headers,
            endpoint,
            principal,
            held,
            credential,
            selection: Selection::default(),
            scopes,
            circumstances,
            revocation,
            ip,
            own_host,
            passage: Passage { parts, peer, passed: cluster::is_passed(parts) },
        };
        if place == Place::Sse {
            return self.old_transport(parts, arrival, body, own_host).await;
        }
        match parts.method {
            Method::POST => self.post(arrival, body).await,
            Method::GET => legacy::get(self, &arrival).await,
            Method::DELETE => legacy::delete(self, &arrival).await,
            _ => Err(ProblemKind::Method { allow: ALLOW, page: None }.into()),
        }
    }

    async fn post<B>(&self, arrival: Arrival<'_>, body: B) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        let inner = &self.0;
        let events = media(arrival.headers)?;
        let body = self.read(&arrival, body).await?;
        let bytes = body.len() as u64;
        let found = match single_header(arrival.headers, &bartizan_wire::headers::SESSION_ID) {
            Some(id) => arrival.session(self, id, Transport::Streamable).await,
            None => Err(ProblemKind::Session),
        };
        let find = |_: &str| found.clone();
        let incoming = decode(arrival.headers, body.clone(), inner.settings.limits.json_depth, find)?;
        let (method, era) = match &incoming {
            Incoming::One(decoded) => (method_label(decoded.message.method()), decoded.way.era()),
            Incoming::Batch(..) => ("batch", Era::Legacy),
        };
        if let Some(answer) = cluster::elsewhere(self, &arrival, &incoming, &body).await {
            inner.metrics.request(method, era.as_str(), answer.status().as_u16());
            return Ok(answer);
        }
        drop(body);
        let answer = match incoming {
            Incoming::One(decoded) if era == Era::Modern => modern::post(self, arrival, *decoded, events, bytes).await,
            Incoming::One(decoded) => legacy::post(self, arrival, *decoded, events, bytes).await,
            Incoming::Batch(messages, session) => legacy::batch(self, arrival, messages, session, events).await,
        };
        let answer = answer.unwrap_or_else(Problem::respond);
        inner.metrics.request(method, era.as_str(), answer.status().as_u16());
        Ok(answer)
    }

    async fn read<B>(&self, arrival: &Arrival<'_>, body: B) -> Result<Bytes, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        self.read_at_most(arrival.headers, body, self.0.settings.limits.request_body).await
    }

    pub(crate) async fn read_at_most<B>(&self, headers: &HeaderMap, body: B, limit: usize) -> Result<Bytes, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        let read = read_body(headers, body, limit, self.0.settings.client_read()).await;
        read.map_err(|error| unreadable(error, limit).into())
    }

    /// HTTP+SSE of 2024-11-05 (P8).
    async fn old_transport<B>(
        &self,
        parts: &Parts,
        arrival: Arrival<'_>,
        body: B,
        own_host: Option<&str>,
    ) -> Result<Response<Body>, Problem>
    where
        B: HttpBody<Data = Bytes> + Unpin + Send,
    {
        match parts.method {
            Method::GET => {
                let base = if own_host.is_some() { "" } else { self.0.settings.base_path.as_str() };
                let path = if own_host.is_some() { "/mcp".to_owned() } else { endpoint_path(&arrival.endpoint) };
                let path = path.strip_suffix("mcp").unwrap_or("/");
                legacy::sse::open(self, &arrival, &format!("{base}{path}sse")).await
            }
            Method::POST => {
                media(arrival.headers)?;
                let body = self.read(&arrival, body).await?;
                legacy::sse::post(self, arrival, parts.uri.query().unwrap_or_default(), body).await
            }
            _ => Err(ProblemKind::Method { allow: "GET, POST, OPTIONS", page: None }.into()),
        }
    }
}

/// Methods of an endpoint.
const ALLOW: &str = "GET, POST, DELETE, OPTIONS";

impl Inner {
    /// Scopes a client may ask for.
    fn scopes(&self) -> &[&'static str] {
        self.pages.as_ref().map_or(&[], |pages| &pages.scopes)
    }

    /// The portal whose own host name this is; the public host name is nobody's.
    fn portal_of(&self, host: &str) -> Option<PortalId> {
        if host.eq_ignore_ascii_case(&self.settings.public_host) {
            return None;
        }
        self.gate.portal_by_hostname(host)
    }

    /// A refused credential: counted, recorded within bounds, answered.
    fn refuse(&self, refused: Refused, ip: IpAddr, endpoint: &Endpoint) -> Response<Body> {
        self.metrics.auth(refused.kind);
        let now_ms = self.clock.now_ms();
        let id = EventId::new(now_ms);
        let failure = Failure { kind: refused.kind, principal: refused.principal, ip: Some(ip) };
        if self.failures.note(&failure) {
            let (gate, event) = (self.gate.clone(), failure.event(id, now_ms, Some(endpoint), None));
            // The answer does not wait for the disk: whoever fails must not hold on to us.
            self.drain.spawn(async move { gate.record_failed_authentication(event).await });
        }
        let mut answer = Problem::from(refused.problem).respond();
        respond::set_request_id(&mut answer, id);
        answer
    }

    fn endpoint_url(&self, endpoint: &Endpoint, own_host: Option<&str>) -> String {
        match own_host {
            Some(host) => format!("https://{host}/mcp"),
            None => format!("{}{}", self.settings.public_url, endpoint_path(endpoint)),
        }
    }
}

impl Arrival<'_> {
    /// The caller, for the gate.
    pub(crate) fn caller(
        &self,
        profile: &Arc<ClientProfile>,
        session: Option<&Arc<Session>>,
        params: Option<&Params>,
    ) -> Caller {
        let trace = self.trace(params);
        let (client, client_version) = match session {
            Some(session) => session.client(),
            None => client_of(profile),
        };
        Caller {
            principal: Arc::clone(&self.principal),
            profile: Arc::clone(profile),
            ip: Some(self.ip),
            session: session.map(|session| Arc::clone(&session.hash)),
            traceparent: trace.map(|trace| trace.to_string().into()),
            trace_id: trace.map(|trace| trace.trace_id_hex().into()),
            client,
            client_version,
            scopes: self.scopes.clone(),
            circumstances: self.circumstances.clone(),
            selection: session.map_or_else(|| self.selection.clone(), |session| session.selection()),
            revocation: self.revocation.clone(),
        }
    }

    /// The session of this id, if it is this caller's.
    pub(crate) async fn session(
        &self,
        portal: &Portal,
        id: &str,
        transport: Transport,
    ) -> Result<Arc<Session>, ProblemKind> {
        let found = portal.0.sessions.find(id, self.asker(), || self.owner(), transport).await;
        found.map_err(|lost| match lost {
            Lost::Unknown => ProblemKind::Session,
            Lost::Unavailable => ProblemKind::StateUnavailable,
        })
    }

    /// Who asks for a session.
    pub(crate) fn asker(&self) -> Asker<'_> {
        Asker { principal: &self.principal, credential: self.credential.as_deref(), endpoint: &self.endpoint }
    }

    /// Looks up what is switched off for the credential (P36), for requests without a
    /// session.
    pub(crate) async fn select(&mut self, portal: &Portal) -> Result<(), ProblemKind> {
        let (Some(credential), Some(_)) = (&self.credential, self.endpoint.portal()) else { return Ok(()) };
        let holder = credential_holder(credential, &self.endpoint);
        let states = portal.0.gate.states();
        let row = states.get(&holder).await.map_err(|_| ProblemKind::StateUnavailable)?;
        let off = row.as_ref().map(|row| Arc::clone(&row.off)).unwrap_or_default();
        if let Some(row) = &row {
            states.touch(&holder, row, SEEN_EVERY_MS);
        }
        self.selection = Selection { holder: Some(holder), off };
        Ok(())
    }

    /// One of the caller's places for streams that stay open.
    pub(crate) fn stream_place(&self, portal: &Portal) -> Result<CallerTicket, ProblemKind> {
        portal.0.streams.take(&self.owner()).map(Arc::new).ok_or(ProblemKind::Crowded("streams"))
    }

    /// One of the caller's places for calls; taken before the call begins, since its
    /// answer may become a stream. Whoever only listens can still call.
    pub(crate) fn call_place(&self, portal: &Portal) -> Result<CallerTicket, ProblemKind> {
        portal.0.calls.take(&self.owner()).map(Arc::new).ok_or(ProblemKind::Crowded("calls"))
    }

    /// Whose bounds apply.
    pub(crate) fn owner(&self) -> Arc<str> {
        owner(&self.principal, self.ip)
    }

    /// What a stream to the caller needs.
    pub(crate) fn seat(&self, portal: &Portal, place: Option<CallerTicket>) -> Seat {
        let watch = self.held.as_ref().map(|held| portal.0.credentials.watch(held));
        Seat::new(place, watch, &portal.0.metrics)
    }

    /// What the stream of calls needs: it carries their last words.
    pub(crate) fn call_seat(&self, portal: &Portal, place: Option<CallerTicket>) -> Seat {
        self.seat(portal, place).patient()
    }

    /// The answer when the credential stopped being good while it was used.
    pub(crate) fn revoked(&self, portal: &Portal) -> ProblemKind {
        ProblemKind::Unauthenticated(challenge(
            &portal.0.settings,
            &self.endpoint,
            self.own_host,
            true,
            portal.0.scopes(),
        ))
    }

    /// The answer to a request that has a single message as its answer. A credential that
    /// lacks a scope is told which would do (A23).
    pub(crate) fn single(&self, portal: &Portal, reply: Reply) -> Response<Body> {
        let scope = reply.scope.clone();
        let mut answer = respond::single(reply);
        if let Some(scope) = scope {
            let challenge = challenge(&portal.0.settings, &self.endpoint, self.own_host, false, &[]);
            answer.headers_mut().extend(challenge.insufficient(&scope).map(|value| (WWW_AUTHENTICATE, value)));
        }
        answer
    }

    /// The trace the client named: in `_meta` (SEP-414), else in the header.
    fn trace(&self, params: Option<&Params>) -> Option<TraceContext> {
        const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
        let in_meta = params.and_then(|params| params.meta.as_ref()?.traceparent.as_deref());
        let text = in_meta.or_else(|| self.headers.get(TRACEPARENT)?.to_str().ok());
        text.and_then(TraceContext::parse)
    }
}

/// A label from the table of methods: what a client invents must not become a series.
fn method_label(method: Option<&str>) -> &'static str {
    match method {
        None => "response",
        Some(method) => bartizan_wire::method::lookup(method).map_or("other", |info| info.name),
    }
}

/// Name and version as the client gave them.
pub(crate) fn client_of(profile: &ClientProfile) -> (Option<Arc<str>>, Option<Arc<str>>) {
    let (name, version) = profile.client_name();
    let short = |text: String| Arc::from(text.chars().take(128).collect::<String>());
    (name.map(short), version.map(short))
}

fn turned_away(error: DoorError) -> ProblemKind {
    match error {
        DoorError::MalformedHost => ProblemKind::MalformedHost,
        DoorError::Host => ProblemKind::Host,
        DoorError::Origin => ProblemKind::Origin,
    }
}

fn unreadable(error: BodyError, limit: usize) -> ProblemKind {
    match error {
        BodyError::TooLarge => ProblemKind::TooLarge(limit),
        BodyError::Timeout => ProblemKind::SlowBody,
        BodyError::Broken => ProblemKind::BrokenBody,
    }
}

async fn sweep(portal: std::sync::Weak<Inner>) {
    loop {
        let Some(drain) = portal.upgrade().map(|portal| portal.drain.clone()) else { return };
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {}
            () = drain.closing() => return,
        }
        let Some(portal) = portal.upgrade() else { return };
        Portal(portal).sweep().await;
    }
}

/// Ends here what was ended on another replica.
async fn follow(portal: std::sync::Weak<Inner>, mut changes: tokio::sync::broadcast::Receiver<Changed>) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        let changed = match changes.recv().await {
            Ok(changed) => changed,
            Err(RecvError::Lagged(_)) => Changed::Any,
            Err(RecvError::Closed) => return,
        };
        let Some(portal) = portal.upgrade() else { return };
        portal.sessions.heard(changed).await;
    }
}

/// Asks about the credentials of everything that is open, until the process has ended it.
async fn watch(portal: std::sync::Weak<Inner>) {
    loop {
        let Some((drain, every)) =
            portal.upgrade().map(|portal| (portal.drain.clone(), portal.settings.credential_check))
        else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = drain.over() => return,
        }
        let Some(portal) = portal.upgrade() else { return };
        portal.credentials.check(&portal.identity).await;
    }
}

/// Records once a minute how many authentications failed beside those on record; the
/// last time when the process ends.
async fn sum_up(portal: std::sync::Weak<Inner>) {
    let mut closing = false;
    while !closing {
        let Some(drain) = portal.upgrade().map(|portal| portal.drain.clone()) else { return };
        closing = tokio::select! {
            () = tokio::time::sleep(failures::EVERY) => false,
            () = drain.closing() => true,
        };
        let Some(portal) = portal.upgrade() else { return };
        for (failure, more) in portal.failures.summary() {
            let now_ms = portal.clock.now_ms();
            let event = failure.event(EventId::new(now_ms), now_ms, None, Some(more));
            portal.gate.record_failed_authentication(event).await;
        }
    }
}
