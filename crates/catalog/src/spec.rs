//! Servers and portals as compiled from resources.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bartizan_config::resources::{self, AuthType, Prefix, Resources, ServerStatus, Visibility};
use bartizan_model::{PortalId, Principal, Secret, ServerId, ToolClass};

use crate::budget::{ByTool, Says};
use crate::check::strategy::name_of;
use crate::credential::Credential;
use crate::curation::Curation;
use crate::digest::{secret_hex, sha256_hex};
use crate::lists::Kind;
use crate::shelf::Shelf;

/// How a server is reached.
pub enum Transport {
    /// A remote server. The ending of the URL chooses the transport (P8).
    Http {
        /// `http` or `https`, without user information and fragment.
        url: Arc<str>,
    },
    /// A local process.
    Stdio {
        /// Program and arguments, passed as they are.
        argv: Vec<String>,
        /// Variables for the child; values may be secrets.
        env: Vec<(String, Secret)>,
        /// Names of variables copied from bartizan's own environment.
        env_allow: Vec<String>,
        /// Working folder.
        cwd: Option<PathBuf>,
        /// One process for all principals.
        shared: bool,
    },
}

/// One server of a snapshot.
pub struct ServerSpec {
    /// The administrator's id.
    pub id: ServerId,
    /// Name for people; the id when none was given.
    pub name: Arc<str>,
    /// How it is reached.
    pub transport: Transport,
    /// What bartizan shows to it.
    pub credential: Credential,
    /// Whether signing a client in leads through this server's login (P18).
    pub connect_on_sign_in: bool,
    /// `public`: also for anonymous callers.
    pub visibility: Visibility,
    /// Offered, off, or stopped by the kill switch.
    pub status: ServerStatus,
    /// Changes whenever an upstream session must not be used any longer: it covers
    /// address, command and credentials. The part before `-` is the same on every
    /// replica and after restarts; the part behind it depends on secrets and on the process.
    pub version: Arc<str>,
    /// A local server whose package is not pinned (accepted by the operator or in `dev`).
    pub unpinned: bool,
    /// A local server without sandbox (accepted by the operator or in `dev`).
    pub unsandboxed: bool,
    /// Place in the file, which is the order of creation and of lists.
    pub position: usize,
    /// What becomes of definitions that are new or have changed (P44).
    pub judging: Judging,
    /// E-mail address of whoever answers for it.
    pub owner: Option<Box<str>>,
    classes: HashMap<Box<str>, ToolClass>,
    curation: Curation,
    pub(crate) budget: Says,
    pub(crate) budgets: ByTool,
}

/// What becomes of definitions that are new or have changed (P44).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Judging {
    /// Of what the server offers at first.
    pub trust: resources::Trust,
    /// Of what nobody approved.
    pub on_new: resources::OnNew,
    /// Of what is approved and says something else now.
    pub on_change: resources::OnChange,
}

impl ServerSpec {
    /// Compiles a server that passed all checks.
    pub(crate) fn new(server: &resources::Server, credential: Credential, position: usize) -> Self {
        let transport = match (&server.hostname, &server.command) {
            (Some(url), _) => Transport::Http { url: url.as_str().into() },
            (None, Some(command)) => Transport::Stdio {
                argv: command.argv.clone(),
                env: command.env.iter().map(|(name, value)| (name.clone(), Secret::new(value.clone()))).collect(),
                env_allow: command.env_allow.clone(),
                cwd: command.cwd.as_ref().map(PathBuf::from),
                shared: command.shared,
            },
            // Refused by the checks; an empty command starts nothing.
            (None, None) => {
                Transport::Stdio { argv: Vec::new(), env: Vec::new(), env_allow: Vec::new(), cwd: None, shared: false }
            }
        };
        let mut classes = HashMap::new();
        let lists = [
            (&server.classes.read, ToolClass::Read),
            (&server.classes.write, ToolClass::Write),
            (&server.classes.destructive, ToolClass::Destructive),
        ];
        for (names, class) in lists {
            classes.extend(names.iter().map(|name| (Box::from(name.as_str()), class)));
        }
        let command = server.command.as_ref();
        Self {
            id: server.server_id.clone(),
            name: if server.name.is_empty() { server.server_id.as_str().into() } else { server.name.as_str().into() },
            version: version(server, &transport, &credential).into(),
            transport,
            credential,
            connect_on_sign_in: server.connect_on_sign_in,
            visibility: server.visibility,
            status: server.status,
            // Neither integrity checks nor the sandbox exist yet; see `check::hosting`.
            unpinned: command.is_some(),
            unsandboxed: command.is_some(),
            position,
            judging: Judging { trust: server.trust, on_new: server.on_new, on_change: server.on_change },
            owner: server.owner.as_deref().map(Box::from),
            classes,
            curation: Curation::new(server),
            budget: Says { tokens: server.max_result_tokens, mode: server.long_results },
            budgets: ByTool::new(&server.updated_tools),
        }
    }

