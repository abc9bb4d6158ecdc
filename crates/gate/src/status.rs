//! How the servers do (feature row P23): one word for each, why, and an event when it changes.
//!
//! An event is one per change that lasted: what changes back within ten seconds was never
//! announced. Failures of one person's own account say nothing about a server.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bartizan_accounts::AccountError;
use bartizan_catalog::ServerSpec;
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, PrincipalKind, ServerId};
use bartizan_upstream::UpstreamError;
use serde::Serialize;

/// How long a state must last before it is announced, milliseconds.
const LASTS_MS: i64 = 10_000;
/// Longest cause, characters.
const MAX_CAUSE: usize = 300;

/// The state of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It answers, and what it offers is known.
    Ready,
    /// Nobody has asked it yet.
    Waiting,
    /// It does not do what it is asked, and nothing is known of what it offers.
    Error,
    /// What it offers has changed, or its settings have, and was not asked for since.
    SyncRequired,
    /// It does not do what it is asked; what it offered before is shown.
    Stale,
}

impl ServerState {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Waiting => "Waiting",
            Self::Error => "Error",
            Self::SyncRequired => "Sync Required",
            Self::Stale => "Stale",
        }
    }

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Waiting => "waiting",
            Self::Error => "error",
            Self::SyncRequired => "sync_required",
            Self::Stale => "stale",
        }
    }
}

/// Why a server is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorDetails {
    /// HTTP status, if there was an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// JSON-RPC error code, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mcp_code: Option<i64>,
    /// Whether it may get better by itself.
    pub retryable: bool,
    /// Whether the server is at fault, and not a setting or an authorization server.
    pub is_upstream: bool,
    /// In words. For operators: it may name hosts.
    pub cause: String,
}

impl ErrorDetails {
    /// Why a server could not be asked.
    pub(crate) fn of(error: &UpstreamError) -> Self {
        let cause: String = error.note().chars().take(MAX_CAUSE).collect();
        let status_code = match error {
            UpstreamError::Auth { status, .. } => Some(*status),
            _ => number_after(&cause, "HTTP ").and_then(|code| u16::try_from(code).ok()),
        };
        let retryable = matches!(
            error,
            UpstreamError::Unavailable { .. }
                | UpstreamError::Timeout
                | UpstreamError::CircuitOpen { .. }
                | UpstreamError::Crowded { .. }
                | UpstreamError::SessionLost
        ) || status_code == Some(429);
        let is_upstream = !matches!(error, UpstreamError::Blocked { .. } | UpstreamError::Crowded { .. });
        Self { status_code, mcp_code: number_after(&cause, "code "), retryable, is_upstream, cause }
    }

    fn of_account(error: &AccountError) -> Self {
        let retryable = matches!(error, AccountError::Unavailable(_));
        let cause = error.to_string().chars().take(MAX_CAUSE).collect();
        Self { status_code: None, mcp_code: None, retryable, is_upstream: false, cause }
    }

    /// What everybody may know: no word of it is from the network.
    pub(crate) fn outward(&self) -> Self {
        let cause = match (self.is_upstream, self.retryable) {
            (true, true) => "the server does not answer",
            (true, false) => "the server refuses",
            (false, true) => "what the server needs is not available",
            (false, false) => "a setting is wrong",
        };
        Self { cause: cause.to_owned(), ..self.clone() }
    }
}

/// The number behind a word of ours.
fn number_after(text: &str, word: &str) -> Option<i64> {
    let rest = text.get(text.find(word)? + word.len()..)?;
    let end = rest.char_indices().find(|(at, c)| !(c.is_ascii_digit() || (*at == 0 && *c == '-')));
    rest.get(..end.map_or(rest.len(), |(at, _)| at))?.parse().ok()
}

/// A change of state that lasted, and is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// Which server.
    pub server: ServerId,
    /// Its state before.
    pub from: ServerState,
    /// Its state now.
    pub to: ServerState,
    /// Why, in words that everybody may know.
    pub details: Option<ErrorDetails>,
    /// The audit event.
    pub event_id: EventId,
}

/// One server.
struct Entry {
    version: Box<str>,
    /// What it offers was known once, with these settings or earlier ones.
    synced: bool,
    /// What is known is not what it offers now.
    due: bool,
    error: Option<ErrorDetails>,
    /// The last state that was announced, or that needs no announcement.
    announced: ServerState,
    /// Since when it is another one.
    since_ms: Option<i64>,
}

