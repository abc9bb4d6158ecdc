//! Which transport and era a remote server speaks (protocol reference 4.2, row P8).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bartizan_egress::Url;
use bartizan_wire::headers::{PROTOCOL_VERSION, SESSION_ID, for_request};
use bartizan_wire::{ClientProfile, LATEST_LEGACY, LATEST_MODERN, RequestId, Revision, build};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Outcome, Refused, Reply, is_modern_code, request, tell};
use crate::channel::Channel;
use crate::channel::sse::{self, Opened};
use crate::env::Env;
use crate::error::UpstreamError;
use crate::handshake::{self, Discovery};
use crate::notes::NoteSink;
use crate::peer::{LegacyHttp, MAX_ASIDES, ModernHttp, Peer, SessionLog, Used};
use crate::plan::Candidate;

/// Redirects on the same origin, and changes of version, while probing.
const MAX_TRIES: usize = 5;
/// Time for the DELETE of a session.
const END_TIME: Duration = Duration::from_secs(2);
/// Longest session id taken.
const MAX_SESSION_ID: usize = 1024;

/// What a URL turned out to be, before a session exists.
pub(crate) enum Probe {
    /// Modern, and what it said.
    Modern(Arc<ModernHttp>),
    /// Not modern; whether it is legacy shows at `initialize`. The URL after redirects.
    Legacy(Url),
}

/// What `initialize` led to.
pub(crate) enum Init {
    Session(Arc<LegacyHttp>),
    Refused(Refused),
    /// This client's declaration is refused, one without any is taken: the server is where it was.
    NotThisClient(Refused),
}

/// Tries the candidates in order. 401, 403, 5xx, time-outs and broken connections end the
/// climb: they are no evidence of anything. Returns the URL that worked.
pub(crate) async fn climb(
    env: &Arc<Env>,
    ladder: &[Candidate],
    headers: &HeaderMap,
    profile: &ClientProfile,
    notes: &NoteSink,
) -> Result<(Peer, Url), UpstreamError> {
    let mut last = 0;
    for candidate in ladder {
        match candidate {
            Candidate::Streamable(url) => match probe(env, url, headers).await? {
                Probe::Modern(peer) => {
                    let url = peer.url.clone();
                    return Ok((Peer::Modern(peer), url));
                }
                Probe::Legacy(url) => match introduce(env, &url, headers, profile).await? {
                    Init::Session(peer) => return Ok((Peer::Legacy(peer), url)),
                    Init::NotThisClient(refused) => return Err(refused.to_upstream()),
                    Init::Refused(refused) if advances(&refused) => last = refused.status,
                    Init::Refused(refused) => return Err(refused.to_upstream()),
                },
            },
            Candidate::Sse(url) => match sse::open(env, url, headers, Arc::clone(notes)).await? {
                Opened::Channel(channel) => {
                    initialize_channel(env, &channel, profile).await?;
                    return Ok((Peer::Channel(channel), url.clone()));
                }
                Opened::NotHere(status) => last = status,
            },
        }
    }
    Err(UpstreamError::refused(format!("no MCP transport found at the URL (last answer: HTTP {last})")))
}

/// Only these let the next candidate be tried, and only without a modern error in the body.
pub(crate) fn advances(refused: &Refused) -> bool {
    matches!(refused.status, 400 | 404 | 405 | 406) && !refused.is_modern()
}

/// Sends `server/discover`.
pub(crate) async fn probe(env: &Env, url: &Url, headers: &HeaderMap) -> Result<Probe, UpstreamError> {
    let mut revision = LATEST_MODERN;
    let mut url = url.clone();
    for _ in 0..MAX_TRIES {
        let id = RequestId::number(0);
        let params = handshake::discover_params(env, revision);
        let mut sent = headers.clone();
        sent.extend(for_request(revision, "server/discover", Some(&params)));
        let body = build::request(&id, "server/discover", Some(&params));
        let error = match request(env, &url, sent, &id, body).await {
            Ok(Reply { outcome, .. }) => match outcome {
                Outcome::Result(result) if handshake::is_discover_result(&result) => {
                    let said = Arc::new(handshake::discovered(&result, revision)?);
                    let (headers, said_at) = (headers.clone(), Instant::now());
                    return Ok(Probe::Modern(Arc::new(ModernHttp { url, headers, said, said_at })));
                }
                Outcome::Result(_) => return Ok(Probe::Legacy(url)),
                Outcome::Moved(location) => {
                    url = moved_to(&url, &location)?;
                    continue;
                }
                Outcome::Error(error) => Some(error),
                Outcome::Refused(refused) => refused.error(),
            },
            // An answer that is not MCP at all: `initialize` will tell.
            Err(UpstreamError::Protocol { .. }) => None,
            Err(error) => return Err(error),
        };
        let Some(error) = error.filter(|error| is_modern_code(error.code)) else { return Ok(Probe::Legacy(url)) };
        match handshake::after_version_error(&error) {
            Discovery::Retry(other) => revision = other,
            Discovery::Legacy => return Ok(Probe::Legacy(url)),
            Discovery::Hopeless => {
                let why = format!("server/discover was refused with code {}", error.code);
                return Err(UpstreamError::protocol(why));
            }
        }
    }
    Err(UpstreamError::protocol("no common protocol version, or too many redirects"))
}

