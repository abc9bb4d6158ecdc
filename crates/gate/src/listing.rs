//! Lists of tools, prompts, resources and templates (feature rows P25, P31, P32): what
//! the caller's view holds, in its order, complete; with a portal saying how each
//! server did. Recorded like a call.

mod page;
mod render;

use std::sync::Arc;

use bartizan_config::resources::ServerStatus;
use bartizan_model::event::{AuditEvent, EventKind, Outcome, Verdict};
use bartizan_model::{Era, EventId, ReasonCode};
use bartizan_upstream::ListKind;
use bartizan_wire::{Message, Params, RawJson, RpcError, codes};
use tokio::time::Instant;

use crate::admit;
use crate::call::{CallReply, Caller, Endpoint, Refusal, Unknown};
use crate::gate::{Access, Inner, access};
use crate::kills;
use crate::run::internal;
use crate::scopes::Lacks;
use crate::slot::{self, Need};
use crate::stages::{Stage, record};
use crate::views::{Seen, Wanted};
pub(crate) use render::RenderedByEra;

/// One list request.
pub struct ListCall {
    /// Where it arrived.
    pub endpoint: Endpoint,
    /// Who sent it.
    pub caller: Caller,
    /// The message as it arrived.
    pub message: Message,
    /// Its params.
    pub params: Params,
    /// Size of the request in bytes.
    pub request_bytes: u64,
}

impl ListCall {
    /// A list request.
    pub fn new(endpoint: Endpoint, caller: Caller, message: Message, params: Params, request_bytes: u64) -> Self {
        Self { endpoint, caller, message, params, request_bytes }
    }

    fn kind(&self) -> Option<ListKind> {
        ListKind::ALL.into_iter().find(|kind| Some(kind.method()) == self.message.method())
    }
}

/// Why there is no list.
struct NoList {
    reply: Box<CallReply>,
    stage: Stage,
    code: Option<ReasonCode>,
    rule: Option<Arc<str>>,
}

/// What the record says about a list that was answered.
#[derive(Default)]
struct Listed {
    note: Option<String>,
}

/// Answers in a task of its own, so that the record is written whatever the client does.
pub(crate) async fn run(gate: &Arc<Inner>, call: ListCall) -> Result<RawJson, CallReply> {
    let id = EventId::new(gate.clock.now_ms());
    let task = gate.tasks.spawn(answer(Arc::clone(gate), call, id));
    match task.await {
        Ok(answer) => answer,
        Err(_) => {
            gate.metrics.panicked();
            tracing::error!(event_id = %id, "a list panicked; this is a defect");
            Err(CallReply::Error(internal(id)))
        }
    }
}

async fn answer(gate: Arc<Inner>, call: ListCall, id: EventId) -> Result<RawJson, CallReply> {
    let started = Instant::now();
    let at_ms = gate.clock.now_ms();
    let method = call.message.method().unwrap_or_default();
    let mut event = record::caller_event(&call.caller, id, at_ms, EventKind::List, method);
    event.portal = call.endpoint.portal().cloned();
    event.server = match &call.endpoint {
        Endpoint::Server(server) => Some(server.clone()),
        Endpoint::Portal(_) => None,
    };
    event.request_bytes = call.request_bytes;
    // The event exists before anything can break, and is written if it does.
    let guard = std::panic::AssertUnwindSafe(list(&gate, &call, id, at_ms, &mut event));
    let answer = futures_util::FutureExt::catch_unwind(guard).await;
    let answer = match answer {
        Ok(Ok((result, listed))) => {
            event.response_bytes = u64::try_from(result.len()).unwrap_or(u64::MAX);
            event.note = listed.note;
            Ok(result)
        }
        Ok(Err(none)) => {
            let rule = none.rule.as_deref().map(str::to_owned);
            event.outcome = Outcome::Refused;
            event.verdict =
                Verdict { allow: false, code: none.code, rule, stage: Some(none.stage.as_str().to_owned()) };
            if let Some(code) = none.code {
                gate.metrics.refusal(code);
            }
            Err(*none.reply)
        }
        Err(_) => {
            gate.metrics.panicked();
            tracing::error!(event_id = %id, "a list panicked; this is a defect");
            event.outcome = Outcome::Unknown;
            event.note = Some("internal error".to_owned());
            Err(CallReply::Error(internal(id)))
        }
    };
    event.total_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    match gate.audit.append(event).await {
        Ok(_) => answer,
        Err(error) => {
            tracing::error!(event_id = %id, %error, "a list could not be recorded; it is withheld");
            Err(CallReply::Refused(record::withheld(id)))
        }
    }
}

