//! What a portal shows of what its servers have on (feature rows P2, P42): its own words on
//! single entries, and its bundles.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bartizan_config::bundles;
use bartizan_config::resources::{self, Resources};
use bartizan_model::{Principal, PrincipalKind, ServerId};

use crate::lists::Kind;

/// The words of one portal.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    tools: Words,
    prompts: Words,
    /// `None`: everything the servers have on.
    bundles: Option<Vec<Bundle>>,
}

type Words = HashMap<ServerId, HashMap<Box<str>, Word>>;

/// What is said of one entry.
#[derive(Debug)]
struct Word {
    enabled: Option<bool>,
    alias: Option<Box<str>>,
    description: Option<Arc<str>>,
}

#[derive(Debug)]
struct Bundle {
    /// `None`: for everybody.
    groups: Option<HashSet<Box<str>>>,
    servers: HashMap<ServerId, Part>,
}

/// What a bundle takes from one server.
#[derive(Debug, Default)]
struct Part {
    tools: HashSet<Box<str>>,
    prompts: HashSet<Box<str>>,
    resources: bool,
}

impl Bundle {
    fn new(bundle: &bundles::Bundle) -> Self {
        let mut servers: HashMap<ServerId, Part> = HashMap::new();
        for entry in &bundle.tools {
            let part = servers.entry(entry.server.clone()).or_default();
            part.tools.extend(entry.tools.iter().map(|name| Box::from(name.as_str())));
            part.prompts.extend(entry.prompts.iter().map(|name| Box::from(name.as_str())));
            part.resources |= entry.resources;
        }
        let groups = bundle.groups.as_ref();
        Self { groups: groups.map(|list| list.iter().map(|group| Box::from(group.as_str())).collect()), servers }
    }

    /// Whether somebody sees something through it; `None` stands for anybody at all.
    fn is_for(&self, principal: Option<&Principal>) -> bool {
        match (&self.groups, principal) {
            (None, _) | (_, None) => true,
            (Some(groups), Some(principal)) => {
                principal.kind != PrincipalKind::Anonymous
                    && principal.groups.iter().any(|group| groups.contains(&**group))
            }
        }
    }
}

impl Part {
    fn names(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Tools => self.tools.contains(name),
            Kind::Prompts => self.prompts.contains(name),
            Kind::Resources | Kind::Templates => self.resources,
        }
    }
}

fn words(list: &[bundles::PortalCuration]) -> Words {
    let mut words = Words::new();
    for each in list {
        let word = Word {
            enabled: each.enabled,
            alias: each.alias.as_deref().map(Box::from),
            description: each.description.as_deref().map(Arc::from),
        };
        words.entry(each.server.clone()).or_default().insert(each.name.as_str().into(), word);
    }
    words
}

impl Shelf {
    /// Compiles what passed all checks. A bundle that does not exist gives nothing.
    pub(crate) fn new(portal: &resources::Portal, resources: &Resources) -> Self {
        let find = |id: &String| resources.bundles.iter().find(|bundle| bundle.id == *id);
        let bundles = portal.bundles.as_ref();
        Self {
            tools: words(&portal.updated_tools),
            prompts: words(&portal.updated_prompts),
            bundles: bundles.map(|ids| ids.iter().filter_map(find).map(Bundle::new).collect()),
        }
    }

    fn words(&self, kind: Kind, server: &ServerId) -> Option<&HashMap<Box<str>, Word>> {
        match kind {
            Kind::Tools => self.tools.get(server),
            Kind::Prompts => self.prompts.get(server),
            Kind::Resources | Kind::Templates => None,
        }
    }

    fn word(&self, kind: Kind, server: &ServerId, name: &str) -> Option<&Word> {
        self.words(kind, server)?.get(name)
    }

    /// Whether the portal shows an entry to somebody, as far as the portal goes; `None`: to
    /// anybody at all.
    pub(crate) fn shows(&self, kind: Kind, server: &ServerId, name: &str, principal: Option<&Principal>) -> bool {
        match (self.word(kind, server, name).and_then(|word| word.enabled), &self.bundles) {
            (Some(enabled), _) => enabled,
            (None, None) => true,
            (None, Some(bundles)) => bundles
                .iter()
                .filter(|bundle| bundle.is_for(principal))
                .any(|bundle| bundle.servers.get(server).is_some_and(|part| part.names(kind, name))),
        }
    }

    /// Whether there is anything of a server for somebody.
    pub(crate) fn opens(&self, server: &ServerId, principal: &Principal) -> bool {
        let Some(bundles) = &self.bundles else { return true };
        let own =
            |kind| self.words(kind, server).is_some_and(|words| words.values().any(|word| word.enabled == Some(true)));
        let given = |bundle: &Bundle| bundle.is_for(Some(principal)) && bundle.servers.contains_key(server);
        own(Kind::Tools) || own(Kind::Prompts) || bundles.iter().any(given)
    }

    pub(crate) fn alias(&self, kind: Kind, server: &ServerId, name: &str) -> Option<&str> {
        self.word(kind, server, name)?.alias.as_deref()
    }

    pub(crate) fn description(&self, kind: Kind, server: &ServerId, name: &str) -> Option<&Arc<str>> {
        self.word(kind, server, name)?.description.as_ref()
    }
}
