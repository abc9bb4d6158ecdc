//! Servers (feature rows P3, P4, P41, P42).

use std::collections::{HashMap, HashSet};

use bartizan_config::resources::{AuthType, Curation, Resources, Server, Visibility};

use super::{Checked, curation as words, hosting, strategy, unique};
use crate::credential::Credential;
use crate::snapshot::CompileOptions;

/// Characters of a name for people (P3).
pub(super) const MAX_NAME: usize = 350;

pub(super) fn check(resources: &Resources, options: &CompileOptions, checked: &mut Checked) {
    let ids = resources.servers.iter().map(|server| server.server_id.as_str());
    unique(ids, |at| format!("servers[{at}].server_id"), "server_id", checked);
    for (at, server) in resources.servers.iter().enumerate() {
        let path = format!("servers[{at}]");
        if server.name.chars().count() > MAX_NAME {
            checked.error(format!("{path}.name"), "too_long", format!("the name is longer than {MAX_NAME} characters"));
        }
        match (&server.hostname, &server.command) {
            (Some(url), None) => url_of(url, &format!("{path}.hostname"), checked),
            (None, Some(command)) => hosting::check(command, &path, options, checked),
            (Some(_), Some(_)) => checked.error_hint(
                &path,
                "server_target",
                "a server has either `hostname` or `command`, not both",
                "remove one of them",
            ),
            (None, None) => checked.error_hint(
                &path,
                "server_target",
                "a server needs `hostname` or `command`",
                "for example `hostname: https://mcp.example.com/mcp`",
            ),
        }
        let credential = credential_of(server, resources, &path, checked);
        checked.credentials.push(credential);
        classes(server, &path, checked);
        super::budget(server.max_result_tokens, &path, checked);
        for (index, tool) in server.updated_tools.iter().enumerate() {
            super::budget(tool.max_result_tokens, &format!("{path}.updated_tools[{index}]"), checked);
        }
        curation(&server.updated_tools, &format!("{path}.updated_tools"), true, checked);
        curation(&server.updated_prompts, &format!("{path}.updated_prompts"), true, checked);
        curation(&server.updated_resources, &format!("{path}.updated_resources"), false, checked);
        if server.policies.is_empty() && server.visibility == Visibility::Private {
            checked.warn(
                format!("{path}.policies"),
                "no_access",
                format!("nobody may use server `{}`: it is private and has no policies", server.server_id),
                "add `policies: [{action: allow, include: [{everyone: true}]}]` for all signed-in users",
            );
        }
    }
}

/// `http` or `https`, a host, no user information, no fragment.
fn url_of(text: &str, path: &str, checked: &mut Checked) {
    let hint = "write it like `https://mcp.example.com/mcp`";
    let mut refuse = |why: &str| checked.error_hint(path, "invalid_url", why, hint);
    if text.bytes().any(|b| b.is_ascii_control() || b == b' ' || b == b'\\') {
        return refuse("the URL holds a space, a backslash or a control character");
    }
    if text.contains('#') {
        return refuse("the URL has a fragment");
    }
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return refuse("the URL must begin with `https://` or `http://`");
    }
    let Ok(uri) = text.parse::<http::Uri>() else {
        return refuse("this is not a URL");
    };
    let Some(authority) = uri.authority() else {
        return refuse("the URL has no host");
    };
    if authority.as_str().contains('@') {
        return refuse("the URL holds user information; credentials belong into `auth_credentials`");
    }
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if authority.host().is_empty() || (!port.is_empty() && authority.port_u16().is_none_or(|port| port == 0)) {
        refuse("the URL has no usable host or port");
    }
}

