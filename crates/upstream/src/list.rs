//! Whole lists (P31): every page, bounded in pages, items, bytes and time.

use std::collections::HashSet;
use std::sync::Arc;

use bartizan_model::Era;
use bartizan_wire::headers::param_headers;
use bartizan_wire::{ClientProfile, RawJson, RpcError, codes, splice};

use crate::call::{Options, open};
use crate::error::UpstreamError;
use crate::peer::Peer;
use crate::server::Server;
use crate::types::{CallRequest, ListKind, ListResult, UpstreamEvent, UpstreamReply, Who};

/// Pages followed.
const MAX_PAGES: usize = 1_000;
/// Items taken.
const MAX_ITEMS: usize = 100_000;
/// Bytes of all pages together.
const MAX_BYTES: usize = 64 << 20;

/// Gets a whole list within the list time, the bodies included.
pub(crate) async fn list(
    server: &Arc<Server>,
    who: &Who,
    kind: ListKind,
    profile: &Arc<ClientProfile>,
) -> Result<ListResult, UpstreamError> {
    let _pass = server.breaker.admit()?;
    let fetched = tokio::time::timeout(server.env.list_time(), fetch(server, who, kind, profile)).await;
    let fetched = fetched.unwrap_or(Err(UpstreamError::Timeout));
    if matches!(fetched, Err(UpstreamError::Timeout)) {
        server.late(who);
    }
    fetched
}

async fn fetch(
    server: &Arc<Server>,
    who: &Who,
    kind: ListKind,
    profile: &Arc<ClientProfile>,
) -> Result<ListResult, UpstreamError> {
    let peer = server.lease(who, profile, false).await?.peer;
    let era = peer.revision().era();
    let declared = peer.said().is_none_or(|said| said.capabilities.get(kind.capability()).is_some());
    let mut pages = Pages::new(era);
    // Servers that forget to declare tools exist; for the rest the declaration is believed.
    if !declared && kind != ListKind::Tools {
        return Ok(pages.end(kind, &peer, server));
    }
    loop {
        let params = match &pages.cursor {
            Some(cursor) => RawJson::object([("cursor", &RawJson::string(cursor))]),
            None => RawJson::empty_object(),
        };
        let request = CallRequest::new(kind.method(), Some(params), Arc::clone(profile));
        match ask(server, who, request).await? {
            Ok(result) => {
                if pages.add(kind, &result)? {
                    return Ok(pages.end(kind, &peer, server));
                }
            }
            Err(error) if error.code == codes::METHOD_NOT_FOUND && pages.count == 0 => {
                return Ok(pages.end(kind, &peer, server));
            }
            Err(error) => {
                return Err(UpstreamError::protocol(format!("{} failed with code {}", kind.method(), error.code)));
            }
        }
    }
}

/// One request whose result is wanted as it is.
pub(crate) async fn ask(
    server: &Arc<Server>,
    who: &Who,
    request: CallRequest,
) -> Result<Result<RawJson, RpcError>, UpstreamError> {
    let time = server.env.list_time();
    let options = Options { raw: true, time, limit: time, refresh: false };
    let mut call = open(server, who, request, options).await?;
    loop {
        match call.next().await {
            UpstreamEvent::Done(UpstreamReply::Result(result)) => return Ok(Ok(result)),
            UpstreamEvent::Done(UpstreamReply::Error(error)) => return Ok(Err(error)),
            UpstreamEvent::Done(UpstreamReply::Failed(error)) => return Err(error),
            UpstreamEvent::Done(UpstreamReply::InputRequired { .. }) => {
                return Err(UpstreamError::protocol("questions in answer to a list"));
            }
            UpstreamEvent::Notification { .. } | UpstreamEvent::Ask(_) => {}
        }
    }
}

/// What was collected so far.
struct Pages {
    era: Era,
    items: Vec<RawJson>,
    meta: Option<RawJson>,
    ttl_ms: Option<u64>,
    private: bool,
    bytes: usize,
    count: usize,
    cursor: Option<String>,
    seen: HashSet<String>,
}

impl Pages {
    fn new(era: Era) -> Self {
        Self {
            era,
            items: Vec::new(),
            meta: None,
            ttl_ms: None,
            private: era == Era::Legacy,
            bytes: 0,
            count: 0,
            cursor: None,
            seen: HashSet::new(),
        }
    }

    /// Takes one page; true when it was the last.
    fn add(&mut self, kind: ListKind, page: &RawJson) -> Result<bool, UpstreamError> {
        let list = page.get(kind.member()).ok_or_else(|| UpstreamError::protocol(format!("no `{}`", kind.member())))?;
        self.count += 1;
        self.bytes = self.bytes.saturating_add(page.len());
        self.items.extend(splice::items(&list).into_iter().filter(RawJson::is_object));
        if self.bytes > MAX_BYTES || self.items.len() > MAX_ITEMS {
            return Err(UpstreamError::TooLarge);
        }
        if self.count == 1 {
            self.meta = page.get("_meta");
        }
        if self.era == Era::Modern {
            // Absent means 0 and private (protocol reference 3.9; 4.2, trap 7).
            let ttl = page.get("ttlMs").and_then(|ttl| u64::try_from(ttl.as_i64()?).ok()).unwrap_or(0);
            self.ttl_ms = Some(self.ttl_ms.map_or(ttl, |least| least.min(ttl)));
            self.private |=
                page.get("cacheScope").and_then(|scope| Some(scope.as_string()? != "public")).unwrap_or(true);
        }
        let next = page.get("nextCursor").and_then(|cursor| cursor.as_string().map(String::from));
        let Some(next) = next.filter(|cursor| !cursor.is_empty()) else { return Ok(true) };
        if self.count >= MAX_PAGES {
            return Err(UpstreamError::TooLarge);
        }
        if !self.seen.insert(next.clone()) {
            return Err(UpstreamError::protocol("the list's cursors go in a circle"));
        }
        self.cursor = Some(next);
        Ok(false)
    }

