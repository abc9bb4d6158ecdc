//! Sending a call: session, params, headers, and what the head of the answer says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bartizan_model::Era;
use bartizan_wire::headers::{for_request, param_headers, param_values};
use bartizan_wire::translate::{self, Hop};
use bartizan_wire::{
    AskAnswer, ClientProfile, LATEST_LEGACY, Message, RawJson, RequestId, RpcError, build, codes, meta_key, method,
    splice,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::UpstreamCall;
use super::read::Reading;
use crate::env::Env;
use crate::error::UpstreamError;
use crate::exchange::{Answer, Refused, moved, post};
use crate::handshake::{Discovery, after_version_error};
use crate::peer::{Lease, LegacyHttp, ModernHttp, Peer};
use crate::questions::Asked;
use crate::server::{Server, lost};
use crate::types::{CallRequest, UpstreamReply, Who};

/// Time for `logging/setLevel` before a call.
const LEVEL_TIME: Duration = Duration::from_secs(2);
/// How long a question waits for the head of the answer to its call.
const HEAD_TIME: Duration = Duration::from_secs(1);
/// `traceparent`
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How a call is to be run.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    /// Results as the server sent them, questions refused.
    pub(crate) raw: bool,
    /// Time without progress.
    pub(crate) time: Duration,
    /// Time at all.
    pub(crate) limit: Duration,
    /// May fetch the tool's schema anew when a header did not fit.
    pub(crate) refresh: bool,
}

/// What the head of the answer led to.
enum Head {
    Reading(Reading),
    /// A whole answer came with the head.
    Message(Message),
    /// The session is gone; nothing was executed that we know of.
    SessionGone,
    /// -32020: the tool's schema has changed.
    HeaderMismatch(Message),
    /// -32022: another version is wanted.
    Version(RpcError),
}

/// Sends a request and returns the call once the head of the answer is there.
pub(crate) async fn open(
    server: &Arc<Server>,
    who: &Who,
    mut request: CallRequest,
    options: Options,
) -> Result<UpstreamCall, UpstreamError> {
    let now = Instant::now();
    let (deadline, limit) = (now + options.time, now + options.limit);
    let until = deadline.min(limit);
    let in_time = |_: tokio::time::error::Elapsed| UpstreamError::Timeout;
    let repeatable = method::lookup(&request.method).is_some_and(|info| info.idempotent);
    let mut refreshed = false;
    for last_try in [false, false, true] {
        let lease = server.lease(who, &request.profile, !options.raw);
        let Lease { peer, busy, in_use } = tokio::time::timeout_at(until, lease).await.map_err(in_time)??;
        let mut call = UpstreamCall {
            server: Arc::clone(server),
            profile: Arc::clone(&request.profile),
            method: Arc::clone(&request.method),
            uri: None,
            id: server.ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            token: None,
            raw: options.raw,
            said: peer.said(),
            _in_session: in_use,
            peer,
            reading: Reading::Over,
            asked: None,
            ready: VecDeque::new(),
            premade: None,
            asks: Vec::new(),
            deadline,
            limit,
            started: now,
            // Until the request is written there is nothing to cancel.
            done: true,
            busy,
            pass: None,
        };
        let head = tokio::time::timeout_at(until, send(&mut call, &request, who)).await;
        let head = match head {
            Err(_) => Err(UpstreamError::Timeout),
            Ok(head) => head,
        };
        match head {
            Ok(Head::Reading(reading)) => call.reading = reading,
            Ok(Head::Message(message)) => call.ready.push_back(message),
            Ok(Head::SessionGone) => {
                call.done = true;
                if repeatable && !last_try {
                    continue;
                }
                return Err(UpstreamError::SessionLost);
            }
            Ok(Head::Version(error)) if !last_try => {
                call.done = true;
                after_version(server, &error)?;
                continue;
            }
            Ok(Head::HeaderMismatch(_)) if options.refresh && !refreshed && !last_try => {
                call.done = true;
                refreshed = true;
                let fresh = Box::pin(crate::list::schema(server, who, &request));
                request.input_schema = tokio::time::timeout_at(until, fresh).await.map_err(in_time)??;
                continue;
            }
            Ok(Head::Version(error)) => call.premade = Some(UpstreamReply::Error(internal(error))),
            Ok(Head::HeaderMismatch(message)) => call.ready.push_back(message),
            Err(UpstreamError::Timeout) => {
                // It may still be at work. (A slow call says nothing about the server.)
                if let Some(message) = call.cancellation("given up") {
                    call.send_later(message);
                }
                return Err(UpstreamError::Timeout);
            }
            Err(error) => {
                call.done = true;
                server.failed_on(&call.peer, &error);
                return Err(error);
            }
        }
        return Ok(call);
    }
    Err(UpstreamError::SessionLost)
}

