//! Changes in place (RFC 7644, section 3.5.2), as directories really send them.

use serde_json::{Map, Value};

use crate::error::ScimError;
use crate::filter::{self, Filter, Place};
use crate::path::{self, Target};
use crate::schema::{Attribute, Mutability, ResourceKind};
use crate::value::{self, MAX_MEMBERS};

/// Most operations of one request.
const MAX_OPERATIONS: usize = 1_000;
/// Most values a list may come to by one operation after the other.
const MAX_VALUES: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Add,
    Replace,
    Remove,
}

/// Takes the operations out of a request.
pub(crate) fn operations(mut body: Map<String, Value>) -> Result<Vec<Value>, ScimError> {
    let is_patch = |value: &Value| {
        let urn = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
        value.as_array().is_some_and(|list| list.iter().filter_map(Value::as_str).any(|name| name == urn))
    };
    if !body.get("schemas").is_some_and(is_patch) {
        return Err(ScimError::syntax("`schemas` does not name a PatchOp"));
    }
    let name = body.keys().find(|name| name.eq_ignore_ascii_case("operations")).cloned();
    match name.and_then(|name| body.shift_remove(&name)) {
        Some(Value::Array(operations)) if operations.len() > MAX_OPERATIONS => {
            Err(ScimError::syntax(format!("there are more than {MAX_OPERATIONS} operations")))
        }
        Some(Value::Array(operations)) if !operations.is_empty() => Ok(operations),
        _ => Err(ScimError::syntax("`Operations` is a list that is not empty")),
    }
}

/// Applies all operations to a resource in our spelling, or says why not; then it may be
/// half changed and must be thrown away.
pub(crate) fn apply(
    kind: &'static ResourceKind,
    content: &mut Map<String, Value>,
    operations: &[Value],
) -> Result<(), ScimError> {
    for operation in operations {
        let parts = operation.as_object().ok_or_else(|| ScimError::syntax("an operation is an object"))?;
        let verb = match parts.get("op").and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
            Some("add") => Verb::Add,
            Some("replace") => Verb::Replace,
            Some("remove") => Verb::Remove,
            _ => return Err(ScimError::syntax("`op` is add, replace or remove")),
        };
        let value = parts.get("value").cloned().unwrap_or(Value::Null);
        let path = match parts.get("path") {
            None | Some(Value::Null) => None,
            Some(Value::String(path)) if path.trim().is_empty() => None,
            Some(Value::String(path)) => Some(path.as_str()),
            Some(_) => return Err(ScimError::path("the path is a text")),
        };
        match (path, verb) {
            (Some(path), _) => one(content, verb, &path::parse(path, kind)?, value)?,
            (None, Verb::Remove) => return Err(ScimError::no_target("an operation that removes has a path")),
            (None, _) => whole(kind, content, verb, value)?,
        }
    }
    Ok(())
}

