//! Which attributes an answer has (RFC 7644, section 3.9).

use serde_json::{Map, Value};

use crate::error::ScimError;
use crate::filter::{Place, place_of};
use crate::schema::{ResourceKind, Schema};

/// Longest list, bytes.
const MAX_LENGTH: usize = 4_096;
/// Most names in it.
const MAX_NAMES: usize = 100;

/// A selection.
#[derive(Clone, Debug, Default)]
pub(crate) enum Selection {
    #[default]
    All,
    Only(Vec<Chosen>),
    Without(Vec<Chosen>),
}

/// One name of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Chosen {
    Place(Place),
    Extension(&'static Schema),
}

impl Selection {
    /// Of names separated by commas; what is not known is no attribute of ours.
    pub(crate) fn read(
        only: Option<&str>,
        without: Option<&str>,
        kind: &'static ResourceKind,
    ) -> Result<Self, ScimError> {
        let names = |text: &str| -> Result<Vec<Chosen>, ScimError> {
            if text.len() > MAX_LENGTH || text.split(',').count() > MAX_NAMES {
                return Err(ScimError::value("too many attributes are named"));
            }
            let one = |name: &str| match kind.extension(name) {
                Some(schema) => Some(Chosen::Extension(schema)),
                None => place_of(name, kind).map(Chosen::Place),
            };
            Ok(text.split(',').filter_map(|name| one(name.trim())).collect())
        };
        match (only.filter(|text| !text.trim().is_empty()), without.filter(|text| !text.trim().is_empty())) {
            (Some(_), Some(_)) => Err(ScimError::value("`attributes` and `excludedAttributes` exclude each other")),
            (Some(only), None) => Ok(Self::Only(names(only)?)),
            (None, Some(without)) => Ok(Self::Without(names(without)?)),
            (None, None) => Ok(Self::All),
        }
    }

    /// Whether an attribute of the core schema is in the answer at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        let is = |chosen: &Chosen| matches!(chosen, Chosen::Place(place) if place.urn.is_none() && place.attribute.name == name);
        let whole = |chosen: &Chosen| matches!(chosen, Chosen::Place(place) if place.sub.is_none()) && is(chosen);
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(is),
            Self::Without(names) => !names.iter().any(whole),
        }
    }

    /// The selected part of a resource. `id` and `schemas` are in every one.
    pub(crate) fn apply(&self, resource: Map<String, Value>) -> Map<String, Value> {
        match self {
            Self::All => resource,
            Self::Only(names) => only(names, &resource),
            Self::Without(names) => without(names, resource),
        }
    }
}

fn only(names: &[Chosen], resource: &Map<String, Value>) -> Map<String, Value> {
    let mut kept = Map::new();
    for always in ["schemas", "id"] {
        if let Some(value) = resource.get(always) {
            kept.insert(always.to_owned(), value.clone());
        }
    }
    for chosen in names {
        match chosen {
            Chosen::Extension(schema) => {
                if let Some(value) = resource.get(schema.urn) {
                    kept.insert(schema.urn.to_owned(), value.clone());
                }
            }
            Chosen::Place(place) => {
                let holder = match place.urn {
                    Some(urn) => resource.get(urn).and_then(Value::as_object),
                    None => Some(resource),
                };
                let Some(value) = holder.and_then(|holder| holder.get(place.attribute.name)) else { continue };
                let value = match place.sub {
                    Some(sub) => part(value, sub.name),
                    None => value.clone(),
                };
                let name = place.attribute.name.to_owned();
                match place.urn {
                    Some(urn) => {
                        let slot = kept.entry(urn).or_insert_with(|| Value::Object(Map::new()));
                        if let Some(slot) = slot.as_object_mut() {
                            merge(slot, name, value);
                        }
                    }
                    None => merge(&mut kept, name, value),
                }
            }
        }
    }
    kept
}

/// Two parts of one attribute come together.
fn merge(holder: &mut Map<String, Value>, name: String, value: Value) {
    match (holder.get_mut(&name), value) {
        (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
        (Some(Value::Array(old)), Value::Array(new)) => {
            for (old, new) in old.iter_mut().zip(new) {
                if let (Some(old), Value::Object(new)) = (old.as_object_mut(), new) {
                    old.extend(new);
                }
            }
        }
        (_, value) => drop(holder.insert(name, value)),
    }
}

fn part(value: &Value, sub: &str) -> Value {
    let of = |item: &Value| {
        let found = item.get(sub).map(|value| (sub.to_owned(), value.clone()));
        Value::Object(Map::from_iter(found))
    };
    match value {
        Value::Array(items) => Value::Array(items.iter().map(of).collect()),
        one => of(one),
    }
}

fn without(names: &[Chosen], mut resource: Map<String, Value>) -> Map<String, Value> {
    for chosen in names {
        match chosen {
            Chosen::Extension(schema) => drop(resource.shift_remove(schema.urn)),
            Chosen::Place(place) => {
                let holder = match place.urn {
                    Some(urn) => resource.get_mut(urn).and_then(Value::as_object_mut),
                    None => Some(&mut resource),
                };
                let Some(holder) = holder else { continue };
                let name = place.attribute.name;
                match place.sub {
                    // `id` and `schemas` are always returned (RFC 7643, section 3.1).
                    None if matches!(name, "id" | "schemas") => {}
                    None => drop(holder.shift_remove(name)),
                    Some(sub) => {
                        let forget =
                            |item: &mut Value| drop(item.as_object_mut().map(|item| item.shift_remove(sub.name)));
                        match holder.get_mut(name) {
                            Some(Value::Array(items)) => items.iter_mut().for_each(forget),
                            Some(one) => forget(one),
                            None => {}
                        }
                    }
                }
            }
        }
    }
    resource
}
