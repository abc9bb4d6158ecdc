//! Notifications that belong to no call.

use std::sync::Arc;

use bartizan_wire::Message;

use crate::types::{ListKind, ServerNote};

/// Where they go.
pub(crate) type NoteSink = Arc<dyn Fn(ServerNote) + Send + Sync>;

/// The note of a notification that is never part of a call's own stream.
pub(crate) fn of(message: &Message) -> Option<ServerNote> {
    match message.method()? {
        "notifications/tools/list_changed" => Some(ServerNote::ListChanged(ListKind::Tools)),
        "notifications/prompts/list_changed" => Some(ServerNote::ListChanged(ListKind::Prompts)),
        "notifications/resources/list_changed" => Some(ServerNote::ListChanged(ListKind::Resources)),
        "notifications/resources/updated" => {
            let params = message.params()?;
            let uri = params.get("uri")?.as_string()?.into_owned();
            Some(ServerNote::ResourceUpdated { uri, params: params.detached() })
        }
        _ => None,
    }
}

/// Any other notification outside of calls; those that only make sense within one are dropped.
pub(crate) fn other(message: &Message) -> Option<ServerNote> {
    match message.method()? {
        "notifications/progress" | "notifications/cancelled" | "notifications/subscriptions/acknowledged" => None,
        method => Some(ServerNote::Message {
            method: method.to_owned(),
            params: message.params().map(|params| params.detached()),
        }),
    }
}