    fn end(mut self, kind: ListKind, peer: &Peer, server: &Server) -> ListResult {
        if kind == ListKind::Tools && matches!(peer, Peer::Modern(_)) {
            // An HTTP client must drop a tool whose annotations cannot be obeyed (3.3).
            self.items.retain(|tool| match tool.get("inputSchema").map(|schema| param_headers(&schema)) {
                Some(Err(error)) => {
                    let name = tool.get("name").and_then(|name| name.as_string().map(String::from)).unwrap_or_default();
                    tracing::warn!(server = %server.spec.id, tool = %name, %error, "tool dropped");
                    false
                }
                _ => true,
            });
        }
        ListResult { items: self.items, meta: self.meta, ttl_ms: self.ttl_ms, private: self.private, era: self.era }
    }
}

/// The current input schema of the tool a request calls.
pub(crate) async fn schema(
    server: &Arc<Server>,
    who: &Who,
    request: &CallRequest,
) -> Result<Option<RawJson>, UpstreamError> {
    let name = request.params.as_ref().and_then(|params| params.get("name"));
    let Some(name) = name.as_ref().and_then(RawJson::as_string) else { return Ok(None) };
    let tools = list(server, who, ListKind::Tools, &request.profile).await?;
    let named = |tool: &&RawJson| tool.get("name").is_some_and(|own| own.as_string().as_deref() == Some(&*name));
    Ok(tools.items.iter().find(named).and_then(|tool| tool.get("inputSchema")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> RawJson {
        RawJson::try_from(text).unwrap()
    }

    #[test]
    fn p31_a_cursor_circle_is_noticed() {
        let mut pages = Pages::new(Era::Modern);
        assert!(!pages.add(ListKind::Tools, &page(r#"{"tools":[],"nextCursor":"a"}"#)).unwrap());
        assert!(!pages.add(ListKind::Tools, &page(r#"{"tools":[],"nextCursor":"b"}"#)).unwrap());
        let error = pages.add(ListKind::Tools, &page(r#"{"tools":[],"nextCursor":"a"}"#)).unwrap_err();
        assert!(matches!(error, UpstreamError::Protocol { .. }), "{error}");
    }

    #[test]
    fn p31_pages_and_items_are_bounded() {
        let mut pages = Pages::new(Era::Modern);
        let result = (0..2000).find_map(|n| {
            pages.add(ListKind::Tools, &page(&format!(r#"{{"tools":[],"nextCursor":"c{n}"}}"#))).err().map(|e| (n, e))
        });
        assert!(matches!(result, Some((999, UpstreamError::TooLarge))), "{result:?}");
        let many = format!("{{\"tools\":[{}{{}}],\"nextCursor\":\"x\"}}", "{},".repeat(60_000));
        let mut pages = Pages::new(Era::Modern);
        pages.add(ListKind::Tools, &page(&many)).unwrap();
        let many = many.replace("\"x\"", "\"y\"");
        assert!(matches!(pages.add(ListKind::Tools, &page(&many)), Err(UpstreamError::TooLarge)));
    }

    #[test]
    fn p33_ttl_is_the_least_and_private_wins() {
        let mut pages = Pages::new(Era::Modern);
        pages
            .add(ListKind::Tools, &page(r#"{"tools":[],"ttlMs":500,"cacheScope":"public","nextCursor":"a"}"#))
            .unwrap();
        assert!((pages.ttl_ms, pages.private) == (Some(500), false));
        pages.add(ListKind::Tools, &page(r#"{"tools":[],"ttlMs":20,"cacheScope":"private"}"#)).unwrap();
        assert!((pages.ttl_ms, pages.private) == (Some(20), true));
        let mut pages = Pages::new(Era::Modern);
        pages.add(ListKind::Tools, &page(r#"{"tools":[]}"#)).unwrap();
        assert!((pages.ttl_ms, pages.private) == (Some(0), true), "absent means 0 and private");
    }

    #[test]
    fn p31_a_null_or_empty_cursor_is_the_end() {
        for end in ["null", "\"\"", "5"] {
            let mut pages = Pages::new(Era::Legacy);
            assert!(
                pages.add(ListKind::Tools, &page(&format!(r#"{{"tools":[],"nextCursor":{end}}}"#))).unwrap(),
                "{end}"
            );
        }
        assert!(Pages::new(Era::Legacy).add(ListKind::Tools, &page("{}")).is_err());
    }
}