fn internal(mut error: RpcError) -> RpcError {
    error.code = codes::INTERNAL_ERROR;
    error
}

/// Sends the request; sets `done` to false as soon as it may have been written.
async fn send(call: &mut UpstreamCall, request: &CallRequest, who: &Who) -> Result<Head, UpstreamError> {
    let server = Arc::clone(&call.server);
    let env = &server.env;
    let (peer, principal) = (call.peer.clone(), &who.owner);
    raise_log_level(env, &peer, call).await;
    let in_flight = match &peer {
        // Requests of bartizan's own are asked nothing, so they need not be alone.
        Peer::Channel(channel) if call.raw => Some(channel.begin_background()?),
        Peer::Channel(channel) => Some(channel.begin(who)?),
        Peer::Modern(_) | Peer::Legacy(_) => None,
    };
    if let Some(in_flight) = &in_flight {
        // On a shared connection ids are the connection's own.
        call.id = in_flight.id;
    }
    let params = match upstream_params(call, request) {
        Ok(params) => params,
        Err(error) => {
            call.premade = Some(UpstreamReply::Error(error));
            return Ok(Head::Reading(Reading::Over));
        }
    };
    let body = build::request(&RequestId::number(call.id), &request.method, params.as_ref());
    match peer {
        Peer::Modern(modern) => {
            let headers = modern_headers(&modern, request, params.as_ref());
            call.done = false;
            let (_, answer) = post(env, &modern.url, headers, body).await?;
            modern_head(&server, principal, answer)
        }
        Peer::Legacy(legacy) => {
            legacy.used.touch();
            let mut headers = legacy.headers.clone();
            trace(&mut headers, request);
            call.done = false;
            // Requests of bartizan's own are asked nothing.
            call.asked = (!call.raw).then(|| legacy.questions.begin(call.id));
            let (_, answer) = head(call, post(env, &legacy.url, headers, body)).await?;
            legacy_head(&server, &legacy, principal, answer)
        }
        Peer::Channel(channel) => {
            let Some(in_flight) = in_flight else { return Err(UpstreamError::protocol("no place for the call")) };
            call.reading = Reading::Channel { call: in_flight, owner: Arc::clone(principal) };
            call.done = false;
            channel.send(body).await?;
            Ok(Head::Reading(std::mem::replace(&mut call.reading, Reading::Over)))
        }
    }
}

/// Waits for the head of an answer. What is asked meanwhile is kept for the one who listens when
/// the head is there, but not for long: a server that answers in one piece would wait for an
/// answer while it is waited for.
async fn head<T>(call: &mut UpstreamCall, posting: impl Future<Output = T>) -> T {
    let mut posting = std::pin::pin!(posting);
    loop {
        tokio::select! {
            biased;
            head = &mut posting => return head,
            question = Asked::next(call.asked.as_mut()) => call.ready.push_back(question),
            () = tokio::time::sleep(HEAD_TIME), if !call.ready.is_empty() => {
                for question in std::mem::take(&mut call.ready) {
                    let error = RpcError::new(codes::METHOD_NOT_FOUND, "not available here");
                    call.send_aside(build::error(question.id(), &error));
                }
            }
        }
    }
}

