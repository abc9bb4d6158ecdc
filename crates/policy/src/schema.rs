//! The Cedar schema: entity types, actions and context, with `context.args` as a
//! statement uses it.

use std::str::FromStr;

use bartizan_model::{PrincipalKind, ToolClass};
use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema};
use serde_json::{Value, json};

use crate::args::{Kind, Shape};
use crate::circumstance::Circumstance;
use crate::query::Action;
use crate::scope::ResourceKind;

/// Names of entity types and actions, parsed once.
pub(crate) struct Vocabulary {
    user: EntityTypeName,
    service: EntityTypeName,
    agent: EntityTypeName,
    anonymous: EntityTypeName,
    group: EntityTypeName,
    resources: Vec<EntityTypeName>,
    actions: Vec<EntityUid>,
}

impl Vocabulary {
    pub(crate) fn new() -> Result<Self, String> {
        let name = |text: &str| EntityTypeName::from_str(text).map_err(|error| error.to_string());
        let action = name("Action")?;
        Ok(Self {
            user: name("User")?,
            service: name("Service")?,
            agent: name("Agent")?,
            anonymous: name("Anonymous")?,
            group: name("Group")?,
            resources: ResourceKind::ALL.iter().map(|kind| name(kind.as_str())).collect::<Result<_, _>>()?,
            actions: Action::ALL
                .iter()
                .map(|each| EntityUid::from_type_name_and_id(action.clone(), EntityId::new(each.as_str())))
                .collect(),
        })
    }

    pub(crate) fn principal(&self, kind: PrincipalKind, id: &str) -> EntityUid {
        let name = match kind {
            PrincipalKind::User => &self.user,
            PrincipalKind::Service => &self.service,
            PrincipalKind::Agent => &self.agent,
            PrincipalKind::Anonymous => &self.anonymous,
        };
        EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
    }

    pub(crate) fn group(&self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.group.clone(), EntityId::new(id))
    }

    pub(crate) fn resource(&self, kind: ResourceKind, id: &str) -> Option<EntityUid> {
        let name = self.resources.get(kind as usize)?;
        Some(EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id)))
    }

    pub(crate) fn action(&self, action: Action) -> Option<EntityUid> {
        self.actions.get(action.slot()).cloned()
    }
}

/// The schema for one statement.
pub(crate) fn schema(args: Option<&Shape>) -> Result<Schema, String> {
    let text = || json!({"type": "String"});
    let entity = |members: &[&str], within: &[&str]| {
        let attributes: serde_json::Map<String, Value> =
            members.iter().map(|name| ((*name).to_owned(), text())).collect();
        json!({"memberOfTypes": within, "shape": {"type": "Record", "attributes": attributes}})
    };
    let mut actions = serde_json::Map::new();
    for action in Action::ALL {
        let mut context: serde_json::Map<String, Value> =
            Circumstance::ALL.into_iter().map(|each| (each.as_str().to_owned(), each.schema())).collect();
        if action.has_args() {
            let record = args.map_or_else(|| json!({"type": "Record", "attributes": {}}), record);
            context.insert("args".to_owned(), record);
        }
        let applies = json!({
            "principalTypes": ["User", "Service", "Agent", "Anonymous"],
            "resourceTypes": [ResourceKind::of(action).as_str()],
            "context": {"type": "Record", "attributes": context},
        });
        actions.insert(action.as_str().to_owned(), json!({"appliesTo": applies}));
    }
    Schema::from_json_value(json!({"": {
        "entityTypes": {
            "Group": {},
            "User": entity(&["id"], &["Group"]),
            "Service": entity(&["id"], &["Group"]),
            "Agent": entity(&["id"], &["Group"]),
            "Anonymous": entity(&["id"], &[]),
            "Portal": entity(&["id"], &[]),
            "Server": entity(&["id"], &[]),
            "Tool": entity(&["name", "class", "server"], &["Server"]),
            "Prompt": entity(&["name", "server"], &["Server"]),
            "Resource": entity(&["uri", "server"], &["Server"]),
        },
        "actions": actions,
    }}))
    .map_err(|error| error.to_string())
}

fn record(shape: &Shape) -> Value {
    let attributes: serde_json::Map<String, Value> = shape
        .members
        .iter()
        .map(|(name, kind)| {
            let mut value = kind_type(kind);
            if let Some(value) = value.as_object_mut() {
                value.insert("required".to_owned(), Value::Bool(false));
            }
            (name.clone(), value)
        })
        .collect();
    json!({"type": "Record", "attributes": attributes})
}

fn kind_type(kind: &Kind) -> Value {
    match kind {
        Kind::Presence | Kind::Bool => json!({"type": "Boolean"}),
        Kind::Long => json!({"type": "Long"}),
        Kind::Text => json!({"type": "String"}),
        Kind::Set(element) => json!({"type": "Set", "element": kind_type(element)}),
        Kind::Record(shape) => record(shape),
    }
}

/// The classes in the order of their bits.
pub(crate) const CLASSES: [ToolClass; 4] =
    [ToolClass::Read, ToolClass::Write, ToolClass::Destructive, ToolClass::Unknown];

/// The bit of a class.
pub(crate) fn class_bit(class: ToolClass) -> u8 {
    1 << class as u8
}