impl Entry {
    fn new(version: &str) -> Self {
        let announced = ServerState::Waiting;
        Self { version: version.into(), synced: false, due: false, error: None, announced, since_ms: None }
    }

    fn state(&self) -> ServerState {
        match (&self.error, self.synced, self.due) {
            (Some(_), true, _) => ServerState::Stale,
            (Some(_), false, _) => ServerState::Error,
            (None, true, true) => ServerState::SyncRequired,
            (None, true, false) => ServerState::Ready,
            (None, false, _) => ServerState::Waiting,
        }
    }

    /// The change to announce, if there is one now.
    fn news(&mut self, now_ms: i64) -> Option<(ServerState, ServerState)> {
        let state = self.state();
        // The first good answer after the start is no news.
        let quiet = (self.announced, state) == (ServerState::Waiting, ServerState::Ready);
        if state == self.announced || quiet {
            self.announced = state;
            self.since_ms = None;
            return None;
        }
        let since = *self.since_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(since) < LASTS_MS {
            return None;
        }
        self.since_ms = None;
        Some((std::mem::replace(&mut self.announced, state), state))
    }
}

/// The states of all servers.
#[derive(Default)]
pub(crate) struct Statuses {
    entries: Mutex<HashMap<ServerId, Entry>>,
    /// Whether any server has an error: calls that succeed look here first.
    any_error: AtomicBool,
}

impl Statuses {
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, spec: &ServerSpec, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.lock();
        let entry = entries.entry(spec.id.clone()).or_insert_with(|| Entry::new(&spec.version));
        adopt(entry, spec);
        change(entry);
        let any = entries.values().any(|entry| entry.error.is_some());
        self.any_error.store(any, Ordering::Release);
    }

    /// A list came, whole.
    pub(crate) fn listed(&self, spec: &ServerSpec) {
        self.note(spec, |entry| (entry.synced, entry.due, entry.error) = (true, false, None));
    }

    /// The server said that a list changed.
    pub(crate) fn changed(&self, server: &ServerId) {
        if let Some(entry) = self.lock().get_mut(server) {
            entry.due = true;
        }
    }

    /// A list did not come.
    pub(crate) fn not_listed(&self, spec: &ServerSpec, error: &UpstreamError) {
        let own = matches!(error, UpstreamError::Auth { .. }) && spec.credential.is_personal();
        let of_client = matches!(error, UpstreamError::Crowded { .. } | UpstreamError::MissingCapability { .. });
        if !own && !of_client {
            self.failed(spec, ErrorDetails::of(error));
        }
    }

    /// There is nothing to show to the server.
    pub(crate) fn no_account(&self, spec: &ServerSpec, error: &AccountError) {
        if !spec.credential.is_personal() {
            self.failed(spec, ErrorDetails::of_account(error));
        }
    }

    fn failed(&self, spec: &ServerSpec, details: ErrorDetails) {
        self.note(spec, |entry| entry.error = Some(details));
    }

    /// A call was answered.
    pub(crate) fn answered(&self, spec: &ServerSpec) {
        if self.any_error.load(Ordering::Acquire) {
            self.note(spec, |entry| entry.error = None);
        }
    }

    /// A call was not answered.
    pub(crate) fn unanswered(&self, spec: &ServerSpec, error: &UpstreamError) {
        let down = matches!(
            error,
            UpstreamError::Unavailable { .. } | UpstreamError::Timeout | UpstreamError::CircuitOpen { .. }
        );
        if down {
            self.failed(spec, ErrorDetails::of(error));
        }
    }

    /// How a server does.
    pub(crate) fn of(&self, spec: &ServerSpec) -> (ServerState, Option<ErrorDetails>) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&spec.id) else { return (ServerState::Waiting, None) };
        adopt(entry, spec);
        (entry.state(), entry.error.clone())
    }

    /// Changes to announce; servers that are gone are forgotten.
    pub(crate) fn news<'a>(
        &self,
        specs: impl Iterator<Item = &'a ServerSpec>,
        now_ms: i64,
    ) -> Vec<(ServerId, ServerState, ServerState, Option<ErrorDetails>)> {
        let mut entries = self.lock();
        let mut kept = HashMap::new();
        let mut news = Vec::new();
        for spec in specs {
            let Some(mut entry) = entries.remove(&spec.id) else { continue };
            adopt(&mut entry, spec);
            if let Some((from, to)) = entry.news(now_ms) {
                news.push((spec.id.clone(), from, to, entry.error.clone()));
            }
            kept.insert(spec.id.clone(), entry);
        }
        *entries = kept;
        news
    }
}

