//! `bartizan kill …`: stopping people, clients, servers, tools or everything (G24).

use std::path::Path;
use std::time::Duration;

use bartizan_audit::Audit;
use bartizan_config::settings::AuditMode;
use bartizan_gate::{KillError, KillScope, Kills, Lifted, NewKill};
use bartizan_model::event::{AuditEvent, EventKind, Who};
use bartizan_model::{EventId, PrincipalKind};
use bartizan_store::Store;
use bartizan_store::repo::kill_switch::KillSwitch;
use serde_json::{Value, json};

use super::user::store_of;
use crate::cli::KillCommand;
use crate::duration;
use crate::installation::{Places, clock, read_without_secrets, store_failure};
use crate::output::{Done, Failure, OK, Out, table};
use crate::time::rfc3339;

/// Most switches listed at once.
const MOST: u32 = 1_000;

pub(crate) async fn run(command: &KillCommand, out: Out) -> Done {
    match command {
        KillCommand::Set { config, scope, subject, reason, time } => {
            let wanted = wanted(scope, subject.as_deref(), reason, time.as_deref())?;
            set(&config.config, wanted, out).await
        }
        KillCommand::List { config, limit } => list(&config.config, *limit, out).await,
        KillCommand::Lift { config, id, reason } => lift(&config.config, id, reason, out).await,
    }
}

fn wanted(scope: &str, subject: Option<&str>, reason: &str, time: Option<&str>) -> Result<NewKill, Failure> {
    let bad = |text: String| Failure::cannot_run("bad_argument", text);
    let Some(kind) = KillScope::parse(scope) else {
        let words: Vec<_> = KillScope::ALL.into_iter().map(KillScope::as_str).collect();
        return Err(bad(format!("there is no kind `{scope}`; there are {}", words.join(", "))));
    };
    let time = time.map(duration::parse).transpose().map_err(bad)?;
    let ends = |time: Duration| clock().now_ms().saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
    Ok(NewKill {
        scope: kind,
        subject: subject.unwrap_or_default().to_owned(),
        reason: reason.to_owned(),
        until_ms: time.map(ends),
    })
}

/// Where switches are set: nothing is on record that was not done, and what was done is.
struct Desk {
    kills: Kills,
    store: Store,
    audit: Audit,
    /// The operating system let this user at the data; bartizan knows no more of them.
    by: String,
}

fn by() -> String {
    format!("os-user:{}", rustix::process::getuid().as_raw())
}

impl Desk {
    async fn open(config: &Path) -> Result<Self, Failure> {
        let (store, places) = store_of(config).await?;
        let audit = Audit::open(&places.audit(), AuditMode::Strict, Some(store.clone()), clock())
            .map_err(|error| Failure::cannot_run("audit_unavailable", error.to_string()))?;
        let kills = Kills::new(Some(store.clone()), clock());
        Ok(Self { kills, store, audit, by: by() })
    }

    async fn record(&self, method: &str, switch: &KillSwitch, reason: &str) -> Result<(), Failure> {
        let now = clock().now_ms();
        let who = Who { principal: "service:bartizan-cli".to_owned(), ..Who::default() };
        let mut event = AuditEvent::new(EventId::new(now), now, EventKind::Admin, PrincipalKind::Service, who, method);
        event.target = Some(what(switch));
        event.note = Some(format!("{} by {}: {reason}", switch.id, self.by));
        let kept = self.audit.append_durable(event).await;
        self.audit.close().await;
        kept.map(drop).map_err(|error| {
            Failure::cannot_run("audit_unavailable", format!("{method} was done and is not on record: {error}"))
        })
    }
}

/// `user alice@example.com`, `everything`.
fn what(switch: &KillSwitch) -> String {
    format!("{} {}", switch.scope, switch.subject).trim_end().to_owned()
}

