//! The administration, put together: objects of the store in use in this process, and the API
//! beside the pages (P54).

use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use bartizan_admin::{
    AdminError, Api, Base, Browser, Engine, Identified, Identify, NotIdentified, Overlaid, PATH, Problem, Reader,
    Record, Refused, SCOPE, State, overlay,
};
use bartizan_audit::Audit;
use bartizan_config::objects::Kind;
use bartizan_gate::Kills;
use bartizan_identity::{AuthErrorKind, BrowserSessions, Identity};
use bartizan_model::{Clock, Principal, PrincipalKind};
use bartizan_portal::{Web, WebAnswer};
use bartizan_store::Store;
use bartizan_store::feed::{Feed, News, POLL};
use bartizan_store::repo::resource::TOPIC;
use bartizan_vault::Vault;
use bytes::Bytes;
use http::header::HeaderName;
use http::{HeaderMap, Request};
use std::net::IpAddr;

use crate::node::Node;
use crate::reload::exchange;

const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");

/// What files and store say, as this process uses it.
pub(crate) struct Objects {
    reader: Reader,
    base: ArcSwap<Base>,
    state: ArcSwap<State>,
    refused: ArcSwap<Vec<Refused>>,
    /// One at a time puts both together.
    turn: tokio::sync::Mutex<()>,
    node: OnceLock<Weak<Node>>,
}

impl Objects {
    /// Of a process that begins with what its files say.
    pub(crate) fn new(store: &Store, vault: &Vault, base: Base) -> Arc<Self> {
        Arc::new(Self {
            reader: Reader::new(store.clone(), vault.clone()),
            base: ArcSwap::from_pointee(base),
            state: ArcSwap::from_pointee(State::default()),
            refused: ArcSwap::default(),
            turn: tokio::sync::Mutex::default(),
            node: OnceLock::new(),
        })
    }

    pub(crate) fn belong_to(&self, node: &Arc<Node>) {
        // Called once, by whoever made both.
        let _ = self.node.set(Arc::downgrade(node));
    }

    /// What changes objects in this process.
    pub(crate) fn engine(self: &Arc<Self>, audit: Audit, clock: Arc<dyn Clock>) -> Engine {
        let (files, own) = (Arc::clone(self), Arc::clone(self));
        let engine = Engine::new(self.reader.clone(), Arc::new(move || files.base.load_full()), clock, recorder(audit));
        engine.with_changed(Arc::new(move || {
            let own = Arc::clone(&own);
            Box::pin(async move {
                let Some(node) = own.node.get().and_then(Weak::upgrade) else { return };
                if let Err(error) = own.refresh(&node).await {
                    tracing::warn!(%error, "a change is not in use here yet; the feed brings it");
                }
            })
        }))
    }

    /// Takes what the store says into use before anybody is served. Without it the files alone
    /// would count, and with them none of the policies of the store.
    pub(crate) async fn begin(&self, node: &Node) -> Result<(), AdminError> {
        let _turn = self.turn.lock().await;
        let state = Arc::new(self.reader.state().await?);
        self.combine(node, self.base.load_full(), state, false).await
    }

    /// Takes what the store says now into use.
    pub(crate) async fn refresh(&self, node: &Node) -> Result<(), AdminError> {
        let _turn = self.turn.lock().await;
        let state = Arc::new(self.reader.state().await?);
        if state.revision == self.state.load().revision && node.live.generation() > 1 {
            return Ok(());
        }
        // What was in use stays in use when it fails.
        drop(self.combine(node, self.base.load_full(), state, false).await);
        Ok(())
    }

    /// Takes what the files say now into use, beside what the store says. Returns the generation.
    pub(crate) async fn take_files(&self, node: &Node, base: Base) -> u64 {
        let _turn = self.turn.lock().await;
        let state = match self.reader.state().await {
            Ok(state) => Arc::new(state),
            Err(error) => {
                tracing::warn!(%error, "objects of the store stay as they were");
                self.state.load_full()
            }
        };
        drop(self.combine(node, Arc::new(base), state, true).await);
        node.live.generation()
    }

