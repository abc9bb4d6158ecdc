//! Short-form rules that never match, or whose matches another rule of the list decides.

use bartizan_config::Diagnostic;
use bartizan_config::resources::{AccessAction, AccessRule, Resources, Selector, TimeWindow};
use bartizan_model::{PrincipalKind, fold_user_id};
use ipnet::IpNet;

use super::Forbids;
use crate::query::Action;
use crate::scope::{PrincipalScope, ResourceKind, ResourceScope, Scope};
use crate::selector::network;
use crate::window::Window;

const WEEK_MINUTES: i64 = 7 * 24 * 60;

pub(super) fn find(resources: &Resources, forbids: &Forbids<'_>, found: &mut Vec<Diagnostic>) {
    for (at, portal) in resources.portals.iter().enumerate() {
        let door = Door { kind: ResourceKind::Portal, action: Action::UsePortal, id: portal.id.as_str() };
        door.rules(&portal.policies, &format!("portals[{at}]"), forbids, found);
        read_only(&portal.read_only, &format!("portals[{at}]"), found);
    }
    for (at, server) in resources.servers.iter().enumerate() {
        let door = Door { kind: ResourceKind::Server, action: Action::UseServer, id: server.server_id.as_str() };
        door.rules(&server.policies, &format!("servers[{at}]"), forbids, found);
        read_only(&server.read_only, &format!("servers[{at}]"), found);
    }
}

/// Selectors of `read_only` that select nobody.
fn read_only(selectors: &[Selector], path: &str, found: &mut Vec<Diagnostic>) {
    for (at, _) in selectors.iter().enumerate().filter(|(_, each)| matches!(each, Selector::Everyone(false))) {
        let path = format!("{path}.read_only[{at}]");
        found.push(Diagnostic::new(path, "dead_rule", "`everyone: false` selects nobody"));
    }
}

/// A rule that blocks whoever comes.
pub(super) fn blocks_everybody(rule: &AccessRule) -> bool {
    rule.action == AccessAction::Block && plain(rule) && covers(&rule.include, &Selector::Everyone(true))
}

/// What a list of rules is about.
struct Door<'a> {
    kind: ResourceKind,
    action: Action,
    id: &'a str,
}

impl Door<'_> {
    fn rules(&self, rules: &[AccessRule], path: &str, forbids: &Forbids<'_>, found: &mut Vec<Diagnostic>) {
        for (at, rule) in rules.iter().enumerate() {
            let path = format!("{path}.policies[{at}]");
            let name = rule.name.as_ref().map_or_else(|| "the rule".to_owned(), |name| format!("rule `{name}`"));
            if never(rule) {
                let message = format!("{name} matches nobody: its lists contradict each other");
                found.push(Diagnostic::new(path, "dead_rule", message));
            } else if let Some(by) = self.shadow(at, rule, rules, forbids) {
                found.push(Diagnostic::new(path, "shadowed_rule", format!("{name} decides nothing: {by}")));
            }
        }
    }

    fn shadow(&self, at: usize, rule: &AccessRule, rules: &[AccessRule], forbids: &Forbids<'_>) -> Option<String> {
        let block = |other: &&AccessRule| other.action == AccessAction::Block && rule_covers(other, rule);
        if rule.action != AccessAction::Block
            && let Some((other, _)) = rules.iter().enumerate().find(|(_, other)| block(other))
        {
            return Some(format!("policies[{other}] blocks everybody whom it lets in"));
        }
        let twice = rules.iter().enumerate().find(|(index, other)| {
            // Of two that cover each other, the first stays.
            *index != at
                && other.action == rule.action
                && rule_covers(other, rule)
                && (*index < at || !rule_covers(rule, other))
        });
        if let Some((other, _)) = twice {
            return Some(format!("policies[{other}] names everybody whom it names"));
        }
        let forbid = if rule.action == AccessAction::Block { None } else { self.forbidden(rule, forbids) };
        forbid.map(|rule| format!("{rule} forbids everybody whom it lets in"))
    }

    /// The Cedar statement that forbids all whom a rule lets in.
    fn forbidden(&self, rule: &AccessRule, forbids: &Forbids<'_>) -> Option<String> {
        let kind = match rule.action {
            AccessAction::ServiceAuth => PrincipalKind::Service,
            AccessAction::Allow | AccessAction::Block => PrincipalKind::User,
            // Whoever comes.
            AccessAction::Bypass => return None,
        };
        let mut last = None;
        for principal in rule.include.iter().flat_map(|selector| principals(selector, kind)) {
            let scope = Scope {
                principal,
                actions: self.action.bit(),
                names_action: true,
                resource: ResourceScope::One(self.kind, self.id.into()),
            };
            last = Some(forbids.covering(&scope, scope.actions)?);
        }
        last.map(|forbid| forbid.rule.to_string())
    }
}