/// Other settings: what is known is not what it offers with them.
fn adopt(entry: &mut Entry, spec: &ServerSpec) {
    if *entry.version != *spec.version {
        entry.version = (*spec.version).into();
        entry.due = entry.synced;
        entry.error = None;
    }
}

/// The event of a change. Alerts subscribe to it like to any other.
pub(crate) fn event(
    (server, from, to, details): (ServerId, ServerState, ServerState, Option<ErrorDetails>),
    now_ms: i64,
    policy_version: u64,
) -> AuditEvent {
    let who = Who { principal: "service:bartizan".to_owned(), ..Who::default() };
    let id = EventId::new(now_ms);
    let mut event = AuditEvent::new(id, now_ms, EventKind::System, PrincipalKind::Service, who, "server/status");
    event.server = Some(server);
    event.target = Some(to.as_str().to_owned());
    event.policy_version = policy_version;
    let details = details.and_then(|details| serde_json::to_string(&details).ok());
    event.note = Some(match details {
        Some(details) => format!("{} -> {}: {details}", from.as_str(), to.as_str()),
        None => format!("{} -> {}", from.as_str(), to.as_str()),
    });
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(synced: bool, due: bool, error: bool) -> Entry {
        let error = error.then(|| ErrorDetails::of(&UpstreamError::Timeout));
        Entry { synced, due, error, ..Entry::new("v") }
    }

    #[test]
    fn p23_what_makes_which_state() {
        for (synced, due, error, state) in [
            (false, false, false, ServerState::Waiting),
            (false, false, true, ServerState::Error),
            (true, false, false, ServerState::Ready),
            (true, true, false, ServerState::SyncRequired),
            (true, false, true, ServerState::Stale),
            (true, true, true, ServerState::Stale),
        ] {
            assert_eq!(entry(synced, due, error).state(), state);
        }
    }

    #[test]
    fn p23_one_notice_per_change_and_none_for_flapping() {
        let mut server = entry(true, false, false);
        assert_eq!(server.news(0), None, "the first good answer is no news");
        // On and off, quicker than ten seconds: nothing.
        for second in 1..100 {
            server.error = (second % 2 == 0).then(|| ErrorDetails::of(&UpstreamError::Timeout));
            assert_eq!(server.news(second * 1000), None);
        }
        server.error = Some(ErrorDetails::of(&UpstreamError::Timeout));
        let told: Vec<_> = (100..200).filter_map(|second| server.news(second * 1000)).collect();
        assert_eq!(told, [(ServerState::Ready, ServerState::Stale)]);
        server.error = None;
        let told: Vec<_> = (200..300).filter_map(|second| server.news(second * 1000)).collect();
        assert_eq!(told, [(ServerState::Stale, ServerState::Ready)]);
    }

    #[test]
    fn p23_details_of_errors() {
        let auth = ErrorDetails::of(&UpstreamError::Auth { status: 403, challenge: Some("secret".into()) });
        assert_eq!((auth.status_code, auth.retryable, auth.is_upstream), (Some(403), false, true));
        assert!(!auth.cause.contains("secret"));
        let down = ErrorDetails::of(&UpstreamError::Unavailable { why: "HTTP 503".into(), retry_after_s: None });
        assert_eq!((down.status_code, down.retryable, down.is_upstream), (Some(503), true, true));
        let why = "server/discover was refused with code -32601".to_owned();
        let odd = ErrorDetails::of(&UpstreamError::Protocol { why });
        assert_eq!((odd.mcp_code, odd.retryable, odd.is_upstream), (Some(-32601), false, true));
        let blocked = ErrorDetails::of(&UpstreamError::Blocked { why: "10.0.0.1".into() });
        assert_eq!((blocked.retryable, blocked.is_upstream), (false, false));
        assert!(!blocked.outward().cause.contains("10.0.0.1"), "addresses stay inside");
    }
}
