//! Resources compiled into one immutable whole.

use std::collections::HashMap;
use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_config::agents::AgentAuth;
use bartizan_config::resources::{Portal, Prefix, RateLimit, Resources, Server};
use bartizan_model::{PortalId, ServerId};
use bartizan_policy::Policies;

use crate::check;
use crate::credential::Credential;
use crate::digest::sha256_u64;
use crate::spec::{PortalSpec, ServerSpec};

/// What the settings say about resources.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompileOptions {
    /// `bartizan dev`: local servers need no word of the operator.
    pub dev: bool,
    /// `hosting.enabled`.
    pub hosting: bool,
}

/// All resources at one moment. A request works with the snapshot it began with.
pub struct Snapshot {
    /// Hash over all resources without secrets; in audit events as `policy_version`.
    pub version: u64,
    /// Servers by id.
    pub servers: HashMap<ServerId, Arc<ServerSpec>>,
    /// Portals by id.
    pub portals: HashMap<PortalId, Arc<PortalSpec>>,
    /// Servers in the order of the file.
    pub order: Vec<Arc<ServerSpec>>,
    /// Portals in the order of the file.
    pub portal_order: Vec<Arc<PortalSpec>>,
    /// Portals by host name, lower case.
    pub portal_hosts: HashMap<Arc<str>, Arc<PortalSpec>>,
    /// Access rules, grants and policies.
    pub policies: Arc<Policies>,
    /// Limits as written.
    pub rate_limits: Vec<RateLimit>,
    /// Who has which role in the administration.
    pub roles: crate::roles::Roles,
    /// What works, but hardly as meant.
    pub warnings: Vec<Diagnostic>,
}

impl Snapshot {
    /// Checks and compiles resources whose `${env:…}` and `${file:…}` are resolved.
    /// Without any portal, there is one, `default`: all servers, for every signed-in
    /// user; the rules of the servers hold as everywhere.
    ///
    /// # Errors
    /// Every finding at once, with its path from the root of `resources`.
    pub fn compile(resources: &Resources, options: &CompileOptions, now_ms: i64) -> Result<Self, Vec<Diagnostic>> {
        let checked = check::run(resources, options);
        let mut errors = checked.errors;
        let roles = crate::roles::Roles::compile(&resources.roles, &mut errors);
        let policies = match Policies::compile(resources, now_ms) {
            Ok(policies) => Some(policies),
            Err(findings) => {
                errors.extend(findings);
                None
            }
        };
        let Some(policies) = policies.filter(|_| errors.is_empty()) else {
            return Err(errors);
        };
        let policies_warnings = policies.warnings().to_vec();
        let mut credentials = checked.credentials.into_iter();
        let order: Vec<Arc<ServerSpec>> = resources
            .servers
            .iter()
            .enumerate()
            .map(|(at, server)| {
                let credential = credentials.next().unwrap_or(Credential::None);
                Arc::new(ServerSpec::new(server, credential, at))
            })
            .collect();
        let servers: HashMap<ServerId, Arc<ServerSpec>> =
            order.iter().map(|server| (server.id.clone(), Arc::clone(server))).collect();
        let portal_order: Vec<Arc<PortalSpec>> = portals(resources)
            .iter()
            .map(|portal| Arc::new(compile_portal(portal, resources, &order, &servers)))
            .collect();
        Ok(Self {
            version: version(resources),
            portals: portal_order.iter().map(|portal| (portal.id.clone(), Arc::clone(portal))).collect(),
            portal_hosts: portal_order
                .iter()
                .filter_map(|portal| portal.hostname.clone().map(|host| (host, Arc::clone(portal))))
                .collect(),
            portal_order,
            servers,
            order,
            policies: Arc::new(policies),
            rate_limits: crate::agents::limits(resources),
            roles,
            warnings: [checked.warnings, policies_warnings].concat(),
        })
    }

    /// The earliest time after `now_ms`, both in milliseconds since the epoch, at which
    /// lists may change by themselves because a grant expires.
    pub fn next_change_ms(&self, now_ms: i64) -> Option<i64> {
        self.policies.next_change_ms(now_ms)
    }
}

fn compile_portal(
    portal: &Portal,
    resources: &Resources,
    order: &[Arc<ServerSpec>],
    servers: &HashMap<ServerId, Arc<ServerSpec>>,
) -> PortalSpec {
    let members = match &portal.servers {
        Some(ids) => ids.iter().filter_map(|id| servers.get(id)).map(Arc::clone).collect(),
        None => order.to_vec(),
    };
    PortalSpec::new(portal, members, resources)
}

/// The portals of the file, or the one that exists without any.
fn portals(resources: &Resources) -> Vec<Portal> {
    if !resources.portals.is_empty() {
        return resources.portals.clone();
    }
    let Ok(id) = PortalId::parse("default") else { return Vec::new() };
    vec![Portal {
        id,
        name: "Default portal".to_owned(),
        description: String::new(),
        hostname: None,
        servers: None,
        bundles: None,
        updated_tools: Vec::new(),
        updated_prompts: Vec::new(),
        // The policy engine has the matching rule built in.
        policies: Vec::new(),
        read_only: Vec::new(),
        max_result_tokens: None,
        long_results: None,
        show_ungranted: false,
        prefix: Prefix::Always,
        max_tool_name: 64,
    }]
}

/// Hash over everything but the values of secrets.
fn version(resources: &Resources) -> u64 {
    let mut public = resources.clone();
    for server in &mut public.servers {
        blank(server);
    }
    for agent in &mut public.agents {
        if let AgentAuth::ClientSecret(secret) = &mut agent.auth {
            secret.clear();
        }
    }
    let text = serde_json::to_vec(&public).unwrap_or_default();
    sha256_u64(&[&text])
}

fn blank(server: &mut Server) {
    server.auth_credentials = server.auth_credentials.take().map(|_| String::new());
    if let Some(oauth) = &mut server.auth_config {
        oauth.secrets_mut().for_each(|(_, text)| text.clear());
    }
    if let Some(command) = &mut server.command {
        command.env.values_mut().for_each(String::clear);
    }
}
