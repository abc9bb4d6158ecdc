//! Signing in, put together: authorization server, company login, pages.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use bartizan_accounts::{Accounts, SubjectError, SubjectTokens, SubjectWanted};
use bartizan_assert::Signer;
use bartizan_audit::Audit;
use bartizan_catalog::{PortalSpec, Snapshot};
use bartizan_config::Live;
use bartizan_config::agents::Agent;
use bartizan_config::resources::{Client, IdentityProvider, Resources, SubjectToken};
use bartizan_config::settings::SignIn;
use bartizan_console::{
    ApprovalPages, Brand, ClientAddress, ConsoleDeps, HomeAsk, PortalView, SelectionPages, UpstreamAccounts,
};
use bartizan_egress::Egress;
use bartizan_gate::{Access, Circumstances, Endpoint, Gate};
use bartizan_identity::{
    Agents, AtRefresh, AuthorizationServer, AuthorizationServerDeps, BREAK_GLASS_PROVIDER, BreakGlass, BrowserSession,
    DemoUser, Entrance, Identity, IdentityEvent, KnownProvider, Login, LoginDeps, Machines, Recorder, SCOPES,
    SubjectKind, SubjectProblem, Witness,
};
use bartizan_model::event::{AuditEvent, EventKind, Outcome, Verdict, Who};
use bartizan_model::{Clock, EventId, PortalId, Principal, PrincipalKind, ReasonCode, Secret, ServerId};
use bartizan_portal::{Pages, Web, WebAnswer};
use bartizan_scim::ScimDeps;
use bartizan_store::Store;
use bartizan_vault::Vault;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::refusals::{self, Refusals};

/// What signing in needs of the process.
pub(crate) struct SignInDeps {
    pub(crate) store: Store,
    pub(crate) vault: Vault,
    pub(crate) egress: Egress,
    /// The way to what strangers name: no private address.
    pub(crate) documents: Egress,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) public_url: String,
    pub(crate) settings: SignIn,
    pub(crate) live: Arc<Live<Snapshot>>,
    /// Takes events.
    pub(crate) record: Recorder,
    /// People's accounts at servers.
    pub(crate) upstream: UpstreamAccounts,
    /// Choosing servers of a portal.
    pub(crate) selection: SelectionPages,
    /// Answering and asking.
    pub(crate) approvals: ApprovalPages,
    pub(crate) people: Arc<People>,
    pub(crate) gate: Gate,
    /// Puts what must not be lost on record.
    pub(crate) witness: Witness,
    /// Only `dev` has some.
    pub(crate) demo_users: Vec<DemoUser>,
    /// Tells upstream servers who calls; its keys are published.
    pub(crate) signer: Signer,
    /// Changes objects.
    pub(crate) admin: bartizan_admin::Engine,
    /// What the administration does in other crates.
    pub(crate) areas: bartizan_admin::Areas,
    /// Knows tokens.
    pub(crate) identity: Arc<Identity>,
}

/// Providers and clients with their secrets, as the last good configuration has them.
#[derive(Default)]
pub(crate) struct People {
    providers: ArcSwap<Vec<IdentityProvider>>,
    clients: ArcSwap<Vec<Client>>,
    agents: ArcSwap<Vec<Agent>>,
    /// Tokens of the directory; of the start.
    scim: ArcSwap<Vec<Secret<String>>>,
}

impl People {
    /// Whether a provider speaks for people still; demo people speak for themselves.
    pub(crate) fn known_provider(self: &Arc<Self>, demo: bool, break_glass: bool) -> KnownProvider {
        let people = Arc::clone(self);
        Arc::new(move |id, issuer| {
            let listed = |it: &IdentityProvider| it.id == id && it.issuer == issuer;
            (demo && id == "demo" && issuer == "demo")
                || (break_glass && id == BREAK_GLASS_PROVIDER && issuer == BREAK_GLASS_PROVIDER)
                || people.providers.load().iter().any(listed)
        })
    }

    /// Takes what a configuration says; its secrets are resolved.
    pub(crate) fn take(&self, filled: &Resources) {
        self.providers.store(Arc::new(filled.identity_providers.clone()));
        self.clients.store(Arc::new(filled.clients.clone()));
        self.agents.store(Arc::new(filled.agents.clone()));
    }

    /// Takes the tokens of the directory.
    pub(crate) fn take_scim(&self, tokens: Vec<Secret<String>>) {
        self.scim.store(Arc::new(tokens));
    }

