//! Targets of PATCH operations (RFC 7644, section 3.5.2).

use crate::error::ScimError;
use crate::filter::{self, Filter, Place};
use crate::schema::{ResourceKind, Schema, find};

/// Longest path, bytes.
const MAX_LENGTH: usize = 4_096;

/// What an operation is about.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// An attribute, perhaps one inside it.
    Attribute(Place),
    /// Some values of a list, perhaps an attribute of each.
    Items(Place, Filter),
    /// All of an extension.
    Extension(&'static Schema),
    /// Known, and never kept.
    Discarded,
}

/// Reads a path.
pub(crate) fn parse(text: &str, kind: &'static ResourceKind) -> Result<Target, ScimError> {
    let unknown = || ScimError::path("the path names an attribute that is not known");
    let text = text.trim();
    if text.len() > MAX_LENGTH {
        return Err(ScimError::path("the path is too long"));
    }
    if let Some(extension) = kind.extension(text) {
        return Ok(Target::Extension(extension));
    }
    let Some((name, rest)) = text.split_once('[') else {
        let first = text.split('.').next().unwrap_or_default();
        if crate::schema::DISCARDED.iter().any(|known| known.eq_ignore_ascii_case(first)) {
            return Ok(Target::Discarded);
        }
        return filter::place_of(text, kind).map(Target::Attribute).ok_or_else(unknown);
    };
    if crate::schema::DISCARDED.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(Target::Discarded);
    }
    let mut place = filter::place_of(name, kind).ok_or_else(unknown)?;
    if place.sub.is_some() || !place.attribute.multi || place.attribute.subs().is_empty() {
        return Err(ScimError::path("only a list of objects is filtered in brackets"));
    }
    let end = closing(rest).ok_or_else(|| ScimError::path("a bracket is not closed"))?;
    let inner = rest.get(..end).unwrap_or_default();
    let after = rest.get(end + 1..).unwrap_or_default();
    let filter = filter::parse_items(inner, place.attribute)?;
    if let Some(sub) = after.strip_prefix('.') {
        place.sub = Some(find(place.attribute.subs(), sub).ok_or_else(unknown)?);
    } else if !after.is_empty() {
        return Err(ScimError::path("the path is malformed"));
    }
    Ok(Target::Items(place, filter))
}

/// Where the bracket closes that was opened before this, texts skipped.
fn closing(text: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        match byte {
            b']' => return Some(at),
            b'"' => at += filter::quoted(text.get(at..)?)?,
            _ => at += 1,
        }
    }
    None
}
