//! `forward`: to the upstream and back, in whatever eras the two sides speak. This
//! is the only stage that waits for others, so it is also the one that notices a
//! client that has left.

mod asks;
mod local;
mod modern;
mod relay;
mod rounds;

use std::time::Duration;

use bartizan_model::ReasonCode;
use bartizan_model::event::Outcome;
use bartizan_policy::Action;
use bartizan_upstream::UpstreamError;
use bartizan_wire::ask::missing_capability_error;
use bartizan_wire::translate::link_result;
use bartizan_wire::{RawJson, RpcError, codes, splice};

use super::Stage;
use crate::budget;
use crate::call::{CallReply, Refusal};
use crate::exchange::{Destination, Exchange, Reject};
use crate::revocation::Ended;
use crate::rewrite;

pub(crate) use asks::ask_all;
pub(crate) use modern::{again as ask_again, state_error};

/// How a relayed call ended.
#[derive(Debug)]
pub(crate) enum End {
    /// A result of the upstream, in the client's form.
    Result(RawJson),
    /// An error of the upstream, in the client's form.
    Error(RpcError),
    /// The client has to answer first; nothing more happens until its next request.
    InputRequired(RawJson),
    /// No usable answer.
    Failed(UpstreamError),
    /// Ended by the gate itself.
    Stopped {
        /// What the client is told.
        reply: CallReply,
        /// For the record.
        outcome: Outcome,
        /// For the record.
        code: Option<ReasonCode>,
        /// For the record.
        note: &'static str,
    },
    /// Nobody waits for the answer any more, or nobody may have it.
    Abandoned,
}

impl End {
    /// A link for the user to open: a failed tool result, or an error where the method
    /// has no such thing.
    pub(crate) fn for_reading(x: &Exchange, message: &str, url: &str) -> Self {
        if x.method() == "tools/call" {
            Self::Result(link_result(message, url))
        } else {
            Self::Error(RpcError::new(codes::INTERNAL_ERROR, format!("{message} {url}")))
        }
    }
}

/// Forwards the call and keeps its answer.
///
/// # Errors
/// None: once forwarded, a call has an outcome, not a refusal.
pub(crate) async fn run(x: &mut Exchange) -> Result<(), Reject> {
    let Some(route) = x.route.clone().filter(|_| !x.dry) else { return Ok(()) };
    let end = if x.is_abandoned() {
        End::Abandoned
    } else {
        match route.destination {
            Destination::Portal(tool) => End::Result(local::run(x, tool).await),
            Destination::Kept(ref id) => match budget::read(x, id).await {
                Ok(result) => End::Result(result),
                Err(reply) => {
                    End::Stopped { reply, outcome: Outcome::Refused, code: None, note: "no such result is kept" }
                }
            },
            Destination::Upstream(ref spec) => {
                // Progress may extend a call, a question may take its time, but not for ever.
                let bound = Duration::from_millis(x.gate.limits.call_max_ms);
                match tokio::time::timeout(bound, Box::pin(relay::run(x, &route, spec))).await {
                    Ok(end) => end,
                    Err(_) => End::Failed(UpstreamError::Timeout),
                }
            }
        }
    };
    let end = match end {
        End::Result(raw) => {
            x.finish.response_bytes = size(&raw);
            let outward = outward(x, &raw);
            let result = budget::apply(x, outward).await;
            // Keeping a long result may have taken a while.
            if x.lapse.has_ended() { End::Abandoned } else { End::Result(result) }
        }
        end => end,
    };
    finish(x, end);
    Ok(())
}

