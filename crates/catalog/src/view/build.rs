//! Building a view. Decisions are made once per class of equal entries: entries of one
//! server and class that no rule names, where no condition looks at names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bartizan_config::resources::ServerStatus;
use bartizan_model::{PortalId, Principal, ReasonCode, ToolClass};
use bartizan_policy::{Action, Decision, Query, RequestContext};

use super::{Report, View, ViewPrompt, ViewResource, ViewTemplate, ViewTool, render};
use crate::lists::{Kind, ServerLists, Shown};
use crate::names::{Given, Namer, RESERVED_NAMES};
use crate::snapshot::Snapshot;
use crate::spec::{PortalSpec, ServerSpec};
use crate::uri;

/// One server with what it offers.
struct Offer<'a> {
    server: &'a Arc<ServerSpec>,
    lists: Vec<&'a ServerLists>,
}

pub(super) fn build(
    snapshot: &Snapshot,
    portal: Option<&PortalId>,
    principal: &Principal,
    context: &RequestContext<'_>,
    lists: &[(Arc<ServerSpec>, Arc<ServerLists>)],
) -> View {
    let spec = match portal {
        Some(id) => match snapshot.portals.get(id) {
            Some(spec) => Some(&**spec),
            None => return View::default(),
        },
        None => None,
    };
    let mut view = View { portal: spec.is_some(), ..View::default() };
    let offers = offers(snapshot, spec, lists);
    let mut decider = Decider { snapshot, portal, principal, context, kept: HashMap::new() };
    let opens = |server: &ServerSpec| spec.is_none_or(|portal| portal.opens(&server.id, principal));
    let visible: Vec<bool> = offers.iter().map(|offer| opens(offer.server) && decider.server(offer.server)).collect();
    for (offer, _) in offers.iter().zip(&visible).filter(|(_, visible)| **visible) {
        view.servers_by_id.insert(offer.server.id.clone(), view.servers.len());
        if !offer.server.resources_for(spec, principal) {
            view.closed.insert(offer.server.id.clone());
        }
        view.servers.push(Arc::clone(offer.server));
    }
    tools(&mut view, spec, &offers, &visible, &mut decider);
    prompts(&mut view, spec, &offers, &visible, &mut decider);
    resources(&mut view, spec, &offers, &visible, &mut decider);
    templates(&mut view, spec, &offers, &visible, &mut decider);
    view
}

/// The enabled servers of the endpoint in the order of lists, each once.
fn offers<'a>(
    snapshot: &'a Snapshot,
    portal: Option<&'a PortalSpec>,
    lists: &'a [(Arc<ServerSpec>, Arc<ServerLists>)],
) -> Vec<Offer<'a>> {
    let mut by_id: HashMap<&str, Vec<&ServerLists>> = HashMap::new();
    let mut order = Vec::new();
    for (server, list) in lists {
        let entry = by_id.entry(server.id.as_str()).or_insert_with(|| {
            order.push(&server.id);
            Vec::new()
        });
        entry.push(list);
    }
    let members: Vec<&Arc<ServerSpec>> = match portal {
        Some(portal) => portal.servers.iter().collect(),
        // A server's own endpoint has that server only.
        None => order.iter().take(1).filter_map(|id| snapshot.servers.get(*id)).collect(),
    };
    members
        .into_iter()
        .filter(|server| server.status == ServerStatus::Enabled)
        .filter_map(|server| by_id.remove(server.id.as_str()).map(|lists| Offer { server, lists }))
        .collect()
}

/// Asks the policies, once per class of equal entries.
struct Decider<'a> {
    snapshot: &'a Snapshot,
    portal: Option<&'a PortalId>,
    principal: &'a Principal,
    context: &'a RequestContext<'a>,
    /// By server, action and class; `None` when names matter for the server.
    kept: HashMap<(usize, Action, ToolClass), Option<Decision>>,
}