/// The params as the server wants them: translated, with our progress token and the trace.
fn upstream_params(call: &mut UpstreamCall, request: &CallRequest) -> Result<Option<RawJson>, RpcError> {
    let resumed = match &request.resume {
        Some(resume) if call.era() == Era::Modern => {
            let mut answers = Vec::with_capacity(resume.answers.len());
            for (key, answer) in &resume.answers {
                match answer {
                    AskAnswer::Result(result) => answers.push((key.clone(), result.clone())),
                    // The modern era has no way to tell the server: the call ends with it.
                    AskAnswer::Error(error) => return Err(error.clone()),
                }
            }
            let state = resume.request_state.as_deref();
            Some(translate::retry_params(request.params.as_ref(), &answers, state))
        }
        _ => None,
    };
    let given = resumed.as_ref().or(request.params.as_ref());
    // What bartizan asks by itself was written for no era yet.
    let neutral = call.raw.then(|| neutral(&request.profile));
    let hop = Hop { client: neutral.as_ref().unwrap_or(&request.profile), ..call.hop() };
    let params = translate::params(&hop, &request.method, given);
    if &*request.method == "resources/read" {
        call.uri = params.as_ref().and_then(|params| Some(params.get("uri")?.as_string()?.into_owned()));
    }
    call.token = params.as_ref().and_then(|params| splice::get_path(params, &["_meta", meta_key::PROGRESS_TOKEN]));
    let token = call.token.as_ref().map(|_| RawJson::int(call.id));
    let parent = request.traceparent.as_deref().map(RawJson::string);
    let mut edits = Vec::with_capacity(2);
    edits.extend(token.as_ref().map(|token| (meta_key::PROGRESS_TOKEN, Some(token))));
    edits.extend(parent.as_ref().map(|parent| (meta_key::TRACEPARENT, Some(parent))));
    if edits.is_empty() {
        return Ok(params);
    }
    Ok(Some(splice::edit_in(&params.unwrap_or_else(RawJson::empty_object), "_meta", &edits)))
}

/// The same declarations in the form from which params for either era can be made.
fn neutral(profile: &ClientProfile) -> ClientProfile {
    ClientProfile {
        capabilities: profile.capabilities.clone(),
        client_info: profile.client_info.clone(),
        ..ClientProfile::plain(LATEST_LEGACY)
    }
}

fn trace(headers: &mut HeaderMap, request: &CallRequest) {
    if let Some(parent) = request.traceparent.as_deref().and_then(|parent| HeaderValue::from_str(parent).ok()) {
        headers.insert(TRACEPARENT, parent);
    }
}

fn modern_headers(peer: &ModernHttp, request: &CallRequest, params: Option<&RawJson>) -> HeaderMap {
    let mut headers = peer.headers.clone();
    headers.extend(for_request(peer.said.revision, &request.method, params));
    trace(&mut headers, request);
    if &*request.method == "tools/call" {
        // Only what the schema annotates, made from the arguments as they are sent. What the client
        // sent beside it nobody can compare with the body, and a server or a proxy before it may
        // act on it, so it ends here. Without the schema the server asks for it (-32020).
        let annotated = request.input_schema.as_ref().and_then(|schema| param_headers(schema).ok()).unwrap_or_default();
        let arguments = params.and_then(|params| params.get("arguments"));
        headers.extend(param_values(&annotated, arguments.as_ref()));
    }
    headers
}

