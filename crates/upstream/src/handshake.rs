//! `server/discover` and `initialize` as bartizan sends them, and reading the answers.

use bartizan_model::Era;
use bartizan_wire::{
    ClientProfile, LATEST_LEGACY, MODERN_VERSIONS, RawJson, Revision, RpcError, codes, meta_key, splice, translate,
};

use crate::env::Env;
use crate::error::UpstreamError;
use crate::types::Discovered;

/// Most versions of `supported` that are looked at.
const MAX_VERSIONS: usize = 64;
/// Longest answer to `initialize` or `server/discover` kept per session, in bytes.
const MAX_SAID: usize = 1 << 20;
/// Longest instructions kept, in bytes.
const MAX_INSTRUCTIONS: usize = 64 * 1024;

/// `_meta` of a request of bartizan's own to a modern server.
pub(crate) fn own_meta(env: &Env, revision: Revision) -> RawJson {
    RawJson::object([
        (meta_key::PROTOCOL_VERSION, &RawJson::string(revision.as_str())),
        (meta_key::CLIENT_CAPABILITIES, &RawJson::empty_object()),
        (meta_key::CLIENT_INFO, &env.own_info),
    ])
}

pub(crate) fn discover_params(env: &Env, revision: Revision) -> RawJson {
    RawJson::object([("_meta", &own_meta(env, revision))])
}

/// Params of `initialize`: the client's capabilities, bartizan's own name, because the
/// session is shared by all clients of the same principal that declare the same.
pub(crate) fn initialize_params(env: &Env, profile: &ClientProfile) -> RawJson {
    let unnamed = ClientProfile { client_info: None, ..profile.clone() };
    translate::initialize_params(&unnamed, LATEST_LEGACY, &env.own_info)
}

/// True for what only a modern server answers. Members beyond these may be missing
/// (protocol reference 4.2, trap 7).
pub(crate) fn is_discover_result(result: &RawJson) -> bool {
    result.get("supportedVersions").is_some_and(|list| !splice::items(&list).is_empty())
        || (result.get("capabilities").is_some_and(|capabilities| capabilities.is_object())
            && result.get("protocolVersion").is_none())
}

/// What a modern error in answer to a request means for the next one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// Send it again at this version.
    Retry(Revision),
    /// Only legacy versions are offered.
    Legacy,
    /// Nothing in common, or the error says nothing about versions.
    Hopeless,
}

/// Reads `data.supported` of -32022.
pub(crate) fn after_version_error(error: &RpcError) -> Discovery {
    if error.code != codes::UNSUPPORTED_VERSION {
        return Discovery::Hopeless;
    }
    let list = error.data.as_ref().and_then(|data| data.get("supported"));
    let offered: Vec<Revision> = list
        .as_ref()
        .map(splice::items)
        .unwrap_or_default()
        .iter()
        .take(MAX_VERSIONS)
        .filter_map(|text| Revision::parse(&text.as_string()?))
        .collect();
    let modern = MODERN_VERSIONS.iter().rev().find(|version| offered.contains(version));
    match modern {
        Some(version) => Discovery::Retry(*version),
        None if offered.iter().any(|version| version.era() == Era::Legacy) => Discovery::Legacy,
        None => Discovery::Hopeless,
    }
}

/// Reads a DiscoverResult.
///
/// # Errors
/// When it is too large to be kept.
pub(crate) fn discovered(result: &RawJson, revision: Revision) -> Result<Discovered, UpstreamError> {
    check_size(result)?;
    let raw = result.detached();
    let info = splice::get_path(&raw, &["_meta", meta_key::SERVER_INFO]).or_else(|| raw.get("serverInfo"));
    Ok(read(raw, revision, info))
}

/// One of these is kept for every session.
fn check_size(result: &RawJson) -> Result<(), UpstreamError> {
    if result.len() > MAX_SAID { Err(UpstreamError::TooLarge) } else { Ok(()) }
}

/// Reads an InitializeResult.
///
/// # Errors
/// When it names no legacy version, or is too large to be kept.
pub(crate) fn initialized(result: &RawJson) -> Result<Discovered, UpstreamError> {
    check_size(result)?;
    let version = result.get("protocolVersion");
    let version = version.as_ref().and_then(RawJson::as_string).unwrap_or_default();
    let revision = Revision::parse(&version)
        .filter(|revision| revision.era() == Era::Legacy)
        .ok_or_else(|| UpstreamError::protocol("initialize was answered with a version that is not spoken here"))?;
    let raw = result.detached();
    let info = raw.get("serverInfo");
    Ok(read(raw, revision, info))
}

fn read(raw: RawJson, revision: Revision, info: Option<RawJson>) -> Discovered {
    let text = |key| Some(raw.get(key)?.as_string()?.into_owned());
    Discovered {
        era: revision.era(),
        revision,
        capabilities: raw.get("capabilities").filter(RawJson::is_object).unwrap_or_else(RawJson::empty_object),
        server_info: info.filter(RawJson::is_object),
        instructions: text("instructions").filter(|text| text.len() <= MAX_INSTRUCTIONS),
        raw,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::try_from(text).unwrap()
    }

    fn unsupported(list: &str) -> RpcError {
        RpcError::new(codes::UNSUPPORTED_VERSION, "x").with_data(raw(&format!("{{\"supported\":{list}}}")))
    }

    #[test]
    fn p7_a_version_is_taken_from_supported() {
        assert_eq!(
            after_version_error(&unsupported(r#"["2030-01-01","2026-07-28","2025-11-25"]"#)),
            Discovery::Retry(Revision::V2026_07_28)
        );
        assert_eq!(after_version_error(&unsupported(r#"["2025-11-25"]"#)), Discovery::Legacy);
        for hopeless in ["[]", r#"["2030-01-01"]"#, "[1,null]", "\"2026-07-28\""] {
            assert_eq!(after_version_error(&unsupported(hopeless)), Discovery::Hopeless, "{hopeless}");
        }
        assert_eq!(after_version_error(&RpcError::new(-32601, "x")), Discovery::Hopeless);
    }

    #[test]
    fn p7_discover_results_are_recognised() {
        assert!(is_discover_result(&raw(r#"{"supportedVersions":["2026-07-28"],"capabilities":{}}"#)));
        assert!(is_discover_result(&raw(r#"{"capabilities":{},"serverInfo":{"name":"x"}}"#)));
        for no in ["{}", "[]", "null", r#"{"protocolVersion":"2025-11-25","capabilities":{}}"#, r#"{"tools":[]}"#] {
            assert!(!is_discover_result(&raw(no)), "{no}");
        }
    }

    #[test]
    fn p7_initialize_results_must_name_a_legacy_version() {
        let said =
            initialized(&raw(r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"instructions":"i"}"#));
        let said = said.unwrap();
        assert_eq!(
            (said.era, said.revision, said.instructions.as_deref()),
            (Era::Legacy, Revision::V2025_06_18, Some("i"))
        );
        for bad in
            [r#"{"protocolVersion":"2026-07-28"}"#, r#"{"protocolVersion":"1"}"#, r#"{"protocolVersion":5}"#, "{}"]
        {
            assert!(initialized(&raw(bad)).is_err(), "{bad}");
        }
    }
}
