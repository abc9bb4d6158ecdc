//! What a request leaves of its own rights (A23): `?mode=read_only`, `?scope=` and the header
//! `bartizan-scope`. Each can only take away; what cannot be read is refused, since whoever
//! narrows means it.

use bartizan_gate::Scopes;
use bartizan_oauth::params::Params;
use bartizan_oauth::scope::ScopeSet;
use http::header::HeaderName;
use http::request::Parts;

use crate::respond::ProblemKind;

/// Scopes that a request limits itself to, separated by spaces.
const SCOPE: HeaderName = HeaderName::from_static("bartizan-scope");

/// Sets of scopes, all of which count.
pub(crate) type Narrowing = Vec<ScopeSet>;

/// Reads what a request says.
///
/// # Errors
/// 400 for anything that is no set of scopes or no mode.
pub(crate) fn read(parts: &Parts) -> Result<Narrowing, ProblemKind> {
    const BAD: ProblemKind = ProblemKind::Unexpected("what the request limits itself to cannot be read");
    let mut sets = Vec::new();
    for value in parts.headers.get_all(SCOPE) {
        let text = value.to_str().map_err(|_| BAD)?;
        sets.push(ScopeSet::parse(text).map_err(|_| BAD)?);
    }
    let query = Params::parse(parts.uri.query().unwrap_or_default().as_bytes()).map_err(|_| BAD)?;
    if query.is_duplicate("scope") || query.is_duplicate("mode") {
        return Err(BAD);
    }
    if let Some(text) = query.get("scope") {
        sets.push(ScopeSet::parse(text).map_err(|_| BAD)?);
    }
    match query.get("mode") {
        Some("read_only") => sets.push(ScopeSet::parse("mcp:read").map_err(|_| BAD)?),
        Some(_) => return Err(BAD),
        None => {}
    }
    Ok(sets)
}

/// Rights with everything taken away that the request gives up.
pub(crate) fn apply(scopes: Scopes, sets: &Narrowing) -> Scopes {
    sets.iter().fold(scopes, |scopes, set| scopes.narrowed(set.iter()))
}
