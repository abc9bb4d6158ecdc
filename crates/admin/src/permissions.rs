//! What a change of objects means for people: who may do more, who may do less (U9).
//!
//! Asked are the groups and people that rules name, and somebody who is in no group. Of a
//! request only who sends it is known here: rules about addresses, times and sign-ins count
//! as not fulfilled, conditions on arguments as fulfilled.

use std::collections::BTreeSet;
use std::sync::Arc;

use bartizan_catalog::Snapshot;
use bartizan_config::resources::{AccessRule, Resources, Selector};
use bartizan_model::{Era, PortalId, Principal, PrincipalKind, ServerId, ToolClass};
use bartizan_policy::{Action, Query, RequestContext};
use serde::Serialize;

use crate::overlay::Overlaid;

/// Most people and groups that are asked for.
const SUBJECTS: usize = 500;
/// Most lines of a difference.
const LINES: usize = 2_000;
/// Somebody in no group, and the one member of a group that is asked for.
const SOMEBODY: &str = "somebody@example.invalid";
/// A tool that no rule names.
const ANY_TOOL: &str = "(any tool)";

/// One thing that somebody may do now and not then, or the other way round.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Permission {
    /// `group:engineering`, `user:alice`, `service:ci`, or `everybody who is signed in`.
    pub who: String,
    /// `portal hr`, `server wiki: read tools`, `server wiki: tool save_page`.
    pub what: String,
    /// `gains` or `loses`.
    pub change: &'static str,
}

/// The difference between two wholes.
pub(crate) fn difference(before: &Overlaid, after: &Overlaid, now_ms: i64) -> Vec<Permission> {
    let mut subjects = BTreeSet::new();
    subjects_of(&before.resources, &mut subjects);
    subjects_of(&after.resources, &mut subjects);
    let questions = questions(before, after);
    let mut lines = Vec::new();
    let anybody = [(None, principal(PrincipalKind::User, SOMEBODY, None))];
    let named =
        subjects.into_iter().take(SUBJECTS).filter_map(|subject| Some((Some(subject.clone()), parse(&subject)?)));
    for (subject, principal) in anybody.into_iter().chain(named) {
        for question in &questions {
            let (was, is) =
                (question.ask(&before.snapshot, &principal, now_ms), question.ask(&after.snapshot, &principal, now_ms));
            if was == is {
                continue;
            }
            lines.push(Permission {
                who: subject.clone().unwrap_or_else(|| "everybody who is signed in".to_owned()),
                what: question.text(),
                change: if is { "gains" } else { "loses" },
            });
            if lines.len() >= LINES {
                return lines;
            }
        }
    }
    // What everybody gains is not repeated for each group.
    let all: BTreeSet<(String, &str)> = lines
        .iter()
        .filter(|line| line.who.starts_with("everybody"))
        .map(|line| (line.what.clone(), line.change))
        .collect();
    lines.retain(|line| line.who.starts_with("everybody") || !all.contains(&(line.what.clone(), line.change)));
    lines
}

enum Question {
    Portal(PortalId),
    Tools(ServerId, ToolClass),
    Tool(ServerId, String, ToolClass),
}

impl Question {
    fn text(&self) -> String {
        match self {
            Self::Portal(id) => format!("portal {id}"),
            Self::Tools(id, class) => format!("server {id}: {} tools", class.as_str()),
            Self::Tool(id, name, _) => format!("server {id}: tool {name}"),
        }
    }

    fn ask(&self, snapshot: &Snapshot, principal: &Principal, now_ms: i64) -> bool {
        let context =
            RequestContext { era: Era::Modern, ip: None, client: None, client_version: None, session: None, now_ms };
        let query = |action, portal, server, name, class| {
            let query = Query { principal, action, portal, server, name, class, context: &context, args: None };
            snapshot.policies.list_decision(&query).allow
        };
        let offered = |id: &ServerId| {
            let status = snapshot.servers.get(id).map(|spec| spec.status);
            status == Some(bartizan_config::resources::ServerStatus::Enabled)
        };
        match self {
            Self::Portal(id) => {
                snapshot.portals.contains_key(id) && query(Action::UsePortal, Some(id), None, "", ToolClass::Read)
            }
            Self::Tools(id, class) => offered(id) && query(Action::CallTool, None, Some(id), ANY_TOOL, *class),
            Self::Tool(id, name, class) => offered(id) && query(Action::CallTool, None, Some(id), name, *class),
        }
    }
}

fn questions(before: &Overlaid, after: &Overlaid) -> Vec<Question> {
    let both = [&before.resources, &after.resources];
    let mut portals = BTreeSet::new();
    let (mut servers, mut tools) = (BTreeSet::new(), BTreeSet::new());
    for snapshot in [&before.snapshot, &after.snapshot] {
        portals.extend(snapshot.portals.keys().cloned());
        servers.extend(snapshot.servers.keys().cloned());
    }
    for resources in both {
        for grant in &resources.grants {
            tools.extend(grant.tools.iter().map(|tool| (grant.server.clone(), tool.clone())));
        }
    }
    let class = |server: &ServerId, tool: &str| {
        let found = both.iter().rev().flat_map(|all| &all.servers).find(|one| one.server_id == *server);
        found.map_or(ToolClass::Unknown, |one| one.classes.of(tool))
    };
    let classes = [ToolClass::Read, ToolClass::Write, ToolClass::Destructive];
    let by_class = servers.iter().flat_map(|id| classes.map(|class| Question::Tools(id.clone(), class)));
    let by_name = tools.iter().map(|(server, tool)| Question::Tool(server.clone(), tool.clone(), class(server, tool)));
    portals.iter().cloned().map(Question::Portal).chain(by_class).chain(by_name).collect()
}

/// Everybody whom rules name, as `group:NAME` and so on.
fn subjects_of(resources: &Resources, found: &mut BTreeSet<String>) {
    let portals = resources.portals.iter().flat_map(|portal| &portal.policies);
    let servers = resources.servers.iter().flat_map(|server| &server.policies);
    for rule in portals.chain(servers) {
        let AccessRule { include, require, exclude, .. } = rule;
        for selector in include.iter().chain(require).chain(exclude) {
            let (kind, names) = match selector {
                Selector::Groups(names) => ("group", names),
                Selector::Emails(names) => ("user", names),
                Selector::ServiceToken(names) => ("service", names),
                Selector::Agents(names) => ("agent", names),
                _ => continue,
            };
            found.extend(names.iter().map(|name| format!("{kind}:{name}")));
        }
    }
    found.extend(resources.grants.iter().flat_map(|grant| &grant.principals).cloned());
    for policy in &resources.policies {
        for (kind, word) in [("group", "Group::\""), ("user", "User::\""), ("service", "Service::\"")] {
            let names = policy.cedar.split(word).skip(1).filter_map(|rest| rest.split('"').next());
            found.extend(names.map(|name| format!("{kind}:{name}")));
        }
    }
}

fn parse(subject: &str) -> Option<Principal> {
    let (kind, name) = subject.split_once(':')?;
    Some(match kind {
        "group" => principal(PrincipalKind::User, SOMEBODY, Some(name)),
        "user" => principal(PrincipalKind::User, name, None),
        "service" => principal(PrincipalKind::Service, name, None),
        "agent" => principal(PrincipalKind::Agent, name, None),
        _ => return None,
    })
}

fn principal(kind: PrincipalKind, name: &str, group: Option<&str>) -> Principal {
    Principal::new(kind, name, group.map(Arc::from))
}
