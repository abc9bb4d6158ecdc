//! One call on its way through the stages.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bartizan_approvals::Pass;
use bartizan_catalog::{ServerSpec, Snapshot};
use bartizan_model::event::Outcome;
use bartizan_model::{Era, EventId, ReasonCode, ToolClass};
use bartizan_policy::{Action, Approval, Decision, RequestContext};
use bartizan_upstream::Target;
use bartizan_wire::{Message, Params, RawJson, Reference, RpcError, codes};
use http::{HeaderName, HeaderValue};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::call::{CallOutput, CallReply, Caller, Endpoint, Refusal, Signals, Unknown};
use crate::gate::Inner;
use crate::limits::Slots;
use crate::park::ParkId;
use crate::portal_tools::PortalTool;
use crate::request_state::State;
use crate::revocation::{Ended, Lapse};
use crate::spans::Spans;
use crate::stages::Stage;

/// How a stage answers when it lets a call not go on.
#[derive(Debug)]
pub(crate) struct Reject {
    /// The stage.
    pub(crate) stage: Stage,
    /// Code for the record; also on the wire when the target is visible.
    pub(crate) code: Option<ReasonCode>,
    /// Deciding rule.
    pub(crate) rule: Option<Arc<str>>,
    /// What the client is told.
    pub(crate) answer: Answer,
    /// Seconds after which a repeat may succeed.
    pub(crate) retry_after_s: Option<u64>,
    /// A remark for the record.
    pub(crate) note: Option<String>,
}

/// What the client of a rejected call is told.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Nothing that tells unknown from forbidden.
    NotFound(Unknown),
    /// Code and rule.
    Refused,
    /// A JSON-RPC error (a forged request state, for one).
    Rpc(Box<RpcError>),
    /// Nothing that anybody reads, where the client has left; where the call may not go on,
    /// why.
    Cancelled,
    /// Something of the stage's own.
    Reply(Box<CallReply>),
}

impl Reject {
    /// A refusal that the caller may see.
    pub(crate) fn refused(stage: Stage, code: ReasonCode, rule: Option<Arc<str>>) -> Self {
        Self { stage, code: Some(code), rule, answer: Answer::Refused, retry_after_s: None, note: None }
    }

    /// "Unknown", with the real cause for the record.
    pub(crate) fn not_found(what: Unknown, code: Option<ReasonCode>, rule: Option<Arc<str>>) -> Self {
        Self { stage: Stage::Route, code, rule, answer: Answer::NotFound(what), retry_after_s: None, note: None }
    }

    /// A JSON-RPC error.
    pub(crate) fn rpc(stage: Stage, error: RpcError, note: impl Into<String>) -> Self {
        let note = Some(note.into());
        Self { stage, code: None, rule: None, answer: Answer::Rpc(Box::new(error)), retry_after_s: None, note }
    }

    /// The call ended from outside before it went anywhere.
    pub(crate) fn abandoned(stage: Stage) -> Self {
        Self { stage, code: None, rule: None, answer: Answer::Cancelled, retry_after_s: None, note: None }
    }

    /// The same with a remark.
    pub(crate) fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// Who answers the call.
#[derive(Clone)]
pub(crate) enum Destination {
    /// An upstream server.
    Upstream(Arc<ServerSpec>),
    /// The portal itself.
    Portal(PortalTool),
    /// A long result that was kept here, by its id (P52).
    Kept(Arc<str>),
}

/// What `route` found.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) destination: Destination,
    pub(crate) action: Action,
    /// Original name or URI.
    pub(crate) name: Arc<str>,
    /// Reviewed class.
    pub(crate) class: ToolClass,
    /// Hash over the tool definition.
    pub(crate) pin: Option<Arc<str>>,
    pub(crate) input_schema: Option<RawJson>,
    /// The view's decision, when arguments cannot change it.
    pub(crate) decision: Option<Decision>,
    /// Params with original name or URI.
    pub(crate) params: Option<RawJson>,
}

impl Route {
    /// The upstream server, if one answers.
    pub(crate) fn server(&self) -> Option<&Arc<ServerSpec>> {
        match &self.destination {
            Destination::Upstream(spec) => Some(spec),
            Destination::Portal(_) | Destination::Kept(_) => None,
        }
    }
}

/// What the record needs to know about the end.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) outcome: Outcome,
    pub(crate) code: Option<ReasonCode>,
    pub(crate) stage: Option<Stage>,
    pub(crate) rule: Option<Arc<str>>,
    pub(crate) allow: bool,
    pub(crate) note: Option<String>,
    pub(crate) upstream_us: u64,
    pub(crate) response_bytes: u64,
}

/// One call with everything the stages learn about it.
pub(crate) struct Exchange {
    pub(crate) gate: Arc<Inner>,
    /// The snapshot the call began with (O4).
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) id: EventId,
    pub(crate) at_ms: i64,
    /// When it is decided: later than it began if it waited for its person.
    pub(crate) decided_ms: i64,
    pub(crate) started: Instant,
    pub(crate) endpoint: Endpoint,
    pub(crate) caller: Caller,
    pub(crate) message: Message,
    pub(crate) params: Params,
    pub(crate) param_headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) request_bytes: u64,
    pub(crate) spans: Spans,
    pub(crate) output: mpsc::Sender<Box<CallOutput>>,
    pub(crate) signals: Arc<Signals>,
    /// What may end the call from outside.
    pub(crate) lapse: Lapse,
    /// The stage the call is in.
    pub(crate) at: Stage,
    /// Explaining: nothing is counted, written or forwarded.
    pub(crate) dry: bool,
    pub(crate) route: Option<Route>,
    /// The opened request state of a modern client's next round.
    pub(crate) resume: Option<State>,
    /// Name of the parked call's next round, and the event of its first.
    pub(crate) park: Option<(ParkId, EventId)>,
    /// Links a legacy client was sent to open.
    pub(crate) elicitations: Vec<String>,
    pub(crate) slots: Slots,
    /// Who must say yes before the call goes on.
    pub(crate) approvals: Vec<Arc<Approval>>,
    /// What lets it go on where somebody must.
    pub(crate) passes: Vec<Pass>,
    pub(crate) target: Option<Target>,
    pub(crate) identity: Option<String>,
    /// Version of the person's own token, where one goes upstream.
    pub(crate) account: Option<i64>,
    pub(crate) intent: Option<EventId>,
    pub(crate) related: Option<EventId>,
    pub(crate) finish: Finish,
    pub(crate) reply: Option<CallReply>,
}

