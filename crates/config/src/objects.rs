//! Resources one by one, as they come over the admin API and stand in the store (P54): their
//! kinds, schemas, secrets, and how they join the resources of files.

use std::borrow::Cow;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::diagnostic::Diagnostic;
use crate::resources::Resources;
use crate::roles::Roles;
use crate::sources::Sources;
use crate::tree::{Mark, Member, Node, Value};
use crate::validate::Validator;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Upstream server.
    Server,
    /// Portal.
    Portal,
    /// Named set of tools for portals.
    Bundle,
    /// Where people sign in.
    IdentityProvider,
    /// Pre-registered OAuth client.
    Client,
    /// A program that calls by itself.
    Agent,
    /// Cedar policy.
    Policy,
    /// Grant of tools.
    Grant,
    /// Rate or concurrency limit.
    RateLimit,
    /// Where alerts are sent.
    AlertDestination,
    /// Rule on audit events.
    AlertRule,
    /// Who has a role in the administration.
    Role,
}

/// Who has one role in the administration (A24).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleMembers {
    /// The role.
    pub role: RoleName,
    /// `user:NAME`, `group:NAME`, `service:ID` or `agent:ID`.
    #[serde(default)]
    pub members: Vec<String>,
}

/// Roles that somebody can be given.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RoleName {
    /// May do everything but read the bodies of calls.
    Owner,
    /// Catalogue, definitions, policies, approval of servers.
    Governance,
    /// Findings, kill switches, revocation, alerts.
    Security,
    /// Reads the record and, alone, the bodies of calls.
    Auditor,
    /// Health and synchronisation of servers.
    Operator,
    /// Asks for servers, and sees those of their own.
    Author,
}

/// All roles as objects, for one schema of everything.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Everything {
    resources: Resources,
    roles: RoleMembers,
}

static SCHEMA: LazyLock<Json> = LazyLock::new(|| schemars::schema_for!(Everything).to_value());

impl Kind {
    /// All kinds, those first that others name.
    pub const ALL: [Self; 12] = [
        Self::Server,
        Self::Bundle,
        Self::Portal,
        Self::IdentityProvider,
        Self::Client,
        Self::Agent,
        Self::Policy,
        Self::Grant,
        Self::RateLimit,
        Self::AlertDestination,
        Self::AlertRule,
        Self::Role,
    ];

    /// The word in the store and in the record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Portal => "portal",
            Self::Bundle => "bundle",
            Self::IdentityProvider => "identity_provider",
            Self::Client => "client",
            Self::Agent => "agent",
            Self::Policy => "policy",
            Self::Grant => "grant",
            Self::RateLimit => "rate_limit",
            Self::AlertDestination => "alert_destination",
            Self::AlertRule => "alert_rule",
            Self::Role => "role",
        }
    }

    /// The kind of a word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The word for many of them, as in paths of the API.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Server => "servers",
            Self::Portal => "portals",
            Self::Bundle => "bundles",
            Self::IdentityProvider => "identity_providers",
            Self::Client => "clients",
            Self::Agent => "agents",
            Self::Policy => "policies",
            Self::Grant => "grants",
            Self::RateLimit => "rate_limits",
            Self::AlertDestination => "alert_destinations",
            Self::AlertRule => "alert_rules",
            Self::Role => "roles",
        }
    }

    /// The member that is its id.
    pub fn id_key(self) -> &'static str {
        match self {
            Self::Server => "server_id",
            Self::Client => "client_id",
            Self::Role => "role",
            _ => "id",
        }
    }

    /// Name of its schema among [`definitions`].
    pub fn schema_name(self) -> &'static str {
        match self {
            Self::Server => "Server",
            Self::Portal => "Portal",
            Self::Bundle => "Bundle",
            Self::IdentityProvider => "IdentityProvider",
            Self::Client => "Client",
            Self::Agent => "Agent",
            Self::Policy => "Policy",
            Self::Grant => "Grant",
            Self::RateLimit => "RateLimit",
            Self::AlertDestination => "Destination",
            Self::AlertRule => "AlertRule",
            Self::Role => "RoleMembers",
        }
    }

    /// Members that are secrets, as paths of keys; `*` is every key.
    pub fn secrets(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Server => &[
                &["auth_credentials"],
                &["auth_config", "client_secret"],
                &["auth_config", "private_key"],
                &["auth_config", "access_key_id"],
                &["auth_config", "secret_access_key"],
                &["auth_config", "session_token"],
                &["command", "env", "*"],
            ],
            Self::IdentityProvider | Self::Client => &[&["client_secret"]],
            Self::Agent => &[&["auth", "client_secret"]],
            Self::AlertDestination => &[&["webhook", "secret"], &["email", "password"]],
            _ => &[],
        }
    }

    /// Where the list of this kind is in the resources.
    fn list(self) -> &'static str {
        match self {
            Self::AlertDestination => "alerts.destinations",
            Self::AlertRule => "alerts.rules",
            other => other.plural(),
        }
    }

    /// The path of the `at`-th object of this kind in findings about the resources.
    pub fn path(self, at: usize, id: &str) -> String {
        match self {
            Self::Role => format!("roles.{id}"),
            _ => format!("{}[{at}]", self.list()),
        }
    }
}

