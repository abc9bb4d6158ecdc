//! `bartizan audit …`: list, search, verify, rebuild the index.

mod verify;

use std::time::Duration;

use bartizan_audit::{Query, Row, portal_log, rebuild_index, search};
use bartizan_model::ReasonCode;
use bartizan_policy::parse_rfc3339;
use bartizan_store::Store;
use serde_json::{Value, json};

use crate::cli::{AuditCommand, AuditSearch, RecordArg};
use crate::installation::{Places, clock, read_without_secrets};
use crate::output::{Done, FINDINGS, Failure, OK, Out, table};
use crate::state::State;
use crate::time::rfc3339;

/// Most events one command prints.
const MOST: u32 = 10_000;
/// The index follows the record by less than this.
const INDEX_LAG: Duration = Duration::from_millis(1500);

pub(crate) async fn run(command: &AuditCommand, out: Out) -> Done {
    match command {
        AuditCommand::List { place, limit } => {
            let store = Places::of_argument(place)?.open().await?;
            let rows = pages(&store, Query::default(), (*limit).min(MOST)).await?;
            print(&rows, out);
            Ok(OK)
        }
        AuditCommand::Search(arguments) => find(arguments, out).await,
        AuditCommand::Verify { key: Some(key), bundle: Some(bundle), .. } => verify::bundle(bundle, key, out),
        AuditCommand::Verify { place, checkpoint, key, elsewhere, .. } => {
            verify::run(place, checkpoint.as_deref(), key.as_deref(), elsewhere, out).await
        }
        AuditCommand::Export { place, since, until, out: file } => {
            let wrong = |text: &str| Failure::cannot_run("bad_argument", format!("`{text}` is not a time"));
            let since_ms = time(since).ok_or_else(|| wrong(since))?;
            let until_ms = match until {
                Some(text) => time(text).ok_or_else(|| wrong(text))?,
                None => clock().now_ms().saturating_add(1),
            };
            verify::export(place, since_ms, until_ms, file, out).await
        }
        AuditCommand::Key(config) => verify::key(&config.config, out).await,
        AuditCommand::Checkpoints { place, after } => verify::checkpoints(place, *after).await,
        AuditCommand::RebuildIndex { place } => {
            let places = Places::of_argument(place)?;
            let store = places.open().await?;
            let count = rebuild_index(&places.audit(), &store).await.map_err(failure)?;
            out.either(&json!({"indexed": count}), || format!("{count} records indexed\n"));
            Ok(OK)
        }
    }
}

fn failure(error: bartizan_audit::AuditError) -> Failure {
    Failure::cannot_run("failed", error.to_string())
}

async fn find(arguments: &AuditSearch, out: Out) -> Done {
    let query = query(arguments)?;
    let store = Places::of_argument(&arguments.place)?.open().await?;
    let limit = arguments.limit.clamp(1, MOST);
    let mut rows = if arguments.first {
        oldest(&store, query.clone()).await?
    } else {
        pages(&store, query.clone(), limit).await?
    };
    if rows.is_empty() {
        // Somebody who looks right after a call must find it.
        tokio::time::sleep(INDEX_LAG).await;
        rows = if arguments.first { oldest(&store, query).await? } else { pages(&store, query, limit).await? };
    }
    if arguments.dataset == "mcp_portal_logs" {
        let public_url = public_url(&arguments.place)?;
        let values: Vec<Value> = rows.iter().filter_map(|row| portal_log(row, &public_url)).collect();
        out.either(&json!({"mcp_portal_logs": values}), || values.iter().map(|value| format!("{value}\n")).collect());
    } else {
        print(&rows, out);
    }
    Ok(if rows.is_empty() { FINDINGS } else { OK })
}

/// Of the configuration, or of the process that is at work in the folder.
fn public_url(place: &RecordArg) -> Result<String, Failure> {
    if let (Some(config), None) = (&place.config, &place.data_dir) {
        return Ok(read_without_secrets(config)?.file.public_url.unwrap_or_default());
    }
    let state = State::read(&Places::of_argument(place)?.state());
    Ok(state.map(|state| state.public_url).unwrap_or_default())
}

