//! `bartizan reload`: SIGHUP to the running process, and what came of it (O4).

use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serde_json::json;

use crate::installation::{Places, read};
use crate::output::{Done, Failure, OK, Out};
use crate::state::State;

/// How long a reload may take until it is visible.
const WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(crate) async fn run(config: &Path, out: Out) -> Done {
    let path = Places::of(&read(config, &[])?)?.state();
    let gone = || Failure::refused("not_running", "no process of this installation is running");
    let before = State::read(&path).filter(State::is_running).ok_or_else(gone)?;
    let process = before.process().ok_or_else(gone)?;
    kill_process(process, Signal::HUP).map_err(|error| Failure::cannot_run("failed", error.to_string()))?;
    let error_at = |state: &State| state.reload_error.as_ref().map(|error| error.at_ms);
    let mut waited = Duration::ZERO;
    while waited < WITHIN {
        tokio::time::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
        let Some(now) = State::read(&path) else { continue };
        if let Some(error) = now.reload_error.as_ref().filter(|_| error_at(&now) != error_at(&before)) {
            let text =
                format!("the configuration has {} errors; the former one stays in use\n{}", error.errors, error.text);
            return Err(Failure::refused("invalid", text));
        }
        if now.generation != before.generation {
            let value = json!({"generation": now.generation, "restart_needed": now.restart_needed});
            out.either(&value, || {
                let more = if now.restart_needed { "; changed settings need a restart" } else { "" };
                format!("generation {} is in use{more}\n", now.generation)
            });
            return Ok(OK);
        }
    }
    Err(Failure::cannot_run("failed", "the process did not answer in time"))
}