/// Schemas of all objects and what they are made of (JSON Schema 2020-12), by name.
pub fn definitions() -> &'static Map<String, Json> {
    static EMPTY: LazyLock<Map<String, Json>> = LazyLock::new(Map::new);
    SCHEMA.get("$defs").and_then(Json::as_object).unwrap_or(&EMPTY)
}

/// Checks an object against its schema: unknown members, wrong types, missing members, all of
/// them. Paths begin at the object.
pub fn check(kind: Kind, object: &Json) -> Vec<Diagnostic> {
    let root = serde_json::json!({"$ref": format!("#/$defs/{}", kind.schema_name()), "$defs": definitions()});
    let sources = Sources::default();
    let mut node = node(object);
    if !matches!(node.value, Value::Map(_)) {
        return vec![Diagnostic::new("", "wrong_type", format!("expected a mapping, found {}", node.kind()))];
    }
    let found = Validator::new(&root, &sources).run(&mut node);
    let diagnostic = |problem: crate::problem::Problem| Diagnostic {
        path: problem.path,
        message: problem.message,
        code: problem.code,
        suggestion: problem.suggestion,
        position: None,
    };
    let mut found: Vec<Diagnostic> = found.problems.into_iter().map(diagnostic).collect();
    if found.is_empty()
        && let Err(error) = push(&mut Resources::default(), kind, object.clone())
    {
        // The schema let something pass that the types do not take.
        found.push(Diagnostic::new("", "invalid", error.to_string()));
    }
    found
}

fn node(json: &Json) -> Node {
    let mark = Mark { source: 0, line: 1, column: 1, length: 0 };
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(value), _) => Value::Int(value.into()),
            (_, Some(value)) => Value::Int(value.into()),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(node).collect()),
        Json::Object(members) => Value::Map(
            members.iter().map(|(key, value)| Member { key: key.clone(), key_mark: mark, node: node(value) }).collect(),
        ),
    };
    Node { mark, value }
}

/// An object in its one spelling: every member as the types write it.
///
/// # Errors
/// When it is none of this kind.
pub fn canonical(kind: Kind, object: Json) -> Result<Json, serde_json::Error> {
    fn again<T: DeserializeOwned + Serialize>(object: Json) -> Result<Json, serde_json::Error> {
        serde_json::to_value(serde_json::from_value::<T>(object)?)
    }
    match kind {
        Kind::Server => again::<crate::resources::Server>(object),
        Kind::Portal => again::<crate::resources::Portal>(object),
        Kind::Bundle => again::<crate::bundles::Bundle>(object),
        Kind::IdentityProvider => again::<crate::resources::IdentityProvider>(object),
        Kind::Client => again::<crate::resources::Client>(object),
        Kind::Agent => again::<crate::agents::Agent>(object),
        Kind::Policy => again::<crate::resources::Policy>(object),
        Kind::Grant => again::<crate::resources::Grant>(object),
        Kind::RateLimit => again::<crate::resources::RateLimit>(object),
        Kind::AlertDestination => again::<crate::alerts::Destination>(object),
        Kind::AlertRule => again::<crate::alerts::AlertRule>(object),
        Kind::Role => again::<RoleMembers>(object),
    }
}

