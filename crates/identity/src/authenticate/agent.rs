//! Agents (A27): who they are is in the configuration, that they may go on in the grant and
//! the person who answers for them.

use std::sync::Arc;

use bartizan_config::agents::Agent;
use bartizan_model::{Principal, PrincipalKind};

use super::Inner;
use crate::error::{AuthError, AuthErrorKind};

/// The agents of one configuration; another list is another configuration.
#[derive(Clone)]
pub(super) struct AgentList(Arc<Vec<Agent>>);

impl AgentList {
    pub(super) fn get(&self, id: &str) -> Option<&Agent> {
        self.0.iter().find(|agent| agent.id == id)
    }
}

impl Inner {
    fn agent_list(&self) -> Option<AgentList> {
        self.agents.get().map(|agents| AgentList(agents()))
    }

    /// Whether what was read by this configuration holds still. Nothing was for people.
    pub(super) fn is_current(&self, read_by: Option<&AgentList>) -> bool {
        let Some(read_by) = read_by else { return true };
        self.agent_list().is_some_and(|now| Arc::ptr_eq(&now.0, &read_by.0))
    }

    /// The principal of an agent, if it is configured and this person is its owner still.
    /// In a group it is only together with its owner.
    pub(super) fn agent(&self, id: &str, owner: &Principal) -> Result<(Principal, AgentList), AuthError> {
        let list = self.agent_list().ok_or(AuthErrorKind::Unknown)?;
        let agent = list.get(id).filter(|agent| *agent.owner == *owner.id).ok_or(AuthErrorKind::Expired)?;
        let groups: Vec<Arc<str>> =
            owner.groups.iter().filter(|group| agent.groups.iter().any(|own| **own == ***group)).cloned().collect();
        let principal = Principal::new(PrincipalKind::Agent, agent.id.as_str(), groups);
        Ok((principal, list))
    }
}
