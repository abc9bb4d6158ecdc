//! What one principal sees at one endpoint, under which names (feature rows P12, P13,
//! P41, A21): the only source of lists, and of names that can be called.

mod build;
mod render;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use bartizan_model::{PortalId, Principal, ServerId, ToolClass};
use bartizan_policy::{Decision, RequestContext};
use bartizan_wire::RawJson;

use crate::lists::{Kind, PromptDef, ResourceDef, ServerLists, TemplateDef, ToolDef};
use crate::snapshot::Snapshot;
use crate::spec::ServerSpec;
use crate::uri;

/// A tool in a view.
#[derive(Debug)]
pub struct ViewTool {
    /// The name clients use.
    pub exposed: Arc<str>,
    /// Its server.
    pub server: Arc<ServerSpec>,
    /// The definition as the server gave it.
    pub def: Arc<ToolDef>,
    /// Reviewed class.
    pub class: ToolClass,
    /// The list decision. It is that of a call too, unless `uses_args`. Refusing only for
    /// tools that a portal with `show_ungranted` lists.
    pub decision: Decision,
    /// The definition as clients see it.
    pub rendered: RawJson,
}

/// A prompt in a view.
#[derive(Debug)]
pub struct ViewPrompt {
    /// The name clients use.
    pub exposed: Arc<str>,
    /// Its server.
    pub server: Arc<ServerSpec>,
    /// The definition as the server gave it.
    pub def: Arc<PromptDef>,
    /// The list decision.
    pub decision: Decision,
    /// The definition as clients see it.
    pub rendered: RawJson,
}

/// A resource in a view.
#[derive(Debug)]
pub struct ViewResource {
    /// The URI clients use.
    pub exposed: Arc<str>,
    /// Its server.
    pub server: Arc<ServerSpec>,
    /// The resource as the server gave it.
    pub def: Arc<ResourceDef>,
    /// The list decision.
    pub decision: Decision,
    /// The resource as clients see it.
    pub rendered: RawJson,
}

/// A resource template in a view.
#[derive(Debug)]
pub struct ViewTemplate {
    /// The template clients use.
    pub exposed: Arc<str>,
    /// Its server.
    pub server: Arc<ServerSpec>,
    /// The template as the server gave it.
    pub def: Arc<TemplateDef>,
    /// The list decision.
    pub decision: Decision,
    /// The template as clients see it.
    pub rendered: RawJson,
}

/// Something an administrator should know about the names of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Another entry had the name already; this one got a hash.
    Clash {
        /// Server of the renamed entry.
        server: ServerId,
        /// Its original name.
        original: Arc<str>,
        /// Its exposed name.
        exposed: Arc<str>,
    },
    /// The server lists this name or URI twice; only the first is offered.
    Duplicate {
        /// The server.
        server: ServerId,
        /// The name or URI.
        original: Arc<str>,
    },
    /// No name was left that nobody else has; the entry is not offered.
    Nameless {
        /// The server.
        server: ServerId,
        /// The original name.
        original: Arc<str>,
    },
    /// The alias is the name of another tool or prompt of the server and was not used.
    AliasTaken {
        /// The server.
        server: ServerId,
        /// Original name of the entry with the alias.
        original: Arc<str>,
    },
}

/// Everything one principal sees at one endpoint.
#[derive(Debug, Default)]
pub struct View {
    /// Tools in the order of lists.
    pub tools: Vec<ViewTool>,
    /// Prompts in the order of lists.
    pub prompts: Vec<ViewPrompt>,
    /// Resources in the order of lists.
    pub resources: Vec<ViewResource>,
    /// Templates in the order of lists.
    pub templates: Vec<ViewTemplate>,
    /// The servers the principal may use here, in the order of lists.
    pub servers: Vec<Arc<ServerSpec>>,
    /// What an administrator should know.
    pub reports: Vec<Report>,
    /// Servers whose resources the portal does not show (P2).
    closed: HashSet<ServerId>,
    /// The view is that of a portal: names are prefixed, URIs wrapped.
    portal: bool,
    tools_by_name: HashMap<Arc<str>, usize>,
    prompts_by_name: HashMap<Arc<str>, usize>,
    resources_by_uri: HashMap<Arc<str>, usize>,
    servers_by_id: HashMap<ServerId, usize>,
    arrays: [OnceLock<RawJson>; 4],
}

