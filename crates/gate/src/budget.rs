//! Response budgets (feature row P52): a result that is longer than its client should read is
//! cut, given in pages, or kept aside for a while under a URI. What was left out is always
//! said; nothing is cut without a word.

mod kept;
mod shape;

use bartizan_catalog::{LongResults, ResultBudget};
use bartizan_model::EventId;
use bartizan_policy::Action;
use bartizan_wire::{RawJson, Revision, splice};
use serde_json::json;

use crate::call::{CallReply, Endpoint, Unknown};
use crate::exchange::{Exchange, Route};
use kept::{Keep, Kept, Source, uri_id};

/// Longest result that is looked through at once, bytes.
const INLINE: usize = 256 << 10;
/// Member of `_meta` that says what was left out.
const META: &str = "bartizan/result";

/// The result as the client gets it.
pub(crate) async fn apply(x: &mut Exchange, result: RawJson) -> RawJson {
    let Some((budget, offers_pages)) = budget(x) else { return result };
    // Every token is at least one byte.
    if result.len() <= budget.tokens {
        return result;
    }
    let whole = result.clone();
    let shaped = move || {
        let total = shape::tokens(&whole);
        let cut = (total > budget.tokens).then(|| shape::cut(&whole, budget.tokens));
        (total, cut)
    };
    // Long ones are not looked through where others wait.
    let (total, cut) = if result.len() <= INLINE {
        shaped()
    } else {
        match tokio::task::spawn_blocking(shaped).await {
            Ok(shaped) => shaped,
            Err(_) => return failed(x),
        }
    };
    let Some(cut) = cut else { return result };
    let (mode, result) = match budget.mode {
        LongResults::Page if offers_pages => match pages(x, &result, &cut, budget.tokens).await {
            Some(paged) => ("page", paged),
            None => ("truncate", cut_result(&cut, total)),
        },
        LongResults::Spill => match spill(x, &result, &cut, total).await {
            Some(spilled) => ("spill", spilled),
            None => ("truncate", cut_result(&cut, total)),
        },
        LongResults::Page | LongResults::Truncate => ("truncate", cut_result(&cut, total)),
    };
    let note = format!("result of about {total} tokens, budget {}: {mode}", budget.tokens);
    x.finish.note = Some(match x.finish.note.take() {
        Some(former) => format!("{former}; {note}"),
        None => note,
    });
    result
}

/// What could not be cut is not given whole.
fn failed(x: &Exchange) -> RawJson {
    let text = "The result is longer than allowed, and could not be cut.";
    crate::portal_tools::failure(text, x.era() == bartizan_model::Era::Modern)
}

/// The budget of the call, and whether pages can be asked for.
fn budget(x: &Exchange) -> Option<(ResultBudget, bool)> {
    let route = x.route.as_ref().filter(|route| route.action == Action::CallTool)?;
    let spec = route.server()?;
    let portal = x.endpoint.portal().and_then(|id| x.snapshot.portals.get(id));
    let budget = spec.result_budget(portal.map(|portal| &**portal), &route.name)?;
    Some((budget, portal.is_some()))
}

fn said(result: &RawJson, content: &[RawJson], cut: &shape::Cut, meta: &serde_json::Value) -> RawJson {
    let content = RawJson::array(content);
    let mut members = vec![("content", &content)];
    members.extend(cut.structured.as_ref().map(|structured| ("structuredContent", structured)));
    let result = splice::set_many(result, &members);
    splice::set_path(&result, &["_meta", META], &RawJson::from(meta))
}

fn text(text: &str) -> RawJson {
    RawJson::from(&json!({"type": "text", "text": text}))
}

fn cut_result(cut: &shape::Cut, total: usize) -> RawJson {
    let note = format!("[Cut here: the result has about {total} tokens and is longer than allowed. Ask for less.]");
    let content: Vec<RawJson> = cut.content.iter().cloned().chain([text(&note)]).collect();
    said(&cut.rest, &content, cut, &json!({"truncated": true, "tokens": total}))
}

/// The first page, with a handle for the next.
async fn pages(x: &Exchange, result: &RawJson, cut: &shape::Cut, tokens: usize) -> Option<RawJson> {
    // Data beside the text has its share of the first page.
    let pages = shape::pages(result, tokens.saturating_sub(cut.structured_tokens()).max(tokens / 2));
    let (first, more) = pages.split_first().filter(|(_, more)| !more.is_empty())?;
    let (kept, source) = (Kept::of(x)?, Source::of(x)?);
    let id = kept.put(&Keep::pages(more)).await?;
    let handle = kept.handle(&id, 0, &source)?;
    let note = format!(
        "[Page 1 of {}. For the next call portal_next_page with {{\"handle\": \"{handle}\"}}; it is kept for ten minutes.]",
        pages.len()
    );
    let meta = json!({"page": 1, "pages": pages.len(), "next": handle});
    Some(said(&cut.rest, &[text(first), text(&note)], cut, &meta))
}

