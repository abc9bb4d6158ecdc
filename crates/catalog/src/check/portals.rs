//! Portals (feature rows P1, P2, P12, P13).

use std::collections::HashSet;

use bartizan_config::resources::Resources;

use super::{Checked, curation, is_host, known_server, unique};

pub(super) fn check(resources: &Resources, checked: &mut Checked) {
    let ids = resources.portals.iter().map(|portal| portal.id.as_str());
    unique(ids, |at| format!("portals[{at}].id"), "portal id", checked);
    let mut hosts: HashSet<String> = HashSet::new();
    for (at, portal) in resources.portals.iter().enumerate() {
        let path = format!("portals[{at}]");
        for (key, text, max) in [("name", &portal.name, 350), ("description", &portal.description, 512)] {
            if text.chars().count() > max {
                checked.error(
                    format!("{path}.{key}"),
                    "too_long",
                    format!("the {key} is longer than {max} characters"),
                );
            }
        }
        if let Some(host) = &portal.hostname {
            let place = format!("{path}.hostname");
            if !is_host(host) {
                checked.error_hint(
                    place,
                    "invalid_host",
                    format!("`{}` is not a host name", host.chars().take(64).collect::<String>()),
                    "write it like `mcp.example.com`",
                );
            } else if !hosts.insert(host.to_ascii_lowercase()) {
                checked.error(place, "duplicate_host", format!("`{host}` is the host name of another portal"));
            }
        }
        if !(32..=128).contains(&portal.max_tool_name) {
            checked.error(
                format!("{path}.max_tool_name"),
                "out_of_range",
                format!("{} is not between 32 and 128", portal.max_tool_name),
            );
        }
        super::budget(portal.max_result_tokens, &path, checked);
        let mut seen = HashSet::new();
        for (index, server) in portal.servers.iter().flatten().enumerate() {
            let place = format!("{path}.servers[{index}]");
            if !seen.insert(server) {
                checked.error(place, "duplicate_server", format!("server `{server}` is listed twice"));
            } else {
                known_server(server.as_str(), place, resources, checked);
            }
        }
        curation::portal(portal, &path, resources, checked);
        if portal.policies.is_empty() {
            checked.warn(
                format!("{path}.policies"),
                "no_access",
                format!("nobody may use portal `{}`: it has no policies", portal.id),
                "add `policies: [{action: allow, include: [{everyone: true}]}]` for all signed-in users",
            );
        }
    }
}