/// Scopes that together hold all whom a selector names.
fn principals(selector: &Selector, kind: PrincipalKind) -> Vec<PrincipalScope> {
    match selector {
        Selector::Emails(list) => {
            list.iter().map(|id| PrincipalScope::One(format!("user:{}", fold_user_id(id)).into())).collect()
        }
        Selector::Groups(list) => {
            let kinds = if kind.is_machine() { vec![PrincipalKind::Service, PrincipalKind::Agent] } else { vec![kind] };
            let scope = |group: &str, kind: &PrincipalKind| PrincipalScope::Group(group.into(), Some(*kind));
            list.iter().flat_map(|group| kinds.iter().map(|kind| scope(group, kind)).collect::<Vec<_>>()).collect()
        }
        Selector::ServiceToken(list) => {
            list.iter().map(|id| PrincipalScope::One(format!("service:{id}").into())).collect()
        }
        Selector::Agents(list) => list.iter().map(|id| PrincipalScope::One(format!("agent:{id}").into())).collect(),
        // Agents as well as service tokens.
        _ if kind.is_machine() => [PrincipalKind::Service, PrincipalKind::Agent].map(PrincipalScope::Kind).into(),
        _ => vec![PrincipalScope::Kind(kind)],
    }
}

fn plain(rule: &AccessRule) -> bool {
    rule.require.is_empty() && rule.exclude.is_empty() && rule.require_mfa.is_none() && !rule.require_purpose
}

/// Whether `wide` matches whomever `narrow` matches.
fn rule_covers(wide: &AccessRule, narrow: &AccessRule) -> bool {
    plain(wide)
        && (narrow.include.iter().all(|selector| covers(&wide.include, selector))
            || narrow.require.iter().any(|selector| covers(&wide.include, selector)))
}

/// Whether a rule can match nobody.
fn never(rule: &AccessRule) -> bool {
    let all = || rule.include.iter().chain(&rule.require).chain(&rule.exclude);
    if rule.action == AccessAction::Block && all().any(may_be_unknown) {
        // Such a rule blocks those of whom that is not known.
        return false;
    }
    let impossible = |selector: &Selector| matches!(selector, Selector::Everyone(false));
    rule.include.iter().all(|selector| impossible(selector) || covers(&rule.exclude, selector))
        || rule.require.iter().any(|selector| impossible(selector) || covers(&rule.exclude, selector))
        || rule.require.iter().any(|wanted| rule.include.iter().all(|selector| disjoint(selector, wanted)))
        || rule
            .require
            .iter()
            .enumerate()
            .any(|(at, one)| rule.require.iter().skip(at + 1).any(|two| disjoint(one, two)))
}

/// Whether a selector looks at something that need not be known.
fn may_be_unknown(selector: &Selector) -> bool {
    matches!(
        selector,
        Selector::Ip(_)
            | Selector::Country(_)
            | Selector::Device(_)
            | Selector::Mfa(_)
            | Selector::ClientId(_)
            | Selector::IdpClaim(_)
    )
}

