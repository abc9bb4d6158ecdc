//! `bartizan definition …`: reviewing what servers offer (P43–P48).

use std::path::Path;

use bartizan_audit::Audit;
use bartizan_catalog::pin::PinKind;
use bartizan_config::settings::AuditMode;
use bartizan_model::{PrincipalKind, Role, RoleSet, ToolClass};
use bartizan_registry::diff::{Op, visible};
use bartizan_registry::lock::Lock;
use bartizan_registry::proof::{self, Entry};
use bartizan_registry::review::{Ask, Decision, Review, Reviewer, Summary, Terms};
use bartizan_registry::{Registry, RegistryDeps, RegistryError};
use serde_json::json;

use crate::cli::{DefinitionArg, DefinitionCommand};
use crate::installation::{Places, clock, make_private_folder, read_without_secrets};
use crate::output::{Done, FINDINGS, Failure, OK, Out, table};
use crate::time::rfc3339;

pub(crate) async fn run(command: &DefinitionCommand, out: Out) -> Done {
    match command {
        DefinitionCommand::List { config, server, state } => {
            let desk = Desk::open(&config.config).await?;
            let rows = desk.registry.definitions(server.as_deref(), state.as_deref()).await.map_err(failed)?;
            out.either(&json!({"definitions": rows}), || {
                table(&["server", "kind", "name", "state", "seen"], &rows.iter().map(line).collect::<Vec<_>>())
            });
            desk.close(OK).await
        }
        DefinitionCommand::Diff(what) => {
            let desk = Desk::open(&what.config.config).await?;
            let review = desk.registry.review(&what.server, kind(what)?, &what.name).await.map_err(failed)?;
            out.either(&json!(review), || shown(&review));
            desk.close(if review.changes.is_empty() { OK } else { FINDINGS }).await
        }
        DefinitionCommand::Approve { what, pin, once, reason } => {
            let decision = if *once { Decision::ApproveOnce } else { Decision::Approve };
            decide(what, pin, decision, reason, out).await
        }
        DefinitionCommand::Reject { what, pin, reason } => decide(what, pin, Decision::Reject, reason, out).await,
        DefinitionCommand::ApproveAll { config, server, reason } => {
            approve_all(&config.config, server, reason, out).await
        }
        DefinitionCommand::History(what) => {
            let desk = Desk::open(&what.config.config).await?;
            let lines = desk.registry.history(&what.server, kind(what)?, &what.name).await.map_err(failed)?;
            out.either(&json!({"history": lines}), || {
                let row = |line: &Entry| {
                    let pin = line.pin.as_deref().map(short).unwrap_or_default();
                    vec![rfc3339(line.at_ms), line.action.clone(), pin, visible(&line.who), one_line(&line.reason)]
                };
                table(&["when", "what", "pin", "who", "why"], &lines.iter().map(row).collect::<Vec<_>>())
            });
            desk.close(OK).await
        }
        DefinitionCommand::Export { config } => export(&config.config, out).await,
        DefinitionCommand::Verify { file } => verify(file, out),
        DefinitionCommand::Lock { config, check } => lock(&config.config, check.as_deref(), out).await,
    }
}

/// Where decisions are made: nothing is decided unless it can be put on record.
struct Desk {
    registry: Registry,
    audit: Audit,
    loaded: bartizan_config::Loaded,
}

/// The operating system let this user at the data; that is the role.
fn reviewer() -> Reviewer<'static> {
    Reviewer { who: "service:bartizan-cli", kind: PrincipalKind::Service, roles: RoleSet::NONE.with(Role::Governance) }
}

impl Desk {
    async fn open(config: &Path) -> Result<Self, Failure> {
        let loaded = read_without_secrets(config)?;
        let places = Places::of(&loaded)?;
        make_private_folder(&places.data_dir)?;
        let store = places.open().await?;
        let audit = Audit::open(&places.audit(), AuditMode::Strict, Some(store.clone()), clock())
            .map_err(|error| Failure::cannot_run("audit_unavailable", error.to_string()))?;
        let registry = Registry::new(RegistryDeps { store, audit: Some(audit.clone()), clock: clock() });
        Ok(Self { registry, audit, loaded })
    }

    async fn close(&self, code: u8) -> Done {
        self.audit.close().await;
        Ok(code)
    }

    /// What the server's settings ask of a decision.
    fn terms(&self, server: &str, kind: &str, name: &str) -> Terms {
        let found = self.loaded.resources.servers.iter().find(|each| each.server_id.as_str() == server);
        let Some(found) = found else { return Terms::default() };
        let is_read = kind != "tool" || found.classes.read.iter().any(|each| each == name);
        let class = if is_read { ToolClass::Read } else { ToolClass::Unknown };
        Terms { two_persons: found.two_person_review, class }
    }

    async fn one(&self, ask: &Ask) -> Result<bartizan_registry::review::Done, RegistryError> {
        self.registry.decide(reviewer(), ask, self.terms(&ask.server, &ask.kind, &ask.name)).await
    }
}

fn failed(error: RegistryError) -> Failure {
    let text = error.to_string();
    match error {
        RegistryError::Store(_) => Failure::cannot_run("store_unavailable", text),
        RegistryError::Audit => Failure::cannot_run("audit_unavailable", text),
        RegistryError::Unknown => Failure::refused("unknown_definition", text),
        RegistryError::Conflict => {
            Failure::refused("not_current", "that pin is not what was seen last; look with `bartizan definition diff`")
        }
        RegistryError::Forbidden(_) | RegistryError::State(_) => Failure::refused("refused", text),
    }
}

fn kind(what: &DefinitionArg) -> Result<PinKind, Failure> {
    PinKind::parse(&what.kind)
        .ok_or_else(|| Failure::cannot_run("bad_argument", "--kind is `tool`, `prompt`, `template` or `server`"))
}

