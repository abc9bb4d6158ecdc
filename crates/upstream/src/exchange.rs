//! One POST and what comes back, for both eras.

pub(crate) mod events;
pub(crate) mod ladder;

use std::time::Duration;

use bartizan_egress::{Body, Url};
use bartizan_wire::{Kind, Message, RawJson, RequestId, RpcError, codes};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::response::Parts;
use http::{HeaderMap, Method, Response};

use crate::env::Env;
use crate::error::UpstreamError;
use events::Events;

/// Most of an error body that is looked at, in bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;
/// Time for an error body.
const ERROR_BODY_TIME: Duration = Duration::from_secs(2);
/// Longest `Retry-After` passed on, in seconds.
const MAX_RETRY_AFTER: u64 = 86_400;
/// Longest `WWW-Authenticate` kept.
const MAX_CHALLENGE: usize = 2048;

/// A response after its head was judged.
pub(crate) enum Answer {
    /// `application/json`.
    Json(Body),
    /// `text/event-stream`.
    Events(Events),
    /// 202, or another success without a body that matters.
    Accepted,
    /// 307 or 308: the same request is wanted elsewhere.
    Moved(String),
    /// A status of 400 or above that is neither 401, 403, 429 nor 5xx.
    Refused(Refused),
}

/// A refusal by HTTP status.
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// The JSON-RPC error in the body, if there is one.
    pub(crate) message: Option<Message>,
}

impl Refused {
    /// The error in the body.
    pub(crate) fn error(&self) -> Option<RpcError> {
        self.message.as_ref()?.error()
    }

    /// One of the codes only the modern era has (protocol reference 4.2).
    pub(crate) fn is_modern(&self) -> bool {
        self.error().is_some_and(|error| is_modern_code(error.code))
    }

    pub(crate) fn to_upstream(&self) -> UpstreamError {
        UpstreamError::refused(format!("HTTP {}", self.status))
    }
}

/// -32020, -32021, -32022.
pub(crate) fn is_modern_code(code: i64) -> bool {
    matches!(code, codes::HEADER_MISMATCH | codes::MISSING_CLIENT_CAPABILITY | codes::UNSUPPORTED_VERSION)
}

/// Sends a message and judges the head of the answer.
pub(crate) async fn post(
    env: &Env,
    url: &Url,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(Parts, Answer), UpstreamError> {
    let response = env.client.send(url, Method::POST, headers, body).await?;
    judge(env, response).await
}

/// Judges the head of a response; small error bodies are read.
pub(crate) async fn judge(env: &Env, response: Response<Body>) -> Result<(Parts, Answer), UpstreamError> {
    let (parts, body) = response.into_parts();
    let status = parts.status.as_u16();
    let answer = match status {
        200..=299 => success(env, &parts, body)?,
        401 | 403 => {
            let challenge = parts.headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
            let challenge = challenge.map(|text| text.chars().take(MAX_CHALLENGE).collect());
            return Err(UpstreamError::Auth { status, challenge });
        }
        429 | 500..=599 => {
            let seconds = parts.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            let (why, retry_after_s) = (format!("HTTP {status}"), seconds.map(|s: u64| s.min(MAX_RETRY_AFTER)));
            return Err(match status {
                429 => UpstreamError::Refused { why, retry_after_s },
                _ => UpstreamError::Unavailable { why, retry_after_s },
            });
        }
        307 | 308 => match parts.headers.get(LOCATION).and_then(|value| value.to_str().ok()) {
            Some(location) => Answer::Moved(location.to_owned()),
            None => return Err(moved(status)),
        },
        300..=399 => return Err(moved(status)),
        _ => {
            let read = tokio::time::timeout(ERROR_BODY_TIME, body.collect_bytes(MAX_ERROR_BODY)).await;
            let message = match read {
                Ok(Ok(text)) => Message::parse(text, &env.json).ok().filter(|message| message.kind() == Kind::Error),
                _ => None,
            };
            Answer::Refused(Refused { status, message })
        }
    };
    Ok((parts, answer))
}

/// A redirect that is not followed.
pub(crate) fn moved(status: u16) -> UpstreamError {
    UpstreamError::refused(format!("HTTP {status}: the server moved; configure its new URL"))
}

fn success(env: &Env, parts: &Parts, body: Body) -> Result<Answer, UpstreamError> {
    if parts.headers.contains_key(CONTENT_ENCODING) {
        return Err(UpstreamError::protocol("a compressed answer nobody asked for"));
    }
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") && parts.status != 202 {
        Ok(Answer::Json(body))
    } else if kind.eq_ignore_ascii_case("text/event-stream") {
        Ok(Answer::Events(Events::new(body, env.limits.upstream_body)))
    } else if matches!(parts.status.as_u16(), 202 | 204) || body.is_empty() {
        Ok(Answer::Accepted)
    } else {
        Err(UpstreamError::protocol("the answer is neither JSON nor an event stream"))
    }
}

