//! Grants, policies and rate limits, as far as ids and references go.

use bartizan_config::resources::{LimitKey, Resources};

use super::{Checked, known_server, unique};

pub(super) fn grants(resources: &Resources, checked: &mut Checked) {
    let ids = resources.grants.iter().map(|grant| grant.id.as_str());
    unique(ids, |at| format!("grants[{at}].id"), "grant id", checked);
    for (at, grant) in resources.grants.iter().enumerate() {
        known_server(grant.server.as_str(), format!("grants[{at}].server"), resources, checked);
        for (index, _) in grant.tools.iter().enumerate().filter(|(_, tool)| tool.is_empty()) {
            checked.error(
                format!("grants[{at}].tools[{index}]"),
                "missing_name",
                "the name of a tool must not be empty",
            );
        }
    }
}

pub(super) fn policies(resources: &Resources, checked: &mut Checked) {
    let ids = resources.policies.iter().map(|policy| policy.id.as_str());
    unique(ids, |at| format!("policies[{at}].id"), "policy id", checked);
}

pub(super) fn rate_limits(resources: &Resources, checked: &mut Checked) {
    let ids = resources.rate_limits.iter().map(|limit| limit.id.as_str());
    unique(ids, |at| format!("rate_limits[{at}].id"), "rate limit id", checked);
    for (at, limit) in resources.rate_limits.iter().enumerate() {
        let path = format!("rate_limits[{at}]");
        if let Some(server) = &limit.server {
            known_server(server.as_str(), format!("{path}.server"), resources, checked);
        }
        let keys: &[LimitKey] = &limit.per;
        if keys.is_empty() {
            checked.error_hint(
                format!("{path}.per"),
                "empty_limit",
                "the limit does not say what it counts for",
                "for example `per: [user]`",
            );
        }
        if keys.iter().enumerate().any(|(index, key)| keys.iter().take(index).any(|before| before == key)) {
            checked.error(format!("{path}.per"), "duplicate_key", "a key is listed twice");
        }
        if !limit.tools.is_empty() && limit.server.is_none() {
            checked.error(format!("{path}.tools"), "tools_without_server", "tools are named, but no server");
        }
        if limit.per_minute.is_none() && limit.concurrent.is_none() && limit.bytes_per_minute.is_none() {
            checked.error_hint(
                &path,
                "empty_limit",
                "the limit limits nothing",
                "set `per_minute`, `concurrent` or `bytes_per_minute`",
            );
        }
        if limit.burst.is_some() && limit.per_minute.is_none() {
            checked.error(format!("{path}.burst"), "burst_without_rate", "`burst` needs `per_minute`");
        }
        let numbers = [
            ("per_minute", limit.per_minute),
            ("burst", limit.burst),
            ("concurrent", limit.concurrent),
            ("bytes_per_minute", limit.bytes_per_minute),
        ];
        for (key, _) in numbers.into_iter().filter(|(_, number)| *number == Some(0)) {
            checked.error_hint(
                format!("{path}.{key}"),
                "out_of_range",
                "0 would refuse everything",
                "to stop a server, set its `status: killed`",
            );
        }
    }
}
