//! The question that a recorded event was the answer to.

use std::borrow::Cow;
use std::sync::Arc;

use bartizan_catalog::{ServerSpec, Snapshot, exposed_name, uri};
use bartizan_config::resources::ServerStatus;
use bartizan_model::event::{AuditEvent, EventKind};
use bartizan_model::{Era, PortalId, Principal, PrincipalKind, ReasonCode, ToolClass};
use bartizan_policy::{Action, Query, RequestContext, SessionFacts, Simulated, Unknowns};

/// Characters of a name that the record keeps; a longer one may be cut.
const MAX_NAME: usize = 256;

/// Why an event is not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skip {
    /// Its identity was erased.
    Erased,
    /// Refused by something that is no policy.
    Otherwise,
    /// The record does not say, or not fully, what was asked for.
    Unresolved,
    /// A method that is not simulated.
    Method,
}

impl Skip {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Erased => "erased",
            Self::Otherwise => "refused_for_another_reason",
            Self::Unresolved => "target_not_in_the_record",
            Self::Method => "method_not_simulated",
        }
    }
}

/// What the draft says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Now {
    Allowed { rule: Option<String> },
    Refused { code: Option<ReasonCode>, rule: Option<String> },
    Depends { on: Vec<&'static str>, rule: Option<String> },
}

/// A request again.
pub(super) struct Question<'a> {
    event: &'a AuditEvent,
    principal: Principal,
    action: Action,
    spec: Option<Arc<ServerSpec>>,
    /// The draft does not have the server.
    lost: Option<String>,
    name: Cow<'a, str>,
    class: ToolClass,
}

impl<'a> Question<'a> {
    pub(super) fn of(event: &'a AuditEvent, snapshot: &Snapshot) -> Result<Self, Skip> {
        let principal = principal(event).ok_or(Skip::Erased)?;
        let found = Found::of(event, snapshot)?;
        let (spec, lost) = match found.server {
            None => (None, None),
            Some(id) => match snapshot.order.iter().find(|spec| spec.id.as_str() == id) {
                Some(spec) => (Some(Arc::clone(spec)), None),
                None => (None, Some(id)),
            },
        };
        // The draft may class tools anew.
        let class = match (found.action, &spec) {
            (Action::CallTool, Some(spec)) => spec.class_of(&found.name),
            (Action::Other, _) => ToolClass::Unknown,
            _ => ToolClass::Read,
        };
        Ok(Self { event, principal, action: found.action, spec, lost, name: found.name, class })
    }

    pub(super) fn server(&self) -> Option<String> {
        self.spec.as_ref().map(|spec| spec.id.to_string()).or_else(|| self.lost.clone())
    }

    pub(super) fn target(&self) -> &str {
        if self.name.is_empty() { &self.event.method } else { &self.name }
    }

    pub(super) fn ask(&self, snapshot: &Snapshot) -> Now {
        if let Some(rule) = self.outside(snapshot) {
            return Now::Refused { code: None, rule: Some(rule) };
        }
        let mut said = self.with(&self.name, |query| snapshot.policies.simulate(query, self.unknown()));
        if self.action == Action::ReadResource {
            // A server may read another spelling as the same resource, so both must be allowed.
            let normal = uri::normal(&self.name);
            if *normal != *self.name {
                let other = self.with(&normal, |query| snapshot.policies.simulate(query, self.unknown()));
                said = match (said, other) {
                    (Simulated::Allowed { .. }, other) => other,
                    (Simulated::Depends { .. }, other @ Simulated::Refused { .. }) => other,
                    (said, _) => said,
                };
            }
        }
        let text = |rule: Option<Arc<str>>| rule.as_deref().map(str::to_owned);
        match said {
            Simulated::Allowed { rule } => Now::Allowed { rule: text(rule) },
            Simulated::Refused { code, rule } => Now::Refused { code: Some(code), rule: text(rule) },
            Simulated::Depends { on, rule } => Now::Depends { on: on.names(), rule: text(rule) },
        }
    }

    /// Where a rule of the draft is written: path, and line within a Cedar text.
    pub(super) fn place_of(&self, rule: &str, snapshot: &Snapshot) -> Option<(String, Option<usize>)> {
        let explained = self.with(&self.name, |query| snapshot.policies.explain(query));
        let found = explained.rules.iter().find(|each| *each.rule == *rule)?;
        Some((found.path.to_string(), found.line))
    }

    /// What the draft does not offer at all.
    fn outside(&self, snapshot: &Snapshot) -> Option<String> {
        if let Some(id) = &self.lost {
            return Some(format!("there is no server `{id}`"));
        }
        let portal = match &self.event.portal {
            None => None,
            Some(id) => match snapshot.portals.get(id) {
                Some(portal) => Some(portal),
                None => return Some(format!("there is no portal `{id}`")),
            },
        };
        let spec = self.spec.as_ref()?;
        if portal.is_some_and(|portal| !portal.has(&spec.id)) {
            return Some(format!("`{}` is not behind the portal", spec.id));
        }
        match spec.status {
            ServerStatus::Enabled => {}
            ServerStatus::Disabled => return Some(format!("`{}` is disabled", spec.id)),
            ServerStatus::Killed => return Some(format!("`{}` is killed", spec.id)),
        }
        let offered = match self.action {
            Action::CallTool => spec.tool_enabled(&self.name),
            Action::GetPrompt => spec.prompt_enabled(&self.name),
            Action::ReadResource => {
                spec.resource_enabled(&self.name) && spec.resource_enabled(&uri::normal(&self.name))
            }
            _ => true,
        };
        (!offered).then(|| "switched off".to_owned())
    }

