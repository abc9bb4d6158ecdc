//! `bartizan status`: the process, the configuration in use, and the servers.

use serde_json::json;

use crate::cli::Status;
use crate::commands::check;
use crate::installation::{Places, read};
use crate::output::{Done, FINDINGS, OK, Out, table};
use crate::state::{Server, State};
use crate::time::rfc3339;

pub(crate) async fn run(arguments: &Status, out: Out) -> Done {
    let mut loaded = read(&arguments.config.config, &[])?;
    let places = Places::of(&loaded)?;
    let state = State::read(&places.state()).filter(State::is_running);
    let snapshot = check::compile(&mut loaded);
    let (errors, warnings) = loaded.report().counts();
    let servers = match (&state, &snapshot) {
        (Some(state), _) => state.servers.clone(),
        (None, Some(snapshot)) => snapshot.order.iter().map(|spec| crate::node::server_line(spec, None)).collect(),
        (None, None) => Vec::new(),
    };
    let value = json!({
        "running": state.is_some(), "process": state, "file": {"errors": errors, "warnings": warnings}, "servers": servers,
    });
    out.either(&value, || text(state.as_ref(), (errors, warnings), &servers));
    let good = state.as_ref().is_some_and(|state| state.reload_error.is_none()) && errors == 0;
    Ok(if good { OK } else { FINDINGS })
}

fn text(state: Option<&State>, (errors, warnings): (usize, usize), servers: &[Server]) -> String {
    let mut out = match state {
        None => "process     not running\n".to_owned(),
        Some(state) => format!(
            "process     {} ({}), version {}, since {}\npublic url  {}\nlistening   {}, operations {}\n\
             in use      generation {}, policy version {}\nrecord      {}, {} written, {} lost, {} behind\n\
             load        {} sessions, {} calls\n",
            state.pid,
            state.phase,
            state.version,
            rfc3339(state.started_ms),
            state.public_url,
            state.listen,
            state.operations,
            state.generation,
            state.policy_version,
            if state.audit.healthy { "healthy" } else { "NOT HEALTHY" },
            state.audit.written,
            state.audit.dropped,
            state.audit.behind,
            state.sessions,
            state.calls,
        ),
    };
    out.push_str(&format!("file        {errors} errors, {warnings} warnings\n"));
    if let Some(error) = state.and_then(|state| state.reload_error.as_ref()) {
        out.push_str(&format!(
            "reload      REFUSED at {}: {} errors; the former configuration is in use\n",
            rfc3339(error.at_ms),
            error.errors
        ));
    }
    for refused in state.iter().flat_map(|state| &state.refused_objects) {
        out.push_str(&format!("not in use  {refused}\n"));
    }
    if state.is_some_and(|state| state.restart_needed) {
        out.push_str("restart     needed: settings in the file differ from those in use\n");
    }
    let rows: Vec<Vec<String>> = servers.iter().map(row).collect();
    if !rows.is_empty() {
        out.push('\n');
        out.push_str(&table(&["server", "status", "transport", "era", "circuit", "notes"], &rows));
    }
    out
}

fn row(server: &Server) -> Vec<String> {
    let mut notes = Vec::new();
    if server.unpinned {
        notes.push("UNPINNED".to_owned());
    }
    if server.unsandboxed {
        notes.push("UNSANDBOXED".to_owned());
    }
    if let Some(version) = server.auth_config_summary.as_ref().and_then(|of| of.get("client_secret_version")?.as_i64())
        && version > 0
    {
        notes.push(format!("secret version {version}"));
    }
    notes.extend(server.last_error.clone());
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        server.server_id.clone(),
        match server.state.as_ref().filter(|_| server.status == "enabled") {
            Some(state) => state.clone(),
            None => server.status.clone(),
        },
        server.transport.clone(),
        or(&server.era),
        or(&server.circuit),
        notes.join(", "),
    ]
}
