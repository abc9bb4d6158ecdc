//! Secrets of objects (P5): they come in, are kept apart, and never go out again. In bodies
//! an empty text stands where a secret is.

use std::collections::BTreeMap;
use std::sync::Arc;

use bartizan_config::objects::Kind;
use bartizan_model::Secret;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::problem::Problem;

/// The secrets of one version of an object, by JSON pointer.
#[derive(Clone, Default)]
pub(crate) struct SecretSet(BTreeMap<String, Entry>);

#[derive(Clone)]
struct Entry {
    version: i64,
    value: Arc<Secret<String>>,
}

type Path = Vec<String>;

impl SecretSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The version of each, by pointer.
    #[cfg(test)]
    pub(crate) fn versions(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(pointer, entry)| (pointer.as_str(), entry.version))
    }

    /// As text to be sealed.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let map: BTreeMap<&str, (i64, &str)> = self
            .0
            .iter()
            .map(|(pointer, entry)| (pointer.as_str(), (entry.version, entry.value.expose().as_str())))
            .collect();
        Zeroizing::new(serde_json::to_vec(&map).unwrap_or_default())
    }

    /// What [`SecretSet::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let map: BTreeMap<String, (i64, String)> = serde_json::from_slice(bytes).ok()?;
        let entry = |(version, value)| Entry { version, value: Arc::new(Secret::new(value)) };
        Some(Self(map.into_iter().map(|(pointer, given)| (pointer, entry(given))).collect()))
    }

    /// Puts the secrets where they belong. The result is compiled at once and written nowhere.
    pub(crate) fn fill(&self, kind: Kind, body: &mut Value) {
        for path in places(kind, body) {
            if let (Some(entry), Some(place)) = (self.0.get(&pointer(&path)), at_mut(body, &path)) {
                *place = Value::String(entry.value.expose().clone());
            }
        }
    }

    /// Whether both hold the same texts.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(pointer, entry)| {
                other.0.get(pointer).is_some_and(|its| its.value.expose() == entry.value.expose())
            })
    }
}

/// Takes the secrets out of a body. What is blank or absent keeps the secret of `old`, where
/// that is sent to the same address as before; null removes it.
pub(crate) fn take(
    kind: Kind,
    body: &mut Value,
    old: Option<(&Value, &SecretSet)>,
    problems: &mut Vec<Problem>,
) -> SecretSet {
    let mut taken = SecretSet::default();
    let moved = old.and_then(|(old, _)| moved(kind, old, body));
    let candidates = candidates(kind, body);
    for path in candidates {
        let name = pointer(&path);
        let former = old.and_then(|(_, secrets)| secrets.0.get(&name));
        let given = at(body, &path);
        let kept = match given {
            Some(Value::String(text)) if !text.is_empty() => {
                let value = Arc::new(Secret::new(text.clone()));
                let version = match former {
                    Some(former) if former.value.expose() == value.expose() => former.version,
                    Some(former) => former.version + 1,
                    None => 1,
                };
                Some(Entry { version, value })
            }
            Some(Value::Null) => None,
            Some(Value::String(_)) => former.cloned(),
            None if !is_shown(&path) && is_same_use(kind, old, body) => former.cloned(),
            _ => None,
        };
        let is_new = matches!(given, Some(Value::String(text)) if !text.is_empty());
        let is_blank = matches!(given, Some(Value::String(text)) if text.is_empty());
        match kept {
            Some(_) if !is_new && moved.is_some() => {
                let text = format!(
                    "`{}` changed, so the secret would go to another place: give it again, or null for none",
                    moved.unwrap_or_default()
                );
                problems.push(Problem::new(&name, "secret_needed", text));
            }
            Some(entry) => {
                put(body, &path, Value::String(String::new()));
                taken.0.insert(name, entry);
            }
            None if is_blank && is_shown(&path) => {
                problems.push(Problem::new(&name, "secret_needed", "there is no secret yet that could be kept"));
            }
            None if matches!(given, None | Some(Value::Null)) || is_blank => remove(body, &path),
            // Not a text: the schema says so.
            None => {}
        }
    }
    taken
}