/// Reads a message, or several where the peer sends a batch (2025-03-26).
pub(crate) fn parse(env: &Env, text: Bytes) -> Result<Vec<Message>, UpstreamError> {
    let bad = |error: bartizan_wire::EnvelopeError| UpstreamError::protocol(error.to_string());
    match Message::parse(text.clone(), &env.json) {
        Ok(message) => Ok(vec![message]),
        Err(error) if error.is_batch() => Message::parse_batch(text, &env.json).map_err(bad),
        Err(error) => Err(bad(error)),
    }
}

/// The answer to a request of bartizan's own.
pub(crate) struct Reply {
    pub(crate) parts: Parts,
    pub(crate) outcome: Outcome,
}

/// What a request of bartizan's own led to.
pub(crate) enum Outcome {
    Result(RawJson),
    Error(RpcError),
    Moved(String),
    Refused(Refused),
}

/// Sends a request and waits for its response, whatever else comes before it.
pub(crate) async fn request(
    env: &Env,
    url: &Url,
    headers: HeaderMap,
    id: &RequestId,
    body: Bytes,
) -> Result<Reply, UpstreamError> {
    let (parts, answer) = post(env, url, headers, body).await?;
    let found = |message: &Message| match message.kind() {
        Kind::Response | Kind::Error if message.id().is_none_or(|got| got == id) => Some(match message.result() {
            Some(result) => Outcome::Result(result),
            None => Outcome::Error(
                message.error().unwrap_or_else(|| RpcError::new(codes::INTERNAL_ERROR, "no error object")),
            ),
        }),
        _ => None,
    };
    let outcome = match answer {
        Answer::Refused(refused) => Outcome::Refused(refused),
        Answer::Moved(location) => Outcome::Moved(location),
        Answer::Accepted => return Err(UpstreamError::protocol("a request was answered without a body")),
        Answer::Json(body) => {
            let text = body.collect_bytes(env.limits.upstream_body).await?;
            let messages = parse(env, text)?;
            messages.iter().find_map(found).ok_or_else(|| UpstreamError::protocol("the answer has another id"))?
        }
        Answer::Events(mut events) => loop {
            let Some(batch) = events.next().await? else {
                return Err(UpstreamError::unavailable("the stream ended without an answer"));
            };
            let mut outcome = None;
            for event in batch.into_iter().filter(|event| !event.data.is_empty()) {
                outcome = parse(env, event.data)?.iter().find_map(found);
                if outcome.is_some() {
                    break;
                }
            }
            if let Some(outcome) = outcome {
                events.finish();
                break outcome;
            }
        },
    };
    Ok(Reply { parts, outcome })
}

/// Sends a notification or a response; anything but a refusal is fine.
pub(crate) async fn tell(env: &Env, url: &Url, headers: HeaderMap, body: Bytes) -> Result<(), UpstreamError> {
    let (_, answer) = post(env, url, headers, body).await?;
    match answer {
        Answer::Refused(refused) => Err(refused.to_upstream()),
        Answer::Moved(_) => Err(moved(307)),
        Answer::Json(body) => {
            // Read to the end, so that the connection can be used again.
            let _ = tokio::time::timeout(ERROR_BODY_TIME, body.collect_bytes(MAX_ERROR_BODY)).await;
            Ok(())
        }
        Answer::Events(_) | Answer::Accepted => Ok(()),
    }
}
