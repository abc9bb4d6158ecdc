//! What a client sends, in one spelling: known attributes under their own names, the right
//! types, bounded sizes. Everything else is left out or refused.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::error::ScimError;
use crate::schema::{Attribute, Kind, Mutability, ResourceKind, find};

/// Longest text, bytes.
const MAX_TEXT: usize = 2_048;
/// Most values of an attribute of a user.
const MAX_VALUES: usize = 100;
/// Most members of a group.
pub(crate) const MAX_MEMBERS: usize = 50_000;

/// Reads a resource.
pub(crate) fn normalise(kind: &ResourceKind, body: Map<String, Value>) -> Result<Map<String, Value>, ScimError> {
    let (mut content, mut seen) = (Map::new(), HashSet::new());
    for (name, value) in body {
        // Two spellings of one name could mean one thing to a check and another to us.
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(ScimError::syntax("an attribute is given twice"));
        }
        if name.eq_ignore_ascii_case("schemas") {
            schemas(kind, &value)?;
        } else if let Some(extension) = kind.extension(&name) {
            let Value::Object(members) = value else {
                return Err(ScimError::value("an extension is an object"));
            };
            let members = object(extension.attributes, members)?;
            if !members.is_empty() {
                content.insert(extension.urn.to_owned(), Value::Object(members));
            }
        } else if let Some(attribute) = kind.core(&name) {
            put(&mut content, attribute, value)?;
        }
    }
    Ok(content)
}

fn schemas(kind: &ResourceKind, value: &Value) -> Result<(), ScimError> {
    let names = value.as_array().ok_or_else(|| ScimError::syntax("`schemas` is a list"))?;
    let is_core = |name: &Value| name.as_str().is_some_and(|name| name.eq_ignore_ascii_case(kind.schema.urn));
    if names.iter().any(is_core) {
        return Ok(());
    }
    Err(ScimError::syntax(format!("`schemas` does not name {}", kind.schema.urn)))
}

/// The members of an object of these attributes.
pub(crate) fn object(
    attributes: &'static [Attribute],
    members: Map<String, Value>,
) -> Result<Map<String, Value>, ScimError> {
    let (mut content, mut seen) = (Map::new(), HashSet::new());
    for (name, value) in members {
        if !seen.insert(name.to_ascii_lowercase()) {
            return Err(ScimError::syntax("an attribute is given twice"));
        }
        if let Some(attribute) = find(attributes, &name) {
            put(&mut content, attribute, value)?;
        }
    }
    Ok(content)
}

fn put(content: &mut Map<String, Value>, attribute: &'static Attribute, value: Value) -> Result<(), ScimError> {
    // A read-only attribute is ignored, as RFC 7644 (section 3.3) says.
    if attribute.mutability == Mutability::ReadOnly {
        return Ok(());
    }
    if let Some(value) = one(attribute, value)? {
        content.insert(attribute.name.to_owned(), value);
    }
    Ok(())
}

/// The value or values of an attribute; `None` when there is none (RFC 7643, section 2.5).
pub(crate) fn one(attribute: &'static Attribute, value: Value) -> Result<Option<Value>, ScimError> {
    if !attribute.multi {
        return single(attribute, value);
    }
    let values = match value {
        Value::Null => return Ok(None),
        Value::Array(values) => values,
        // Some clients leave the brackets out.
        other => vec![other],
    };
    let most = if attribute.name == "members" { MAX_MEMBERS } else { MAX_VALUES };
    if values.len() > most {
        return Err(ScimError::value(format!("`{}` has more than {most} values", attribute.name)));
    }
    let values: Vec<Value> =
        values.into_iter().filter_map(|value| single(attribute, value).transpose()).collect::<Result<_, _>>()?;
    let primaries = values.iter().filter(|value| value.get("primary") == Some(&Value::Bool(true))).count();
    if primaries > 1 {
        return Err(ScimError::value(format!("`{}` has more than one primary value", attribute.name)));
    }
    Ok((!values.is_empty()).then_some(Value::Array(values)))
}

/// One value.
pub(crate) fn single(attribute: &'static Attribute, value: Value) -> Result<Option<Value>, ScimError> {
    let wrong = || ScimError::value(format!("`{}` has a value of the wrong type", attribute.name));
    match (attribute.kind, value) {
        (_, Value::Null) => Ok(None),
        (Kind::Complex(subs), Value::Object(members)) => {
            let members = object(subs, members)?;
            Ok((!members.is_empty()).then_some(Value::Object(members)))
        }
        // Some clients send the value alone.
        (Kind::Complex(subs), text @ Value::String(_)) => {
            let value = find(subs, "value").ok_or_else(wrong)?;
            let text = single(value, text)?;
            Ok(text.map(|text| Value::Object(Map::from_iter([("value".to_owned(), text)]))))
        }
        (Kind::Bool, truth @ Value::Bool(_)) => Ok(Some(truth)),
        (Kind::Bool, Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(Value::Bool(true))),
        (Kind::Bool, Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(Value::Bool(false))),
        (Kind::Text | Kind::Reference(_) | Kind::Time, Value::String(text)) => {
            if text.len() > MAX_TEXT {
                return Err(ScimError::value(format!("`{}` is longer than {MAX_TEXT} bytes", attribute.name)));
            }
            if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
                return Err(ScimError::value(format!("`{}` has control characters", attribute.name)));
            }
            Ok(Some(Value::String(text)))
        }
        _ => Err(wrong()),
    }
}
