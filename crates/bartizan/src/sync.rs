//! Asks servers every two hours what they offer (P53).

use std::sync::Arc;
use std::time::Duration;

use bartizan_model::ServerId;
use bartizan_registry::RegistryError;

use crate::node::Node;

/// How often due servers are looked for.
const LOOK: Duration = Duration::from_secs(60);

/// Goes on until the process ends.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        let snapshot = node.live.load();
        for spec in &snapshot.order {
            if let Err(error) = one(&node, &spec.id, false).await {
                tracing::warn!(%error, server = %spec.id, "a server cannot be asked what it offers");
            }
        }
    }
}

/// Asks one server if it is due, or now. What came of it, unless it was not this process's turn.
pub(crate) async fn one(node: &Node, server: &ServerId, now: bool) -> Result<Option<String>, RegistryError> {
    let Some(turn) = node.registry.take_turn(server, node.gate.node(), now).await? else { return Ok(None) };
    let outcome = match node.gate.sync(server).await {
        Ok(_) => "ok",
        Err(code) => code.as_str(),
    };
    node.registry.end_turn(turn, outcome).await?;
    Ok(Some(outcome.to_owned()))
}