/// `portal_next_page`.
pub(crate) async fn next_page(x: &Exchange) -> Result<RawJson, &'static str> {
    const GONE: &str = "This handle is unknown, not yours, or older than ten minutes. Call the tool again.";
    let handle = x.params.arguments.as_ref().and_then(|arguments| arguments.get("handle"));
    let handle = handle.and_then(|handle| handle.as_string().map(std::borrow::Cow::into_owned));
    let handle = handle.ok_or("`handle` must be the text that the page before gave.")?;
    let kept = Kept::of(x).ok_or(GONE)?;
    let (id, part, source) = kept.open(&handle).ok_or(GONE)?;
    if !source.may_still(x).await {
        return Err(GONE);
    }
    let (page, parts) = kept.get(&id, part).await.ok_or(GONE)?;
    let (number, pages) = (part + 2, parts + 1);
    let next = if part + 1 < parts { kept.handle(&id, part + 1, &source) } else { None };
    let note = match &next {
        Some(handle) => format!("[Page {number} of {pages}. Next: portal_next_page with {{\"handle\": \"{handle}\"}}]"),
        None => format!("[Page {number} of {pages}, the last.]"),
    };
    let meta = json!({"page": number, "pages": pages, "next": next});
    let result = json!({"isError": false, "_meta": {META: meta}});
    let result = splice::set(&RawJson::from(&result), "content", &RawJson::array(&[text(&page), text(&note)]));
    Ok(match x.era() {
        bartizan_model::Era::Modern => splice::set(&result, "resultType", &RawJson::string("complete")),
        bartizan_model::Era::Legacy => result,
    })
}

/// A link to the whole result.
async fn spill(x: &Exchange, result: &RawJson, cut: &shape::Cut, total: usize) -> Option<RawJson> {
    let (kept, source) = (Kept::of(x)?, Source::of(x)?);
    let (mime, whole) = shape::whole(result);
    let id = kept.put(&Keep::whole(mime, &source, &whole)).await?;
    let uri = kept::uri(&id);
    let note = format!("The result has about {total} tokens. The whole of it is kept for ten minutes at {uri}");
    let mut content = vec![text(&note)];
    // Links in results are known since 2025-06-18.
    if x.caller.profile.revision >= Revision::V2025_06_18 {
        let link =
            json!({"type": "resource_link", "uri": uri, "name": "result", "mimeType": mime, "size": whole.len()});
        content.push(RawJson::from(&link));
    }
    Some(said(&cut.rest, &content, cut, &json!({"uri": uri, "tokens": total})))
}

/// The way of a read of a kept result, if the URI is one.
pub(crate) fn route(endpoint: &Endpoint, asked: &str) -> Option<Route> {
    let id = uri_id(asked)?;
    // Whoever may come here may read what was kept for them.
    let action = match endpoint {
        Endpoint::Portal(_) => Action::UsePortal,
        Endpoint::Server(_) => Action::UseServer,
    };
    Some(Route {
        destination: crate::exchange::Destination::Kept(id.into()),
        action,
        name: asked.into(),
        class: bartizan_model::ToolClass::Read,
        pin: None,
        input_schema: None,
        decision: None,
        params: None,
    })
}

/// `resources/read` of a kept result.
pub(crate) async fn read(x: &Exchange, id: &str) -> Result<RawJson, CallReply> {
    let uri = kept::uri(id);
    let gone = |event_id: EventId| CallReply::NotFound { what: Unknown::Resource(uri.clone()), event_id };
    let kept = Kept::of(x).ok_or_else(|| gone(x.id))?;
    let (mime, source, whole) = kept.whole(id).await.ok_or_else(|| gone(x.id))?;
    if !source.may_still(x).await {
        return Err(gone(x.id));
    }
    let mut result = json!({"contents": [{"uri": uri, "mimeType": mime, "text": whole}]});
    if let (bartizan_model::Era::Modern, Some(members)) = (x.era(), result.as_object_mut()) {
        members.insert("resultType".to_owned(), "complete".into());
        members.insert("ttlMs".to_owned(), 0.into());
        members.insert("cacheScope".to_owned(), "private".into());
    }
    Ok(RawJson::from(&result))
}
