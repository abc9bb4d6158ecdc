//! `bartizan migrate` (O7).

use bartizan_store::Store;
use serde_json::json;

use crate::cli::Migrate;
use crate::installation::{Places, read_without_secrets, store_failure};
use crate::output::{Done, OK, Out};

pub(crate) async fn run(arguments: &Migrate, out: Out) -> Done {
    let places = Places::of(&read_without_secrets(&arguments.config.config)?)?;
    let plan = Store::plan(&places.url).await.map_err(store_failure)?;
    if !arguments.plan {
        places.open().await?.close().await;
    }
    let steps: Vec<_> = plan.pending.iter().map(|step| json!({"version": step.version, "name": step.name})).collect();
    let value = json!({
        "current": plan.current, "known": bartizan_store::SCHEMA_VERSION, "pending": steps,
        "backup": plan.backup, "compatible_from": plan.compatible_from, "applied": !arguments.plan,
    });
    out.either(&value, || {
        let current = plan.current.map_or_else(|| "none".to_owned(), |version| version.to_string());
        let mut text = format!("schema  {current}\nknown   {}\n", bartizan_store::SCHEMA_VERSION);
        for step in &plan.pending {
            let verb = if arguments.plan { "apply" } else { "applied" };
            text.push_str(&format!("{verb}  {} {}\n", step.version, step.name));
        }
        if let Some(backup) = plan.backup.as_ref().filter(|_| !plan.pending.is_empty()) {
            text.push_str(&format!("backup  {}\n", backup.display()));
        }
        if plan.pending.is_empty() {
            text.push_str("nothing to do\n");
        }
        text
    });
    Ok(OK)
}