fn credential_of(server: &Server, resources: &Resources, path: &str, checked: &mut Checked) -> Credential {
    if server.owner.as_deref().is_some_and(|owner| !is_address(owner)) {
        let why = "this is not the e-mail address of one person or group";
        checked.error_hint(format!("{path}.owner"), "bad_value", why, "for example `owner: notes-team@corp.example`");
    }
    if server.connect_on_sign_in && !(server.auth_type == AuthType::Oauth && server.on_behalf) {
        checked.error_hint(
            format!("{path}.connect_on_sign_in"),
            "credentials",
            "only personal accounts of `auth_type: oauth` are connected on the way of signing in",
            "remove it",
        );
    }
    if !matches!(server.auth_type, AuthType::Bearer | AuthType::Unauthenticated) {
        return strategy::credential(server, &resources.identity_providers, path, checked);
    }
    if server.auth_config.is_some() {
        checked.error_hint(
            format!("{path}.auth_config"),
            "credentials",
            format!("`auth_config` has no meaning with `auth_type: {}`", strategy::name_of(server.auth_type)),
            "set the `auth_type` it is for, for example `oauth`",
        );
    }
    if !server.on_behalf {
        checked.error_hint(
            format!("{path}.on_behalf"),
            "credentials",
            "`on_behalf: false` is for `auth_type: oauth`",
            "remove it: this credential is the same for everybody anyway",
        );
    }
    let path = format!("{path}.auth_credentials");
    match (server.auth_type, &server.auth_credentials) {
        (AuthType::Unauthenticated, None) => Credential::None,
        (AuthType::Unauthenticated, Some(_)) => {
            checked.error_hint(
                path,
                "credentials",
                "`auth_credentials` are given, but `auth_type` is `unauthenticated`",
                "set `auth_type: bearer`",
            );
            Credential::None
        }
        (AuthType::Bearer, None) => {
            checked.error_hint(
                path,
                "credentials",
                "`auth_type: bearer` needs `auth_credentials`",
                "for example `auth_credentials: ${env:GITHUB_TOKEN}`",
            );
            Credential::None
        }
        (AuthType::Bearer, Some(_)) if server.command.is_some() => {
            checked.error_hint(
                path,
                "credentials",
                "a local server gets no headers",
                "give it the secret under `command.env`",
            );
            Credential::None
        }
        (AuthType::Bearer, Some(text)) => Credential::parse(text).unwrap_or_else(|why| {
            let hint = "a raw token, or JSON {\"headers\": {\"Name\": \"value\"}}";
            checked.error_hint(path, "credentials", format!("the credential {why}"), hint);
            Credential::None
        }),
        // Went another way above.
        _ => Credential::None,
    }
}

/// A tool has one class.
fn classes(server: &Server, path: &str, checked: &mut Checked) {
    let lists = [
        ("read", &server.classes.read),
        ("write", &server.classes.write),
        ("destructive", &server.classes.destructive),
    ];
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for (class, names) in lists {
        for (at, name) in names.iter().enumerate() {
            let place = format!("{path}.classes.{class}[{at}]");
            if name.is_empty() {
                checked.error(place, "missing_name", "the name of a tool must not be empty");
            } else if let Some(other) = seen.insert(name, class) {
                let message = if other == class {
                    format!("`{name}` is listed twice")
                } else {
                    format!("`{name}` is in `{other}` already; a tool has one class")
                };
                checked.error(place, "duplicate_class", message);
            }
        }
    }
}

/// Alias grammar and uniqueness (P42): unique among aliases and the originals that are
/// named here. Whether an alias equals a tool the server has is seen when lists arrive.
fn curation(entries: &[Curation], path: &str, may_alias: bool, checked: &mut Checked) {
    let names: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let (mut seen, mut aliases) = (HashSet::new(), HashSet::new());
    for (at, entry) in entries.iter().enumerate() {
        let place = format!("{path}[{at}]");
        if entry.name.is_empty() {
            checked.error(format!("{place}.name"), "missing_name", "the name must not be empty");
        } else if !seen.insert(entry.name.as_str()) {
            checked.error(format!("{place}.name"), "duplicate_name", format!("`{}` has an entry already", entry.name));
        }
        words::description(entry.description.as_deref(), &place, checked);
        if !may_alias && entry.description.is_some() {
            let message = "only tools and prompts have other descriptions";
            checked.error(format!("{place}.description"), "invalid_description", message);
        }
        let Some(alias) = &entry.alias else { continue };
        let place = format!("{place}.alias");
        if !may_alias {
            checked.error(place, "invalid_alias", "resources have no aliases");
        } else if words::alias(alias, &place, checked)
            && (!aliases.insert(alias.as_str()) || (names.contains(alias.as_str()) && *alias != entry.name))
        {
            checked.error(place, "duplicate_alias", format!("`{alias}` is the name of another entry of this server"));
        }
    }
}

/// `^[a-zA-Z0-9]+([_-][a-zA-Z0-9]+)*$`, 1–40 characters.
pub(crate) fn is_alias(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text.split(['_', '-']).all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Whether a text is an address that mail can be sent to, and nothing more.
fn is_address(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ',' | ';' | '"' | '(' | ')' | '\\');
    let parts = text.split_once('@');
    let good = |(name, domain): (&str, &str)| !name.is_empty() && !domain.is_empty() && !domain.contains('@');
    text.len() <= 254 && text.chars().all(plain) && parts.is_some_and(good)
}
