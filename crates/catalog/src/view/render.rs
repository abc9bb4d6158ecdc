//! Definitions as a portal shows them: a few members spliced, the rest byte for byte.

use bartizan_model::ServerId;
use bartizan_policy::Decision;
use bartizan_wire::{RawJson, splice};

use crate::lists::Shown;
use crate::uri;

/// `_meta` members in which tools name the resource that shows them.
const UI_MEMBERS: [&str; 2] = ["ui/resourceUri", "openai/outputTemplate"];

/// A tool or prompt under its exposed name. The original name is in
/// `_meta["bartizan/origin"]`; when the exposed name had to be changed and there is no
/// title, also in `title`. A description of the administrator takes the place of the server's.
pub(super) fn named(raw: &RawJson, meta: Option<&RawJson>, original: &str, has_title: bool, how: &Shown) -> RawJson {
    let name = RawJson::string(&how.exposed);
    let original = RawJson::string(original);
    let origin = RawJson::object([("server", &RawJson::string(how.server.as_str())), ("name", &original)]);
    let meta = match meta {
        None => RawJson::object([("bartizan/origin", &origin)]),
        Some(before) => {
            let meta = splice::set(before, "bartizan/origin", &origin);
            // A text with escapes may spell anything.
            let links = before.as_str().contains("ui://") || before.as_str().contains('\\');
            if links { with_wrapped_ui(&how.server, before, meta) } else { meta }
        }
    };
    let title = (how.changed && !has_title).then_some(("title", Some(&original)));
    let description = how.description.as_deref().map(RawJson::string);
    let description = description.as_ref().map(|text| ("description", Some(text)));
    let edits = [("name", Some(&name)), ("_meta", Some(&meta))];
    splice::edit(raw, &edits.into_iter().chain(title).chain(description).collect::<Vec<_>>())
}

/// The mark of a tool that is listed although nothing grants it.
pub(super) fn ungranted(rendered: &RawJson, decision: &Decision) -> RawJson {
    let code = RawJson::string(decision.code.map_or("", |code| code.as_str()));
    splice::set_path(rendered, &["_meta", "bartizan/decision"], &RawJson::object([("code", &code)]))
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
