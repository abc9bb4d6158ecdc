//! What portals say of single entries, and bundles (feature rows P2, P42).

use std::collections::{HashMap, HashSet};

use bartizan_config::Diagnostic;
use bartizan_config::bundles::{Bundle, PortalCuration};
use bartizan_config::resources::{Curation, Portal, Resources, Server};

use super::servers::is_alias;
use super::{Checked, closest, known_server, unique};

/// Characters of a description that replaces a server's own.
const MAX_DESCRIPTION: usize = 4_096;

/// Alias grammar (P42).
pub(super) fn alias(alias: &str, place: &str, checked: &mut Checked) -> bool {
    let good = is_alias(alias);
    if !good {
        checked.error_hint(
            place,
            "invalid_alias",
            format!("`{}` is not an alias", alias.chars().take(64).collect::<String>()),
            "1 to 40 letters and digits, with single `_` or `-` between them",
        );
    }
    good
}

/// A description that says something, in a size that no list minds.
pub(super) fn description(text: Option<&str>, entry: &str, checked: &mut Checked) {
    let Some(text) = text else { return };
    let place = format!("{entry}.description");
    if text.trim().is_empty() {
        let hint = "leave it out to show the one before it";
        checked.error_hint(place, "empty_description", "the description is empty", hint);
    } else if text.chars().count() > MAX_DESCRIPTION {
        checked.error(place, "too_long", format!("the description is longer than {MAX_DESCRIPTION} characters"));
    } else if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        checked.error(place, "bad_value", "the description holds a control character");
    }
}

/// Everything a portal says of single entries, and the bundles it includes.
pub(super) fn portal(portal: &Portal, path: &str, resources: &Resources, checked: &mut Checked) {
    let mut seen = HashSet::new();
    for (at, id) in portal.bundles.iter().flatten().enumerate() {
        let place = format!("{path}.bundles[{at}]");
        let ids = || resources.bundles.iter().map(|bundle| bundle.id.as_str());
        if !seen.insert(id) {
            checked.error(place, "duplicate_bundle", format!("bundle `{id}` is listed twice"));
        } else if !ids().any(|known| known == id) {
            let mut finding = Diagnostic::new(place, "unknown_bundle", format!("there is no bundle `{id}`"));
            finding.suggestion = closest(id, ids()).map(|id| format!("did you mean `{id}`?"));
            checked.errors.push(finding);
        }
    }
    let tools: fn(&Server) -> &[Curation] = |server| &server.updated_tools;
    let prompts: fn(&Server) -> &[Curation] = |server| &server.updated_prompts;
    let lists =
        [("updated_tools", &portal.updated_tools, tools), ("updated_prompts", &portal.updated_prompts, prompts)];
    for (key, list, of) in lists {
        let path = format!("{path}.{key}");
        entries(portal, list, &path, resources, of, checked);
        for server in &resources.servers {
            let own: Vec<_> = list.iter().enumerate().filter(|(_, entry)| entry.server == server.server_id).collect();
            if !own.is_empty() {
                effective(of(server), &own, &path, checked);
            }
        }
    }
}

fn entries(
    portal: &Portal,
    list: &[PortalCuration],
    path: &str,
    resources: &Resources,
    of: fn(&Server) -> &[Curation],
    checked: &mut Checked,
) {
    let mut seen = HashSet::new();
    for (at, entry) in list.iter().enumerate() {
        let place = format!("{path}[{at}]");
        let server = resources.servers.iter().find(|server| server.server_id == entry.server);
        if server.is_none() {
            known_server(entry.server.as_str(), format!("{place}.server"), resources, checked);
        } else if portal.servers.as_ref().is_some_and(|ids| !ids.contains(&entry.server)) {
            let message = format!("server `{}` is not in portal `{}`", entry.server, portal.id);
            checked.error(format!("{place}.server"), "not_in_portal", message);
        }
        if entry.name.is_empty() {
            checked.error(format!("{place}.name"), "missing_name", "the name must not be empty");
        } else if !seen.insert((&entry.server, &entry.name)) {
            checked.error(format!("{place}.name"), "duplicate_name", format!("`{}` has an entry already", entry.name));
        }
        if let Some(text) = &entry.alias {
            alias(text, &format!("{place}.alias"), checked);
        }
        description(entry.description.as_deref(), &place, checked);
        let off = |server: &Server| {
            let said = of(server).iter().find(|each| each.name == entry.name).map(|each| each.enabled);
            !said.unwrap_or(!server.default_disabled)
        };
        if entry.enabled == Some(true) && server.is_some_and(off) {
            checked.warn(
                format!("{place}.enabled"),
                "no_effect",
                format!("`{}` stays off: server `{}` has it off", entry.name, entry.server),
                "switch it on at the server, and off in the portals that must not have it",
            );
        }
    }
}

