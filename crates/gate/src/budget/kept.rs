//! What of long results is kept: sealed for one principal at one endpoint, for ten minutes, in
//! the store of all replicas.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use bartizan_model::ServerId;
use bartizan_policy::{Action, Query};
use bartizan_store::repo::kept_result;
use serde::{Deserialize, Serialize};

use crate::exchange::Exchange;
use crate::gate::Inner;
use crate::request_state::hex;

/// How long anything is kept, milliseconds.
const LIFE_MS: i64 = 600_000;
/// Most that is kept for one principal, sealed bytes.
const MOST: i64 = 64 << 20;
/// Size of one part of a whole result, bytes. Sealed it stays well below what can be opened.
const PART: usize = 384 << 10;
/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(5);
/// Beginning of the URI of a kept result.
const URI: &str = "bartizan://result/";
/// Bytes of an id.
const ID: usize = 16;

/// The URI of a kept result.
pub(super) fn uri(id: &str) -> String {
    format!("{URI}{id}")
}

/// The id in the URI of a kept result.
pub(super) fn uri_id(uri: &str) -> Option<&str> {
    let id = uri.strip_prefix(URI)?;
    (id.len() == 2 * ID && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))).then_some(id)
}

/// What is kept.
pub(super) struct Keep {
    parts: Vec<String>,
}

impl Keep {
    /// Pages after the first one.
    pub(super) fn pages(pages: &[String]) -> Self {
        Self { parts: pages.to_vec() }
    }

    /// A whole text. The first part says what it is and where it came from.
    pub(super) fn whole(mime: &str, source: &Source, text: &str) -> Self {
        let mut parts = vec![serde_json::to_string(&(mime, source)).unwrap_or_default()];
        let mut rest = text;
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rest.floor_char_boundary(PART));
            parts.push(part.to_owned());
            rest = more;
        }
        Self { parts }
    }
}

/// The tool that a result came from: who may call it no more may read no more of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Source {
    server: ServerId,
    tool: String,
}

impl Source {
    /// The tool of a call.
    pub(super) fn of(x: &Exchange) -> Option<Self> {
        let route = x.route.as_ref()?;
        Some(Self { server: route.server()?.id.clone(), tool: route.name.to_string() })
    }

    /// Whether the caller could still call it here, whatever the arguments.
    pub(super) async fn may_still(&self, x: &Exchange) -> bool {
        let Some(spec) = x.snapshot.servers.get(&self.server).filter(|spec| x.gate.is_on(spec, x.at_ms)) else {
            return false;
        };
        if !spec.tool_enabled(&self.tool) || x.is_off(&self.server) {
            return false;
        }
        let class = spec.class_of(&self.tool);
        let allowed = x.snapshot.policies.list_decision(&Query {
            principal: &x.caller.principal,
            action: Action::CallTool,
            portal: x.endpoint.portal(),
            server: Some(&self.server),
            name: &self.tool,
            class,
            context: &x.context(),
            args: None,
        });
        allowed.allow
            && x.caller.scopes.check(class, Some(&self.server)).is_ok()
            && x.gate.kills.stops_call(&x.caller, &x.endpoint, Some((&self.server, Some(&self.tool)))).await.is_none()
    }
}

#[derive(Serialize, Deserialize)]
struct Handle {
    id: String,
    part: usize,
    source: Source,
}

/// Where the caller's results are kept.
pub(super) struct Kept {
    gate: Arc<Inner>,
    owner: String,
}

impl Kept {
    /// `None` where nothing can be kept for the caller: without a store, and for callers who are
    /// nobody in particular.
    pub(super) fn of(x: &Exchange) -> Option<Self> {
        x.gate.store.as_ref()?;
        let principal = &x.caller.principal;
        if principal.kind == bartizan_model::PrincipalKind::Anonymous {
            return None;
        }
        Some(Self { gate: Arc::clone(&x.gate), owner: format!("{} at {}", principal.key(), x.endpoint.label()) })
    }

    fn purpose(&self, id: &str, part: usize) -> String {
        format!("kept result {id} {part} of {}", self.owner)
    }

    /// Keeps it. `None` when that was not possible, or is too much for one principal.
    pub(super) async fn put(&self, keep: &Keep) -> Option<String> {
        let mut bytes = [0_u8; ID];
        rand::fill(&mut bytes).ok()?;
        let id = hex(&bytes);
        let seal = |(at, part): (usize, &String)| self.gate.handles.seal(&self.purpose(&id, at), part.as_bytes()).ok();
        let sealed: Vec<String> = keep.parts.iter().enumerate().map(seal).collect::<Option<_>>()?;
        let now_ms = self.gate.clock.now_ms();
        let store = self.gate.store.as_ref()?;
        let put = kept_result::put(store, &id, &self.owner, &sealed, now_ms + LIFE_MS, now_ms, MOST);
        match tokio::time::timeout(PATIENCE, put).await {
            Ok(Ok(true)) => Some(id),
            Ok(Ok(false)) => None,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a long result could not be kept; it is cut");
                None
            }
            Err(_) => None,
        }
    }

    /// A part, and how many there are.
    pub(super) async fn get(&self, id: &str, part: usize) -> Option<(String, usize)> {
        let store = self.gate.store.as_ref()?;
        let at = i64::try_from(part).ok()?;
        let get = kept_result::get(store, id, at, &self.owner, self.gate.clock.now_ms());
        let (sealed, parts) = tokio::time::timeout(PATIENCE, get).await.ok()?.ok()??;
        let opened = self.gate.handles.open(&self.purpose(id, part), &sealed).ok()?;
        Some((String::from_utf8(opened.to_vec()).ok()?, usize::try_from(parts).ok()?))
    }

    /// A whole text and what it is.
    pub(super) async fn whole(&self, id: &str) -> Option<(String, Source, String)> {
        let (head, parts) = self.get(id, 0).await?;
        let (mime, source): (String, Source) = serde_json::from_str(&head).ok()?;
        let mut whole = String::new();
        for part in 1..parts {
            whole += &self.get(id, part).await?.0;
        }
        Some((mime, source, whole))
    }

    /// A handle of a page.
    pub(super) fn handle(&self, id: &str, part: usize, source: &Source) -> Option<String> {
        let payload = serde_json::to_vec(&Handle { id: id.to_owned(), part, source: source.clone() }).ok()?;
        self.gate.handles.seal(&format!("next page of {}", self.owner), &payload).ok()
    }

    /// What a handle stands for; only the caller's own opens.
    pub(super) fn open(&self, handle: &str) -> Option<(String, usize, Source)> {
        let opened = self.gate.handles.open(&format!("next page of {}", self.owner), handle).ok()?;
        let handle: Handle = serde_json::from_slice(&opened).ok()?;
        Some((handle.id, handle.part, handle.source))
    }
}
