//! Whoever gets tokens without a browser: agents (A27), and people for whom their company's
//! provider vouches (A15).

use std::sync::Arc;

use bartizan_config::agents::{Agent, AgentAuth};
use bartizan_config::resources::IdentityProvider;
use bartizan_egress::Egress;
use bartizan_oauth::server_metadata;

use super::{AuthorizationServer, Inner};
use crate::login::Providers;
use crate::login::provider::Directory;

/// RFC 7523 section 2.1, with an assertion of the profile ID-JAG only.
pub(super) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// RFC 6749 section 4.4.
pub(super) const CLIENT_CREDENTIALS: &str = "client_credentials";
/// RFC 8693.
pub(super) const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693 section 3.
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The agents, with their secrets resolved. Asked at every use, so that a change of
/// configuration is effective at once. The list is another one after each change.
pub type Agents = Arc<dyn Fn() -> Arc<Vec<Agent>> + Send + Sync>;

/// Who may get tokens without a browser.
pub struct Machines {
    /// The way to the keys of configured issuers.
    pub egress: Egress,
    /// Identity providers; those with `id_jag` vouch for people.
    pub providers: Providers,
    /// Agents.
    pub agents: Agents,
}

pub(super) struct Trust {
    machines: Machines,
    /// Descriptions and keys of the issuers.
    pub(super) directory: Directory,
}

impl AuthorizationServer {
    /// Offers the grants for [`Machines`]; without this call there are none. Once, before
    /// anything is served.
    #[must_use]
    pub fn with_machines(self, machines: Machines) -> Self {
        let directory = Directory::new(machines.egress.clone(), Arc::clone(&self.inner.deps.clock));
        let _ = self.inner.trust.set(Trust { machines, directory });
        self
    }
}

impl Trust {
    /// All providers, and how many there are matters: with several each speaks for its domains.
    pub(super) fn providers(&self) -> Arc<Vec<IdentityProvider>> {
        (self.machines.providers)()
    }

    fn agents(&self) -> Arc<Vec<Agent>> {
        (self.machines.agents)()
    }
}

impl Inner {
    /// The agent with this id. Also one whose time is over.
    pub(super) fn agent(&self, id: &str) -> Option<Agent> {
        self.trust.get()?.agents().iter().find(|agent| agent.id == id).cloned()
    }

    /// What the metadata documents say.
    pub(super) fn offered(&self) -> server_metadata::Machines {
        let Some(trust) = self.trust.get() else { return server_metadata::Machines::default() };
        let agents = trust.agents();
        let is_workload = |agent: &&Agent| matches!(agent.auth, AgentAuth::Workload(_));
        server_metadata::Machines {
            id_jag: trust.providers().iter().any(|provider| provider.id_jag),
            client_credentials: agents.iter().any(|agent| !is_workload(&agent)),
            token_exchange: agents.iter().any(|agent| is_workload(&agent)),
        }
    }
}