/// Notes the end for the record and builds the answer.
fn finish(x: &mut Exchange, end: End) {
    if let Some(spec) = x.route.as_ref().and_then(|route| route.server()) {
        match &end {
            End::Result(_) | End::InputRequired(_) | End::Error(_) => x.gate.statuses.answered(spec),
            End::Failed(error) => x.gate.statuses.unanswered(spec, error),
            End::Stopped { .. } | End::Abandoned => {}
        }
    }
    match end {
        End::Result(raw) => {
            let is_tool = x.route.as_ref().is_some_and(|route| route.action == Action::CallTool);
            let failed = is_tool && splice::get(&raw, "isError").and_then(|flag| flag.as_bool()) == Some(true);
            x.finish.outcome = if failed { Outcome::ToolError } else { Outcome::Ok };
            x.reply = Some(CallReply::Result(raw));
        }
        End::InputRequired(raw) => {
            x.finish.note = Some("input required".to_owned());
            x.finish.response_bytes = size(&raw);
            x.reply = Some(CallReply::Result(raw));
        }
        End::Error(error) => {
            x.finish.outcome = Outcome::RpcError;
            x.finish.note = Some(format!("upstream error {}", error.code));
            x.finish.response_bytes = size(&error.to_raw());
            x.reply = Some(CallReply::Error(own_uri(x, error)));
        }
        End::Failed(UpstreamError::MissingCapability { required }) => {
            x.finish.outcome = Outcome::RpcError;
            x.finish.note = Some("the client did not declare a capability the server needs".to_owned());
            x.reply = Some(CallReply::Error(missing_capability_error(&required)));
        }
        End::Failed(error) => failed(x, &error),
        End::Stopped { reply, outcome, code, note } => {
            x.finish.outcome = outcome;
            x.finish.code = code;
            x.finish.stage = Some(Stage::Forward);
            x.finish.note = Some(note.to_owned());
            x.reply = Some(reply);
        }
        End::Abandoned => match x.lapse.why() {
            Some(ended) => stopped(x, &ended),
            None => {
                x.finish.outcome = Outcome::Cancelled;
                x.finish.stage = Some(Stage::Forward);
                x.reply = Some(CallReply::Error(RpcError::new(codes::INTERNAL_ERROR, "cancelled")));
            }
        },
    }
}

fn size(raw: &RawJson) -> u64 {
    u64::try_from(raw.len()).unwrap_or(u64::MAX)
}

/// No usable answer: the code says why, and unless nothing was sent the effect
/// upstream is unknown.
fn failed(x: &mut Exchange, error: &UpstreamError) {
    let code = error.code();
    x.finish.outcome = match error {
        // Nothing was sent, or it was turned away at the door.
        UpstreamError::CircuitOpen { .. }
        | UpstreamError::Crowded { .. }
        | UpstreamError::Blocked { .. }
        | UpstreamError::Auth { .. } => Outcome::Refused,
        _ => Outcome::Unknown,
    };
    x.finish.code = Some(code);
    x.finish.stage = Some(Stage::Forward);
    x.finish.note = Some(error.note());
    x.reply = Some(CallReply::Refused(Refusal {
        code,
        rule: None,
        event_id: x.id,
        retry_after_s: error.retry_after_s(),
        visible: true,
        message: told(error),
        url: None,
    }));
}

/// Ended from outside while it ran.
fn stopped(x: &mut Exchange, ended: &Ended) {
    x.finish.outcome = Outcome::Unknown;
    x.finish.code = Some(ended.code);
    x.finish.rule.clone_from(&ended.rule);
    x.finish.stage = Some(Stage::Forward);
    x.finish.note = Some(ended.note.to_string());
    x.reply = Some(x.ended(ended));
}

/// The code says most; addresses and words of the network stay in the record.
fn told(error: &UpstreamError) -> Option<String> {
    match error {
        UpstreamError::SessionLost | UpstreamError::CircuitOpen { .. } => Some(error.note()),
        _ => None,
    }
}

/// A portal shows wrapped URIs, a server endpoint the bytes as they came.
fn outward(x: &Exchange, raw: &RawJson) -> RawJson {
    match (x.endpoint.portal(), x.route.as_ref().and_then(|route| route.server())) {
        (Some(_), Some(spec)) => rewrite::result(x.method(), &spec.id, raw),
        _ => raw.clone(),
    }
}

/// "Resource not found" names the URI: the one the client used.
fn own_uri(x: &Exchange, mut error: RpcError) -> RpcError {
    if x.endpoint.portal().is_some()
        && let (Some(uri), Some(data)) = (&x.params.uri, &error.data)
        && splice::get(data, "uri").is_some()
    {
        error.data = Some(splice::set(data, "uri", &RawJson::string(uri)));
    }
    error
}