    /// The agents, as the last good configuration has them.
    pub(crate) fn agents(self: &Arc<Self>) -> Agents {
        let people = Arc::clone(self);
        Arc::new(move || people.agents.load_full())
    }
}

/// The pages, and what the portal says about them.
pub(crate) fn pages(deps: SignInDeps) -> Pages {
    let issuer = deps.public_url.trim_end_matches('/').to_owned();
    let record = deps.record;
    let (providers, clients) = (Arc::clone(&deps.people), Arc::clone(&deps.people));
    let vouching = Arc::clone(&deps.people);
    let machines = Machines {
        egress: deps.egress.clone(),
        providers: Arc::new(move || vouching.providers.load_full()),
        agents: deps.people.agents(),
    };
    let scim = ScimDeps {
        store: deps.store.clone(),
        clock: Arc::clone(&deps.clock),
        public_url: issuer.clone(),
        tokens: deps.people.scim.load_full(),
        record: Arc::clone(&record),
    };
    let login = Login::new(LoginDeps {
        store: deps.store.clone(),
        vault: deps.vault.clone(),
        egress: deps.egress,
        clock: Arc::clone(&deps.clock),
        public_url: issuer.clone(),
        providers: Arc::new(move || providers.providers.load_full()),
        demo_users: deps.demo_users,
        break_glass: deps.settings.break_glass.then(|| {
            let account = BreakGlass::new(deps.vault.clone(), deps.store.clone(), Arc::clone(&deps.clock));
            account.with_witness(deps.witness)
        }),
        lifetimes: deps.settings.lifetimes.clone(),
        record: Arc::clone(&record),
    });
    let upstream = with_subject_tokens(deps.upstream, &login);
    let sessions = login.sessions();
    let roles = Arc::clone(&deps.live);
    let api = bartizan_admin::Api::new(
        deps.admin,
        crate::admin::identify(deps.identity, sessions.clone(), deps.gate.kills().clone(), &issuer),
        Arc::new(move |principal| roles.load().roles.of(principal)),
        deps.areas,
        &issuer,
    );
    let (base, hosts) = (issuer.clone(), Arc::clone(&deps.live));
    let server = AuthorizationServer::new(AuthorizationServerDeps {
        store: deps.store,
        vault: deps.vault,
        documents: deps.documents,
        clock: Arc::clone(&deps.clock),
        issuer: issuer.clone(),
        settings: Arc::new(deps.settings),
        clients: Arc::new(move || clients.clients.load_full()),
        resources: Arc::new(move |url| is_admin(url, &base) || endpoint(url, &base, &hosts.load()).is_some()),
        record,
    })
    .with_machines(machines)
    .with_refresh(AtRefresh {
        again: {
            let login = login.clone();
            Arc::new(move |person| {
                let login = login.clone();
                Box::pin(async move { login.ask_again(&person).await })
            })
        },
        may_enter: {
            let (gate, base, live) = (deps.gate, issuer.clone(), Arc::clone(&deps.live));
            Arc::new(move |entrance| may_enter(entrance, &base, &gate, &live.load()))
        },
    });
    let (live, base) = (deps.live, issuer.clone());
    let signer = deps.signer;
    let router = bartizan_console::router(ConsoleDeps {
        server,
        login,
        sessions,
        home: Arc::new(move |ask| home(&ask, &base, &live.load())),
        clock: deps.clock,
        public_url: issuer.clone(),
        brand: Brand::default(),
        upstream: Some(upstream),
        selection: Some(deps.selection),
        approvals: Some(deps.approvals),
        jwks: Arc::new(move || {
            let signer = signer.clone();
            Box::pin(async move {
                let keys = signer.jwks().await;
                keys.inspect_err(|error| tracing::warn!(%error, "the key set cannot be served")).ok()
            })
        }),
    });
    let router = crate::scim::beside(router, scim);
    Pages {
        web: crate::admin::beside(Arc::new(Site(router)), api),
        issuer,
        scopes: SCOPES.iter().map(|(name, _)| *name).collect(),
    }
}