impl Decider<'_> {
    fn server(&self, server: &ServerSpec) -> bool {
        self.ask(server, Action::UseServer, "", ToolClass::Read).allow
    }

    fn ask(&self, server: &ServerSpec, action: Action, name: &str, class: ToolClass) -> Decision {
        self.snapshot.policies.list_decision(&Query {
            principal: self.principal,
            action,
            portal: self.portal,
            server: Some(&server.id),
            name,
            class,
            context: self.context,
            args: None,
        })
    }

    /// A URI is listed when it may be read, which is asked for its normal spelling too.
    fn uri(&mut self, server: &ServerSpec, text: &str) -> Decision {
        let decision = self.entry(server, Action::ReadResource, text, ToolClass::Read);
        let normal = uri::normal(text);
        if !decision.allow || normal == text {
            return decision;
        }
        let by_normal = self.entry(server, Action::ReadResource, &normal, ToolClass::Read);
        if by_normal.allow { decision } else { by_normal }
    }

    fn entry(&mut self, server: &ServerSpec, action: Action, name: &str, class: ToolClass) -> Decision {
        let policies = &self.snapshot.policies;
        if policies.is_named(action, &server.id, name) {
            return self.ask(server, action, name, class);
        }
        let key = (server.position, action, class);
        if let Some(kept) = self.kept.get(&key) {
            return kept.clone().unwrap_or_else(|| self.ask(server, action, name, class));
        }
        let decision = self.ask(server, action, name, class);
        let equal_for_all = !policies.conditions_use_name(action, &server.id);
        self.kept.insert(key, equal_for_all.then(|| decision.clone()));
        decision
    }
}

/// Whether a URI is on, however it is spelled.
fn uri_on(server: &ServerSpec, portal: Option<&PortalSpec>, kind: Kind, text: &str) -> bool {
    server.on_at(portal, kind, text) && server.on_at(portal, kind, &uri::normal(text))
}

/// An entry that is switched on, before names and decisions.
struct Entry<'a, D> {
    offer: usize,
    server: &'a Arc<ServerSpec>,
    def: &'a Arc<D>,
}

/// The entries of all servers that are switched on and not doubles, in the order of lists.
fn entries<'a, D>(
    offers: &'a [Offer<'a>],
    list: impl Fn(&'a ServerLists) -> &'a [Arc<D>],
    key: impl Fn(&D) -> &Arc<str>,
    enabled: impl Fn(&ServerSpec, &str) -> bool,
    reports: &mut Vec<Report>,
) -> Vec<Entry<'a, D>> {
    let mut found = Vec::new();
    for (at, offer) in offers.iter().enumerate() {
        let mut seen: HashSet<&str> = HashSet::new();
        for def in offer.lists.iter().flat_map(|lists| list(lists)) {
            let name = key(def);
            if !enabled(offer.server, name) {
                continue;
            }
            if seen.insert(name) {
                found.push(Entry { offer: at, server: offer.server, def });
            } else {
                reports.push(Report::Duplicate { server: offer.server.id.clone(), original: Arc::clone(name) });
            }
        }
    }
    found
}

/// Exposed names for entries: the order of creation decides who keeps a plain name, and
/// what a principal may see does not, so that names are the same for everybody.
fn names<D>(
    entries: &[Entry<'_, D>],
    portal: Option<&PortalSpec>,
    kind: Kind,
    name: impl Fn(&D) -> &Arc<str>,
    originals: &HashSet<(usize, &str)>,
    reports: &mut Vec<Report>,
) -> Vec<Option<Given>> {
    let Some(portal) = portal else {
        let plain =
            |entry: &Entry<'_, D>| Some(Given { name: Arc::clone(name(entry.def)), changed: false, clash: false });
        return entries.iter().map(plain).collect();
    };
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|at| entries.get(*at).map(|entry| entry.server.position));
    let mut namer = Namer::new(portal.prefix, portal.max_tool_name, RESERVED_NAMES);
    let mut given: Vec<Option<Given>> = vec![None; entries.len()];
    for at in order {
        let (Some(entry), Some(slot)) = (entries.get(at), given.get_mut(at)) else { continue };
        let (server, original) = (&entry.server.id, name(entry.def));
        let mut alias = entry.server.alias_at(portal, kind, original);
        if alias.is_some_and(|alias| alias != &**original && originals.contains(&(entry.server.position, alias))) {
            reports.push(Report::AliasTaken { server: server.clone(), original: Arc::clone(original) });
            alias = None;
        }
        *slot = namer.give(server, original, alias);
        let (server, original) = (server.clone(), Arc::clone(original));
        match slot {
            Some(Given { name, clash: true, .. }) => {
                reports.push(Report::Clash { server, original, exposed: Arc::clone(name) });
            }
            Some(_) => {}
            None => reports.push(Report::Nameless { server, original }),
        }
    }
    given
}