    /// The reviewed class of a tool; `unknown` when nobody reviewed it.
    pub fn class_of(&self, tool: &str) -> ToolClass {
        self.classes.get(tool).copied().unwrap_or_default()
    }

    /// Whether a tool is switched on (P41).
    pub fn tool_enabled(&self, name: &str) -> bool {
        self.curation.tools.enabled(name)
    }

    /// Whether a prompt is switched on (P41).
    pub fn prompt_enabled(&self, name: &str) -> bool {
        self.curation.prompts.enabled(name)
    }

    /// Whether a resource (by URI) or template (by its text) is switched on (P41). A URI
    /// that is not named itself follows the templates it matches.
    pub fn resource_enabled(&self, uri: &str) -> bool {
        self.curation.resource_enabled(uri)
    }

    /// The name that replaces a tool's own.
    pub fn tool_alias(&self, name: &str) -> Option<&str> {
        self.curation.tools.alias(name)
    }

    /// The name that replaces a prompt's own.
    pub fn prompt_alias(&self, name: &str) -> Option<&str> {
        self.curation.prompts.alias(name)
    }

    /// Whether an entry is switched on, by original name, URI or template.
    fn enabled(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Tools => self.tool_enabled(name),
            Kind::Prompts => self.prompt_enabled(name),
            Kind::Resources | Kind::Templates => self.resource_enabled(name),
        }
    }

    fn alias(&self, kind: Kind, name: &str) -> Option<&str> {
        match kind {
            Kind::Tools => self.tool_alias(name),
            Kind::Prompts => self.prompt_alias(name),
            Kind::Resources | Kind::Templates => None,
        }
    }

    fn description(&self, kind: Kind, name: &str) -> Option<&Arc<str>> {
        match kind {
            Kind::Tools => self.curation.tools.description(name),
            Kind::Prompts => self.curation.prompts.description(name),
            Kind::Resources | Kind::Templates => None,
        }
    }

    /// Whether an entry is on at an endpoint for anybody at all: it is on at the server, and the
    /// portal shows it (P2, P41). The server's own endpoint is `None`.
    pub fn on_at(&self, portal: Option<&PortalSpec>, kind: Kind, name: &str) -> bool {
        self.enabled(kind, name) && portal.is_none_or(|portal| portal.shelf.shows(kind, &self.id, name, None))
    }

    /// The same for one principal, which counts where bundles are bound to groups. Whether it may
    /// be used is still to be decided by the policies.
    pub fn on_for(&self, portal: Option<&PortalSpec>, kind: Kind, name: &str, principal: &Principal) -> bool {
        let shown = |portal: &PortalSpec| portal.shelf.shows(kind, &self.id, name, Some(principal));
        self.enabled(kind, name) && portal.is_none_or(shown)
    }

    /// Whether an endpoint shows resources of this server to somebody at all (P2).
    pub fn resources_for(&self, portal: Option<&PortalSpec>, principal: &Principal) -> bool {
        // Bundles take resources of a server all or none.
        portal.is_none_or(|portal| portal.shelf.shows(Kind::Resources, &self.id, "", Some(principal)))
    }

    /// The name that replaces an entry's own at a portal: the portal's alias, or else the
    /// server's (P42).
    pub fn alias_at<'a>(&'a self, portal: &'a PortalSpec, kind: Kind, name: &str) -> Option<&'a str> {
        portal.shelf.alias(kind, &self.id, name).or_else(|| self.alias(kind, name))
    }

    /// The description that replaces an entry's own at a portal, in the same order (P42).
    pub(crate) fn description_at<'a>(&'a self, portal: &'a PortalSpec, kind: Kind, name: &str) -> Option<&'a Arc<str>> {
        portal.shelf.description(kind, &self.id, name).or_else(|| self.description(kind, name))
    }
}