/// The target of a redirect, which must be on the same origin: the credential goes there.
fn moved_to(from: &Url, location: &str) -> Result<Url, UpstreamError> {
    let to = from.join(location)?;
    if to.same_origin(from) {
        Ok(to)
    } else {
        Err(UpstreamError::Blocked { why: format!("redirect to another origin ({})", to.origin()) })
    }
}

/// Opens a legacy session, and looks twice before a refusal is taken for the lack of a server:
/// what a client declares must not lead all others elsewhere.
pub(crate) async fn introduce(
    env: &Env,
    url: &Url,
    headers: &HeaderMap,
    profile: &ClientProfile,
) -> Result<Init, UpstreamError> {
    let refused = match initialize(env, url, headers, profile).await? {
        Init::Refused(refused) if advances(&refused) => refused,
        init => return Ok(init),
    };
    let plain = ClientProfile::plain(LATEST_LEGACY);
    if profile.capabilities == plain.capabilities {
        return Ok(Init::Refused(refused));
    }
    match initialize(env, url, headers, &plain).await? {
        Init::Session(session) => {
            end_session(env, &session).await;
            Ok(Init::NotThisClient(refused))
        }
        _ => Ok(Init::Refused(refused)),
    }
}

/// Opens a legacy session.
pub(crate) async fn initialize(
    env: &Env,
    url: &Url,
    headers: &HeaderMap,
    profile: &ClientProfile,
) -> Result<Init, UpstreamError> {
    let id = RequestId::number(0);
    let params = handshake::initialize_params(env, profile);
    let body = build::request(&id, "initialize", Some(&params));
    let Reply { parts, outcome } = request(env, url, headers.clone(), &id, body).await?;
    let result = match outcome {
        Outcome::Result(result) => result,
        Outcome::Refused(refused) => return Ok(Init::Refused(refused)),
        Outcome::Moved(_) => return Err(super::moved(parts.status.as_u16())),
        Outcome::Error(error) => {
            return Err(UpstreamError::refused(format!("initialize was refused with code {}", error.code)));
        }
    };
    let said = Arc::new(handshake::initialized(&result)?);
    let mut headers = headers.clone();
    if said.revision >= Revision::V2025_06_18 {
        headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(said.revision.as_str()));
    }
    let session = parts.headers.get(SESSION_ID);
    if let Some(session) = session {
        let bytes = session.as_bytes();
        // Visible ASCII only (protocol reference 2).
        if bytes.is_empty() || bytes.len() > MAX_SESSION_ID || !bytes.iter().all(|b| (0x21..=0x7e).contains(b)) {
            return Err(UpstreamError::protocol("malformed Mcp-Session-Id"));
        }
        let mut session = session.clone();
        session.set_sensitive(true);
        headers.insert(SESSION_ID, session);
    }
    tell(env, url, headers.clone(), build::notification("notifications/initialized", None)).await?;
    Ok(Init::Session(Arc::new(LegacyHttp {
        url: url.clone(),
        headers,
        stateful: session.is_some(),
        said,
        dead: AtomicBool::new(false),
        used: Used::now(),
        calls: Arc::new(()),
        log: SessionLog::new(),
        questions: Arc::default(),
        asides: Arc::new(Semaphore::new(MAX_ASIDES)),
    })))
}

/// The handshake on a channel; ends the channel when it fails.
pub(crate) async fn initialize_channel(
    env: &Env,
    channel: &Arc<Channel>,
    profile: &ClientProfile,
) -> Result<(), UpstreamError> {
    let params = handshake::initialize_params(env, profile);
    let shake = async {
        let result = channel
            .request("initialize", Some(&params))
            .await?
            .map_err(|error| UpstreamError::refused(format!("initialize was refused with code {}", error.code)))?;
        channel.set_said(Arc::new(handshake::initialized(&result)?));
        channel.send(build::notification("notifications/initialized", None)).await
    };
    // A channel nobody got to know must not live on, also when this future is dropped.
    let guard = channel.stop.clone().drop_guard();
    shake.await?;
    guard.disarm();
    Ok(())
}

/// Ends a legacy session; the answer does not matter.
pub(crate) async fn end_session(env: &Env, peer: &LegacyHttp) {
    peer.dead.store(true, Ordering::Release);
    if peer.stateful {
        let ended = env.client.send(&peer.url, Method::DELETE, peer.headers.clone(), Bytes::new());
        let _ = tokio::time::timeout(END_TIME, ended).await;
    }
}
