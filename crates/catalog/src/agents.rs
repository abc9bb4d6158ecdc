//! Limits of agents (A27), written like every other limit.

use bartizan_config::resources::{LimitKey, RateLimit, Resources};

/// All limits: those that are written down, and those of each agent.
pub(crate) fn limits(resources: &Resources) -> Vec<RateLimit> {
    let own = resources.agents.iter().filter_map(|agent| {
        let limits = agent.limits.as_ref()?;
        Some(RateLimit {
            id: format!("agent {}", agent.id),
            per: vec![LimitKey::User],
            server: None,
            tools: Vec::new(),
            agents: vec![agent.id.clone()],
            per_minute: limits.per_minute,
            burst: None,
            concurrent: limits.concurrent,
            queue_ms: None,
            bytes_per_minute: limits.bytes_per_minute,
        })
    });
    resources.rate_limits.iter().cloned().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a27_an_agent_has_its_own_limit() {
        let resources: Resources = serde_json::from_str(
            r#"{"agents": [{"id": "ci", "owner": "a@b.example", "auth": {"client_secret": "0123456789abcdef"},
                "limits": {"per_minute": 3}}, {"id": "x", "owner": "a@b.example",
                "auth": {"client_secret": "0123456789abcdef"}}]}"#,
        )
        .unwrap();
        let limits = limits(&resources);
        assert_eq!(limits.len(), 1);
        assert_eq!((limits[0].agents.as_slice(), limits[0].per_minute), (&["ci".to_owned()][..], Some(3)));
    }
}