/// Secrets stay out of debug output.
impl fmt::Debug for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSpec").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}

fn version(server: &resources::Server, transport: &Transport, credential: &Credential) -> String {
    let mut open: Vec<&[u8]> = Vec::new();
    let mut secret = credential.parts();
    // As before there were more kinds, so that versions of unchanged servers stay.
    let kind: &[u8] = match server.auth_type {
        AuthType::Unauthenticated => &[0],
        AuthType::Bearer => &[1],
        AuthType::Oauth => &[2],
        other => name_of(other).as_bytes(),
    };
    let config = open_config(server);
    open.extend([server.server_id.as_str().as_bytes(), b"\0", kind]);
    match transport {
        Transport::Http { url } => open.extend([b"http\0".as_slice(), url.as_bytes()]),
        Transport::Stdio { argv, env, env_allow, cwd, shared } => {
            open.push(if *shared { b"shared\0" } else { b"stdio\0" });
            for text in argv.iter().chain(env_allow) {
                open.extend([text.as_bytes(), b"\0".as_slice()]);
            }
            open.push(cwd.as_ref().and_then(|path| path.to_str()).unwrap_or_default().as_bytes());
            for (name, value) in env {
                open.extend([b"\0".as_slice(), name.as_bytes()]);
                secret.extend([name.as_bytes(), value.expose().as_bytes()]);
            }
        }
    }
    open.extend(config.iter().flat_map(|text| [b"\0".as_slice(), text.as_bytes()]));
    if let Some(provider) = credential.provider() {
        for text in [&provider.id, &provider.issuer, &provider.client_id] {
            open.extend([b"\0provider\0".as_slice(), text.as_bytes()]);
        }
    }
    let stable = sha256_hex(&open, 8);
    if secret.is_empty() {
        return stable;
    }
    match secret_hex(&secret, 4) {
        Some(keyed) => format!("{stable}-{keyed}"),
        None => stable,
    }
}

/// What `auth_config` says, without its secrets.
fn open_config(server: &resources::Server) -> Option<String> {
    let mut config = server.auth_config.clone()?;
    config.secrets_mut().for_each(|(_, text)| text.clear());
    let text = serde_json::to_string(&config).unwrap_or_default();
    Some(format!("{text} {}", server.on_behalf))
}

/// One portal of a snapshot.
#[derive(Debug)]
pub struct PortalSpec {
    /// Id.
    pub id: PortalId,
    /// Name for people; the id when none was given.
    pub name: Arc<str>,
    /// Description for people.
    pub description: Arc<str>,
    /// Own host name, lower case.
    pub hostname: Option<Arc<str>>,
    /// Its servers in the order of lists.
    pub servers: Vec<Arc<ServerSpec>>,
    /// List tools that need a grant (G3).
    pub show_ungranted: bool,
    /// Whether exposed names carry the server id (P12).
    pub prefix: Prefix,
    /// Longest exposed name in characters (P13).
    pub max_tool_name: usize,
    pub(crate) budget: Says,
    shelf: Shelf,
    members: HashSet<ServerId>,
}

impl PortalSpec {
    pub(crate) fn new(portal: &resources::Portal, servers: Vec<Arc<ServerSpec>>, resources: &Resources) -> Self {
        Self {
            id: portal.id.clone(),
            name: if portal.name.is_empty() { portal.id.as_str().into() } else { portal.name.as_str().into() },
            description: portal.description.as_str().into(),
            hostname: portal.hostname.as_ref().map(|host| host.to_ascii_lowercase().into()),
            show_ungranted: portal.show_ungranted,
            prefix: portal.prefix,
            max_tool_name: portal.max_tool_name,
            budget: Says { tokens: portal.max_result_tokens, mode: portal.long_results },
            shelf: Shelf::new(portal, resources),
            members: servers.iter().map(|server| server.id.clone()).collect(),
            servers,
        }
    }

    /// Whether a server is behind this portal.
    pub fn has(&self, server: &ServerId) -> bool {
        self.members.contains(server)
    }

    /// Whether the portal has anything of a server for somebody, as far as its bundles go (P2).
    pub fn opens(&self, server: &ServerId, principal: &Principal) -> bool {
        self.has(server) && self.shelf.opens(server, principal)
    }
}