/// An operation without a path: each member is one of its own. Some directories write paths
/// as names of members.
fn whole(
    kind: &'static ResourceKind,
    content: &mut Map<String, Value>,
    verb: Verb,
    value: Value,
) -> Result<(), ScimError> {
    let Value::Object(members) = value else {
        return Err(ScimError::syntax("an operation without a path has an object as its value"));
    };
    for (name, value) in members {
        if name.eq_ignore_ascii_case("schemas") {
            continue;
        }
        match path::parse(&name, kind) {
            Ok(target) => match is_read_only(&target) {
                // As in a whole resource.
                true => {}
                false => one(content, verb, &target, value)?,
            },
            // What is not known is left out of whole resources as well.
            Err(_) if !name.contains('[') => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_read_only(target: &Target) -> bool {
    match target {
        Target::Attribute(place) | Target::Items(place, _) => place.attribute.mutability == Mutability::ReadOnly,
        Target::Extension(_) | Target::Discarded => false,
    }
}

fn one(content: &mut Map<String, Value>, verb: Verb, target: &Target, value: Value) -> Result<(), ScimError> {
    match target {
        Target::Discarded => Ok(()),
        Target::Extension(schema) => extension(content, verb, schema.urn, schema.attributes, value),
        Target::Attribute(place) | Target::Items(place, _) => {
            let sub_only = place.sub.is_some_and(|sub| sub.mutability == Mutability::ReadOnly);
            if place.attribute.mutability == Mutability::ReadOnly || sub_only {
                return Err(ScimError::mutability("the attribute can only be read"));
            }
            let removes = verb == Verb::Remove || (verb == Verb::Replace && value.is_null());
            if removes && place.attribute.required && place.sub.is_none() {
                return Err(ScimError::value(format!("`{}` is required", place.attribute.name)));
            }
            let change = |holder: &mut Map<String, Value>| match target {
                Target::Items(_, filter) => items(holder, verb, *place, filter, value),
                _ => attribute(holder, verb, *place, value),
            };
            let Some(urn) = place.urn else { return change(content) };
            let mut extension = members(content.shift_remove(urn));
            change(&mut extension)?;
            // An extension without content goes.
            if !extension.is_empty() {
                content.insert(urn.to_owned(), Value::Object(extension));
            }
            Ok(())
        }
    }
}

/// The members of an object; none of what is no object.
fn members(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// Changes an object in its place.
fn edit(slot: &mut Value, change: impl FnOnce(&mut Map<String, Value>)) {
    let mut content = members(Some(slot.take()));
    change(&mut content);
    *slot = Value::Object(content);
}

fn extension(
    content: &mut Map<String, Value>,
    verb: Verb,
    urn: &'static str,
    attributes: &'static [Attribute],
    value: Value,
) -> Result<(), ScimError> {
    if verb == Verb::Remove || value.is_null() {
        content.shift_remove(urn);
        return Ok(());
    }
    let Value::Object(new) = value else { return Err(ScimError::value("an extension is an object")) };
    let members = value::object(attributes, new)?;
    if !members.is_empty() {
        edit(content.entry(urn).or_insert(Value::Null), |old| old.extend(members));
    }
    Ok(())
}

fn attribute(holder: &mut Map<String, Value>, verb: Verb, place: Place, value: Value) -> Result<(), ScimError> {
    let Place { attribute, sub, .. } = place;
    if let Some(sub) = sub {
        return inside(holder, verb, attribute, sub, value);
    }
    let name = attribute.name;
    match (verb, attribute.multi) {
        // Entra names the values to remove beside the path.
        (Verb::Remove, true) if !value.is_null() => {
            let gone = list(value::one(attribute, value)?);
            let same =
                |kept: &Value| gone.iter().any(|gone| gone == kept || key(gone).is_some_and(|k| key(kept) == Some(k)));
            if let Some(Value::Array(kept)) = holder.get_mut(name) {
                kept.retain(|kept| !same(kept));
                if kept.is_empty() {
                    holder.shift_remove(name);
                }
            }
            Ok(())
        }
        (Verb::Remove, _) => {
            holder.shift_remove(name);
            Ok(())
        }
        (Verb::Add, true) => {
            let new = list(value::one(attribute, value)?);
            let mut all = list(holder.shift_remove(name));
            if new.iter().any(is_primary) {
                all.iter_mut().for_each(no_primary);
            }
            for item in new {
                if !all.iter().any(|one| same_item(attribute, one, &item)) {
                    all.push(item);
                }
            }
            bounded(attribute, &all)?;
            if !all.is_empty() {
                holder.insert(name.to_owned(), Value::Array(all));
            }
            Ok(())
        }
        (Verb::Replace, true) => {
            set(holder, name, value::one(attribute, value)?);
            Ok(())
        }
        (Verb::Add | Verb::Replace, false) => {
            match (value::single(attribute, value)?, holder.get_mut(name)) {
                // Of an object the members that are named change (sections 3.5.2.1 and 3.5.2.3).
                (Some(Value::Object(new)), Some(Value::Object(old))) => old.extend(new),
                (new, _) => set(holder, name, new),
            }
            Ok(())
        }
    }
}

/// An attribute inside an object, or inside each of a list.
fn inside(
    holder: &mut Map<String, Value>,
    verb: Verb,
    attribute: &'static Attribute,
    sub: &'static Attribute,
    value: Value,
) -> Result<(), ScimError> {
    let new = if verb == Verb::Remove { None } else { value::one(sub, value)? };
    if !attribute.multi {
        if verb == Verb::Remove && !holder.contains_key(attribute.name) {
            return Ok(());
        }
        let slot = holder.entry(attribute.name).or_insert(Value::Null);
        edit(slot, |object| set(object, sub.name, new));
        if slot.as_object().is_some_and(Map::is_empty) {
            holder.shift_remove(attribute.name);
        }
        return Ok(());
    }
    if sub.mutability == Mutability::Immutable {
        return Err(ScimError::mutability("the attribute cannot change; replace the value it is in"));
    }
    let mut all = list(holder.shift_remove(attribute.name));
    if all.is_empty() && new.is_some() {
        all.push(Value::Object(Map::new()));
    }
    all.iter_mut().for_each(|item| edit(item, |item| set(item, sub.name, new.clone())));
    one_primary(&mut all, None);
    all.retain(|item| item.as_object().is_none_or(|item| !item.is_empty()));
    set(holder, attribute.name, (!all.is_empty()).then_some(Value::Array(all)));
    Ok(())
}

/// Some values of a list.
fn items(
    holder: &mut Map<String, Value>,
    verb: Verb,
    place: Place,
    filter: &Filter,
    value: Value,
) -> Result<(), ScimError> {
    let Place { attribute, sub, .. } = place;
    let mut all = list(holder.shift_remove(attribute.name));
    let fits = |item: &Value| item.as_object().is_some_and(|item| filter::matches(filter, item));
    let chosen: Vec<usize> = all.iter().enumerate().filter(|(_, item)| fits(item)).map(|(at, _)| at).collect();
    match (verb, sub) {
        (Verb::Remove, None) => all.retain(|item| !fits(item)),
        (Verb::Remove, Some(sub)) => {
            for item in all.iter_mut().filter(|item| fits(item)) {
                edit(item, |item| set(item, sub.name, None));
            }
        }
        (Verb::Replace, _) if chosen.is_empty() => {
            return Err(ScimError::no_target("no value fits the filter in the path"));
        }
        (_, sub) => {
            let sub_immutable = sub.is_some_and(|sub| sub.mutability == Mutability::Immutable);
            if sub_immutable && !chosen.is_empty() {
                return Err(ScimError::mutability("the attribute cannot change; replace the value it is in"));
            }
            let new = match sub {
                Some(sub) => {
                    let new = value::one(sub, value)?;
                    Map::from_iter(new.map(|new| (sub.name.to_owned(), new)))
                }
                None => match value::single(attribute, value)? {
                    Some(Value::Object(new)) => new,
                    _ => return Err(ScimError::value(format!("a value of `{}` is an object", attribute.name))),
                },
            };
            let mut last = chosen.last().copied();
            for (at, item) in all.iter_mut().enumerate() {
                if chosen.contains(&at) {
                    edit(item, |item| item.extend(new.clone()));
                }
            }
            if chosen.is_empty() {
                // What the filter says of the value is true of the new one.
                let mut item = Map::new();
                filter.equalities(&mut item);
                item.extend(new.clone());
                all.push(Value::Object(item));
                last = Some(all.len() - 1);
            }
            if new.get("primary") == Some(&Value::Bool(true)) {
                one_primary(&mut all, last);
            }
        }
    }
    bounded(attribute, &all)?;
    all.retain(|item| item.as_object().is_none_or(|item| !item.is_empty()));
    set(holder, attribute.name, (!all.is_empty()).then_some(Value::Array(all)));
    Ok(())
}

fn set(holder: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(holder.insert(name.to_owned(), value)),
        None => drop(holder.shift_remove(name)),
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        None | Some(Value::Null) => Vec::new(),
        Some(one) => vec![one],
    }
}

fn key(item: &Value) -> Option<&Value> {
    item.get("value")
}

/// Members are told apart by who they are, other values by everything they say.
fn same_item(attribute: &Attribute, one: &Value, other: &Value) -> bool {
    one == other || (attribute.name == "members" && key(one).is_some() && key(one) == key(other))
}

fn is_primary(item: &Value) -> bool {
    item.get("primary") == Some(&Value::Bool(true))
}

fn no_primary(item: &mut Value) {
    if is_primary(item) {
        edit(item, |item| set(item, "primary", Some(Value::Bool(false))));
    }
}

/// At most one value is the primary one: this, else the first.
fn one_primary(all: &mut [Value], chosen: Option<usize>) {
    let chosen = chosen.or_else(|| all.iter().position(is_primary));
    for (at, item) in all.iter_mut().enumerate() {
        if Some(at) != chosen {
            no_primary(item);
        }
    }
}

fn bounded(attribute: &Attribute, all: &[Value]) -> Result<(), ScimError> {
    let most = if attribute.name == "members" { MAX_MEMBERS } else { MAX_VALUES };
    if all.len() > most {
        return Err(ScimError::value(format!("`{}` has more than {most} values", attribute.name)));
    }
    Ok(())
}