/// People's accounts with the servers they may have them at: those the gate would let them use.
pub(crate) fn upstream(accounts: Accounts, gate: Gate, live: Arc<Live<Snapshot>>) -> UpstreamAccounts {
    let on_sign_in = move || {
        let snapshot = live.load();
        let wanted = snapshot.order.iter().filter(|spec| spec.connect_on_sign_in);
        wanted.map(|spec| spec.id.clone()).collect()
    };
    let servers = move |session: &BrowserSession, ip, server: &ServerId| {
        let groups = session.person.groups.iter().map(|group| Arc::from(group.as_str()));
        let principal = Arc::new(Principal::new(PrincipalKind::User, session.person.email.as_str(), groups));
        let circumstances = Circumstances { facts: Some(Arc::new(session.facts())), ..Circumstances::default() };
        gate.server_for(&principal, &circumstances, ip, server)
    };
    UpstreamAccounts { accounts, servers: Arc::new(servers), on_sign_in: Arc::new(on_sign_in) }
}

/// Gives the accounts what sign-ins left behind, for servers whose credential is exchanged
/// for a person's own token (P17).
fn with_subject_tokens(upstream: UpstreamAccounts, login: &Login) -> UpstreamAccounts {
    let login = login.clone();
    let tokens: SubjectTokens = Arc::new(move |wanted: SubjectWanted| {
        let login = login.clone();
        Box::pin(async move {
            let kind = match wanted.token {
                SubjectToken::IdToken => SubjectKind::Id,
                SubjectToken::AccessToken => SubjectKind::Access,
                SubjectToken::RefreshToken => SubjectKind::Refresh,
                // Not the provider's: made here.
                SubjectToken::Assertion => return Err(SubjectError::OtherProvider),
            };
            let token = login.subject_token(&wanted.provider, &wanted.principal.id, kind).await;
            token.map_err(|problem| match problem {
                SubjectProblem::SignInNeeded => SubjectError::SignInNeeded,
                SubjectProblem::Unavailable(why) => SubjectError::Unavailable(why.to_owned()),
                SubjectProblem::OtherProvider => SubjectError::OtherProvider,
            })
        })
    });
    UpstreamAccounts { accounts: upstream.accounts.with_subject_tokens(tokens), ..upstream }
}

/// The endpoint at a canonical URL. Every well-formed name is one, whether it exists or not:
/// the answer must not tell.
fn endpoint(url: &str, base: &str, snapshot: &Snapshot) -> Option<Endpoint> {
    let host = url.strip_prefix("https://").and_then(|rest| rest.strip_suffix("/mcp"));
    if let Some(portal) = host.and_then(|host| snapshot.portal_hosts.get(host)) {
        return Some(Endpoint::Portal(portal.id.clone()));
    }
    let path = url.strip_prefix(base)?;
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["", "mcp"] => PortalId::parse("default").ok().map(Endpoint::Portal),
        ["", "portals", id, "mcp"] => PortalId::parse(id).ok().map(Endpoint::Portal),
        ["", "servers", id, "mcp"] => ServerId::parse(id).ok().map(Endpoint::Server),
        _ => None,
    }
}

/// Whether a canonical URL is that of the administration.
fn is_admin(url: &str, base: &str) -> bool {
    url.strip_prefix(base) == Some(bartizan_admin::PATH)
}

/// Whether the policy would let somebody in who wants to go on (A5). What only a connection
/// to the endpoint tells, country and device, is not known here: where rules of the endpoint
/// look at those, each request is judged and a refresh is not.
fn may_enter(entrance: &Entrance<'_>, base: &str, gate: &Gate, snapshot: &Snapshot) -> bool {
    if is_admin(entrance.resource, base) {
        // Roles are looked at with each request.
        return true;
    }
    let Some(endpoint) = endpoint(entrance.resource, base, snapshot) else { return false };
    let circumstances = Circumstances {
        facts: Some(Arc::clone(entrance.facts)),
        grant: Some(entrance.grant.into()),
        client_id: Some(entrance.client_id.into()),
        ..Circumstances::default()
    };
    let access = gate.visible_endpoint(entrance.principal, &endpoint, Some(entrance.peer), &circumstances);
    let place_matters = || match &endpoint {
        Endpoint::Portal(id) => snapshot.policies.place_matters(Some(id.as_str()), None),
        Endpoint::Server(id) => snapshot.policies.place_matters(None, Some(id)),
    };
    access == Access::Allowed || (access == Access::Denied && place_matters())
}

