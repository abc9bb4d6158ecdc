//! `bartizan alert …` (L14).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bartizan_alerts::{Alerts, AlertsDeps};
use bartizan_egress::Egress;
use bartizan_store::repo::alert::{self, Alert};
use serde_json::{Value, json};

use crate::cli::AlertCommand;
use crate::installation::{Places, clock, read_valid, read_without_secrets, store_failure};
use crate::output::{Done, Failure, OK, Out, table};
use crate::time::rfc3339;

pub(crate) async fn run(command: &AlertCommand, out: Out) -> Done {
    match command {
        AlertCommand::List { config, limit } => {
            let store = Places::of(&read_without_secrets(&config.config)?)?.open().await?;
            let alerts = alert::newest(&store, (*limit).min(1_000)).await.map_err(store_failure)?;
            let values: Vec<Value> = alerts.iter().map(value).collect();
            out.either(&json!({"alerts": values}), || text(&alerts));
            Ok(OK)
        }
        AlertCommand::Test { config, destination } => test(&config.config, destination, out).await,
    }
}

async fn test(config: &Path, destination: &str, out: Out) -> Done {
    let loaded = read_valid(config)?;
    let connect = Duration::from_millis(loaded.file.limits.connect_ms);
    let egress = Egress::new(&loaded.file.egress, connect)
        .map_err(|error| Failure::cannot_run("bad_egress", error.to_string()))?;
    let (rules, _) = Alerts::rules();
    let deps = AlertsDeps {
        store: Places::of(&loaded)?.open().await?,
        egress,
        clock: clock(),
        node: "cli".to_owned(),
        installation: loaded.file.public_url.clone().unwrap_or_default(),
    };
    let alerts = Alerts::new(deps, Arc::clone(&rules));
    if let Some(problem) = alerts.configure(&loaded.filled().alerts).first() {
        return Err(Failure::cannot_run("invalid", format!("{}: {}", problem.path, problem.message)));
    }
    alerts.test(destination).await.map_err(|error| Failure::refused("not_delivered", error.to_string()))?;
    out.either(&json!({"destination": destination, "delivered": true}), || format!("{destination} took the message\n"));
    Ok(OK)
}

fn value(alert: &Alert) -> Value {
    json!({
        "id": alert.id, "rule": alert.rule, "cause": serde_json::from_str::<Value>(&alert.cause).unwrap_or_default(),
        "events": alert.hits, "fired": rfc3339(alert.fired_ms), "resolved": alert.resolved_ms.map(rfc3339),
        "last": rfc3339(alert.last_ms), "event_id": alert.event_id, "summary": alert.summary, "told": alert.told,
    })
}

fn text(alerts: &[Alert]) -> String {
    let row = |alert: &Alert| {
        let state = alert.resolved_ms.map_or_else(|| "fires".to_owned(), |at| format!("over {}", rfc3339(at)));
        vec![rfc3339(alert.fired_ms), alert.rule.clone(), alert.hits.to_string(), state, alert.summary.clone()]
    };
    table(&["fired", "rule", "events", "state", "first event"], &alerts.iter().map(row).collect::<Vec<_>>())
}
