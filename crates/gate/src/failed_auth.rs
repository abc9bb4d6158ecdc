//! Failed authentications: no call, so no stage of one, but on the same record.

use bartizan_model::event::AuditEvent;

use crate::gate::Gate;

impl Gate {
    /// Puts an authentication that failed in front of the gate on record. The caller
    /// bounds how many of these there are.
    pub async fn record_failed_authentication(&self, mut event: AuditEvent) {
        event.policy_version = self.0.snapshot.load().version;
        let id = event.id;
        if let Err(error) = self.0.audit.append(event).await {
            tracing::error!(event_id = %id, %error, "a failed authentication could not be recorded");
        }
    }
}