    /// What the record never holds.
    fn unknown(&self) -> Unknowns {
        let session = match self.principal.kind {
            PrincipalKind::User => Unknowns::MFA.and(Unknowns::ACR).and(Unknowns::CLIENT_ID).and(Unknowns::CLAIMS),
            PrincipalKind::Service | PrincipalKind::Agent => Unknowns::CLIENT_ID,
            PrincipalKind::Anonymous => Unknowns::NONE,
        };
        // Without a digest there were none.
        if self.event.arguments_digest.is_some() { session.and(Unknowns::ARGUMENTS) } else { session }
    }

    fn with<T>(&self, name: &str, ask: impl FnOnce(&Query<'_>) -> T) -> T {
        let who = &self.event.who;
        let session = SessionFacts {
            device: who.device.as_deref(),
            country: who.country.as_deref(),
            purpose: who.purpose.as_deref(),
            ..SessionFacts::default()
        };
        let context = RequestContext {
            era: self.event.era.unwrap_or(Era::Modern),
            ip: who.ip.as_deref().and_then(|ip| ip.parse().ok()),
            client: who.client.as_deref(),
            client_version: who.client_version.as_deref(),
            session: Some(session),
            now_ms: self.event.at_ms,
        };
        ask(&Query {
            principal: &self.principal,
            action: self.action,
            portal: self.event.portal.as_ref(),
            server: self.spec.as_ref().map(|spec| &spec.id),
            name,
            class: self.class,
            context: &context,
            args: None,
        })
    }
}

fn principal(event: &AuditEvent) -> Option<Principal> {
    let id = event.who.principal.split_once(':').map(|(_, id)| id).filter(|id| !id.is_empty())?;
    Some(match event.principal_kind {
        PrincipalKind::Anonymous => Principal::anonymous(),
        kind => Principal::new(kind, id, event.who.groups.iter().map(|group| group.as_str().into())),
    })
}

/// What was asked for.
struct Found<'a> {
    action: Action,
    server: Option<String>,
    name: Cow<'a, str>,
}

impl<'a> Found<'a> {
    fn of(event: &'a AuditEvent, snapshot: &Snapshot) -> Result<Self, Skip> {
        let server = event.server.as_ref().map(ToString::to_string);
        let door = |server: Option<String>| {
            let action = if server.is_some() { Action::UseServer } else { Action::UsePortal };
            Self { action, server, name: Cow::Borrowed("") }
        };
        if event.kind == EventKind::List {
            return Ok(door(server));
        }
        let action = match event.method.as_str() {
            "tools/call" => Action::CallTool,
            "prompts/get" => Action::GetPrompt,
            "resources/read" => Action::ReadResource,
            // Prompt or template: the record does not say.
            "completion/complete" => return Err(Skip::Method),
            _ => Action::Other,
        };
        if let Some(target) = &event.target {
            // Without a server it is something of the portal's own, for everybody who may use it.
            let found = Self { action, server, name: Cow::Borrowed(target) };
            return Ok(if found.server.is_some() { found } else { Self { action: Action::UsePortal, ..found } });
        }
        // It stayed unknown to the caller: only the name that the client used is there.
        let asked = event.exposed.as_deref().filter(|asked| asked.chars().count() < MAX_NAME);
        if server.is_some() {
            let name = match action {
                Action::Other => event.method.as_str(),
                _ => asked.ok_or(Skip::Unresolved)?,
            };
            return Ok(Self { action, server, name: Cow::Borrowed(name) });
        }
        let asked = asked.ok_or(Skip::Unresolved)?;
        let (server, name) = match action {
            Action::ReadResource => uri::unwrap(asked).map(|(server, uri)| (server.to_string(), uri)),
            _ => noted(event, snapshot).or_else(|| resolve(asked, event.portal.as_ref(), snapshot)),
        }
        .ok_or(Skip::Unresolved)?;
        Ok(Self { action, server: Some(server), name: Cow::Owned(name) })
    }
}

/// The remark of a refusal: `NAME on SERVER`.
fn noted(event: &AuditEvent, snapshot: &Snapshot) -> Option<(String, String)> {
    let (name, server) = event.note.as_deref()?.rsplit_once(" on ")?;
    let known = snapshot.order.iter().any(|spec| spec.id.as_str() == server);
    known.then(|| (server.to_owned(), name.to_owned()))
}

/// An exposed name of the portal, as far as the draft tells: one that is classed, or
/// `SERVER_NAME`.
fn resolve(asked: &str, portal: Option<&PortalId>, snapshot: &Snapshot) -> Option<(String, String)> {
    let portal = snapshot.portals.get(portal?)?;
    let mut found = portal.servers.iter().filter_map(|spec| {
        let tool = asked.strip_prefix(spec.id.as_str())?.strip_prefix('_').filter(|tool| !tool.is_empty())?;
        let same = exposed_name(&spec.id, tool, portal.prefix, portal.max_tool_name) == asked;
        same.then(|| (spec.id.to_string(), tool.to_owned()))
    });
    let first = found.next()?;
    // Two readings are none.
    found.next().is_none().then_some(first)
}