fn failure(error: KillError) -> Failure {
    match error {
        KillError::Store(error) => store_failure(error),
        KillError::Invalid(_) => Failure::cannot_run("bad_argument", error.to_string()),
        KillError::Unknown => Failure::refused("unknown_kill_switch", error.to_string()),
        KillError::SamePerson => Failure::refused("second_person_needed", error.to_string()),
        KillError::TooMany => Failure::refused("too_many_kill_switches", error.to_string()),
    }
}

async fn set(config: &Path, wanted: NewKill, out: Out) -> Done {
    // Stopping must not wait for a record that cannot be written; that it could not is said.
    let (store, _) = store_of(config).await?;
    let switch = Kills::new(Some(store), clock()).set(wanted, &by()).await.map_err(failure)?;
    let desk = Desk::open(config).await.map_err(|error| {
        let text =
            format!("{} is stopped ({}), and that is not on record: {}", what(&switch), switch.id, error.message);
        Failure::cannot_run("audit_unavailable", text)
    })?;
    desk.record("kill/set", &switch, &switch.reason).await?;
    out.either(&value(&switch), || format!("{} is stopped: {}\n", what(&switch), switch.id));
    Ok(OK)
}

async fn lift(config: &Path, id: &str, reason: &str, out: Out) -> Done {
    let desk = Desk::open(config).await?;
    let lifted = desk.kills.lift(id, &desk.by, reason).await.map_err(failure)?;
    let found = bartizan_store::repo::kill_switch::get(&desk.store, id).await.map_err(store_failure)?;
    let switch = found.ok_or_else(|| failure(KillError::Unknown))?;
    let method = if lifted == Lifted::Yes { "kill/lift" } else { "kill/ask_to_lift" };
    desk.record(method, &switch, reason).await?;
    out.either(&json!({"kill_switch": value(&switch), "lifted": lifted == Lifted::Yes}), || match lifted {
        Lifted::Yes => format!("{} goes on\n", what(&switch)),
        Lifted::AskedFirst => {
            format!("noted; another operating system user must say the same:\n  bartizan kill lift {id}\n")
        }
    });
    Ok(OK)
}

async fn list(config: &Path, limit: u32, out: Out) -> Done {
    let store = Places::of(&read_without_secrets(config)?)?.open().await?;
    let kills = Kills::new(Some(store), clock());
    let all = kills.list(limit.min(MOST)).await.map_err(failure)?;
    let values: Vec<Value> = all.iter().map(value).collect();
    out.either(&json!({"kill_switches": values}), || {
        let row = |switch: &KillSwitch| {
            let (reason, by) = (switch.reason.clone(), switch.set_by.clone());
            vec![switch.id.clone(), what(switch), state(switch), rfc3339(switch.set_ms), by, reason]
        };
        let rows: Vec<_> = all.iter().map(row).collect();
        table(&["id", "what", "state", "since", "by", "reason"], &rows)
    });
    Ok(OK)
}

fn state(switch: &KillSwitch) -> String {
    let now = clock().now_ms();
    match (switch.lifted_ms, switch.until_ms) {
        (Some(at), _) => format!("lifted {}", rfc3339(at)),
        (None, Some(until)) if until <= now => format!("over {}", rfc3339(until)),
        (None, Some(until)) => format!("stopped until {}", rfc3339(until)),
        (None, None) if switch.lift_asked_by.is_some() => "stopped, one has asked to lift".to_owned(),
        (None, None) => "stopped".to_owned(),
    }
}

fn value(switch: &KillSwitch) -> Value {
    json!({
        "id": switch.id, "scope": switch.scope, "subject": switch.subject, "reason": switch.reason,
        "set_by": switch.set_by, "set": rfc3339(switch.set_ms), "until": switch.until_ms.map(rfc3339),
        "lift_asked_by": switch.lift_asked_by, "lifted_by": switch.lifted_by,
        "lifted": switch.lifted_ms.map(rfc3339), "lift_reason": switch.lift_reason,
    })
}
