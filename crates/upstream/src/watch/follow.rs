//! One connection of a watcher: the GET stream, a listen stream, or a channel.

use std::sync::Arc;
use std::time::Duration;

use bartizan_model::Era;
use bartizan_wire::headers::{LAST_EVENT_ID, for_request};
use bartizan_wire::listen::Filter;
use bartizan_wire::{Kind, Message, RawJson, RequestId, RpcError, build, codes};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method};

use super::{Watcher, lock};
use crate::channel::Channel;
use crate::error::UpstreamError;
use crate::exchange::events::Events;
use crate::exchange::{Answer, judge, parse, post};
use crate::handshake::own_meta;
use crate::notes;
use crate::peer::{LegacyHttp, ModernHttp, Peer};
use crate::server::{Server, lost};
use crate::types::{ListKind, ServerNote};

/// Wait before a stream that ended in order is opened again.
const REOPEN: Duration = Duration::from_secs(1);
/// Longest wait a server may ask for.
const MAX_REOPEN: Duration = Duration::from_secs(60);
/// A stream that says nothing for this long may be dead and is opened anew.
const QUIET: Duration = Duration::from_secs(600);
/// How often a server without a stream is asked again.
const NO_STREAM: Duration = Duration::from_secs(300);

/// Resources said to have changed after a break; with more, readers look by themselves.
const MAX_RETOLD: usize = 64;

/// Reads from a stream that is given up, at most.
const MAX_REST: usize = 100;

/// Why a connection is over.
pub(crate) enum End {
    /// Something else is wanted now: at once.
    Changed,
    /// It ended in order: after this pause.
    Over(Duration),
    /// It broke: after the back-off.
    Failed,
    /// There is nothing to hear: look again after this.
    Silent(Duration),
}

/// Follows the server until the connection ends. After a break the lists may have changed
/// unheard, which is then said.
pub(crate) async fn follow(server: &Arc<Server>, watcher: &Arc<Watcher>, broken: bool) -> End {
    let peer = match watcher.peer(server).await {
        Ok(peer) => peer,
        Err(error) => {
            tracing::debug!(server = %server.spec.id, %error, "cannot listen");
            return End::Failed;
        }
    };
    let end = match &peer {
        Peer::Modern(peer) => listen(server, watcher, peer, broken).await,
        Peer::Legacy(session) => {
            resubscribe(server, watcher).await;
            get(server, watcher, session, broken).await
        }
        Peer::Channel(channel) if channel.era() == Era::Modern => listen_on(server, watcher, channel, broken).await,
        Peer::Channel(channel) => {
            resubscribe(server, watcher).await;
            if broken {
                all_changed(server, watcher);
            }
            tokio::select! {
                () = channel.gone.cancelled() => Ok(End::Over(REOPEN)),
                () = watcher.changed.notified() => Ok(End::Changed),
            }
        }
    };
    end.unwrap_or_else(|error| {
        tracing::debug!(server = %server.spec.id, %error, "the stream broke");
        End::Failed
    })
}

/// On a new session the server knows of no subscription.
async fn resubscribe(server: &Arc<Server>, watcher: &Arc<Watcher>) {
    for uri in watcher.uris() {
        // Not while a caller subscribes or unsubscribes the same.
        let _one = watcher.order.lock().await;
        let wanted = lock(&watcher.wanted).contains_key(&uri);
        if wanted
            && !lock(&watcher.applied).uris.contains(&uri)
            && let Err(error) = watcher.apply(server, &uri).await
        {
            tracing::debug!(server = %server.spec.id, %error, "subscribing again failed");
        }
    }
}

fn all_changed(server: &Server, watcher: &Watcher) {
    for kind in [ListKind::Tools, ListKind::Prompts, ListKind::Resources] {
        server.watchers.tell(&watcher.principal, ServerNote::ListChanged(kind));
    }
    for uri in watcher.uris().into_iter().take(MAX_RETOLD) {
        let params = RawJson::object([("uri", &RawJson::string(&uri))]);
        server.watchers.tell(&watcher.principal, ServerNote::ResourceUpdated { uri, params });
    }
}