/// Adds an object at the end of its list.
///
/// # Errors
/// When it is none of this kind.
pub fn push(resources: &mut Resources, kind: Kind, object: Json) -> Result<(), serde_json::Error> {
    use serde_json::from_value;
    match kind {
        Kind::Server => resources.servers.push(from_value(object)?),
        Kind::Portal => resources.portals.push(from_value(object)?),
        Kind::Bundle => resources.bundles.push(from_value(object)?),
        Kind::IdentityProvider => resources.identity_providers.push(from_value(object)?),
        Kind::Client => resources.clients.push(from_value(object)?),
        Kind::Agent => resources.agents.push(from_value(object)?),
        Kind::Policy => resources.policies.push(from_value(object)?),
        Kind::Grant => resources.grants.push(from_value(object)?),
        Kind::RateLimit => resources.rate_limits.push(from_value(object)?),
        Kind::AlertDestination => resources.alerts.destinations.push(from_value(object)?),
        Kind::AlertRule => resources.alerts.rules.push(from_value(object)?),
        Kind::Role => {
            let given: RoleMembers = from_value(object)?;
            let members = role(&mut resources.roles, given.role);
            if !members.is_empty() {
                return Err(serde_json::Error::custom("the role has members already"));
            }
            *members = given.members;
        }
    }
    Ok(())
}

fn role(roles: &mut Roles, name: RoleName) -> &mut Vec<String> {
    match name {
        RoleName::Owner => &mut roles.owner,
        RoleName::Governance => &mut roles.governance,
        RoleName::Security => &mut roles.security,
        RoleName::Auditor => &mut roles.auditor,
        RoleName::Operator => &mut roles.operator,
        RoleName::Author => &mut roles.author,
    }
}

/// All objects of the resources, in order: kind, id and the object in its one spelling.
pub fn split(resources: &Resources) -> Vec<(Kind, String, Json)> {
    let mut all = Vec::new();
    let mut add = |kind: Kind, objects: Vec<Json>| {
        for object in objects {
            let id = object.get(kind.id_key()).and_then(Json::as_str).unwrap_or_default().to_owned();
            all.push((kind, id, object));
        }
    };
    fn json<T: Serialize>(list: &[T]) -> Vec<Json> {
        list.iter().filter_map(|one| serde_json::to_value(one).ok()).collect()
    }
    add(Kind::Server, json(&resources.servers));
    add(Kind::Bundle, json(&resources.bundles));
    add(Kind::Portal, json(&resources.portals));
    add(Kind::IdentityProvider, json(&resources.identity_providers));
    add(Kind::Client, json(&resources.clients));
    add(Kind::Agent, json(&resources.agents));
    add(Kind::Policy, json(&resources.policies));
    add(Kind::Grant, json(&resources.grants));
    add(Kind::RateLimit, json(&resources.rate_limits));
    add(Kind::AlertDestination, json(&resources.alerts.destinations));
    add(Kind::AlertRule, json(&resources.alerts.rules));
    let mut roles = resources.roles.clone();
    let names = [
        RoleName::Owner,
        RoleName::Governance,
        RoleName::Security,
        RoleName::Auditor,
        RoleName::Operator,
        RoleName::Author,
    ];
    for name in names {
        let members = std::mem::take(role(&mut roles, name));
        if !members.is_empty() {
            add(Kind::Role, json(&[RoleMembers { role: name, members }]));
        }
    }
    all
}