/// Whether whoever a selector matches is matched by one of a list too.
fn covers(list: &[Selector], selector: &Selector) -> bool {
    let all = list.iter().any(|each| matches!(each, Selector::Everyone(true)));
    let listed = |value: &str, of: fn(&Selector) -> Option<&Vec<String>>| {
        list.iter().filter_map(of).flatten().any(|each| *fold_user_id(each) == *fold_user_id(value))
    };
    let in_domain = |domain: &str| {
        list.iter().any(|each| match each {
            Selector::EmailDomain(domains) => domains.iter().any(|each| each.eq_ignore_ascii_case(domain)),
            _ => false,
        })
    };
    all || match selector {
        Selector::Everyone(value) => !value,
        Selector::Emails(ids) => ids
            .iter()
            .all(|id| listed(id, emails) || id.rsplit_once('@').is_some_and(|(_, domain)| in_domain(domain.trim()))),
        Selector::EmailDomain(domains) => domains.iter().all(|domain| in_domain(domain)),
        Selector::Groups(groups) => groups
            .iter()
            .all(|group| list.iter().any(|each| matches!(each, Selector::Groups(groups) if groups.contains(group)))),
        Selector::ServiceToken(ids) => {
            ids.iter().all(|id| list.iter().any(|each| matches!(each, Selector::ServiceToken(ids) if ids.contains(id))))
        }
        Selector::Agents(ids) => {
            ids.iter().all(|id| list.iter().any(|each| matches!(each, Selector::Agents(ids) if ids.contains(id))))
        }
        Selector::Ip(texts) => {
            let wide: Vec<IpNet> = list.iter().filter_map(ips).flat_map(|texts| networks(texts)).collect();
            let narrow = networks(texts);
            narrow.len() == texts.len() && narrow.iter().all(|own| wide.iter().any(|wide| wide.contains(own)))
        }
        Selector::Country(own) => own.iter().all(|own| {
            let has = |all: &[String]| all.iter().any(|each| each.eq_ignore_ascii_case(own));
            list.iter().any(|each| matches!(each, Selector::Country(all) if has(all)))
        }),
        Selector::Device(own) => {
            own.iter().all(|own| list.iter().any(|each| matches!(each, Selector::Device(all) if all.contains(own))))
        }
        Selector::ClientId(own) => {
            own.iter().all(|own| list.iter().any(|each| matches!(each, Selector::ClientId(all) if all.contains(own))))
        }
        Selector::Mfa(own) => list.iter().any(|each| matches!(each, Selector::Mfa(wanted) if wanted == own)),
        Selector::IdpClaim(own) => list.iter().any(|each| matches!(each, Selector::IdpClaim(claim) if claim == own)),
        Selector::Time(own) => list.iter().any(|each| matches!(each, Selector::Time(window) if window == own)),
    }
}

/// Whether no caller can match both.
fn disjoint(one: &Selector, other: &Selector) -> bool {
    let domain = |id: &str| fold_user_id(id).rsplit_once('@').map(|(_, domain)| domain.to_owned());
    let outside = |ids: &[String], domains: &[String]| {
        !ids.iter().filter_map(|id| domain(id)).any(|own| domains.iter().any(|each| each.eq_ignore_ascii_case(&own)))
    };
    match (one, other) {
        (Selector::Emails(a), Selector::Emails(b)) => {
            !a.iter().any(|a| b.iter().any(|b| fold_user_id(a) == fold_user_id(b)))
        }
        (Selector::Emails(ids), Selector::EmailDomain(domains))
        | (Selector::EmailDomain(domains), Selector::Emails(ids)) => outside(ids, domains),
        (Selector::EmailDomain(a), Selector::EmailDomain(b)) => {
            !a.iter().any(|a| b.iter().any(|b| a.eq_ignore_ascii_case(b)))
        }
        (Selector::Emails(_) | Selector::EmailDomain(_), Selector::ServiceToken(_) | Selector::Agents(_))
        | (Selector::ServiceToken(_) | Selector::Agents(_), Selector::Emails(_) | Selector::EmailDomain(_))
        | (Selector::ServiceToken(_), Selector::Agents(_))
        | (Selector::Agents(_), Selector::ServiceToken(_)) => true,
        (Selector::Ip(a), Selector::Ip(b)) => {
            let b = networks(b);
            !networks(a).iter().any(|a| b.iter().any(|b| a.contains(b) || b.contains(a)))
        }
        (Selector::Country(a), Selector::Country(b)) => !a.iter().any(|a| b.iter().any(|b| a.eq_ignore_ascii_case(b))),
        (Selector::Mfa(a), Selector::Mfa(b)) => a != b,
        // A caller has one of each.
        (Selector::Device(a), Selector::Device(b)) | (Selector::ClientId(a), Selector::ClientId(b)) => {
            !a.iter().any(|a| b.contains(a))
        }
        (Selector::Time(a), Selector::Time(b)) => never_together(a, b),
        _ => false,
    }
}

/// Whether two windows are never open at once. Both come back every week and have edges at
/// full minutes.
fn never_together(one: &TimeWindow, other: &TimeWindow) -> bool {
    let mut wrong = Vec::new();
    let (one, other) = (Window::compile(one, "", &mut wrong), Window::compile(other, "", &mut wrong));
    // What is no window was reported before.
    wrong.is_empty() && !(0..WEEK_MINUTES).map(|minute| minute * 60_000).any(|ms| one.holds(ms) && other.holds(ms))
}

fn emails(selector: &Selector) -> Option<&Vec<String>> {
    match selector {
        Selector::Emails(list) => Some(list),
        _ => None,
    }
}

fn ips(selector: &Selector) -> Option<&Vec<String>> {
    match selector {
        Selector::Ip(list) => Some(list),
        _ => None,
    }
}

fn networks(texts: &[String]) -> Vec<IpNet> {
    // What is no network was reported before.
    texts.iter().filter_map(|text| network(text, "", &mut Vec::new())).collect()
}