/// The GET stream of a legacy session.
async fn get(
    server: &Arc<Server>,
    watcher: &Arc<Watcher>,
    session: &Arc<LegacyHttp>,
    broken: bool,
) -> Result<End, UpstreamError> {
    let mut headers = session.headers.clone();
    headers.remove(CONTENT_TYPE);
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    let last = lock(&watcher.applied).last_event.clone();
    let resumed = last.is_some();
    headers.extend(last.map(|last| (LAST_EVENT_ID, last)));
    let opening = async {
        let response = server.env.client.send(&session.url, Method::GET, headers, Bytes::new()).await?;
        judge(&server.env, response).await
    };
    let (_, answer) =
        tokio::time::timeout(server.env.list_time(), opening).await.map_err(|_| UpstreamError::Timeout)??;
    let mut events = match answer {
        Answer::Events(events) => events,
        Answer::Refused(refused) if refused.status == 404 && session.stateful => {
            lost(session);
            return Ok(End::Over(Duration::ZERO));
        }
        // 405 and its relatives: the server has no such stream.
        _ => return Ok(End::Silent(NO_STREAM)),
    };
    // With an event id the server sends what was missed.
    if broken && !resumed {
        all_changed(server, watcher);
    }
    let peer = Peer::Legacy(Arc::clone(session));
    hear(server, watcher, &peer, &mut events, &[]).await
}

/// A listen stream of a modern server, asked anew whenever the subscriptions change.
async fn listen(
    server: &Arc<Server>,
    watcher: &Arc<Watcher>,
    peer: &Arc<ModernHttp>,
    broken: bool,
) -> Result<End, UpstreamError> {
    let modern = Peer::Modern(Arc::clone(peer));
    let mut previous: Option<Events> = None;
    loop {
        let uris = watcher.uris();
        let params = listen_params(server, &uris, peer.said.revision, &peer.said.capabilities);
        let Some(params) = params else { return Ok(End::Silent(NO_STREAM)) };
        let id = server.ids.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut headers = peer.headers.clone();
        headers.extend(for_request(peer.said.revision, "subscriptions/listen", Some(&params)));
        let body = build::request(&RequestId::number(id), "subscriptions/listen", Some(&params));
        let opening = post(&server.env, &peer.url, headers, body);
        let opened = tokio::time::timeout(server.env.list_time(), opening).await;
        let (_, answer) = opened.map_err(|_| UpstreamError::Timeout)??;
        let Answer::Events(mut events) = answer else { return Ok(End::Silent(NO_STREAM)) };
        match previous.take() {
            // The old stream was kept until now, so that nothing was missed between the two.
            Some(old) => rest_of(server, watcher, old).await,
            None if broken => all_changed(server, watcher),
            None => {}
        }
        match hear(server, watcher, &modern, &mut events, &uris).await? {
            End::Changed => previous = Some(events),
            end => return Ok(end),
        }
    }
}

/// What has arrived on a stream that is given up.
async fn rest_of(server: &Arc<Server>, watcher: &Arc<Watcher>, mut events: Events) {
    for _ in 0..MAX_REST {
        let Ok(Ok(Some(batch))) = tokio::time::timeout(Duration::ZERO, events.next()).await else { return };
        for event in batch.into_iter().filter(|event| event.is_message() && !event.data.is_empty()) {
            for message in parse(&server.env, event.data).unwrap_or_default() {
                if message.kind() == Kind::Notification {
                    tell(server, watcher, &message);
                }
            }
        }
    }
}

/// What to ask a modern server for; nothing when it can tell nothing of it.
fn listen_params(
    server: &Server,
    uris: &[String],
    revision: bartizan_wire::Revision,
    capabilities: &RawJson,
) -> Option<RawJson> {
    let wanted = Filter { tools: true, prompts: true, resources: true, uris: uris.to_vec(), task_ids: Vec::new() };
    let filter = wanted.within(capabilities);
    if filter.is_empty() {
        return None;
    }
    let meta = own_meta(&server.env, revision);
    Some(RawJson::object([("notifications", &filter.to_raw()), ("_meta", &meta)]))
}