async fn list(
    gate: &Arc<Inner>,
    call: &ListCall,
    id: EventId,
    now_ms: i64,
    event: &mut AuditEvent,
) -> Result<(RawJson, Listed), NoList> {
    let snapshot = gate.snapshot.load_full();
    event.policy_version = snapshot.version;
    let not_found = |what, code| NoList {
        reply: Box::new(CallReply::NotFound { what, event_id: id }),
        stage: Stage::Route,
        code,
        rule: None,
    };
    let method = || Unknown::Method(call.message.method().unwrap_or_default().to_owned());
    let Some(kind) = call.kind() else { return Err(not_found(method(), None)) };
    if access(&snapshot, &call.caller.principal, &call.endpoint, &call.caller.context(now_ms)) != Access::Allowed {
        return Err(not_found(Unknown::Endpoint, Some(ReasonCode::PolicyDenied)));
    }
    if let Some(stop) = gate.kills.stops(&call.caller, &call.endpoint).await {
        let refusal = kills::refusal(&stop, id);
        let rule = refusal.rule.clone();
        let reply = Box::new(CallReply::Refused(refusal));
        return Err(NoList { reply, stage: Stage::State, code: Some(ReasonCode::Killed), rule });
    }
    call.caller.scopes.check_list().map_err(|lacks| {
        let (code, rule) = match &lacks {
            Lacks::Scope(_) => (ReasonCode::InsufficientScope, None),
            Lacks::Narrowed => (ReasonCode::ReadOnlyMode, Some("the request narrows itself".into())),
        };
        let reply = match lacks {
            Lacks::Scope(scope) => CallReply::Scope { scope, event_id: id },
            Lacks::Narrowed => CallReply::Refused(Refusal { code, rule: rule.clone(), ..record::withheld(id) }),
        };
        NoList { reply: Box::new(reply), stage: Stage::Authorize, code: Some(code), rule }
    })?;
    count(gate, call, id)?;
    if !gate.audit.ready() {
        let reply = Box::new(CallReply::Refused(record::withheld(id)));
        return Err(NoList { reply, stage: Stage::Intend, code: Some(ReasonCode::AuditUnavailable), rule: None });
    }
    let servers = match &call.endpoint {
        Endpoint::Portal(id) => snapshot.portals.get(id).map(|portal| portal.servers.clone()),
        Endpoint::Server(id) => snapshot.servers.get(id).map(|spec| vec![Arc::clone(spec)]),
    };
    let servers = servers.unwrap_or_default();
    if let (Endpoint::Server(_), Some(spec)) = (&call.endpoint, servers.first())
        && spec.status != ServerStatus::Enabled
    {
        let killed = spec.status == ServerStatus::Killed;
        return Err(not_found(Unknown::Endpoint, killed.then_some(ReasonCode::Killed)));
    }
    let wanted = Wanted {
        snapshot: &snapshot,
        endpoint: &call.endpoint,
        caller: &call.caller,
        kind,
        need: Need::List,
        servers: &servers,
        whole: true,
        reads_only: call.caller.scopes.gives_up_writes(),
        kills: gate.kills.known(),
    };
    let seen = gate.views.get(gate, &wanted, now_ms).await;
    let failed = failures(&seen);
    if let Endpoint::Server(_) = &call.endpoint
        && let Some((_, code)) = failed.first()
        && seen.is_empty_for_lack_of_answers()
    {
        // Never an empty list for a server that did not answer (P26).
        let refusal = Refusal { code: *code, ..record::withheld(id) };
        return Err(NoList {
            reply: Box::new(CallReply::Refused(refusal)),
            stage: Stage::Forward,
            code: Some(*code),
            rule: None,
        });
    }
    let has_own = kind == ListKind::Tools && call.endpoint.portal().is_some();
    if !has_own && !seen.offers_anything() {
        return Err(not_found(method(), None));
    }
    let page = page::of(gate, call, kind, &seen).map_err(|note| NoList {
        reply: Box::new(CallReply::Error(RpcError::new(codes::INVALID_PARAMS, note))),
        stage: Stage::Route,
        code: None,
        rule: None,
    })?;
    let result = render::result(call, kind, &seen, &page, gate.clock.now_ms());
    let note = (!failed.is_empty()).then(|| {
        let names: Vec<String> = failed.iter().map(|(server, code)| format!("{server}: {}", code.as_str())).collect();
        names.join(", ")
    });
    Ok((result, Listed { note }))
}

/// Servers that did not answer lately, with the cause.
pub(crate) fn failures(seen: &Seen) -> Vec<(String, ReasonCode)> {
    seen.outcomes()
        .filter_map(|(part, outcome)| match outcome {
            slot::Outcome::Ok => None,
            slot::Outcome::Stale(code) | slot::Outcome::Error(code) => Some((part.spec.id.to_string(), code)),
        })
        .collect()
}

fn count(gate: &Inner, call: &ListCall, id: EventId) -> Result<(), NoList> {
    admit::count(gate, &call.endpoint, &call.caller, call.request_bytes).map_err(|over| NoList {
        reply: Box::new(admit::refusal(&over, id)),
        stage: Stage::Limit,
        code: Some(ReasonCode::RateLimited),
        rule: Some(over.limit),
    })
}

/// Era of the client, for the form of the items.
pub(crate) fn era(call: &ListCall) -> Era {
    call.caller.profile.era
}
