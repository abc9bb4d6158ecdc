//! `bartizan approval …` (W12): what waits for an answer, and answering it. Whoever can run this
//! has the key and the database already; the answer is given in a role that the operator names,
//! and says so in the record.

use std::path::Path;

use bartizan_approvals::{Answer, Approvals, ApprovalsDeps, DecideError, Decider, Record, visible};
use bartizan_audit::Audit;
use bartizan_config::settings::AuditMode;
use bartizan_model::Role;
use bartizan_vault::{KeyRing, Vault};
use serde_json::{Value, json};

use crate::cli::{ApprovalCommand, RoleArg};
use crate::installation::{Places, clock, make_private_folder, read_without_secrets};
use crate::output::{Done, Failure, OK, Out, table};
use crate::time::rfc3339;

/// Questions that are listed.
const MOST: usize = 200;

pub(crate) async fn run(command: &ApprovalCommand, out: Out) -> Done {
    match command {
        ApprovalCommand::List { config } => {
            let desk = Desk::open(&config.config).await?;
            // An owner may answer everything that anybody but the person may.
            let found = desk.approvals.to_decide(&operator(Role::Owner), MOST).await;
            desk.audit.close().await;
            let found = found.map_err(failure)?;
            let values: Vec<Value> = found.iter().map(line).collect();
            out.either(&json!({"approvals": values}), || text(&found));
            Ok(OK)
        }
        ApprovalCommand::Show { config, id } => {
            let desk = Desk::open(&config.config).await?;
            let found = desk.approvals.get(id).await;
            desk.audit.close().await;
            let record = found.map_err(failure)?.ok_or_else(|| failure(DecideError::Unknown))?;
            out.either(&value(&record), || {
                format!("{}\nState: {}\nWaits for: {}\n", record.details.text(), record.row.state, record.waits_for())
            });
            Ok(OK)
        }
        ApprovalCommand::Approve { config, id, role, seconds, reason } => {
            let desk = Desk::open(&config.config).await?;
            let record = desk.approvals.get(id).await.map_err(failure)?.ok_or_else(|| failure(DecideError::Unknown))?;
            let answer = match (record.is_entry(), seconds) {
                (false, None) => Answer::Call,
                (false, Some(seconds)) => Answer::Tool(*seconds),
                (true, Some(seconds)) => Answer::Entry(*seconds),
                (true, None) => {
                    desk.audit.close().await;
                    return Err(Failure::refused("bad_argument", "say for how long: --seconds N"));
                }
            };
            desk.answer(id, *role, &answer, reason.as_deref(), out).await
        }
        ApprovalCommand::Reject { config, id, role, reason } => {
            let desk = Desk::open(&config.config).await?;
            desk.answer(id, *role, &Answer::Reject, reason.as_deref(), out).await
        }
    }
}

fn operator(role: Role) -> Decider {
    Decider::Operator { uid: rustix::process::getuid().as_raw(), role }
}

struct Desk {
    approvals: Approvals,
    audit: Audit,
}

impl Desk {
    async fn open(config: &Path) -> Result<Self, Failure> {
        let loaded = read_without_secrets(config)?;
        let places = Places::of(&loaded)?;
        make_private_folder(&places.data_dir)?;
        let store = places.open().await?;
        let bad_key = |text: String| Failure::cannot_run("bad_key", text);
        let source = loaded.file.key.as_ref().ok_or_else(|| bad_key("`key` is not set".to_owned()))?;
        let ring = KeyRing::from_source(source).map_err(|error| bad_key(error.to_string()))?;
        let vault = Vault::new(ring).map_err(|error| bad_key(error.to_string()))?;
        let audit = Audit::open(&places.audit(), AuditMode::Strict, Some(store.clone()), clock())
            .map_err(|error| Failure::cannot_run("audit_unavailable", error.to_string()))?;
        let deps = ApprovalsDeps {
            store,
            vault,
            audit: audit.clone(),
            clock: clock(),
            public_url: loaded.file.public_url.clone(),
        };
        Ok(Self { approvals: Approvals::new(deps), audit })
    }

    async fn answer(&self, id: &str, role: RoleArg, answer: &Answer, reason: Option<&str>, out: Out) -> Done {
        let decided = self.approvals.decide(&operator(role.into()), id, answer, reason, None).await;
        self.audit.close().await;
        let record = decided.map_err(failure)?;
        out.either(&value(&record), || {
            let until = record.row.until_ms.map_or_else(String::new, |at| format!(" until {}", rfc3339(at)));
            format!("{} is {}{until}\n", record.row.id, record.row.state)
        });
        Ok(OK)
    }
}

fn failure(error: DecideError) -> Failure {
    let text = error.to_string();
    match error {
        DecideError::Unknown => Failure::refused("unknown_approval", text),
        DecideError::Own | DecideError::Link => Failure::refused("not_allowed", text),
        DecideError::Closed(_) => Failure::refused("not_open", text),
        DecideError::Bad(_) => Failure::refused("bad_argument", text),
        DecideError::Unavailable(why) => Failure::cannot_run("bad_store", why),
    }
}

fn line(record: &Record) -> Value {
    json!({
        "id": record.row.id, "kind": record.row.kind, "requester": record.row.requester,
        "subject": record.row.subject, "state": record.row.state, "waits_for": record.waits_for(),
        "asked": rfc3339(record.row.asked_ms), "expires": rfc3339(record.row.expires_ms),
    })
}

fn value(record: &Record) -> Value {
    let mut value = line(record);
    if let Some(value) = value.as_object_mut() {
        let row = &record.row;
        value.insert("details".to_owned(), serde_json::to_value(&record.details).unwrap_or_default());
        value.insert("decided_by".to_owned(), row.decided_by.clone().into());
        value.insert("reason".to_owned(), row.reason.clone().into());
        value.insert("until".to_owned(), row.until_ms.map(rfc3339).into());
    }
    value
}

fn text(found: &[Record]) -> String {
    // What people and servers wrote was made visible: a terminal takes no orders from it.
    let row = |record: &Record| {
        vec![
            record.row.id.clone(),
            rfc3339(record.row.asked_ms),
            visible(&record.details.headline()),
            record.waits_for(),
        ]
    };
    table(&["id", "asked", "what", "waits for"], &found.iter().map(row).collect::<Vec<_>>())
}