/// The portal of a home page.
fn home(ask: &HomeAsk<'_>, base: &str, snapshot: &Snapshot) -> Option<PortalView> {
    let own = ask.host.and_then(|host| snapshot.portal_hosts.get(host.to_ascii_lowercase().as_str()));
    let view = |portal: &PortalSpec, endpoint: String, own_host: bool| PortalView {
        id: portal.id.to_string(),
        name: portal.name.to_string(),
        description: portal.description.to_string(),
        endpoint,
        own_host,
    };
    match (ask.portal, own) {
        (None, Some(portal)) => {
            let host = portal.hostname.as_deref().unwrap_or_default();
            Some(view(portal, format!("https://{host}/mcp"), true))
        }
        (id, _) => {
            let id = PortalId::parse(id.unwrap_or("default")).ok()?;
            let portal = snapshot.portals.get(&id)?;
            let path = if id.as_str() == "default" { "/mcp".to_owned() } else { format!("/portals/{id}/mcp") };
            Some(view(portal, format!("{base}{path}"), false))
        }
    }
}

/// Puts events of signing in on record. What strangers can cause at will is summed up, so that
/// they cannot fill the record and stop calls with it.
pub(crate) fn recorder(audit: Audit, live: Arc<Live<Snapshot>>, events: TaskTracker) -> Recorder {
    let refusals = Arc::new(Refusals::default());
    let write = {
        let events = events.clone();
        move |event: IdentityEvent| {
            let (audit, version) = (audit.clone(), live.load().version);
            events.spawn(async move {
                let method = format!("auth/{}", event.action.as_str());
                if let Err(error) = audit.append(on_record(event, version)).await {
                    tracing::error!(%error, method, "an event of signing in is not on record");
                }
            });
        }
    };
    let (seen, sum_up) = (Arc::downgrade(&refusals), write.clone());
    // Not tracked: at the end nobody waits for the next minute.
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(refusals::EVERY).await;
            let Some(refusals) = seen.upgrade() else { return };
            refusals.summary().into_iter().for_each(&sum_up);
        }
    });
    Arc::new(move |event: IdentityEvent| {
        if refusals.note(&event) {
            write(event);
        }
    })
}

/// Puts an event on record, durably, before it counts.
pub(crate) fn witness(audit: Audit, live: Arc<Live<Snapshot>>) -> Witness {
    Arc::new(move |event| {
        let (audit, version) = (audit.clone(), live.load().version);
        Box::pin(async move {
            let kept = audit.append_durable(on_record(event, version)).await;
            kept.inspect_err(|error| tracing::error!(%error, "nobody is let in without a record")).is_ok()
        })
    })
}

fn on_record(event: IdentityEvent, policy_version: u64) -> AuditEvent {
    let (kind, principal) = match &event.person {
        Some(email) => (PrincipalKind::User, format!("user:{email}")),
        None => (PrincipalKind::Anonymous, "anonymous:anonymous".to_owned()),
    };
    let who = Who {
        principal,
        groups: event.groups,
        client: event.client,
        ip: event.ip.map(|ip| ip.to_string()),
        ..Who::default()
    };
    let id = EventId::new(event.at_ms);
    let method = format!("auth/{}", event.action.as_str());
    let mut record = AuditEvent::new(id, event.at_ms, EventKind::Auth, kind, who, &method);
    if !event.ok {
        record.verdict = Verdict::refused("authenticate", ReasonCode::Unauthenticated, None);
        record.outcome = Outcome::Refused;
    }
    record.policy_version = policy_version;
    record.note = match (event.provider, event.note) {
        (Some(provider), Some(note)) => Some(format!("{note}; provider {provider}")),
        (Some(provider), None) => Some(format!("provider {provider}")),
        (None, note) => note,
    };
    record
}

/// The router as the portal sees it.
struct Site(Router);

impl Web for Site {
    fn answer(&self, request: Request<Bytes>, from: IpAddr) -> WebAnswer {
        let router = self.0.clone();
        Box::pin(async move {
            let mut request = request.map(|body| axum::body::Body::new(Full::new(body)));
            request.extensions_mut().insert(ClientAddress(from));
            request.extensions_mut().insert(bartizan_scim::ClientAddress(from));
            let answer = match router.oneshot(request).await {
                Ok(answer) => answer,
                Err(never) => match never {},
            };
            let (parts, body) = answer.into_parts();
            match body.collect().await {
                Ok(body) => Response::from_parts(parts, body.to_bytes()),
                Err(error) => {
                    tracing::error!(%error, "a page ended early");
                    let mut broken = Response::new(Bytes::new());
                    *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    broken
                }
            }
        })
    }
}
