//! Selectors of short-form rules (feature row A3), compiled.

use std::collections::HashSet;
use std::net::IpAddr;

use bartizan_config::Diagnostic;
use bartizan_config::resources::{AccessAction, Selector};
use bartizan_model::{Principal, PrincipalKind, check_user_id};
use ipnet::IpNet;

/// Three-valued truth: an address rule without an address is neither true nor false,
/// and whoever asks picks the side that refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tri {
    No,
    Unknown,
    Yes,
}

impl From<bool> for Tri {
    fn from(value: bool) -> Self {
        if value { Self::Yes } else { Self::No }
    }
}

/// One compiled selector.
#[derive(Debug)]
pub(crate) enum Test {
    Everyone(bool),
    /// User ids, as principals have them.
    Users(HashSet<Box<str>>),
    /// Domains in lower case.
    Domains(HashSet<Box<str>>),
    Groups(Vec<Box<str>>),
    Tokens(HashSet<Box<str>>),
    Networks(Vec<IpNet>),
}

impl Test {
    pub(crate) fn is(&self, principal: &Principal, ip: Option<IpAddr>) -> Tri {
        let user = principal.kind == PrincipalKind::User;
        match self {
            Self::Everyone(value) => (*value).into(),
            Self::Users(ids) => (user && ids.contains(&*principal.id)).into(),
            Self::Domains(domains) => {
                let domain = principal.id.rsplit_once('@').map(|(_, domain)| domain);
                (user && domain.is_some_and(|domain| domains.contains(domain))).into()
            }
            Self::Groups(groups) => groups.iter().any(|group| in_group(principal, group)).into(),
            Self::Tokens(ids) => (principal.kind == PrincipalKind::Service && ids.contains(&*principal.id)).into(),
            Self::Networks(networks) => match ip {
                Some(ip) => {
                    let ip = ip.to_canonical();
                    networks.iter().any(|network| network.contains(&ip)).into()
                }
                None => Tri::Unknown,
            },
        }
    }
}

/// Whether a principal is in a group (anonymous callers never are).
pub(crate) fn in_group(principal: &Principal, group: &str) -> bool {
    principal.kind != PrincipalKind::Anonymous
        && principal.groups.binary_search_by(|own| own.as_ref().cmp(group)).is_ok()
}

/// Compiles one list of selectors; findings name the entry.
pub(crate) fn compile(
    list: &[Selector],
    action: AccessAction,
    negated: bool,
    path: &str,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Test> {
    let mut tests = Vec::with_capacity(list.len());
    for (at, selector) in list.iter().enumerate() {
        let path = format!("{path}[{at}]");
        if let Some(message) = never_matches(selector, action).filter(|_| !negated) {
            findings.push(Diagnostic::new(&path, "selector_never_matches", message));
        }
        tests.push(compile_one(selector, &path, findings));
    }
    tests
}

/// A selector that cannot match any principal the action is about.
fn never_matches(selector: &Selector, action: AccessAction) -> Option<&'static str> {
    match (action, selector) {
        (AccessAction::Allow, Selector::ServiceToken(_)) => {
            Some("`allow` is about signed-in users; use `action: service_auth` for service tokens")
        }
        (AccessAction::ServiceAuth, Selector::Emails(_) | Selector::EmailDomain(_)) => {
            Some("`service_auth` is about service tokens; use `action: allow` for users")
        }
        _ => None,
    }
}

fn compile_one(selector: &Selector, path: &str, findings: &mut Vec<Diagnostic>) -> Test {
    let list = match selector {
        Selector::Everyone(_) => None,
        Selector::Emails(list)
        | Selector::EmailDomain(list)
        | Selector::Groups(list)
        | Selector::ServiceToken(list)
        | Selector::Ip(list) => Some(list),
    };
    if list.is_some_and(Vec::is_empty) {
        findings.push(Diagnostic::new(path, "empty_selector", "the list is empty, so it matches nobody"));
    }
    if list.is_some_and(|list| list.iter().any(|entry| entry.trim() != entry || entry.is_empty())) {
        findings.push(Diagnostic::new(
            path,
            "invalid_selector",
            "entries must not be empty or begin or end with spaces",
        ));
    }
    match selector {
        Selector::Everyone(value) => Test::Everyone(*value),
        Selector::Emails(list) => {
            let mut ids = HashSet::with_capacity(list.len());
            for id in list.iter().filter(|id| !id.trim().is_empty()) {
                match check_user_id(id) {
                    Ok(id) => drop(ids.insert((&*id).into())),
                    Err(why) => findings.push(Diagnostic::new(path, "invalid_selector", format!("`{id}`: {why}"))),
                }
            }
            Test::Users(ids)
        }
        Selector::EmailDomain(list) => {
            for domain in list.iter().filter(|domain| domain.contains('@')) {
                let bare = domain.rsplit('@').next().unwrap_or_default();
                findings.push(
                    Diagnostic::new(path, "invalid_selector", format!("`{domain}` is not a domain"))
                        .suggest(format!("write `{bare}`")),
                );
            }
            // A principal's address never has such a domain, so a `block` would hold for nobody.
            for domain in list.iter().filter(|domain| !domain.contains('@') && !domain.trim().is_empty()) {
                if let Err(why) = check_user_id(&format!("user@{domain}")) {
                    findings.push(Diagnostic::new(
                        path,
                        "invalid_selector",
                        format!("`{domain}` is not a domain: {why}"),
                    ));
                }
            }
            Test::Domains(list.iter().map(|domain| domain.to_ascii_lowercase().into()).collect())
        }
        Selector::Groups(list) => Test::Groups(list.iter().map(|group| group.as_str().into()).collect()),
        Selector::ServiceToken(list) => Test::Tokens(list.iter().map(|id| id.as_str().into()).collect()),
        Selector::Ip(list) => Test::Networks(list.iter().filter_map(|text| network(text, path, findings)).collect()),
    }
}

/// A network or a single address. IPv4 addresses written as IPv6 become IPv4, as the
/// caller's address does.
pub(crate) fn network(text: &str, path: &str, findings: &mut Vec<Diagnostic>) -> Option<IpNet> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok();
    let parsed = parsed.and_then(|network| match network {
        IpNet::V6(v6) => match v6.addr().to_ipv4_mapped() {
            Some(v4) => {
                v6.prefix_len().checked_sub(96).and_then(|prefix| ipnet::Ipv4Net::new(v4, prefix).ok()).map(IpNet::V4)
            }
            None => Some(network),
        },
        IpNet::V4(_) => Some(network),
    });
    if parsed.is_none() {
        findings.push(
            Diagnostic::new(path, "invalid_network", format!("`{text}` is not an address or network"))
                .suggest("write it like `10.0.0.0/8`, `192.0.2.7` or `2001:db8::/32`"),
        );
    }
    parsed
}
