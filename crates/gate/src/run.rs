//! A call in a task of its own: whatever happens to the client or inside a stage,
//! the call ends in `record`, once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bartizan_model::EventId;
use bartizan_model::event::Outcome;
use bartizan_wire::{RpcError, codes};
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::call::{CallHandle, CallOutput, CallReply, GovernedCall, Signals};
use crate::exchange::{Exchange, Finish};
use crate::gate::Inner;
use crate::limits::Slots;
use crate::pipeline;
use crate::revocation::Lapse;
use crate::spans::Spans;
use crate::stages::{Stage, record};

/// Messages a call may be ahead of its client.
const AHEAD: usize = 16;

/// Starts a call.
pub(crate) fn start(gate: &Arc<Inner>, call: GovernedCall) -> CallHandle {
    let (output, receiver) = mpsc::channel(AHEAD);
    let signals = Arc::new(Signals::default());
    let exchange = exchange(gate, call, output, Arc::clone(&signals), false);
    let handle = CallHandle::new(exchange.id, receiver, signals);
    gate.tasks.spawn(drive(exchange, Counted::new(gate)));
    handle
}

/// A call before its first stage.
pub(crate) fn exchange(
    gate: &Arc<Inner>,
    call: GovernedCall,
    output: mpsc::Sender<Box<CallOutput>>,
    signals: Arc<Signals>,
    dry: bool,
) -> Box<Exchange> {
    let at_ms = gate.clock.now_ms();
    let tracer = gate.metrics.tracer();
    let lapse = if dry { Lapse::default() } else { Lapse::of(&call.caller.revocation) };
    let spans = if dry { Spans::default() } else { Spans::start(tracer, call.caller.traceparent.as_deref()) };
    Box::new(Exchange {
        gate: Arc::clone(gate),
        snapshot: gate.snapshot.load_full(),
        id: EventId::new(at_ms),
        at_ms,
        decided_ms: at_ms,
        started: Instant::now(),
        endpoint: call.endpoint,
        caller: call.caller,
        message: call.message,
        params: call.params,
        param_headers: call.param_headers,
        request_bytes: call.request_bytes,
        spans,
        output,
        signals,
        lapse,
        at: Stage::Route,
        dry,
        route: None,
        resume: None,
        park: None,
        elicitations: Vec::new(),
        slots: Slots::default(),
        approvals: Vec::new(),
        passes: Vec::new(),
        target: None,
        identity: None,
        account: None,
        intent: None,
        related: None,
        finish: Finish {
            outcome: Outcome::Ok,
            code: None,
            stage: None,
            rule: None,
            allow: true,
            note: None,
            upstream_us: 0,
            response_bytes: 0,
        },
        reply: None,
    })
}

/// One in the count of running calls.
struct Counted(Arc<Inner>);

impl Counted {
    fn new(gate: &Arc<Inner>) -> Self {
        gate.calls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(gate))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Stages, record, answer.
async fn drive(mut x: Box<Exchange>, _counted: Counted) {
    match AssertUnwindSafe(pipeline::run(&mut x)).catch_unwind().await {
        Ok(Ok(())) => {}
        Ok(Err(reject)) => x.rejected(reject),
        Err(_) => {
            x.gate.metrics.panicked();
            tracing::error!(event_id = %x.id, "a stage panicked; this is a defect");
            let at = x.at;
            record::broken(&mut x, at);
            x.reply = Some(CallReply::Error(internal(x.id)));
        }
    }
    // A concurrency slot is for the call, not for writing it down.
    x.slots = Slots::default();
    let recorded = AssertUnwindSafe(async {
        if x.enter(Stage::Record).await {
            record::run(&mut x).await;
        }
    });
    if recorded.catch_unwind().await.is_err() {
        x.gate.metrics.panicked();
        tracing::error!(event_id = %x.id, "recording panicked; this is a defect");
        record::broken(&mut x, Stage::Record);
        // Once more, past whatever broke; then the answer stays here.
        if AssertUnwindSafe(record::run(&mut x)).catch_unwind().await.is_err() {
            tracing::error!(event_id = %x.id, "a call is not on record");
        }
        x.reply = Some(CallReply::Refused(record::withheld(x.id)));
    }
    let reply = x.reply.take().unwrap_or_else(|| CallReply::Error(internal(x.id)));
    // A client that is gone misses its answer; the record has it.
    let _ = x.output.send(Box::new(CallOutput::Done(reply))).await;
}

/// What a client is told about a defect of ours.
pub(crate) fn internal(id: EventId) -> RpcError {
    RpcError::new(codes::INTERNAL_ERROR, format!("internal error, see event {id}"))
}