    async fn combine(&self, node: &Node, base: Arc<Base>, state: Arc<State>, of_file: bool) -> Result<(), AdminError> {
        let overlaid = together(&base, &state, node.clock.now_ms()).await?;
        for refused in &overlaid.refused {
            tracing::error!(object = line(refused), "an object of the store is not in use");
        }
        self.base.store(base);
        self.state.store(state);
        self.refused.store(Arc::new(overlaid.refused));
        exchange(node, overlaid.snapshot, &overlaid.resources, of_file);
        Ok(())
    }

    /// Whether two people approve what a server offers.
    pub(crate) fn two_persons(&self, server: &str) -> bool {
        let base = self.base.load();
        if let Some(found) = base.resources.servers.iter().find(|one| one.server_id.as_str() == server) {
            return found.two_person_review;
        }
        let state = self.state.load();
        let found = state.get(Kind::Server, server).and_then(|object| object.body.get("two_person_review")?.as_bool());
        found.unwrap_or_default()
    }

    /// Objects that are not in use, one line each.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.refused.load().iter().map(line).collect()
    }
}

/// Files and store as one. When they cannot be, that is logged too: not everybody stops for it.
async fn together(base: &Arc<Base>, state: &State, now_ms: i64) -> Result<Overlaid, AdminError> {
    let (files, objects) = (Arc::clone(base), state.list());
    match tokio::task::spawn_blocking(move || overlay(&files, &objects, now_ms)).await {
        Ok(Ok(overlaid)) => Ok(overlaid),
        Ok(Err(found)) => {
            tracing::error!(problems = found.len(), "files and store together cannot be used; nothing changes");
            Err(AdminError::Invalid(found.into_iter().map(|one| Problem::found(one, 0)).collect()))
        }
        Err(error) => {
            tracing::error!(%error, "putting files and store together ended early");
            let text = "putting files and store together ended early";
            Err(AdminError::Invalid(vec![Problem::new("", "invalid", text)]))
        }
    }
}

fn line(refused: &Refused) -> String {
    let reasons: Vec<&str> = refused.problems.iter().map(|problem| problem.message.as_str()).collect();
    format!("{}/{}: {}", refused.kind.as_str(), refused.id, reasons.join("; "))
}

/// Puts changes on record, durably.
pub(crate) fn recorder(audit: Audit) -> Record {
    Arc::new(move |event| {
        let audit = audit.clone();
        Box::pin(async move { audit.append_durable(event).await.map(drop).map_err(|error| error.to_string()) })
    })
}