impl View {
    /// Builds the view of a portal, or with `portal: None` that of a single server's
    /// endpoint (then `lists` holds that server only, and nothing is renamed).
    ///
    /// `lists` may hold a server several times, for example once per kind. Servers that
    /// the snapshot or portal does not have, that are not enabled, or that the principal
    /// may not use, give nothing.
    pub fn build(
        snapshot: &Snapshot,
        portal: Option<&PortalId>,
        principal: &Principal,
        context: &RequestContext<'_>,
        lists: &[(Arc<ServerSpec>, Arc<ServerLists>)],
    ) -> Self {
        build::build(snapshot, portal, principal, context, lists)
    }

    /// The same with some of the tools only: what reads, for somebody who means to change
    /// nothing (P51), or what is not stopped (G24). Names stay what they are.
    #[must_use]
    pub fn with_tools(mut self, keep: impl Fn(&ViewTool) -> bool) -> Self {
        self.tools.retain(keep);
        let names = self.tools.iter().enumerate().map(|(at, tool)| (Arc::clone(&tool.exposed), at));
        self.tools_by_name = names.collect();
        self.arrays = Default::default();
        self
    }

    /// The server of an id, if the principal may use it here.
    pub fn server(&self, id: &ServerId) -> Option<&Arc<ServerSpec>> {
        self.servers.get(*self.servers_by_id.get(id)?)
    }

    /// The tool of an exposed name.
    pub fn tool(&self, exposed: &str) -> Option<&ViewTool> {
        self.tools.get(*self.tools_by_name.get(exposed)?)
    }

    /// The prompt of an exposed name.
    pub fn prompt(&self, exposed: &str) -> Option<&ViewPrompt> {
        self.prompts.get(*self.prompts_by_name.get(exposed)?)
    }

    /// The listed resource of an exposed URI.
    pub fn resource(&self, exposed: &str) -> Option<&ViewResource> {
        self.resources.get(*self.resources_by_uri.get(exposed)?)
    }

    /// Server and original URI of a URI that a client wants to read, also of one that is
    /// not listed (it may come from a template). Nothing when the server is not visible
    /// here or the URI is switched off; whether it may be read is still to be decided.
    pub fn route_uri(&self, exposed: &str) -> Option<(&Arc<ServerSpec>, String)> {
        if let Some(resource) = self.resource(exposed) {
            return Some((&resource.server, resource.def.uri.as_ref().to_owned()));
        }
        let (server, original) = if self.portal {
            let (id, original) = uri::unwrap(exposed)?;
            (self.server(&id)?, original)
        } else {
            (self.servers.first()?, exposed.to_owned())
        };
        let on = !self.closed.contains(&server.id)
            && server.resource_enabled(&original)
            && server.resource_enabled(&uri::normal(&original));
        on.then_some((server, original))
    }

    /// The items of a list as one JSON array, put together once.
    pub fn list(&self, kind: Kind) -> &RawJson {
        static EMPTY: OnceLock<RawJson> = OnceLock::new();
        let Some(slot) = self.arrays.get(kind as usize) else {
            return EMPTY.get_or_init(|| RawJson::array([]));
        };
        slot.get_or_init(|| RawJson::array(self.items(kind)))
    }

    /// The items of a list as clients see them, in order.
    pub fn items(&self, kind: Kind) -> Box<dyn Iterator<Item = &RawJson> + '_> {
        match kind {
            Kind::Tools => Box::new(self.tools.iter().map(|tool| &tool.rendered)),
            Kind::Prompts => Box::new(self.prompts.iter().map(|prompt| &prompt.rendered)),
            Kind::Resources => Box::new(self.resources.iter().map(|resource| &resource.rendered)),
            Kind::Templates => Box::new(self.templates.iter().map(|template| &template.rendered)),
        }
    }
}
