//! Definitions as a portal shows them: a few members spliced, the rest byte for byte.

use bartizan_model::ServerId;
use bartizan_policy::Decision;
use bartizan_wire::{RawJson, splice};

use crate::names::Given;
use crate::uri;

/// `_meta` members in which tools name the resource that shows them.
const UI_MEMBERS: [&str; 2] = ["ui/resourceUri", "openai/outputTemplate"];

/// A tool or prompt under its exposed name. The original name is in
/// `_meta["bartizan/origin"]`; when the exposed name had to be changed and there is no
/// title, also in `title`.
pub(super) fn named(
    raw: &RawJson,
    server: &ServerId,
    original: &str,
    given: &Given,
    has_title: bool,
    ungranted: Option<&Decision>,
) -> RawJson {
    let name = RawJson::string(&given.name);
    let original_text = RawJson::string(original);
    let origin = RawJson::object([("server", &RawJson::string(server.as_str())), ("name", &original_text)]);
    let before = splice::get(raw, "_meta").filter(RawJson::is_object);
    let empty = RawJson::empty_object();
    let mut meta = splice::set(before.as_ref().unwrap_or(&empty), "bartizan/origin", &origin);
    if let Some(before) = before.filter(|before| before.as_str().contains("ui://") || before.as_str().contains("\\")) {
        meta = with_wrapped_ui(server, &before, meta);
    }
    if let Some(code) = ungranted.and_then(|decision| decision.code) {
        let decision = RawJson::object([("code", &RawJson::string(code.as_str()))]);
        meta = splice::set(&meta, "bartizan/decision", &decision);
    }
    let title = (given.changed && !has_title).then_some(&original_text);
    let mut edits = vec![("name", Some(&name)), ("_meta", Some(&meta))];
    if title.is_some() {
        edits.push(("title", title));
    }
    splice::edit(raw, &edits)
}

/// Links to `ui://` resources follow the portal's form of them.
fn with_wrapped_ui(server: &ServerId, before: &RawJson, mut meta: RawJson) -> RawJson {
    let wrapped = |value: Option<RawJson>| {
        let text = value.as_ref().and_then(RawJson::as_string)?;
        text.starts_with("ui://").then(|| RawJson::string(&uri::wrap(server, &text)))
    };
    for member in UI_MEMBERS {
        if let Some(link) = wrapped(splice::get(before, member)) {
            meta = splice::set(&meta, member, &link);
        }
    }
    if let Some(link) = wrapped(splice::get_path(before, &["ui", "resourceUri"])) {
        meta = splice::set_path(&meta, &["ui", "resourceUri"], &link);
    }
    meta
}

/// A resource or template under its wrapped URI.
pub(super) fn wrapped(raw: &RawJson, member: &str, exposed: &str) -> RawJson {
    splice::set(raw, member, &RawJson::string(exposed))
}