impl Exchange {
    /// The JSON-RPC method.
    pub(crate) fn method(&self) -> &str {
        self.message.method().unwrap_or_default()
    }

    /// Whether the caller switched a server of this portal off (P36).
    pub(crate) fn is_off(&self, server: &bartizan_model::ServerId) -> bool {
        self.caller.selection.off.contains(server) && self.endpoint.portal().is_some()
    }

    /// Era of the client.
    pub(crate) fn era(&self) -> Era {
        self.caller.profile.era
    }

    /// What policies may look at besides principal and target.
    pub(crate) fn context(&self) -> RequestContext<'_> {
        self.caller.context(self.decided_ms)
    }

    /// True when nobody will read the answer and the call shall end: cancelled, or a
    /// modern client that closed its stream (protocol.md 3.10). For a legacy client a
    /// disconnect is not a cancellation. True too when the call may not go on.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.lapse.has_ended() || (self.output.is_closed() && self.disconnect_ends())
    }

    /// Resolves when [`Self::is_abandoned`] becomes true.
    pub(crate) async fn abandoned(&self) {
        let left = async {
            self.output.closed().await;
            if !self.disconnect_ends() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            _ = self.lapse.ended() => {}
            () = left => {}
        }
    }

    fn disconnect_ends(&self) -> bool {
        self.era() == Era::Modern || self.signals.cancelled.load(Ordering::Acquire)
    }

    /// Name or URI as the client wrote it.
    pub(crate) fn asked_for(&self) -> Option<&str> {
        let params = &self.params;
        match &params.reference {
            Some(Reference::Prompt(name) | Reference::Resource(name)) => Some(name),
            None => params.name.as_deref().or(params.uri.as_deref()).or(params.task_id.as_deref()),
        }
    }

    /// Adds to the time spent waiting for the upstream.
    pub(crate) fn spent(&mut self, since: Instant) {
        let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.finish.upstream_us = self.finish.upstream_us.saturating_add(us);
    }

    /// Says something to the client; a client that is gone hears nothing, and one that does
    /// not listen does not keep a call alive that may not go on.
    pub(crate) async fn say(&self, output: CallOutput) -> bool {
        tokio::select! {
            biased;
            said = self.output.send(Box::new(output)) => said.is_ok(),
            _ = self.lapse.ended() => false,
        }
    }

    /// What a client is told whose call may not go on.
    pub(crate) fn ended(&self, ended: &Ended) -> CallReply {
        CallReply::Refused(Refusal {
            code: ended.code,
            rule: ended.rule.clone(),
            event_id: self.id,
            retry_after_s: None,
            visible: true,
            message: ended.message.as_deref().map(str::to_owned),
            url: None,
        })
    }

    /// Whether a stage runs: always, except in builds made to show what it is for.
    #[cfg(not(any(test, feature = "sabotage")))]
    #[expect(clippy::unused_async, reason = "the sabotaged build waits here")]
    pub(crate) async fn enter(&self, _stage: Stage) -> bool {
        true
    }

    /// Whether a stage runs: unless a test skips it.
    #[cfg(any(test, feature = "sabotage"))]
    pub(crate) async fn enter(&self, stage: Stage) -> bool {
        self.gate.sabotage.enter(stage).await
    }

    /// Notes a refusal for the record and builds the answer.
    pub(crate) fn rejected(&mut self, mut reject: Reject) {
        if let (Answer::Cancelled, Some(ended)) = (&reject.answer, self.lapse.why()) {
            reject.code = Some(ended.code);
            reject.rule.clone_from(&ended.rule);
            reject.note = Some(ended.note.to_string());
            reject.answer = Answer::Reply(Box::new(self.ended(&ended)));
        }
        let cancelled = matches!(reject.answer, Answer::Cancelled);
        self.finish.outcome = if cancelled { Outcome::Cancelled } else { Outcome::Refused };
        self.finish.allow = cancelled;
        self.finish.code = reject.code;
        self.finish.rule = reject.rule.clone();
        self.finish.stage = Some(reject.stage);
        self.finish.note = reject.note;
        self.reply = Some(match reject.answer {
            Answer::NotFound(what) => CallReply::NotFound { what, event_id: self.id },
            Answer::Rpc(error) => CallReply::Error(*error),
            Answer::Reply(reply) => *reply,
            Answer::Cancelled => CallReply::Error(RpcError::new(codes::INTERNAL_ERROR, "cancelled")),
            Answer::Refused => CallReply::Refused(Refusal {
                code: reject.code.unwrap_or(ReasonCode::PolicyDenied),
                rule: reject.rule,
                event_id: self.id,
                retry_after_s: reject.retry_after_s,
                visible: true,
                message: None,
                url: None,
            }),
        });
    }
}
