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

const BAD: ProblemKind = ProblemKind::Unexpected("what the request limits itself to cannot be read");

/// Sets of scopes, all of which count.
pub(crate) type Narrowing = Vec<ScopeSet>;

/// Reads what a request says.
///
/// # Errors
/// 400 for anything that is no set of scopes, an empty one, or no mode.
pub(crate) fn read(parts: &Parts) -> Result<Narrowing, ProblemKind> {
    let mut sets = Vec::new();
    for value in parts.headers.get_all(SCOPE) {
        let text = value.to_str().map_err(|_| BAD)?;
        sets.push(set(text)?);
    }
    let query = Params::parse(parts.uri.query().unwrap_or_default().as_bytes()).map_err(|_| BAD)?;
    // Both twice and empty count as absent elsewhere: here that would be the full right.
    let value = |name: &str| match query.get(name) {
        None if query.has(name) => Err(BAD),
        value => Ok(value),
    };
    if let Some(text) = value("scope")? {
        sets.push(set(text)?);
    }
    match value("mode")? {
        Some("read_only") => sets.push(set("mcp:read")?),
        Some(_) => return Err(BAD),
        None => {}
    }
    Ok(sets)
}

/// Scopes of which there is one at least.
fn set(text: &str) -> Result<ScopeSet, ProblemKind> {
    ScopeSet::parse(text).ok().filter(|set| !set.is_empty()).ok_or(BAD)
}

/// Rights with everything taken away that the request gives up.
pub(crate) fn apply(scopes: Scopes, sets: &Narrowing) -> Scopes {
    sets.iter().fold(scopes, |scopes, set| scopes.narrowed(set.iter()))
}
