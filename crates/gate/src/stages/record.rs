//! `record`: the audit event of the call, exactly one, however the call ended. In
//! strict mode the answer leaves only after the event is durable (L9).

use aws_lc_rs::digest::{SHA256, digest};
use bartizan_model::event::{AuditEvent, EventKind, Outcome, Verdict, Who};
use bartizan_model::{EventId, ReasonCode};

use super::Stage;
use crate::call::{CallReply, Caller, Refusal};
use crate::exchange::Exchange;
use crate::request_state::hex;

/// Writes the event. When that fails, the answer is withheld: what is not on record
/// did not happen as far as the client is concerned.
pub(crate) async fn run(x: &mut Exchange) {
    let mut event = event(x, x.id, EventKind::Call);
    event.verdict = Verdict {
        allow: x.finish.allow,
        code: x.finish.code,
        rule: x.finish.rule.as_deref().map(str::to_owned),
        stage: x.finish.stage.map(|stage| stage.as_str().to_owned()),
    };
    event.outcome = x.finish.outcome;
    event.note = x.finish.note.take();
    event.related = x.related.or(x.intent);
    event.upstream_us = x.finish.upstream_us;
    event.response_bytes = x.finish.response_bytes;
    event.total_us = u64::try_from(x.started.elapsed().as_micros()).unwrap_or(u64::MAX);
    x.spans.finish(x.gate.metrics.tracer(), &event);
    count(x, &event);
    keep_body(x, &event);
    if let Err(error) = x.gate.audit.append(event).await {
        tracing::error!(event_id = %x.id, %error, "a call could not be recorded; its answer is withheld");
        x.reply = Some(CallReply::Refused(withheld(x.id)));
    }
}

/// Arguments and result of a call of a server whose bodies are kept (L3); sealed behind the call.
fn keep_body(x: &Exchange, event: &AuditEvent) {
    let Some(bodies) = x.gate.bodies.get() else { return };
    let Some(server) = event.server.as_ref().filter(|server| bodies.wants(server.as_str())) else { return };
    let text = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
    let result = match &x.reply {
        Some(CallReply::Result(raw)) => Some(text(raw.as_bytes())),
        Some(CallReply::Error(error)) => {
            Some(serde_json::json!({"code": error.code, "message": error.message}).to_string())
        }
        _ => None,
    };
    bodies.keep(bartizan_audit::NewBody {
        event_id: x.id,
        at_ms: x.at_ms,
        server: server.to_string(),
        arguments: x.params.arguments.as_ref().map(|raw| text(raw.as_bytes())),
        result,
    });
}

/// The refusal that takes the place of an answer that could not be recorded.
pub(crate) fn withheld(event_id: EventId) -> Refusal {
    Refusal {
        code: ReasonCode::AuditUnavailable,
        rule: None,
        event_id,
        retry_after_s: None,
        visible: true,
        message: None,
        url: None,
    }
}

fn count(x: &Exchange, event: &AuditEvent) {
    if let Some(server) = x.route.as_ref().and_then(|route| route.server()) {
        x.gate.metrics.call(server.id.shared(), event.outcome.as_str(), event.total_us, event.upstream_us);
    }
    if let (Outcome::Refused, Some(code)) = (event.outcome, event.verdict.code) {
        x.gate.metrics.refusal(code);
    }
}

/// An event with everything that is known about the call, before its end.
pub(crate) fn event(x: &Exchange, id: EventId, kind: EventKind) -> AuditEvent {
    let mut event = caller_event(&x.caller, id, x.at_ms, kind, x.method());
    event.trace_id = x.spans.trace_id().or(event.trace_id);
    event.portal = x.endpoint.portal().cloned();
    event.policy_version = x.snapshot.version;
    event.request_bytes = x.request_bytes;
    event.arguments_digest = x.params.arguments.as_ref().map(|raw| hex(digest(&SHA256, raw.as_bytes()).as_ref()));
    event.upstream_identity.clone_from(&x.identity);
    let asked = x.asked_for();
    match &x.route {
        Some(route) => {
            event.target = Some(route.name.to_string());
            event.exposed = asked.filter(|asked| *asked != &*route.name).map(str::to_owned);
            event.class = Some(route.class);
            event.pin = route.pin.as_deref().map(str::to_owned);
            if let Some(spec) = route.server() {
                event.server = Some(spec.id.clone());
                event.server_version = Some(spec.version.to_string());
                event.server_url = url_of(spec);
            }
        }
        None => {
            event.exposed = asked.map(|asked| asked.chars().take(MAX_NAME).collect());
            event.server = match &x.endpoint {
                crate::call::Endpoint::Server(id) => Some(id.clone()),
                crate::call::Endpoint::Portal(_) => None,
            };
        }
    }
    event
}

/// 16 hex digits, enough to tell grants apart and no use to anybody.
fn short_digest(text: &str) -> String {
    hex(digest(&SHA256, text.as_bytes()).as_ref()).chars().take(16).collect()
}

/// Where the server is. A query may hold a key.
fn url_of(spec: &bartizan_catalog::ServerSpec) -> Option<String> {
    match &spec.transport {
        bartizan_catalog::Transport::Http { url } => url.split('?').next().map(str::to_owned),
        bartizan_catalog::Transport::Stdio { .. } => None,
    }
}

/// Longest name of an unknown target that is kept, in characters.
const MAX_NAME: usize = 256;

/// An event with what is known about the caller.
pub(crate) fn caller_event(caller: &Caller, id: EventId, at_ms: i64, kind: EventKind, method: &str) -> AuditEvent {
    let principal = &caller.principal;
    let who = Who {
        principal: principal.key().to_string(),
        groups: principal.groups.iter().map(|group| group.to_string()).collect(),
        ip: caller.ip.map(|ip| ip.to_string()),
        client: caller.client.as_deref().map(|name| name.chars().take(MAX_NAME).collect()),
        client_version: caller.client_version.as_deref().map(|version| version.chars().take(MAX_NAME).collect()),
        owner: caller.circumstances.owner.as_deref().map(str::to_owned),
        country: caller.circumstances.country.as_deref().map(str::to_owned),
        device: caller.circumstances.device.as_deref().map(str::to_owned),
        purpose: caller.circumstances.facts.as_ref().and_then(|facts| facts.purpose.as_deref()).map(str::to_owned),
    };
    let mut event = AuditEvent::new(id, at_ms, kind, principal.kind, who, method);
    event.era = Some(caller.profile.era);
    event.session = caller.session.as_deref().map(str::to_owned);
    event.grant = caller.circumstances.grant.as_deref().map(short_digest);
    event.trace_id = caller.trace_id.as_deref().map(str::to_owned);
    event
}

/// The end of a call that broke: a defect of ours. The effect upstream is unknown
/// once the call was about to be forwarded.
pub(crate) fn broken(x: &mut Exchange, stage: Stage) {
    x.finish.outcome = Outcome::Unknown;
    x.finish.stage = Some(stage);
    x.finish.note = Some("internal error".to_owned());
}