async fn decide(what: &DefinitionArg, pin: &str, decision: Decision, reason: &str, out: Out) -> Done {
    let desk = Desk::open(&what.config.config).await?;
    let ask = Ask {
        server: what.server.clone(),
        kind: kind(what)?.as_str().to_owned(),
        name: what.name.clone(),
        pin: pin.to_owned(),
        decision,
        reason: reason.to_owned(),
    };
    let done = desk.one(&ask).await;
    let code = desk.close(OK).await?;
    let done = done.map_err(failed)?;
    out.either(&json!(done), || {
        let name = one_line(&done.summary.name);
        if done.second_needed {
            format!("{name} of {}: a second person has to approve it too\n", done.summary.server)
        } else {
            format!("{name} of {} is decided: {decision:?}\n", done.summary.server)
        }
    });
    Ok(code)
}

async fn approve_all(config: &Path, server: &str, reason: &str, out: Out) -> Done {
    let desk = Desk::open(config).await?;
    let rows = desk.registry.definitions(Some(server), None).await.map_err(failed)?;
    let mut approved = 0_usize;
    for row in rows.into_iter().filter(|row| matches!(row.state.as_str(), "quarantined" | "changed")) {
        let Some(pin) = row.seen_pin else { continue };
        let (server, reason) = (row.server, reason.to_owned());
        let ask = Ask { server, kind: row.kind, name: row.name, pin, decision: Decision::Approve, reason };
        desk.one(&ask).await.map_err(failed)?;
        approved += 1;
    }
    out.either(&json!({"server": server, "approved": approved}), || format!("{approved} approved\n"));
    desk.close(OK).await
}

async fn export(config: &Path, out: Out) -> Done {
    let desk = Desk::open(config).await?;
    let mut after = 0;
    loop {
        let entries = desk.registry.entries(after).await.map_err(failed)?;
        let Some(last) = entries.last() else { break };
        after = last.seq;
        for entry in &entries {
            out.text(&(json!(entry).to_string() + "\n"));
        }
    }
    desk.close(OK).await
}

fn verify(file: &Path, out: Out) -> Done {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::cannot_run("unreadable", format!("{}: {error}", file.display())))?;
    let entries: Result<Vec<Entry>, _> = text.lines().map(serde_json::from_str).collect();
    let entries = entries.map_err(|error| Failure::refused("not_a_history", error.to_string()))?;
    let (seq, hash) =
        proof::verify(&entries, 0, "").map_err(|broken| Failure::refused("history_changed", broken.to_string()))?;
    out.either(&json!({"lines": seq, "hash": hash}), || format!("{seq} lines, unchanged; the newest is {hash}\n"));
    Ok(OK)
}

async fn lock(config: &Path, check: Option<&Path>, out: Out) -> Done {
    let desk = Desk::open(config).await?;
    let approved = desk.registry.lock().await.map_err(failed)?;
    desk.close(OK).await?;
    let Some(file) = check else {
        out.text(&approved.text());
        return Ok(OK);
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::cannot_run("unreadable", format!("{}: {error}", file.display())))?;
    let locked = Lock::parse(&text).map_err(|error| Failure::refused("not_a_lock", error))?;
    let differences = locked.compare(&approved);
    out.either(&json!({"differences": differences}), || {
        let pin = |pin: &Option<String>| pin.as_deref().map_or_else(|| "-".to_owned(), short);
        let row = |each: &bartizan_registry::lock::Difference| {
            vec![each.server.clone(), one_line(&each.definition), pin(&each.locked), pin(&each.approved)]
        };
        table(&["server", "definition", "locked", "approved"], &differences.iter().map(row).collect::<Vec<_>>())
    });
    Ok(if differences.is_empty() { OK } else { FINDINGS })
}

/// A text of a server on one line, which no terminal obeys.
fn one_line(text: &str) -> String {
    visible(text).replace('\n', "\\n")
}

fn short(pin: &str) -> String {
    pin.chars().take(12).collect()
}

fn line(row: &Summary) -> Vec<String> {
    let seen = row.seen_pin.as_deref().map(short).unwrap_or_default();
    vec![row.server.clone(), row.kind.clone(), one_line(&row.name), row.state.clone(), seen]
}

fn shown(review: &Review) -> String {
    let summary = &review.summary;
    let pin = |pin: &Option<String>| pin.clone().unwrap_or_else(|| "nothing".to_owned());
    let mut text = format!(
        "{} {} of {}: {}\napproved  {}\nseen      {}\nscan      {}\n",
        summary.kind,
        one_line(&summary.name),
        summary.server,
        summary.state,
        pin(&summary.approved_pin),
        pin(&summary.seen_pin),
        review.scan
    );
    let lists = [("permission", &review.permissions), ("looks like", &review.looks_like)];
    for (word, list) in lists {
        for each in list {
            text.push_str(&format!("{word}: {}\n", one_line(each)));
        }
    }
    for change in &review.changes {
        text.push_str(&format!("\n{} {}\n", change.path, change.what));
        if change.words.is_empty() {
            let side = |value: &Option<String>, mark: char| {
                value.as_ref().map(|value| format!("{mark} {}\n", one_line(value))).unwrap_or_default()
            };
            text.push_str(&(side(&change.before, '-') + &side(&change.after, '+')));
            continue;
        }
        for part in &change.words {
            let (open, close) = match part.op {
                Op::Same => ("", ""),
                Op::Removed => ("[-", "-]"),
                Op::Added => ("{+", "+}"),
            };
            text.push_str(&format!("{open}{}{close}", part.text));
        }
        text.push('\n');
    }
    text
}