/// A body as it may be shown, with a summary of its secrets. `versions` is false where
/// versions are not counted.
pub(crate) fn public(kind: Kind, body: &Value, secrets: &SecretSet, versions: bool) -> Value {
    let mut shown = body.clone();
    let mut summary = Map::new();
    for pattern in kind.secrets().iter().filter(|pattern| !pattern.contains(&"*")) {
        let name = pattern.last().copied().unwrap_or_default();
        if matches!(name, "client_secret" | "auth_credentials") && kind != Kind::Agent {
            summary.insert(format!("has_{name}"), false.into());
        }
    }
    for path in places(kind, body) {
        if is_shown(&path) {
            put(&mut shown, &path, Value::String(String::new()));
        } else {
            remove(&mut shown, &path);
        }
        let Some(entry) = secrets.0.get(&pointer(&path)) else { continue };
        let name = path.last().map(String::as_str).unwrap_or_default();
        summary.insert(format!("has_{name}"), true.into());
        if versions {
            summary.insert(format!("{name}_version"), entry.version.into());
        }
    }
    if let Some(members) = shown.as_object_mut()
        && !summary.is_empty()
    {
        members.insert(SUMMARY.to_owned(), summary.into());
    }
    shown
}

/// The member with the summary; it is ignored when it comes in.
pub(crate) const SUMMARY: &str = "auth_config_summary";

/// Members that are there even when blank, because their object says what it is by them.
fn is_shown(path: &[String]) -> bool {
    path.first().is_some_and(|first| matches!(first.as_str(), "auth" | "webhook" | "command"))
}

/// Whether an absent secret has the same meaning as before.
fn is_same_use(kind: Kind, old: Option<(&Value, &SecretSet)>, body: &Value) -> bool {
    kind != Kind::Server || old.is_some_and(|(old, _)| auth_type(old) == auth_type(body))
}

fn auth_type(body: &Value) -> &str {
    match body.get("auth_type").and_then(Value::as_str) {
        None | Some("none") => "unauthenticated",
        Some("static") => "bearer",
        Some("oauth_user") => "oauth",
        Some(other) => other,
    }
}

/// The member by which secrets would now be sent elsewhere: whoever may not read a secret must
/// not learn it by changing the address. The whole address counts: one host may serve many.
fn moved(kind: Kind, old: &Value, new: &Value) -> Option<&'static str> {
    let members: &[&'static str] = match kind {
        Kind::Server => &["hostname", "auth_config/token_endpoint", "auth_config/issuer", "command/argv"],
        Kind::IdentityProvider => &["issuer"],
        Kind::AlertDestination => &["webhook/url", "email/server"],
        _ => &[],
    };
    fn value<'a>(body: &'a Value, member: &str) -> Option<&'a Value> {
        body.pointer(&format!("/{member}")).filter(|it| !it.is_null())
    }
    members.iter().copied().find(|member| {
        let before = value(old, member);
        before.is_some() && before != value(new, member) || before.is_none() && value(new, member).is_some()
    })
}

/// Secrets that are references, which only files can have: by pointer.
pub(crate) fn references(kind: Kind, body: &Value) -> Vec<String> {
    let is_one = |path: &Path| at(body, path).and_then(Value::as_str).is_some_and(|text| text.contains("${"));
    places(kind, body).iter().filter(|path| is_one(path)).map(|path| pointer(path)).collect()
}

/// Places where a secret may be: those that are there, and those whose parent is.
fn candidates(kind: Kind, body: &Value) -> Vec<Path> {
    let mut all = Vec::new();
    for pattern in kind.secrets() {
        let Some((last, parents)) = pattern.split_last() else { continue };
        let parents: Path = parents.iter().map(|key| (*key).to_owned()).collect();
        let Some(Value::Object(members)) = at(body, &parents) else { continue };
        let keys: Vec<String> = match *last {
            "*" => members.keys().cloned().collect(),
            key => vec![key.to_owned()],
        };
        all.extend(keys.into_iter().map(|key| [parents.as_slice(), &[key]].concat()));
    }
    all
}

/// Places where a secret is.
fn places(kind: Kind, body: &Value) -> Vec<Path> {
    let mut all = candidates(kind, body);
    all.retain(|path| at(body, path).is_some_and(Value::is_string));
    all
}