/// Follows changes of the store by other processes.
pub(crate) async fn follow(node: Arc<Node>) {
    let mut feed: Option<Feed> = None;
    loop {
        let looked = match &mut feed {
            Some(feed) => feed.poll().await,
            // A new reader has missed what came before it.
            None => Feed::at_head(&node.store).await.map(|new| {
                feed = Some(new);
                News::Everything
            }),
        };
        let wanted = match &looked {
            Ok(News::Changes(changes)) => changes.iter().any(|change| change.topic == TOPIC),
            Ok(News::Everything) => true,
            Err(_) => false,
        };
        if wanted && let Err(error) = node.objects.refresh(&node).await {
            tracing::warn!(%error, "changes of the store are not in use yet");
            // What was missed is looked for again.
            feed = None;
        }
        match &mut feed {
            Some(feed) => feed.wait().await,
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// Who sends a request: by a token for the administration, or by the session of a browser. A
/// token that is not good is never made up for by a cookie.
pub(crate) fn identify(identity: Arc<Identity>, sessions: BrowserSessions, kills: Kills, public_url: &str) -> Identify {
    let url: Arc<str> = format!("{}{PATH}", public_url.trim_end_matches('/')).into();
    let origin_end = url.find("://").and_then(|at| url.get(at + 3..)?.find('/').map(|end| at + 3 + end));
    let origin: Arc<str> = url.get(..origin_end.unwrap_or(url.len())).unwrap_or_default().into();
    Arc::new(move |headers: HeaderMap| {
        let (identity, sessions, kills) = (Arc::clone(&identity), sessions.clone(), kills.clone());
        let (url, origin) = (Arc::clone(&url), Arc::clone(&origin));
        Box::pin(async move {
            match identity.authenticate(&headers).await {
                Ok(Some(known)) if known.resource.as_deref().is_none_or(|resource| *resource == *url) => {
                    // Service tokens have no scopes: an administrator made them.
                    let may_administer = known.scopes.as_ref().is_none_or(|scopes| scopes.contains(SCOPE));
                    let client = known.grant.as_ref().map(|grant| grant.client_id.as_str());
                    not_stopped(&kills, &known.principal, client).await?;
                    return Ok(Identified { principal: known.principal, may_administer, browser: None });
                }
                Ok(Some(_)) => return Err(NotIdentified::Unauthenticated),
                Ok(None) => {}
                Err(error) if error.kind == AuthErrorKind::Unavailable => return Err(NotIdentified::Unavailable),
                Err(_) => return Err(NotIdentified::Unauthenticated),
            }
            let session = sessions.current(&headers).await.ok_or(NotIdentified::Unauthenticated)?;
            let groups = session.person.groups.iter().map(|group| Arc::from(group.as_str()));
            let principal = Principal::new(PrincipalKind::User, session.person.email.as_str(), groups);
            not_stopped(&kills, &principal, None).await?;
            let token = headers.get(CSRF).and_then(|token| token.to_str().ok()).unwrap_or_default();
            let browser = Browser {
                same_origin: bartizan_console::is_own(&headers, &origin),
                has_token: sessions.check_csrf(&session, token),
                token: sessions.csrf(&session),
            };
            Ok(Identified { principal: Arc::new(principal), may_administer: true, browser: Some(browser) })
        })
    })
}

/// A kill switch for somebody holds here too (G24). One for everything does not: it is lifted here.
async fn not_stopped(kills: &Kills, principal: &Principal, client: Option<&str>) -> Result<(), NotIdentified> {
    match kills.stops_somebody(principal, client).await {
        Ok(false) => Ok(()),
        Ok(true) => Err(NotIdentified::Unauthenticated),
        Err(_) => Err(NotIdentified::Unavailable),
    }
}

/// The pages with the administration beside them.
pub(crate) fn beside(pages: Arc<dyn Web>, api: Api) -> Arc<dyn Web> {
    Arc::new(Beside { pages, api })
}

struct Beside {
    pages: Arc<dyn Web>,
    api: Api,
}

impl Web for Beside {
    fn answer(&self, request: Request<Bytes>, from: IpAddr) -> WebAnswer {
        let path = request.uri().path();
        if path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            let api = self.api.clone();
            return Box::pin(async move { api.answer(request, from).await });
        }
        self.pages.answer(request, from)
    }
}

#[cfg(test)]
mod tests {
    use bartizan_catalog::CompileOptions;
    use bartizan_config::objects;
    use bartizan_config::resources::Resources;
    use bartizan_config::settings::File;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn p54_what_cannot_be_put_together_is_an_error_and_not_the_files_alone() {
        let mut resources = Resources::default();
        objects::push(&mut resources, Kind::Server, json!({"server_id": "a", "hostname": "https://a.example/mcp"}))
            .unwrap();
        let base =
            |resources| Arc::new(Base::new(File::default(), resources, CompileOptions { dev: false, hosting: true }));
        assert!(together(&base(resources.clone()), &State::default(), 0).await.is_ok());
        objects::push(&mut resources, Kind::Policy, json!({"id": "y", "cedar": "forbid("})).unwrap();
        let refused = together(&base(resources), &State::default(), 0).await;
        assert!(matches!(refused, Err(AdminError::Invalid(found)) if !found.is_empty()));
    }
}
