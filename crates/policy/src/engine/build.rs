//! Resources to [`Policies`].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_config::resources::{Resources, Visibility};
use bartizan_model::{ServerId, ToolClass};
use cedar_policy::Effect;

use super::{ContextUse, Policies};
use crate::access::Rules;
use crate::args::Keys;
use crate::circumstance::Circumstance;
use crate::compile::Compiler;
use crate::dead;
use crate::grant::Grant;
use crate::index::Index;
use crate::schema::Vocabulary;
use crate::statement::Statement;

/// Bytes of stack for compiling.
const COMPILE_STACK: usize = 64 << 20;

/// One portal, as far as access goes.
pub(crate) struct PortalAccess {
    pub(crate) rules: Rules,
    /// Servers of the portal; `None` = all.
    pub(crate) servers: Option<HashSet<ServerId>>,
}

/// One server, as far as access goes.
pub(crate) struct ServerAccess {
    pub(crate) rules: Rules,
    pub(crate) public: bool,
    /// `server github: visibility public`.
    pub(crate) public_rule: Arc<str>,
    /// Its grants.
    pub(crate) grants: GrantIndex,
}

/// Positions of a server's grants, by what they are about.
#[derive(Default)]
pub(crate) struct GrantIndex {
    pub(super) by_tool: HashMap<Box<str>, Vec<usize>>,
    pub(super) by_class: [Vec<usize>; 4],
    /// A condition looks at the tool's name.
    pub(super) use_name: bool,
}

impl GrantIndex {
    fn add(&mut self, grant: &Grant, position: usize) {
        for tool in &grant.tools {
            self.by_tool.entry(tool.clone()).or_default().push(position);
        }
        for class in &grant.classes {
            if let Some(list) = self.by_class.get_mut(*class as usize) {
                list.push(position);
            }
        }
        self.use_name |= grant.condition.as_ref().is_some_and(|condition| condition.usage.name);
    }

    /// Positions of the grants for a tool, in order.
    pub(crate) fn covering(&self, tool: &str, class: ToolClass) -> Vec<usize> {
        let by_class = self.by_class.get(class as usize).into_iter().flatten();
        let mut found: Vec<usize> = self.by_tool.get(tool).into_iter().flatten().chain(by_class).copied().collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Policies {
    /// Compiles all access rules, grants and policies.
    ///
    /// # Errors
    /// Every finding at once; paths are those of `resources`.
    pub fn compile(resources: &Resources, now_ms: i64) -> Result<Self, Vec<Diagnostic>> {
        // Parsing and analysis recurse over policy texts; a thread with a stack of its own
        // makes the depth they may have independent of the caller.
        let failed = |why: &str| vec![Diagnostic::new("policies", "policy_unsupported", why)];
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("policy-compile".to_owned())
                .stack_size(COMPILE_STACK)
                .spawn_scoped(scope, || Self::compile_here(resources, now_ms))
                .map_err(|_| failed("no thread could be started to compile the policies"))?
                .join()
                .unwrap_or_else(|_| Err(failed("the policies could not be compiled")))
        })
    }

    fn compile_here(resources: &Resources, now_ms: i64) -> Result<Self, Vec<Diagnostic>> {
        let internal = |why: String| vec![Diagnostic::new("policies", "policy_unsupported", why)];
        let vocabulary = Vocabulary::new().map_err(internal)?;
        let mut compiler = Compiler::new(resources).map_err(internal)?;
        let (portals, mut servers) = access(resources, &mut compiler.findings);
        let mut grants = Vec::with_capacity(resources.grants.len());
        for (at, grant) in resources.grants.iter().enumerate() {
            let mut compiled = Grant::compile(grant, at, &mut compiler.findings);
            if let Some(when) = &grant.when {
                compiler.grant_condition(&mut compiled, when);
            }
            if let Some(server) = servers.get_mut(&grant.server) {
                server.grants.add(&compiled, at);
            }
            grants.push(compiled);
        }
        let mut statements = Vec::new();
        for (at, policy) in resources.policies.iter().enumerate() {
            statements.extend(compiler.policy(&policy.id, &policy.cedar, &format!("policies[{at}].cedar")));
        }
        if !compiler.findings.is_empty() {
            return Err(compiler.findings);
        }
        let mut warnings = compiler.warnings;
        warnings.extend(dead::find(resources, &statements, now_ms));
        let context_use = context_use(&portals, &servers, &grants, &statements);
        let mfa_decides = context_use.mfa_age || rules(&portals, &servers).any(Rules::use_mfa);
        let windows = rules(&portals, &servers).any(Rules::use_time);
        let mut policies = Self {
            expiries: sorted(grants.iter().filter_map(|grant| grant.expires_ms).filter(|at| *at > now_ms)),
            condition_names: statements.iter().filter_map(Statement::names).flatten().cloned().collect(),
            context_use,
            mfa_decides,
            windows,
            portals,
            servers,
            forbids: Index::default(),
            permits: Index::default(),
            keys: Keys::new(),
            vocabulary,
            warnings,
            version: version(resources),
            grants,
            statements,
        };
        policies.index();
        Ok(policies)
    }

