//! `client_credentials` (RFC 6749 section 4.4): agents with a secret or keys of their own (A27).

use bartizan_config::agents::AgentAuth;
use bartizan_oauth::params::Params;
use bartizan_oauth::registration::ClientKeys;
use bartizan_oauth::{OAuthCode, OAuthError};

use super::super::authorize::request::target;
use super::super::client::Client;
use super::super::client_auth::{Presented, invalid_client};
use super::super::secrets::Pair;
use super::super::token::From;
use super::super::{ClientKind, Inner};
use crate::secret;

impl Inner {
    pub(in super::super) async fn client_credentials(
        &self,
        params: &Params,
        client: &Presented,
        from: &mut From,
    ) -> Result<Pair, OAuthError> {
        self.trust()?;
        let agent = self.agent(client.id()).ok_or_else(invalid_client)?;
        let (secret, keys) = match &agent.auth {
            AgentAuth::ClientSecret(text) => (Some(secret::hash(text)), None),
            AgentAuth::Jwks(text) => (None, Some(ClientKeys::Inline(text.clone()))),
            AgentAuth::Workload(_) => return Err(invalid_client()),
        };
        let known = Client {
            id: agent.id.clone(),
            name: agent.id.clone(),
            kind: ClientKind::Preregistered,
            host: None,
            redirect_uris: Vec::new(),
            secret,
            keys,
        };
        self.check_proof(&known, client, from.peer).await?;
        let resource = target(params.get("resource"), &self.deps.issuer, &*self.deps.resources).ok_or_else(|| {
            OAuthError::new(OAuthCode::InvalidTarget, "resource is not an MCP endpoint of this server")
        })?;
        let scopes = self.wanted_by_agent(params.get("scope"))?;
        self.issue_to_agent(&agent, resource, scopes, from, "client_credentials").await
    }
}