fn shown(server: &ServerSpec, portal: &PortalSpec, kind: Kind, original: &str, given: &Given) -> Shown {
    Shown {
        server: server.id.clone(),
        exposed: Arc::clone(&given.name),
        changed: given.changed,
        description: server.description_at(portal, kind, original).cloned(),
    }
}

/// Names of everything the servers offer, also of what is off: no alias takes one of them.
fn originals<'a, D: 'a>(
    offers: &'a [Offer<'a>],
    list: impl Fn(&'a ServerLists) -> &'a [Arc<D>],
    name: impl Fn(&'a D) -> &'a Arc<str>,
) -> HashSet<(usize, &'a str)> {
    let of = |offer: &'a Offer<'a>| {
        let defs = offer.lists.iter().flat_map(|lists| list(lists));
        defs.map(|def| (offer.server.position, &**name(def))).collect::<Vec<_>>()
    };
    offers.iter().flat_map(of).collect()
}

fn is_visible(visible: &[bool], offer: usize) -> bool {
    visible.get(offer).copied().unwrap_or(false)
}

fn tools(
    view: &mut View,
    portal: Option<&PortalSpec>,
    offers: &[Offer<'_>],
    visible: &[bool],
    decider: &mut Decider<'_>,
) {
    let kind = Kind::Tools;
    let on = |server: &ServerSpec, name: &str| server.on_at(portal, kind, name);
    let entries = entries(offers, |lists| &lists.tools, |def| &def.name, on, &mut view.reports);
    let originals = originals(offers, |lists| &lists.tools, |def| &def.name);
    let given = names(&entries, portal, kind, |def| &def.name, &originals, &mut view.reports);
    let show_ungranted = portal.is_some_and(|portal| portal.show_ungranted);
    for (entry, given) in entries.iter().zip(given) {
        let Some(given) = given.filter(|_| is_visible(visible, entry.offer)) else { continue };
        if !entry.server.on_for(portal, kind, &entry.def.name, decider.principal) {
            continue;
        }
        let class = entry.server.class_of(&entry.def.name);
        let decision = decider.entry(entry.server, Action::CallTool, &entry.def.name, class);
        let ungranted = decision.code == Some(ReasonCode::WriteNotGranted) && show_ungranted;
        if !decision.allow && !ungranted {
            continue;
        }
        let rendered = if let Some(portal) = portal {
            let how = shown(entry.server, portal, kind, &entry.def.name, &given);
            let (def, titled) = (entry.def, entry.def.title.is_some());
            let plain = def.shown(&how, || render::named(def.raw(), def.meta(), &def.name, titled, &how));
            if ungranted { render::ungranted(&plain, &decision) } else { plain }
        } else {
            entry.def.raw().clone()
        };
        view.tools_by_name.insert(Arc::clone(&given.name), view.tools.len());
        view.tools.push(ViewTool {
            exposed: given.name,
            server: Arc::clone(entry.server),
            def: Arc::clone(entry.def),
            class,
            decision,
            rendered,
        });
    }
}

fn prompts(
    view: &mut View,
    portal: Option<&PortalSpec>,
    offers: &[Offer<'_>],
    visible: &[bool],
    decider: &mut Decider<'_>,
) {
    let kind = Kind::Prompts;
    let on = |server: &ServerSpec, name: &str| server.on_at(portal, kind, name);
    let entries = entries(offers, |lists| &lists.prompts, |def| &def.name, on, &mut view.reports);
    let originals = originals(offers, |lists| &lists.prompts, |def| &def.name);
    let given = names(&entries, portal, kind, |def| &def.name, &originals, &mut view.reports);
    for (entry, given) in entries.iter().zip(given) {
        let Some(given) = given.filter(|_| is_visible(visible, entry.offer)) else { continue };
        if !entry.server.on_for(portal, kind, &entry.def.name, decider.principal) {
            continue;
        }
        let decision = decider.entry(entry.server, Action::GetPrompt, &entry.def.name, ToolClass::Read);
        if !decision.allow {
            continue;
        }
        let rendered = if let Some(portal) = portal {
            let how = shown(entry.server, portal, kind, &entry.def.name, &given);
            let (def, titled) = (entry.def, entry.def.title.is_some());
            def.shown(&how, || render::named(def.raw(), def.meta(), &def.name, titled, &how))
        } else {
            entry.def.raw().clone()
        };
        view.prompts_by_name.insert(Arc::clone(&given.name), view.prompts.len());
        view.prompts.push(ViewPrompt {
            exposed: given.name,
            server: Arc::clone(entry.server),
            def: Arc::clone(entry.def),
            decision,
            rendered,
        });
    }
}

fn resources(
    view: &mut View,
    portal: Option<&PortalSpec>,
    offers: &[Offer<'_>],
    visible: &[bool],
    decider: &mut Decider<'_>,
) {
    let kind = Kind::Resources;
    let on = |server: &ServerSpec, text: &str| uri_on(server, portal, kind, text);
    let entries = entries(offers, |lists| &lists.resources, |def| &def.uri, on, &mut view.reports);
    for entry in &entries {
        let decision = decider.uri(entry.server, &entry.def.uri);
        let shown = entry.server.on_for(portal, kind, &entry.def.uri, decider.principal);
        if !decision.allow || !shown || !is_visible(visible, entry.offer) {
            continue;
        }
        let (exposed, rendered) = if view.portal {
            let exposed: Arc<str> = uri::wrap(&entry.server.id, &entry.def.uri).into();
            let how = Shown {
                server: entry.server.id.clone(),
                exposed: Arc::clone(&exposed),
                changed: false,
                description: None,
            };
            let rendered = entry.def.shown(&how, || render::wrapped(entry.def.raw(), "uri", &exposed));
            (exposed, rendered)
        } else {
            (Arc::clone(&entry.def.uri), entry.def.raw().clone())
        };
        view.resources_by_uri.insert(Arc::clone(&exposed), view.resources.len());
        view.resources.push(ViewResource {
            exposed,
            server: Arc::clone(entry.server),
            def: Arc::clone(entry.def),
            decision,
            rendered,
        });
    }
}

fn templates(
    view: &mut View,
    portal: Option<&PortalSpec>,
    offers: &[Offer<'_>],
    visible: &[bool],
    decider: &mut Decider<'_>,
) {
    let kind = Kind::Templates;
    let on = |server: &ServerSpec, text: &str| uri_on(server, portal, kind, text);
    let entries = entries(offers, |lists| &lists.templates, |def| &def.uri_template, on, &mut view.reports);
    for entry in &entries {
        let decision = decider.uri(entry.server, &entry.def.uri_template);
        let shown = entry.server.on_for(portal, kind, &entry.def.uri_template, decider.principal);
        if !decision.allow || !shown || !is_visible(visible, entry.offer) {
            continue;
        }
        let (exposed, rendered) = if view.portal {
            let exposed: Arc<str> = uri::wrap(&entry.server.id, &entry.def.uri_template).into();
            let how = Shown {
                server: entry.server.id.clone(),
                exposed: Arc::clone(&exposed),
                changed: false,
                description: None,
            };
            let rendered = entry.def.shown(&how, || render::wrapped(entry.def.raw(), "uriTemplate", &exposed));
            (exposed, rendered)
        } else {
            (Arc::clone(&entry.def.uri_template), entry.def.raw().clone())
        };
        view.templates.push(ViewTemplate {
            exposed,
            server: Arc::clone(entry.server),
            def: Arc::clone(entry.def),
            decision,
            rendered,
        });
    }
}
