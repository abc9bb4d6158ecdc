//! From what a provider says to address, name and groups.

use std::collections::BTreeMap;

use bartizan_config::resources::IdentityProvider;
use bartizan_model::check_user_id;
use bartizan_oauth::jwt::Claims;
use bartizan_oauth::text::printable;
use serde_json::Value;

use super::begin::{domain, speaks_for};
use super::problem;
use crate::problem::PageProblem;

/// Most groups of a person.
const MAX_GROUPS: usize = 1_000;
/// Longest name of a group, bytes.
const MAX_GROUP: usize = 256;
/// Longest name of a person, characters.
const MAX_NAME: usize = 200;
/// Most values of `amr`, and their longest, bytes.
const MAX_AMR: (usize, usize) = (32, 64);
/// Longest `acr`, bytes.
const MAX_ACR: usize = 256;
/// Most claims kept, values of one, and bytes of a value.
const MAX_KEPT: usize = 32;
const MAX_VALUES: usize = 100;
const MAX_VALUE: usize = 256;

/// A person in our words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
}

/// A claim; `null` says nothing (OpenID Connect Core, section 5.3.2).
fn said<'a>(claims: &'a Claims, name: &str) -> Option<&'a Value> {
    claims.get(name).filter(|value| !value.is_null())
}

/// Whether the ID token lacks something that the userinfo endpoint may say.
pub(super) fn is_incomplete(provider: &IdentityProvider, id: &Claims) -> bool {
    let names = &provider.claims;
    [&names.email, &names.name, &names.groups].into_iter().chain(&names.keep).any(|name| said(id, name).is_none())
}

/// Reads a person. What cannot be used refuses the sign-in rather than being left out: a
/// group that is missing could be one that a rule excludes.
pub(crate) fn person(
    provider: &IdentityProvider,
    id: &Claims,
    userinfo: Option<&Claims>,
    several_providers: bool,
) -> Result<Who, PageProblem> {
    let names = &provider.claims;
    let find = |name: &str| said(id, name).or_else(|| userinfo.and_then(|userinfo| said(userinfo, name)));
    let email = address(find(&names.email))?;
    for claims in [Some(id), userinfo].into_iter().flatten() {
        verified(claims.get("email_verified"))?;
    }
    in_domain(provider, &email, several_providers)?;
    for claims in [Some(id), userinfo].into_iter().flatten() {
        if is_elsewhere(claims, &names.groups) && find(&names.groups).is_none() {
            return Err(problem::groups_elsewhere());
        }
    }
    let groups = groups(find(&names.groups))?;
    let name = find(&names.name).and_then(Value::as_str).map(|name| printable(name.trim(), MAX_NAME));
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| email.clone());
    Ok(Who { email, name, groups })
}

/// One address, in one spelling. Nothing is cut or mended: who a policy means must not
/// depend on how a text is read.
fn address(value: Option<&Value>) -> Result<String, PageProblem> {
    let text = match value {
        None | Some(Value::Null) => return Err(problem::no_email()),
        Some(Value::String(text)) => text,
        Some(_) => return Err(problem::bad_claim("email")),
    };
    let folded = check_user_id(text).map_err(|_| problem::bad_claim("email"))?;
    if text.trim() != text || !folded.contains('@') {
        return Err(problem::bad_claim("email"));
    }
    Ok(folded.into_owned())
}

/// Absent is believed: not every provider sends it. Some send it as text.
fn verified(value: Option<&Value>) -> Result<(), PageProblem> {
    match value {
        None | Some(Value::Bool(true)) => Ok(()),
        Some(Value::String(text)) if text == "true" => Ok(()),
        Some(_) => Err(problem::email_not_verified()),
    }
}

/// A provider speaks for its domains only; with several, each must say which.
fn in_domain(provider: &IdentityProvider, email: &str, several_providers: bool) -> Result<(), PageProblem> {
    let good = if provider.email_domains.is_empty() {
        !several_providers
    } else {
        domain(email).is_some_and(|domain| speaks_for(provider, &domain))
    };
    if good { Ok(()) } else { Err(problem::other_domain()) }
}

/// True when the groups are somewhere else (OpenID Connect Core, section 5.6.2): some
/// providers do so when there are many.
fn is_elsewhere(said: &Claims, name: &str) -> bool {
    let distributed = said.get("_claim_names").is_some_and(|names| names.get(name).is_some());
    distributed || said.get("hasgroups").is_some_and(|has| has.as_bool() != Some(false))
}

/// A list of texts, or one text.
fn groups(value: Option<&Value>) -> Result<Vec<String>, PageProblem> {
    let bad = || problem::bad_claim("groups");
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list.as_slice(),
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        Some(_) => return Err(bad()),
    };
    if list.len() > MAX_GROUPS {
        return Err(problem::too_many_groups());
    }
    let group = |value: &Value| {
        let name = value.as_str().filter(|name| !name.is_empty() && name.len() <= MAX_GROUP)?;
        (printable(name, MAX_GROUP) == name && name.trim() == name).then(|| name.to_owned())
    };
    let mut groups = list.iter().map(group).collect::<Option<Vec<String>>>().ok_or_else(bad)?;
    // That group is of the installation's own account (A31), which no provider knows.
    groups.retain(|name| name != crate::break_glass::GROUP);
    groups.sort();
    groups.dedup();
    Ok(groups)
}

/// The claims that the configuration asks to keep: texts, numbers, truths, or lists of them.
/// What is not of that form, or too much of it, refuses the sign-in: a rule may exclude by it.
pub(super) fn kept(
    provider: &IdentityProvider,
    id: &Claims,
    userinfo: Option<&Claims>,
) -> Result<BTreeMap<String, Vec<String>>, PageProblem> {
    let bad = || problem::bad_claim("claims.keep");
    if provider.claims.keep.len() > MAX_KEPT {
        return Err(bad());
    }
    let mut kept = BTreeMap::new();
    for name in &provider.claims.keep {
        let found = said(id, name).or_else(|| userinfo.and_then(|userinfo| said(userinfo, name)));
        let Some(value) = found else { continue };
        let list = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        if list.len() > MAX_VALUES {
            return Err(bad());
        }
        let text = |value: &Value| match value {
            Value::String(text) => Some(text.clone()).filter(|text| text.len() <= MAX_VALUE),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()).filter(|text| text.len() <= MAX_VALUE),
            _ => None,
        };
        kept.insert(name.clone(), list.iter().map(text).collect::<Option<Vec<String>>>().ok_or_else(bad)?);
    }
    Ok(kept)
}

/// Authentication methods. What is malformed counts as nothing, which is never enough.
pub(crate) fn amr(id: &Claims) -> Vec<String> {
    let (most, longest) = MAX_AMR;
    let values = id.get("amr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts = values.iter().filter_map(Value::as_str);
    texts.filter(|text| !text.is_empty() && text.len() <= longest).take(most).map(str::to_owned).collect()
}

/// Authentication context class.
pub(crate) fn acr(id: &Claims) -> Option<String> {
    id.text("acr").filter(|acr| acr.len() <= MAX_ACR).map(str::to_owned)
}