/// `a.b[2].c` as a JSON pointer (RFC 6901): `/a/b/2/c`.
pub fn pointer(path: &str) -> String {
    let mut out = String::new();
    for part in path.split(['.', '[']).map(|part| part.trim_end_matches(']')).filter(|part| !part.is_empty()) {
        out.push('/');
        let part: Cow<'_, str> =
            if part.contains(['~', '/']) { part.replace('~', "~0").replace('/', "~1").into() } else { part.into() };
        out.push_str(&part);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn p3_an_unknown_member_is_named_with_its_path() {
        let found =
            check(Kind::Server, &json!({"server_id": "a", "hostnam": "https://x", "auth_config": {"scops": []}}));
        let named: Vec<_> = found.iter().map(|one| (pointer(&one.path), one.code, one.suggestion.clone())).collect();
        assert_eq!(named.len(), 2, "{found:?}");
        assert!(named.contains(&("/hostnam".into(), "unknown_key", Some("did you mean `hostname`?".into()))));
        assert!(named.contains(&("/auth_config/scops".into(), "unknown_key", Some("did you mean `scopes`?".into()))));
        assert_eq!(check(Kind::Server, &json!([])).len(), 1);
        assert_eq!(check(Kind::Server, &json!({"server_id": "Bad Id"})).first().map(|one| one.code), Some("bad_id"));
        assert!(check(Kind::Role, &json!({"role": "owner", "members": ["group:a"]})).is_empty());
        assert!(!check(Kind::Role, &json!({"role": "employee"})).is_empty());
    }

    /// Every text of this schema set, and all else absent.
    fn every_text(schema: &str) -> Json {
        let members = definitions()[schema]["properties"].as_object().unwrap();
        let is_text = |member: &Json| member["type"] == json!("string") || member["type"] == json!(["string", "null"]);
        members.iter().filter(|(_, member)| is_text(member)).map(|(name, _)| (name.clone(), json!("x"))).collect()
    }

    #[test]
    fn p5_whatever_is_resolved_at_load_is_a_secret_of_its_kind_and_nothing_else() {
        let mut resources = Resources::default();
        let all = [
            (
                Kind::Server,
                json!({"server_id": "a", "auth_credentials": "x", "auth_config": every_text("AuthConfig"),
                    "command": {"argv": ["/x"], "env": {"*": "x"}}}),
            ),
            (
                Kind::IdentityProvider,
                json!({"id": "i", "issuer": "https://i.example", "client_id": "c", "client_secret": "x"}),
            ),
            (Kind::Client, json!({"client_id": "c", "name": "C", "redirect_uris": [], "client_secret": "x"})),
            (Kind::Agent, json!({"id": "a", "owner": "ana@example.com", "auth": {"client_secret": "x"}})),
            (
                Kind::AlertDestination,
                json!({"id": "d", "webhook": {"url": "https://h.example", "secret": "x"},
                    "email": {"server": "h:25", "from": "a@h.example", "to": ["b@h.example"], "password": "x"}}),
            ),
        ];
        for (kind, object) in all {
            push(&mut resources, kind, object).unwrap();
        }
        let (resolved, problems) =
            crate::secrets::Secrets::resolve(&resources, &Default::default(), std::path::Path::new("/"));
        assert!(problems.is_empty(), "{problems:?}");
        let known: std::collections::BTreeSet<String> = Kind::ALL
            .into_iter()
            .flat_map(|kind| kind.secrets().iter().map(move |path| format!("{}.{}", kind.path(0, ""), path.join("."))))
            .collect();
        // It shows places only.
        assert_eq!(format!("{resolved:?}"), format!("{known:?}"));
    }

    #[test]
    fn p54_every_kind_has_a_schema_and_joins_the_resources() {
        for kind in Kind::ALL {
            assert!(definitions().contains_key(kind.schema_name()), "{}", kind.as_str());
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
        let mut resources = Resources::default();
        let objects = [
            (Kind::Server, json!({"server_id": "a", "hostname": "https://a.example/mcp"})),
            (Kind::Bundle, json!({"id": "b", "tools": [{"server": "a", "tools": ["t"]}]})),
            (Kind::Policy, json!({"id": "p", "cedar": "permit(principal, action, resource);"})),
            (Kind::AlertDestination, json!({"id": "d", "syslog": {"server": "tls://h"}})),
            (Kind::Role, json!({"role": "security", "members": ["group:sec"]})),
        ];
        for (kind, object) in &objects {
            assert_eq!(check(*kind, object), [], "{object}");
            push(&mut resources, *kind, object.clone()).unwrap();
        }
        let again = split(&resources);
        assert_eq!(again.len(), objects.len());
        for ((kind, object), (its, id, canonical_form)) in objects.into_iter().zip(again) {
            assert_eq!(kind, its);
            assert_eq!(object[kind.id_key()], json!(id));
            assert_eq!(canonical(kind, object).unwrap(), canonical_form);
        }
        assert!(push(&mut resources, Kind::Role, json!({"role": "security", "members": []})).is_err());
    }
}
