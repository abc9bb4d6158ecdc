//! Selectors of short-form rules (feature row A3), compiled.

use std::collections::HashSet;
use std::net::IpAddr;

use bartizan_config::Diagnostic;
use bartizan_config::resources::{AccessAction, IdpClaim, Selector};
use bartizan_model::{Principal, PrincipalKind, check_user_id};
use ipnet::IpNet;

use crate::query::RequestContext;
use crate::window::Window;

/// Three-valued truth: a rule about what is not known is neither true nor false,
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
    Agents(HashSet<Box<str>>),
    Networks(Vec<IpNet>),
    /// Upper case.
    Countries(HashSet<Box<str>>),
    Devices(HashSet<Box<str>>),
    Mfa(bool),
    Clients(HashSet<Box<str>>),
    Claim(IdpClaim),
    Time(Window),
}

impl Test {
    pub(crate) fn is(&self, principal: &Principal, context: &RequestContext<'_>) -> Tri {
        let user = principal.kind == PrincipalKind::User;
        let session = context.session.unwrap_or_default();
        // Nobody signed in for the other kinds, which is as sure as a sign-in that tells it.
        let told = !user || session.signed_in;
        let among = |set: &HashSet<Box<str>>, value: Option<&str>, absent: Tri| {
            value.map_or(absent, |value| set.contains(value).into())
        };
        match self {
            Self::Everyone(value) => (*value).into(),
            Self::Users(ids) => (user && ids.contains(&*principal.id)).into(),
            Self::Domains(domains) => {
                let domain = principal.id.rsplit_once('@').map(|(_, domain)| domain);
                (user && domain.is_some_and(|domain| domains.contains(domain))).into()
            }
            Self::Groups(groups) => groups.iter().any(|group| in_group(principal, group)).into(),
            Self::Agents(ids) => (principal.kind == PrincipalKind::Agent && ids.contains(&*principal.id)).into(),
            Self::Tokens(ids) => (principal.kind == PrincipalKind::Service && ids.contains(&*principal.id)).into(),
            Self::Networks(networks) => match context.ip {
                Some(ip) => {
                    let ip = ip.to_canonical();
                    networks.iter().any(|network| network.contains(&ip)).into()
                }
                None => Tri::Unknown,
            },
            Self::Countries(set) => {
                let country = session.country.map(str::to_ascii_uppercase);
                among(set, country.as_deref(), Tri::Unknown)
            }
            Self::Devices(set) => among(set, session.device, Tri::Unknown),
            Self::Mfa(wanted) => match session.mfa_age_ms(context.now_ms) {
                Some(_) => (*wanted).into(),
                None if told => (!wanted).into(),
                None => Tri::Unknown,
            },
            Self::Clients(set) => among(set, session.client_id, if user { Tri::Unknown } else { Tri::No }),
            Self::Claim(claim) => match session.claims.and_then(|claims| claims.get(claim.name.as_str())) {
                Some(values) => values.iter().any(|value| **value == *claim.value).into(),
                // A sign-in tells of each claim that was kept, also that it was absent.
                None if user => Tri::Unknown,
                None => Tri::No,
            },
            Self::Time(window) => window.holds(context.now_ms).into(),
        }
    }

    /// Whether it looks at facts of the session.
    pub(crate) fn of_session(&self) -> bool {
        matches!(self, Self::Countries(_) | Self::Devices(_) | Self::Mfa(_) | Self::Clients(_) | Self::Claim(_))
    }

    /// When time alone may change the answer.
    pub(crate) fn next_change_ms(&self, now_ms: i64) -> Option<i64> {
        match self {
            Self::Time(window) => Some(window.next_change_ms(now_ms)),
            _ => None,
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
        (AccessAction::Allow, Selector::Agents(_)) => {
            Some("`allow` is about signed-in users; use `action: service_auth` for agents")
        }
        (
            AccessAction::ServiceAuth,
            Selector::Emails(_)
            | Selector::EmailDomain(_)
            | Selector::Mfa(_)
            | Selector::ClientId(_)
            | Selector::IdpClaim(_),
        ) => Some("`service_auth` is about service tokens; use `action: allow` for users"),
        (
            AccessAction::Bypass,
            Selector::Emails(_)
            | Selector::EmailDomain(_)
            | Selector::Groups(_)
            | Selector::ServiceToken(_)
            | Selector::Agents(_)
            | Selector::Mfa(_)
            | Selector::ClientId(_)
            | Selector::IdpClaim(_),
        ) => Some("`bypass` is about callers whom nobody knows; use `ip`, `country`, `device`, `time` or `everyone`"),
        _ => None,
    }
}

fn compile_one(selector: &Selector, path: &str, findings: &mut Vec<Diagnostic>) -> Test {
    let list = match selector {
        Selector::Everyone(_) | Selector::Mfa(_) | Selector::IdpClaim(_) | Selector::Time(_) => None,
        Selector::Emails(list)
        | Selector::EmailDomain(list)
        | Selector::Groups(list)
        | Selector::ServiceToken(list)
        | Selector::Agents(list)
        | Selector::Ip(list)
        | Selector::Country(list)
        | Selector::Device(list)
        | Selector::ClientId(list) => Some(list),
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
        Selector::Country(list) => {
            for country in list.iter().filter(|country| !is_country(country)) {
                let message = format!("`{country}` is not a country");
                findings
                    .push(Diagnostic::new(path, "invalid_selector", message).suggest("write two letters, as in `AT`"));
            }
            Test::Countries(list.iter().map(|country| country.to_ascii_uppercase().into()).collect())
        }
        Selector::Device(list) => Test::Devices(list.iter().map(|device| device.as_str().into()).collect()),
        Selector::ClientId(list) => Test::Clients(list.iter().map(|id| id.as_str().into()).collect()),
        Selector::Mfa(wanted) => Test::Mfa(*wanted),
        Selector::IdpClaim(claim) => {
            if claim.name.is_empty() || claim.name.trim() != claim.name {
                let message = "the name of a claim must not be empty or begin or end with spaces";
                findings.push(Diagnostic::new(format!("{path}.idp_claim.name"), "invalid_selector", message));
            }
            Test::Claim(claim.clone())
        }
        Selector::Time(window) => Test::Time(Window::compile(window, path, findings)),
        Selector::Groups(list) => Test::Groups(list.iter().map(|group| group.as_str().into()).collect()),
        Selector::Agents(list) => Test::Agents(list.iter().map(|id| id.as_str().into()).collect()),
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

fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic())
}
