//! Request params.

use bartizan_model::Era;

use super::{Hop, capability};
use crate::level::LogLevel;
use crate::meta_key;
use crate::raw::RawJson;
use crate::splice;

/// A request's params as the server expects them. Progress tokens, ids and names are
/// the caller's to map.
///
/// * legacy → modern: `_meta` gets the version, the session's capabilities, client info
///   and log level (`info` when the session never set one and the server declares
///   `logging`); `task` of tools/call is removed.
/// * modern → legacy: those members leave `_meta` (which goes when it becomes empty),
///   and `inputResponses`, `requestState` and (of tools/call) `task` leave the params.
pub fn params(hop: &Hop<'_>, method: &str, raw: Option<&RawJson>) -> Option<RawJson> {
    match hop.eras() {
        (Era::Legacy, Era::Legacy) => raw.cloned(),
        (Era::Modern, Era::Modern) => raw.map(|raw| same_modern(hop, raw)),
        (Era::Legacy, Era::Modern) => Some(to_modern(hop, method, raw)),
        (Era::Modern, Era::Legacy) => raw.map(|raw| to_legacy(method, raw)),
    }
}

/// Two modern revisions may differ; the version must be the one spoken upstream.
fn same_modern(hop: &Hop<'_>, raw: &RawJson) -> RawJson {
    if hop.client.revision == hop.upstream {
        return raw.clone();
    }
    let version = RawJson::string(hop.upstream.as_str());
    splice::set_path(raw, &["_meta", meta_key::PROTOCOL_VERSION], &version)
}

fn to_modern(hop: &Hop<'_>, method: &str, raw: Option<&RawJson>) -> RawJson {
    let empty = RawJson::empty_object();
    let raw = raw.filter(|raw| raw.is_object()).unwrap_or(&empty);
    let version = RawJson::string(hop.upstream.as_str());
    let capabilities = capability::to_modern(&hop.client.capabilities);
    let declares_logging = || hop.capabilities.is_some_and(|server| splice::get(server, "logging").is_some());
    let level = hop.client.log_level.or_else(|| declares_logging().then_some(LogLevel::Info));
    let level = level.map(|level| RawJson::string(level.as_str()));
    let meta = splice::edited_inner(
        splice::get(raw, "_meta").as_ref(),
        &[
            (meta_key::PROTOCOL_VERSION, Some(&version)),
            (meta_key::CLIENT_CAPABILITIES, Some(&capabilities)),
            (meta_key::CLIENT_INFO, hop.client.client_info.as_ref()),
            (meta_key::LOG_LEVEL, level.as_ref()),
        ],
    );
    let mut edits = Vec::with_capacity(2);
    edits.extend(meta.as_edit("_meta"));
    if method == "tools/call" {
        edits.push(("task", None));
    }
    splice::edit(raw, &edits)
}

fn to_legacy(method: &str, raw: &RawJson) -> RawJson {
    let meta = splice::edited_inner(
        splice::get(raw, "_meta").as_ref(),
        &[
            (meta_key::PROTOCOL_VERSION, None),
            (meta_key::CLIENT_CAPABILITIES, None),
            (meta_key::CLIENT_INFO, None),
            (meta_key::LOG_LEVEL, None),
        ],
    );
    let mut edits = vec![("inputResponses", None), ("requestState", None)];
    edits.extend(meta.as_edit("_meta"));
    if method == "tools/call" {
        // Unknown to a modern client, it would start a core task at a legacy server.
        edits.push(("task", None));
    }
    splice::edit(raw, &edits)
}