/// Reads a stream until it ends or, with a modern server, other URIs are wanted.
async fn hear(
    server: &Arc<Server>,
    watcher: &Arc<Watcher>,
    peer: &Peer,
    events: &mut Events,
    uris: &[String],
) -> Result<End, UpstreamError> {
    loop {
        let batch = tokio::select! {
            batch = tokio::time::timeout(QUIET, events.next()) => batch,
            () = watcher.changed.notified() => {
                // A modern server must be asked anew; a legacy one was told already, but perhaps
                // on a session that took the place of this one.
                let modern = matches!(peer, Peer::Modern(_));
                if modern && watcher.uris() != uris {
                    return Ok(End::Changed);
                }
                if !modern && !watcher.is_current(peer) {
                    return Ok(End::Over(Duration::ZERO));
                }
                continue;
            }
        };
        let wait = events.retry_ms.map_or(REOPEN, |ms| Duration::from_millis(ms).min(MAX_REOPEN));
        let Ok(batch) = batch else { return Ok(End::Over(Duration::ZERO)) };
        let Some(batch) = batch? else { return Ok(End::Over(wait)) };
        if let Peer::Legacy(session) = peer {
            session.used.touch();
            if let Some(last) = events.last_event_id() {
                lock(&watcher.applied).last_event = Some(last);
            }
        }
        for event in batch.into_iter().filter(|event| event.is_message() && !event.data.is_empty()) {
            for message in parse(&server.env, event.data)? {
                match message.kind() {
                    Kind::Notification => tell(server, watcher, &message),
                    Kind::Request if asked(peer, &message) => {}
                    Kind::Request => refuse(server, peer, &message),
                    // The end of a listen.
                    Kind::Response | Kind::Error if matches!(peer, Peer::Modern(_)) => return Ok(End::Over(wait)),
                    Kind::Response | Kind::Error => {}
                }
            }
        }
    }
}

fn tell(server: &Server, watcher: &Watcher, message: &Message) {
    if let Some(note) = notes::of(message).or_else(|| notes::other(message)) {
        server.watchers.tell(&watcher.principal, note);
    }
}

/// Whether a question was given to the call that it belongs to.
fn asked(peer: &Peer, message: &Message) -> bool {
    let Peer::Legacy(session) = peer else { return false };
    message.method() != Some("ping") && session.questions.give(message)
}

/// Requests outside of any call: pings are answered, nothing else (protocol reference 5.2).
fn refuse(server: &Server, peer: &Peer, message: &Message) {
    let Some(id) = message.id() else { return };
    let answer = if message.method() == Some("ping") {
        build::response(id, &RawJson::empty_object())
    } else {
        build::error(Some(id), &RpcError::new(codes::METHOD_NOT_FOUND, "not available here"))
    };
    peer.send_aside(&server.env, answer);
}

/// Listening on a modern local server; its notes are passed on by the connection itself.
async fn listen_on(
    server: &Arc<Server>,
    watcher: &Arc<Watcher>,
    channel: &Arc<Channel>,
    broken: bool,
) -> Result<End, UpstreamError> {
    let said = channel.said().ok_or_else(|| UpstreamError::unavailable("not ready"))?;
    let uris = watcher.uris();
    let Some(params) = listen_params(server, &uris, said.revision, &said.capabilities) else {
        return Ok(End::Silent(NO_STREAM));
    };
    let listen = channel.begin_background()?;
    let id = RequestId::number(listen.id);
    channel.send(build::request(&id, "subscriptions/listen", Some(&params))).await?;
    if broken {
        all_changed(server, watcher);
    }
    loop {
        tokio::select! {
            message = listen.next() => match message?.kind() {
                Kind::Response | Kind::Error => return Ok(End::Over(REOPEN)),
                Kind::Request | Kind::Notification => {}
            },
            () = watcher.changed.notified() => {
                if watcher.uris() == uris {
                    continue;
                }
                let cancel = RawJson::object([("requestId", &id.to_raw())]);
                channel.send_aside(build::notification("notifications/cancelled", Some(&cancel)));
                return Ok(End::Changed);
            }
        }
    }
}
