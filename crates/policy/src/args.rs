//! Arguments as policies see them: only the members a statement mentions, each of
//! the type the statement uses it as, or a refusal.
//!
//! Upstream servers are more lenient than a policy engine: some read `"5000"` as a
//! number, some take the last of two equal keys, some ignore case in keys. So that no
//! spelling slips past a rule, anything unclear about a mentioned member (another
//! type, `null`, a duplicate, a look-alike key) is refused, not skipped.

mod document;
mod number;

use cedar_policy::RestrictedExpression;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

pub(crate) use document::{Document, Keys, fold};

/// Elements of an array that a statement looks at; longer arrays are refused.
const MAX_ELEMENTS: usize = 10_000;

/// Why arguments are refused, for explanations. Holds member names, never values.
pub(crate) type Refusal = String;

/// The type a statement needs a member to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only `has` is asked.
    Presence,
    /// `true` or `false`.
    Bool,
    /// An integer; JSON numbers with an integer value count, however they are written.
    Long,
    /// Text.
    Text,
    /// An array of equal types.
    Set(Box<Kind>),
    /// An object of which some members are mentioned.
    Record(Shape),
}

/// The mentioned members of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) members: BTreeMap<String, Kind>,
}

impl Shape {
    /// All member names at every depth, folded.
    pub(crate) fn collect_keys(&self, keys: &mut Keys) {
        for (name, kind) in &self.members {
            keys.insert(fold(name).into());
            if let Kind::Record(shape) = kind {
                shape.collect_keys(keys);
            }
        }
    }

    /// Takes the mentioned members out of the arguments, as the Cedar record `context.args`.
    pub(crate) fn read(&self, document: &Document<'_>) -> Result<RestrictedExpression, Refusal> {
        self.read_object(document, "arguments")
    }

    fn read_object(&self, document: &Document<'_>, at: &str) -> Result<RestrictedExpression, Refusal> {
        let mut fields = Vec::with_capacity(self.members.len());
        for (name, kind) in &self.members {
            let Some(member) = document.get(name).map_err(|why| format!("{at}: {why}"))? else {
                continue;
            };
            let value = match kind {
                Kind::Record(shape) => {
                    let child = member.object().map_err(|why| format!("`{name}`: {why}"))?;
                    shape.read_object(child, name)?
                }
                simple => read_value(simple, member.text()).map_err(|why| format!("`{name}` {why}"))?,
            };
            fields.push((name.clone(), value));
        }
        RestrictedExpression::new_record(fields).map_err(|_| format!("{at}: duplicate members"))
    }
}

fn read_value(kind: &Kind, text: &str) -> Result<RestrictedExpression, &'static str> {
    match kind {
        Kind::Presence if text == "null" => Err("is null; whether that counts as given is not clear"),
        Kind::Presence => Ok(RestrictedExpression::new_bool(true)),
        Kind::Bool => match text {
            "true" => Ok(RestrictedExpression::new_bool(true)),
            "false" => Ok(RestrictedExpression::new_bool(false)),
            _ => Err("is not a boolean"),
        },
        Kind::Long => number::integer(text).map(RestrictedExpression::new_long),
        Kind::Text => match serde_json::from_str::<String>(text) {
            Ok(value) => Ok(RestrictedExpression::new_string(value)),
            Err(_) => Err("is not a string"),
        },
        Kind::Set(element) => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| "is not an array")?;
            if items.len() > MAX_ELEMENTS {
                return Err("has too many elements");
            }
            let items = items
                .into_iter()
                .map(|item| read_value(element, item.get()).map_err(|_| "has an element of another type"))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(RestrictedExpression::new_set(items))
        }
        Kind::Record(_) => Err("is not an object"),
    }
}