fn modern_head(server: &Arc<Server>, principal: &Arc<str>, answer: Answer) -> Result<Head, UpstreamError> {
    match answer {
        Answer::Json(body) => Ok(Head::Reading(Reading::json(body))),
        Answer::Events(events) => Ok(Head::Reading(Reading::events(events, Arc::clone(principal)))),
        Answer::Accepted => Err(UpstreamError::protocol("a request was answered without a body")),
        Answer::Moved(_) => Err(moved(307)),
        Answer::Refused(refused) => {
            let Refused { message, .. } = &refused;
            let code = refused.error().map(|error| error.code);
            match (code, message) {
                (Some(codes::UNSUPPORTED_VERSION), _) => {
                    let error = refused.error().unwrap_or_else(|| RpcError::new(codes::UNSUPPORTED_VERSION, ""));
                    Ok(Head::Version(error))
                }
                (Some(codes::HEADER_MISMATCH), Some(message)) => Ok(Head::HeaderMismatch(message.clone())),
                (Some(code), Some(message)) => {
                    // What only a legacy server says to a modern request.
                    if matches!(code, codes::INVALID_REQUEST | codes::METHOD_NOT_FOUND | -32000) {
                        server.doubt();
                    }
                    Ok(Head::Message(message.clone()))
                }
                _ => {
                    server.doubt();
                    Err(refused.to_upstream())
                }
            }
        }
    }
}

fn legacy_head(
    server: &Arc<Server>,
    peer: &LegacyHttp,
    principal: &Arc<str>,
    answer: Answer,
) -> Result<Head, UpstreamError> {
    match answer {
        Answer::Json(body) => Ok(Head::Reading(Reading::json(body))),
        Answer::Events(events) => Ok(Head::Reading(Reading::events(events, Arc::clone(principal)))),
        Answer::Accepted => Err(UpstreamError::protocol("a request was answered without a body")),
        Answer::Moved(_) => Err(moved(307)),
        Answer::Refused(refused) => {
            if session_gone(peer, &refused) {
                lost(peer);
                return Ok(Head::SessionGone);
            }
            if refused.is_modern() {
                // The server was upgraded under the session.
                lost(peer);
                server.doubt();
                return Ok(Head::SessionGone);
            }
            match refused.message {
                Some(message) => Ok(Head::Message(message)),
                None => {
                    server.doubt();
                    Err(refused.to_upstream())
                }
            }
        }
    }
}

/// 404 is the rule (protocol reference 2); some servers say 400 and an error that names no
/// request instead.
fn session_gone(peer: &LegacyHttp, refused: &Refused) -> bool {
    if !peer.stateful {
        return false;
    }
    match refused.status {
        404 => true,
        400 => refused.message.as_ref().is_some_and(|message| {
            message.id().is_none()
                && refused.error().is_some_and(|error| matches!(error.code, -32000 | -32001 | codes::INVALID_REQUEST))
        }),
        _ => false,
    }
}

/// Tells a legacy server the most verbose level in use (protocol reference 5.2).
async fn raise_log_level(env: &Env, peer: &Peer, call: &UpstreamCall) {
    let (Some(level), Some(log)) = (call.profile.log_level, peer.log()) else { return };
    if call.era() != Era::Legacy || !log.needs(level) {
        return;
    }
    let declared = call.said.as_ref().is_some_and(|said| said.capabilities.get("logging").is_some());
    let _one = log.setting.lock().await;
    if declared && log.needs(level) {
        let params = RawJson::object([("level", &RawJson::string(level.as_str()))]);
        let id = call.server.ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let asked = peer.request(env, id, "logging/setLevel", &params);
        // Messages are a service, not a condition: the call goes on whatever comes of it.
        if !matches!(tokio::time::timeout(LEVEL_TIME, asked).await, Ok(Ok(Ok(_)))) {
            tracing::debug!(server = %call.server.spec.id, "logging/setLevel failed");
        }
    }
    log.set(level);
}

fn after_version(server: &Arc<Server>, error: &RpcError) -> Result<(), UpstreamError> {
    match after_version_error(error) {
        Discovery::Retry(revision) => {
            server.speak(revision);
            Ok(())
        }
        Discovery::Legacy => {
            server.forget_verdict();
            Ok(())
        }
        Discovery::Hopeless => Err(UpstreamError::protocol("the server supports no version that is spoken here")),
    }
}