fn query(arguments: &AuditSearch) -> Result<Query, Failure> {
    let wrong = |text: String| Failure::cannot_run("bad_argument", text);
    if let Some(code) = &arguments.code
        && ReasonCode::parse(code).is_none()
    {
        return Err(wrong(format!("`{code}` is not a refusal code; see bartizan explain-code")));
    }
    const KINDS: [&str; 7] = ["call", "intent", "list", "auth", "token", "admin", "system"];
    if let Some(kind) = &arguments.kind
        && !KINDS.contains(&kind.as_str())
    {
        return Err(wrong(format!("`{kind}` is not one of {}", KINDS.join(", "))));
    }
    let time = |text: &Option<String>| {
        text.as_deref().map(|text| time(text).ok_or_else(|| wrong(format!("`{text}` is not a time")))).transpose()
    };
    Ok(Query {
        principal: arguments.principal.clone(),
        server: arguments.server.clone(),
        target: arguments.target.clone(),
        allow: if arguments.denied {
            Some(false)
        } else if arguments.allowed {
            Some(true)
        } else {
            None
        },
        code: arguments.code.clone(),
        kind: arguments.kind.clone(),
        since_ms: time(&arguments.since)?,
        until_ms: time(&arguments.until)?,
        ..Query::default()
    })
}

/// RFC 3339, or how long ago.
fn time(text: &str) -> Option<i64> {
    parse_rfc3339(text).or_else(|| {
        let ago = crate::duration::parse(text).ok()?;
        Some(clock().now_ms() - i64::try_from(ago.as_millis()).ok()?)
    })
}

/// The newest `limit` rows, oldest first.
async fn pages(store: &Store, mut query: Query, limit: u32) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    while let missing @ 1.. = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX)) {
        query.limit = missing.min(1000);
        let page = search(store, &query).await.map_err(failure)?;
        rows.extend(page.rows);
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    rows.reverse();
    Ok(rows)
}

/// The oldest row.
async fn oldest(store: &Store, mut query: Query) -> Result<Vec<Row>, Failure> {
    query.limit = 1000;
    let mut last = None;
    loop {
        let page = search(store, &query).await.map_err(failure)?;
        last = page.rows.into_iter().next_back().or(last);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(last.into_iter().collect()),
        }
    }
}

fn print(rows: &[Row], out: Out) {
    let values: Vec<Value> = rows.iter().map(value).collect();
    out.either(&json!({"events": values}), || text(rows));
}

fn value(row: &Row) -> Value {
    let mut value = serde_json::to_value(&row.event).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.insert("at".into(), rfc3339(row.event.at_ms).into());
        members.insert("writer".into(), row.writer.as_str().into());
        members.insert("seq".into(), row.seq.into());
        members.insert("who".into(), if row.erased { Value::Null } else { json!(row.event.who) });
    }
    value
}

fn text(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no events\n".to_owned();
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let event = &row.event;
            let what = match (&event.server, &event.target) {
                (Some(server), Some(target)) => format!("{server}.{target}"),
                (None, Some(target)) => target.clone(),
                (Some(server), None) => server.to_string(),
                (None, None) => String::new(),
            };
            let verdict = match event.verdict.code {
                Some(code) => code.as_str().to_owned(),
                None if event.verdict.allow => "allowed".to_owned(),
                None => "refused".to_owned(),
            };
            vec![
                rfc3339(event.at_ms),
                if row.erased { "(erased)".to_owned() } else { printable(&event.who.principal) },
                printable(&event.method),
                printable(&what),
                verdict,
                event.verdict.rule.as_deref().map(printable).unwrap_or_default(),
                event.id.to_string(),
            ]
        })
        .collect();
    table(&["time", "who", "method", "what", "decision", "rule", "event"], &rows)
}

/// Names come from clients: no control characters on a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(100).collect()
}
