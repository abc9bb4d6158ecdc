//! Results.

use bartizan_model::Era;

use super::Hop;
use crate::meta_key;
use crate::method;
use crate::raw::RawJson;
use crate::splice;

/// What a result says about itself by `resultType`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultKind {
    /// `complete`, or nothing said.
    Complete,
    /// `input_required`: questions before the result.
    InputRequired,
    /// `task`, of the tasks extension.
    Task,
    /// Anything else: invalid unless an extension both sides declared defines it.
    Other(String),
}

/// Reads `resultType`.
pub fn result_kind(result: &RawJson) -> ResultKind {
    let Some(kind) = splice::get(result, "resultType") else { return ResultKind::Complete };
    match kind.as_string().as_deref() {
        Some("complete") => ResultKind::Complete,
        Some("input_required") => ResultKind::InputRequired,
        Some("task") => ResultKind::Task,
        Some(other) => ResultKind::Other(other.chars().take(64).collect()),
        None => ResultKind::Other(String::new()),
    }
}

/// A complete result as the client expects it. `initialize` and `server/discover` are
/// converted by their own functions, `input_required` by [`super::InputRequired`].
///
/// * modern server → legacy client: without `resultType`, `ttlMs`, `cacheScope` and
///   `_meta`'s serverInfo; in tools/list without output schemas whose root is not an
///   object; in tools/call without structured content that is not an object, which
///   becomes a text block when there is none.
/// * legacy server → modern client: with them (`complete`, 0, `private`); tools/list
///   without `execution`, and without tools that can only run as core tasks.
pub fn result_to(hop: &Hop<'_>, method: &str, result: &RawJson) -> RawJson {
    match hop.eras() {
        (Era::Legacy, Era::Legacy) => result.clone(),
        (Era::Modern, Era::Modern) => completed(method, result),
        (Era::Legacy, Era::Modern) => to_legacy(method, result),
        (Era::Modern, Era::Legacy) => to_modern(hop, method, result),
    }
}

/// Adds what a modern server left out.
fn completed(method: &str, result: &RawJson) -> RawJson {
    let kind = result_kind(result);
    let mut missing = Vec::new();
    let (complete, zero, private) = (RawJson::string("complete"), RawJson::int(0), RawJson::string("private"));
    if splice::get(result, "resultType").is_none() {
        missing.push(("resultType", &complete));
    }
    if kind == ResultKind::Complete && method::lookup(method).is_some_and(|info| info.cacheable) {
        for (key, value) in [("ttlMs", &zero), ("cacheScope", &private)] {
            if splice::get(result, key).is_none() {
                missing.push((key, value));
            }
        }
    }
    splice::set_many(result, &missing)
}

fn to_legacy(method: &str, result: &RawJson) -> RawJson {
    let bare = splice::edit(result, &[("resultType", None), ("ttlMs", None), ("cacheScope", None)]);
    let bare = splice::edit_in(&bare, "_meta", &[(meta_key::SERVER_INFO, None)]);
    match method {
        "tools/list" => edit_tools(&bare, |tool| Some(legacy_tool(tool))),
        "tools/call" => legacy_content(&bare),
        _ => bare,
    }
}

/// A tool definition for a legacy client: an `outputSchema` must be of type `object`.
fn legacy_tool(tool: &RawJson) -> RawJson {
    let fits = |schema: RawJson| schema.get("type").is_some_and(|kind| kind.as_string().as_deref() == Some("object"));
    match splice::get(tool, "outputSchema") {
        Some(schema) if !fits(schema.clone()) => splice::remove(tool, "outputSchema"),
        _ => tool.clone(),
    }
}

fn legacy_content(result: &RawJson) -> RawJson {
    let Some(structured) = splice::get(result, "structuredContent").filter(|value| !value.is_object()) else {
        return result.clone();
    };
    let bare = splice::remove(result, "structuredContent");
    let content = splice::get(&bare, "content");
    let mut blocks = content.as_ref().map(splice::items).unwrap_or_default();
    let is_text = |block: &RawJson| block.get("type").is_some_and(|kind| kind.as_string().as_deref() == Some("text"));
    if blocks.iter().any(is_text) {
        return bare;
    }
    blocks.push(text_block(structured.as_str()));
    splice::set(&bare, "content", &RawJson::array(&blocks))
}

pub(super) fn text_block(text: &str) -> RawJson {
    RawJson::object([("type", &RawJson::string("text")), ("text", &RawJson::string(text))])
}

fn to_modern(hop: &Hop<'_>, method: &str, result: &RawJson) -> RawJson {
    let (complete, zero, private) = (RawJson::string("complete"), RawJson::int(0), RawJson::string("private"));
    // A legacy server's own members of these names mean something else: they are replaced.
    let mut sets = vec![("resultType", &complete)];
    if method::lookup(method).is_some_and(|info| info.cacheable) {
        sets.extend([("ttlMs", &zero), ("cacheScope", &private)]);
    }
    let meta = hop.server_info.map(|info| {
        let meta = splice::get(result, "_meta").filter(RawJson::is_object).unwrap_or_else(RawJson::empty_object);
        splice::set(&meta, meta_key::SERVER_INFO, info)
    });
    sets.extend(meta.as_ref().map(|meta| ("_meta", meta)));
    let full = splice::set_many(result, &sets);
    if method == "tools/list" { edit_tools(&full, modern_tool) } else { full }
}

/// A tool definition for a modern client, or nothing for one that only runs as a core task.
fn modern_tool(tool: &RawJson) -> Option<RawJson> {
    let support = splice::get_path(tool, &["execution", "taskSupport"]);
    if support.as_ref().and_then(RawJson::as_string).as_deref() == Some("required") {
        return None;
    }
    Some(splice::remove(tool, "execution"))
}

fn edit_tools(result: &RawJson, f: impl FnMut(&RawJson) -> Option<RawJson>) -> RawJson {
    match splice::get(result, "tools") {
        Some(tools) => splice::set(result, "tools", &splice::map_items(&tools, f)),
        None => result.clone(),
    }
}