/// Uniqueness of what the names of one server's entries become in a portal. What the server
/// says alone was checked there.
fn effective(server: &[Curation], own: &[(usize, &PortalCuration)], path: &str, checked: &mut Checked) {
    let said: HashMap<&str, Option<&str>> =
        own.iter().map(|(_, entry)| (entry.name.as_str(), entry.alias.as_deref())).collect();
    let originals: HashSet<&str> = server.iter().map(|entry| entry.name.as_str()).chain(said.keys().copied()).collect();
    // Aliases that the portal leaves as they are, by alias.
    let kept: HashMap<&str, &str> = server
        .iter()
        .filter_map(|entry| Some((entry.alias.as_deref()?, entry.name.as_str())))
        .filter(|(_, name)| said.get(name).copied().flatten().is_none())
        .collect();
    let mut given = HashSet::new();
    for (at, entry) in own {
        let taken = |alias: &str| format!("`{alias}` is the name of another entry of server `{}`", entry.server);
        if let Some(alias) = entry.alias.as_deref().filter(|alias| is_alias(alias)) {
            let original = originals.contains(alias) && alias != entry.name;
            if original || kept.contains_key(alias) || !given.insert(alias) {
                checked.error(format!("{path}[{at}].alias"), "duplicate_alias", taken(alias));
            }
        }
        // The name may be one that the server gave to another entry.
        if kept.get(entry.name.as_str()).is_some_and(|name| *name != entry.name)
            && !server.iter().any(|each| each.name == entry.name)
        {
            checked.error(format!("{path}[{at}].name"), "duplicate_alias", taken(&entry.name));
        }
    }
}

pub(super) fn bundles(resources: &Resources, checked: &mut Checked) {
    let ids = resources.bundles.iter().map(|bundle| bundle.id.as_str());
    unique(ids, |at| format!("bundles[{at}].id"), "bundle id", checked);
    for (at, each) in resources.bundles.iter().enumerate() {
        bundle(each, &format!("bundles[{at}]"), resources, checked);
    }
}

fn bundle(bundle: &Bundle, path: &str, resources: &Resources, checked: &mut Checked) {
    if bundle.name.chars().count() > super::servers::MAX_NAME {
        checked.error(format!("{path}.name"), "too_long", "the name is longer than 350 characters");
    }
    for (at, _) in bundle.groups.iter().flatten().enumerate().filter(|(_, group)| group.trim().is_empty()) {
        checked.error(format!("{path}.groups[{at}]"), "missing_name", "the name of a group must not be empty");
    }
    if bundle.groups.as_ref().is_some_and(Vec::is_empty) {
        let message = format!("nobody sees anything through bundle `{}`: it has no groups", bundle.id);
        checked.warn(format!("{path}.groups"), "no_access", message, "remove `groups` for whoever may use the portal");
    }
    let mut seen = HashSet::new();
    for (at, entry) in bundle.tools.iter().enumerate() {
        let place = format!("{path}.tools[{at}]");
        known_server(entry.server.as_str(), format!("{place}.server"), resources, checked);
        for (key, names) in [("tools", &entry.tools), ("prompts", &entry.prompts)] {
            for (index, name) in names.iter().enumerate() {
                let place = format!("{place}.{key}[{index}]");
                if name.is_empty() {
                    checked.error(place, "missing_name", "the name must not be empty");
                } else if !seen.insert((&entry.server, key, name)) {
                    checked.error(place, "duplicate_name", format!("`{name}` is in the bundle already"));
                }
            }
        }
    }
}
