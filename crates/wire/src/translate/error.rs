//! Errors.

use bartizan_model::Era;

use super::{Hop, MAX_ASKS};
use crate::ask::{Ask, missing_capabilities, missing_capability_error};
use crate::error::{RpcError, codes};
use crate::method;
use crate::raw::RawJson;
use crate::splice;

/// What becomes of a server's error.
#[derive(Clone, Debug, PartialEq)]
pub enum Translated {
    /// An error for the client.
    Error(RpcError),
    /// `input_required` with these questions; a retry calls again.
    InputRequired(Vec<Ask>),
}

/// A server's error as the client expects it; `uri` is the one read, if any.
///
/// * modern server → legacy client: -32602 with `data.uri` on resources/read becomes
///   -32002; the modern protocol errors, which mean nothing to the client, -32603.
/// * legacy server → modern client: -32002 becomes -32602 with `data.uri`; -32042
///   becomes questions in URL mode, or -32021 when the client did not declare them;
///   codes the modern era keeps for itself become -32603.
pub fn error_to(hop: &Hop<'_>, method: &str, uri: Option<&str>, error: RpcError) -> Translated {
    match hop.eras() {
        (Era::Legacy, Era::Modern) => Translated::Error(to_legacy(method, error)),
        (Era::Modern, Era::Legacy) => to_modern(hop, method, uri, error),
        _ => Translated::Error(error),
    }
}

fn to_legacy(method: &str, mut error: RpcError) -> RpcError {
    let has_uri = || error.data.as_ref().is_some_and(|data| data.get("uri").is_some());
    match error.code {
        codes::INVALID_PARAMS if method == "resources/read" && has_uri() => error.code = codes::RESOURCE_NOT_FOUND,
        codes::MISSING_CLIENT_CAPABILITY => {
            // Name what is missing, whatever the server's message says.
            let required = error.data.as_ref().and_then(|data| data.get("requiredCapabilities"));
            if let Some(required) = required.filter(RawJson::is_object) {
                error.message = missing_capability_error(&required).message;
            }
            error.code = codes::INTERNAL_ERROR;
        }
        codes::HEADER_MISMATCH | codes::UNSUPPORTED_VERSION => error.code = codes::INTERNAL_ERROR,
        _ => {}
    }
    error
}

fn to_modern(hop: &Hop<'_>, method: &str, uri: Option<&str>, mut error: RpcError) -> Translated {
    match error.code {
        codes::RESOURCE_NOT_FOUND => {
            error.code = codes::INVALID_PARAMS;
            if let Some(uri) = uri {
                let data = error.data.take().filter(RawJson::is_object).unwrap_or_else(RawJson::empty_object);
                let had_one = data.get("uri").is_some();
                error.data = Some(if had_one { data } else { splice::set(&data, "uri", &RawJson::string(uri)) });
            }
        }
        codes::URL_ELICITATION_REQUIRED => return url_elicitation(hop, method, error),
        -32099..=-32020 => {
            let known = error.data.take().filter(RawJson::is_object).unwrap_or_else(RawJson::empty_object);
            error.data = Some(splice::set(&known, "bartizan/upstreamCode", &RawJson::int(error.code)));
            error.code = codes::INTERNAL_ERROR;
        }
        _ => {}
    }
    Translated::Error(error)
}

/// One question per entry of `data.elicitations`, without the ids of the legacy era.
fn url_elicitation(hop: &Hop<'_>, method: &str, mut error: RpcError) -> Translated {
    let entries = error.data.as_ref().and_then(|data| data.get("elicitations"));
    let entries = entries.as_ref().map(splice::items).unwrap_or_default();
    let may_ask = method::lookup(method).is_some_and(|info| info.input_required);
    let usable = |entry: &RawJson| entry.get("url").is_some_and(|url| url.as_string().is_some());
    if !may_ask || entries.is_empty() || entries.len() > MAX_ASKS || !entries.iter().all(usable) {
        error.code = codes::INTERNAL_ERROR;
        return Translated::Error(error);
    }
    let mode = RawJson::string("url");
    let ask = |(at, entry): (usize, &RawJson)| Ask {
        key: format!("r{}", at + 1),
        method: "elicitation/create".to_owned(),
        params: Some(splice::edit(entry, &[("elicitationId", None), ("mode", Some(&mode))])),
    };
    let asks: Vec<Ask> = entries.iter().enumerate().map(ask).collect();
    match missing_capabilities(hop.client, &asks) {
        Some(required) => Translated::Error(missing_capability_error(&required)),
        None => Translated::InputRequired(asks),
    }
}