fn pointer(path: &[String]) -> String {
    path.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect()
}

fn at<'a>(body: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(body, |value, key| value.get(key))
}

fn at_mut<'a>(body: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(body, |value, key| value.get_mut(key))
}

fn put(body: &mut Value, path: &[String], new: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    if let Some(Value::Object(members)) = at_mut(body, parents) {
        members.insert(last.clone(), new);
    }
}

fn remove(body: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    if let Some(Value::Object(members)) = at_mut(body, parents) {
        members.shift_remove(last);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn first(text: &str) -> (Value, SecretSet) {
        let mut body = json!({"server_id": "a", "hostname": "https://a.example/mcp", "auth_type": "bearer",
            "auth_credentials": text});
        let mut problems = Vec::new();
        let secrets = take(Kind::Server, &mut body, None, &mut problems);
        assert_eq!(problems, []);
        (body, secrets)
    }

    fn edit(mut body: Value, old: &(Value, SecretSet)) -> (Value, SecretSet, Vec<Problem>) {
        let mut problems = Vec::new();
        let secrets = take(Kind::Server, &mut body, Some((&old.0, &old.1)), &mut problems);
        (body, secrets, problems)
    }

    #[test]
    fn p5_blank_keeps_a_new_value_raises_the_version_null_removes() {
        let old = first("hunter2");
        assert_eq!(old.0["auth_credentials"], "");
        let public_old = public(Kind::Server, &old.0, &old.1, true);
        assert!(!public_old.to_string().contains("hunter2"));
        assert_eq!(public_old[SUMMARY]["has_auth_credentials"], true);
        assert_eq!(public_old[SUMMARY]["auth_credentials_version"], 1);
        assert!(public_old.get("auth_credentials").is_none());

        let same = |secret: Value| {
            json!({"server_id": "a", "hostname": "https://a.example/mcp",
            "auth_type": "bearer", "auth_credentials": secret})
        };
        for kept in [same("".into()), same("hunter2".into()), {
            let mut absent = same("".into());
            absent.as_object_mut().unwrap().shift_remove("auth_credentials");
            absent
        }] {
            let (body, secrets, problems) = edit(kept, &old);
            assert_eq!((problems.len(), secrets.versions().collect::<Vec<_>>()), (0, vec![("/auth_credentials", 1)]));
            assert_eq!(body, old.0);
            assert!(secrets.same(&old.1));
        }
        let (_, secrets, _) = edit(same("other".into()), &old);
        assert_eq!(secrets.versions().collect::<Vec<_>>(), [("/auth_credentials", 2)]);
        let (body, secrets, _) = edit(same(Value::Null), &old);
        assert!(secrets.is_empty() && body.get("auth_credentials").is_none());
    }

    #[test]
    fn p5_a_kept_secret_does_not_follow_to_another_address() {
        let old = first("hunter2");
        for hostname in [
            "https://evil.example/mcp",
            "http://a.example/mcp",
            "https://a.example:8443/mcp",
            "https://a.example/attacker",
            "https://a.example/mcp?tenant=b",
        ] {
            let moved = json!({"server_id": "a", "hostname": hostname, "auth_type": "bearer"});
            let (_, secrets, problems) = edit(moved, &old);
            assert_eq!(problems.first().map(|one| one.code), Some("secret_needed"), "{hostname}");
            assert!(secrets.is_empty());
        }
        let same = json!({"server_id": "a", "name": "B", "hostname": "https://a.example/mcp", "auth_type": "bearer"});
        assert_eq!(edit(same, &old).2, []);
        let given = json!({"server_id": "a", "hostname": "https://b.example", "auth_type": "bearer",
            "auth_credentials": "new"});
        assert_eq!(edit(given, &old).2, []);
    }

    #[test]
    fn p5_sealed_texts_come_back() {
        let (mut body, secrets) = first("hunter2");
        let again = SecretSet::from_bytes(&secrets.to_bytes()).unwrap();
        assert!(again.same(&secrets));
        again.fill(Kind::Server, &mut body);
        assert_eq!(body["auth_credentials"], "hunter2");
        assert!(SecretSet::from_bytes(b"[]").is_none());
    }
}
