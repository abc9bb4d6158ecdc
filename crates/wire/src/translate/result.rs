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
    kind_of(splice::get(result, "resultType").as_ref())
}

fn kind_of(result_type: Option<&RawJson>) -> ResultKind {
    let Some(kind) = result_type else { return ResultKind::Complete };
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

fn is_cacheable(method: &str) -> bool {
    method::lookup(method).is_some_and(|info| info.cacheable)
}

/// Adds what a modern server left out.
fn completed(method: &str, result: &RawJson) -> RawJson {
    let [kind, ttl, scope] = splice::pick(result, ["resultType", "ttlMs", "cacheScope"]);
    let (complete, zero, private) = (RawJson::string("complete"), RawJson::int(0), RawJson::string("private"));
    let cached = kind_of(kind.as_ref()) == ResultKind::Complete && is_cacheable(method);
    let mut missing = Vec::new();
    if kind.is_none() {
        missing.push(("resultType", &complete));
    }
    if cached && ttl.is_none() {
        missing.push(("ttlMs", &zero));
    }
    if cached && scope.is_none() {
        missing.push(("cacheScope", &private));
    }
    splice::set_many(result, &missing)
}

fn to_legacy(method: &str, result: &RawJson) -> RawJson {
    let [meta, tools, structured, content] = splice::pick(result, ["_meta", "tools", "structuredContent", "content"]);
    let meta = splice::edited_inner(meta.as_ref(), &[(meta_key::SERVER_INFO, None)]);
    let tools = tools
        .filter(|tools| method == "tools/list" && splice::may_mention(tools, "outputSchema"))
        .map(|tools| splice::map_items(&tools, |tool| Some(legacy_tool(tool))));
    let structured = structured.filter(|value| method == "tools/call" && !value.is_object());
    let content = structured.as_ref().and_then(|value| with_text(content.as_ref(), value));
    let mut edits = vec![("resultType", None), ("ttlMs", None), ("cacheScope", None)];
    edits.extend(meta.as_edit("_meta"));
    edits.extend(tools.as_ref().map(|tools| ("tools", Some(tools))));
    edits.extend(structured.as_ref().map(|_| ("structuredContent", None)));
    edits.extend(content.as_ref().map(|content| ("content", Some(content))));
    splice::edit(result, &edits)
}

/// The content with the structured value as a text block, unless it has a text block.
fn with_text(content: Option<&RawJson>, structured: &RawJson) -> Option<RawJson> {
    let mut blocks = content.map(splice::items).unwrap_or_default();
    let is_text = |block: &RawJson| block.get("type").is_some_and(|kind| kind.as_string().as_deref() == Some("text"));
    if blocks.iter().any(is_text) {
        return None;
    }
    blocks.push(text_block(structured.as_str()));
    Some(RawJson::array(&blocks))
}

/// A tool definition for a legacy client: an `outputSchema` must be of type `object`.
fn legacy_tool(tool: &RawJson) -> RawJson {
    let fits = |schema: RawJson| schema.get("type").is_some_and(|kind| kind.as_string().as_deref() == Some("object"));
    match splice::get(tool, "outputSchema") {
        Some(schema) if !fits(schema.clone()) => splice::remove(tool, "outputSchema"),
        _ => tool.clone(),
    }
}

pub(super) fn text_block(text: &str) -> RawJson {
    RawJson::object([("type", &RawJson::string("text")), ("text", &RawJson::string(text))])
}

fn to_modern(hop: &Hop<'_>, method: &str, result: &RawJson) -> RawJson {
    let (complete, zero, private) = (RawJson::string("complete"), RawJson::int(0), RawJson::string("private"));
    let [meta, tools] = splice::pick(result, ["_meta", "tools"]);
    // A legacy server's own members of these names mean something else: they are replaced.
    let mut edits = vec![("resultType", Some(&complete))];
    if is_cacheable(method) {
        edits.extend([("ttlMs", Some(&zero)), ("cacheScope", Some(&private))]);
    }
    let meta = match hop.server_info {
        Some(info) => splice::edited_inner(meta.as_ref(), &[(meta_key::SERVER_INFO, Some(info))]),
        None => splice::Inner::Keep,
    };
    edits.extend(meta.as_edit("_meta"));
    let tools = tools
        .filter(|tools| method == "tools/list" && splice::may_mention(tools, "execution"))
        .map(|tools| splice::map_items(&tools, modern_tool));
    edits.extend(tools.as_ref().map(|tools| ("tools", Some(tools))));
    splice::edit(result, &edits)
}

/// A tool definition for a modern client, or nothing for one that only runs as a core task.
fn modern_tool(tool: &RawJson) -> Option<RawJson> {
    if !splice::may_mention(tool, "execution") {
        return Some(tool.clone());
    }
    let support = splice::get_path(tool, &["execution", "taskSupport"]);
    if support.as_ref().and_then(RawJson::as_string).as_deref() == Some("required") {
        return None;
    }
    Some(splice::remove(tool, "execution"))
}