    fn index(&mut self) {
        for (at, statement) in self.statements.iter().enumerate() {
            match statement.effect {
                Effect::Forbid => self.forbids.add(&statement.scope, at),
                Effect::Permit => self.permits.add(&statement.scope, at),
            }
        }
        let conditions = self.statements.iter().filter_map(|statement| statement.condition.as_ref());
        for condition in conditions.chain(self.grants.iter().filter_map(|grant| grant.condition.as_ref())) {
            if let Some(shape) = &condition.usage.args {
                shape.collect_keys(&mut self.keys);
            }
        }
    }
}

fn access(
    resources: &Resources,
    findings: &mut Vec<Diagnostic>,
) -> (HashMap<String, PortalAccess>, HashMap<ServerId, ServerAccess>) {
    let mut portals = HashMap::new();
    for (at, portal) in resources.portals.iter().enumerate() {
        let (owner, path) = (format!("portal {}", portal.id), format!("portals[{at}]"));
        let rules = Rules::compile(&portal.policies, &owner, &path, findings).with_read_only(
            &portal.read_only,
            &owner,
            &path,
            findings,
        );
        let servers = portal.servers.as_ref().map(|list| list.iter().cloned().collect());
        portals.insert(portal.id.as_str().to_owned(), PortalAccess { rules, servers });
    }
    if portals.is_empty() {
        portals.insert("default".to_owned(), PortalAccess { rules: Rules::built_in_portal(), servers: None });
    }
    let mut servers = HashMap::new();
    for (at, server) in resources.servers.iter().enumerate() {
        let owner = format!("server {}", server.server_id);
        let path = format!("servers[{at}]");
        let rules = Rules::compile(&server.policies, &owner, &path, findings).with_read_only(
            &server.read_only,
            &owner,
            &path,
            findings,
        );
        if server.visibility == Visibility::Public {
            for rule in rules.asking() {
                let message = "`visibility: public` lets everybody in without asking, so nobody would ever be asked";
                findings.push(
                    Diagnostic::new(&*rule.path, "invalid_requirement", message)
                        .suggest("take `visibility: public` away, or ask in the portal or the grant"),
                );
            }
        }
        let access = ServerAccess {
            rules,
            public: server.visibility == Visibility::Public,
            public_rule: format!("{owner}: visibility public").into(),
            grants: GrantIndex::default(),
        };
        servers.insert(server.server_id.clone(), access);
    }
    (portals, servers)
}

fn rules<'a>(
    portals: &'a HashMap<String, PortalAccess>,
    servers: &'a HashMap<ServerId, ServerAccess>,
) -> impl Iterator<Item = &'a Rules> {
    portals.values().map(|portal| &portal.rules).chain(servers.values().map(|server| &server.rules))
}

fn context_use(
    portals: &HashMap<String, PortalAccess>,
    servers: &HashMap<ServerId, ServerAccess>,
    grants: &[Grant],
    statements: &[Statement],
) -> ContextUse {
    let mut used = ContextUse {
        ip: rules(portals, servers).any(Rules::use_ip),
        session: rules(portals, servers).any(Rules::use_session)
            || grants.iter().any(|grant| grant.requirement.is_some()),
        place: rules(portals, servers).any(Rules::use_place),
        ..ContextUse::default()
    };
    let conditions = statements.iter().filter_map(|statement| statement.condition.as_ref());
    for condition in conditions.chain(grants.iter().filter_map(|grant| grant.condition.as_ref())) {
        let context = condition.usage.context;
        used.ip |= context.has(Circumstance::Ip);
        used.client |= context.has(Circumstance::Client);
        used.client_version |= context.has(Circumstance::ClientVersion);
        used.era |= context.has(Circumstance::Era);
        used.session |= context.iter().any(Circumstance::of_session);
        used.place |= context.has(Circumstance::Device) || context.has(Circumstance::Country);
        used.mfa_age |= context.has(Circumstance::MfaAge);
    }
    used
}

/// FNV-1a over the canonical text of everything that decides. Not a cryptographic hash:
/// it tells versions apart in audit events, nothing is secured with it.
fn version(resources: &Resources) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |text: String| {
        for byte in text.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    let text = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    for portal in &resources.portals {
        feed(portal.id.to_string());
        feed(text(serde_json::to_string(&portal.servers)));
        feed(text(serde_json::to_string(&portal.policies)));
        feed(text(serde_json::to_string(&portal.read_only)));
    }
    for server in &resources.servers {
        feed(server.server_id.to_string());
        feed(text(serde_json::to_string(&server.visibility)));
        feed(text(serde_json::to_string(&server.policies)));
        feed(text(serde_json::to_string(&server.read_only)));
        feed(text(serde_json::to_string(&server.classes)));
    }
    feed(text(serde_json::to_string(&resources.policies)));
    feed(text(serde_json::to_string(&resources.grants)));
    hash
}

/// The index of a class in [`GrantIndex`] and its bit in a condition's classes.
const _: () = assert!(ToolClass::Read as u8 == 0 && ToolClass::Unknown as u8 == 3);

fn sorted(times: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut times: Vec<i64> = times.collect();
    times.sort_unstable();
    times.dedup();
    times
}
