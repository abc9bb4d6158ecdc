//! `bartizan plan`, `bartizan apply`, `bartizan export` (U9): the objects of the store as files.

use std::path::Path;
use std::sync::Arc;

use bartizan_admin::{
    About, AdminError, Base, Engine, Member, Plan as Planned, Problem, Reader, Wanted, is_about_secrets,
};
use bartizan_audit::Audit;
use bartizan_catalog::CompileOptions;
use bartizan_config::objects::{self, Kind};
use bartizan_config::settings::AuditMode;
use bartizan_config::{Diagnostic, Environment, Loaded, Severity, render};
use bartizan_model::PrincipalKind;
use bartizan_model::event::Who;
use bartizan_store::Store;
use bartizan_vault::{KeyRing, Vault};
use serde_json::{Value, json};

use crate::cli::{Apply, Plan};
use crate::installation::{Places, clock, make_private_folder, read_valid};
use crate::output::{Done, FINDINGS, Failure, OK, Out};

/// Longest value in a plan, characters.
const SHOWN: usize = 60;

/// Where objects are changed on the machine itself. Nothing is changed unless it can be put on record.
struct Desk {
    engine: Engine,
    audit: Option<Audit>,
    store: Store,
}

impl Desk {
    async fn open(config: &Path, writes: bool) -> Result<Self, Failure> {
        let loaded = read_valid(config)?;
        let bad_key = |text: String| Failure::cannot_run("bad_key", text);
        let source = loaded.file.key.as_ref();
        let source = source.ok_or_else(|| Failure::cannot_run("missing_setting", "key is required"))?;
        let keys = KeyRing::from_source(source).map_err(|error| bad_key(error.to_string()))?;
        let vault = Vault::new(keys).map_err(|error| bad_key(error.to_string()))?;
        let places = Places::of(&loaded)?;
        make_private_folder(&places.data_dir)?;
        let store = places.open().await?;
        let audit = if writes {
            let opened = Audit::open(&places.audit(), AuditMode::Strict, Some(store.clone()), clock());
            Some(opened.map_err(|error| Failure::cannot_run("audit_unavailable", error.to_string()))?)
        } else {
            None
        };
        let options = CompileOptions { dev: false, hosting: loaded.file.hosting.enabled };
        let base = Arc::new(Base::new(loaded.file.clone(), loaded.filled(), options));
        let record = match &audit {
            Some(audit) => crate::admin::recorder(audit.clone()),
            None => Arc::new(|_| Box::pin(async { Err("nothing is changed".to_owned()) }) as _),
        };
        let reader = Reader::new(store.clone(), vault);
        let engine = Engine::new(reader, Arc::new(move || Arc::clone(&base)), clock(), record);
        Ok(Self { engine, audit, store })
    }

    async fn close(self) {
        if let Some(audit) = &self.audit {
            audit.close().await;
        }
        self.store.close().await;
    }
}

/// Who applies: the operating system let this user at the data; bartizan knows no more of them.
fn about(arguments: Option<&Apply>) -> About {
    let uid = rustix::process::getuid().as_raw();
    About {
        kind: PrincipalKind::Service,
        who: Who { principal: format!("service:bartizan-cli/{uid}"), ..Who::default() },
        source: "apply",
        reason: arguments.and_then(|arguments| arguments.reason.clone()),
        git_revision: arguments.and_then(|arguments| arguments.git_revision.clone()),
        operator: true,
        owner: false,
    }
}

pub(crate) async fn plan(arguments: &Plan, out: Out) -> Done {
    let (mut folder, wanted) = read(&arguments.folder)?;
    let desk = Desk::open(&arguments.config.config, false).await?;
    let planned = bartizan_admin::plan(&desk.engine, wanted, &about(None)).await;
    desk.close().await;
    let planned = match planned {
        Ok(planned) if !folder.report().has_errors() => planned,
        Ok(_) => return report(&folder, out),
        Err(error) => return refuse(error, &mut folder, out),
    };
    out.either(&json!(planned), || text(&planned));
    Ok(if arguments.detect && !planned.changes.is_empty() { FINDINGS } else { OK })
}

pub(crate) async fn apply(arguments: &Apply, out: Out) -> Done {
    let (mut folder, wanted) = read(&arguments.folder)?;
    let desk = Desk::open(&arguments.config.config, true).await?;
    let about = about(Some(arguments));
    if folder.report().has_errors() {
        // Planned all the same: whoever mends the files wants to know everything.
        let planned = bartizan_admin::plan(&desk.engine, wanted, &about).await;
        desk.close().await;
        return match planned {
            Err(error) => refuse(error, &mut folder, out),
            Ok(_) => report(&folder, out),
        };
    }
    let applied = bartizan_admin::apply(&desk.engine, wanted, &about, arguments.revision).await;
    desk.close().await;
    let outcome = match applied {
        Ok(outcome) => outcome,
        Err(error) => return refuse(error, &mut folder, out),
    };
    out.either(&json!({"revision": outcome.revision, "changes": outcome.done}), || {
        if outcome.done.is_empty() {
            return format!("no change; the store is at revision {}\n", outcome.revision);
        }
        let lines: String = outcome.done.iter().map(|one| line(one.action, one.kind, &one.id)).collect();
        format!("{lines}applied as revision {}\n", outcome.revision)
    });
    Ok(OK)
}

pub(crate) async fn export(config: &Path, out: Out) -> Done {
    let desk = Desk::open(config, false).await?;
    let state = desk.engine.reader().state().await;
    desk.close().await;
    let state = state.map_err(|error| Failure::cannot_run("bad_store", error.to_string()))?;
    let exported = bartizan_admin::export(&state);
    out.either(&exported, || {
        let mut text = format!(
            "# Objects of the store at revision {}. An empty secret keeps what is there when it is applied.\n",
            state.revision
        );
        text += &yaml(&as_file(&exported));
        text
    });
    Ok(OK)
}

/// Lists as resource files have them: alerts and roles are mappings there.
fn as_file(exported: &Value) -> Value {
    let mut file = exported.get("objects").cloned().unwrap_or_default();
    let Some(lists) = file.as_object_mut() else { return file };
    let mut alerts = serde_json::Map::new();
    for (list, name) in [("alert_destinations", "destinations"), ("alert_rules", "rules")] {
        if let Some(items) = lists.shift_remove(list) {
            alerts.insert(name.to_owned(), items);
        }
    }
    if !alerts.is_empty() {
        lists.insert("alerts".to_owned(), alerts.into());
    }
    if let Some(Value::Array(items)) = lists.shift_remove("roles") {
        let role = |item: Value| Some((item.get("role")?.as_str()?.to_owned(), item.get("members")?.clone()));
        let roles: serde_json::Map<String, Value> = items.into_iter().filter_map(role).collect();
        lists.insert("roles".to_owned(), roles.into());
    }
    file
}

/// YAML with one JSON document per object: every JSON text is YAML, and none needs quoting rules.
fn yaml(file: &Value) -> String {
    let mut text = String::new();
    for (name, list) in file.as_object().into_iter().flatten() {
        match list {
            Value::Array(items) => {
                text += &format!("{name}:\n");
                for item in items {
                    text += &format!("  - {item}\n");
                }
            }
            other => text += &format!("{name}: {other}\n"),
        }
    }
    text
}

/// The folder, and the objects in it as far as they can be read.
fn read(folder: &Path) -> Result<(Loaded, Vec<Wanted>), Failure> {
    let loaded = bartizan_config::load_folder(folder, &Environment::from_process())
        .map_err(|error| Failure::cannot_run("unreadable_folder", error.to_string()))?;
    let wanted = bartizan_admin::of_resources(&loaded.filled());
    Ok((loaded, wanted))
}

/// Nothing was changed: problems of objects are told at their places in the files.
fn refuse(error: AdminError, folder: &mut Loaded, out: Out) -> Done {
    match error {
        AdminError::Invalid(problems) | AdminError::InUse(problems) => {
            let names: Vec<(Kind, String)> =
                objects::split(&folder.resources).into_iter().map(|(kind, id, _)| (kind, id)).collect();
            let found: Vec<Diagnostic> = problems.into_iter().map(|problem| located(problem, &names)).collect();
            folder.add(found, Severity::Error);
            report(folder, out)
        }
        AdminError::Outdated => Err(Failure::refused(
            "precondition_failed",
            "the store was changed meanwhile; nothing was applied. Run `bartizan plan` again",
        )),
        AdminError::Record => Err(Failure::cannot_run("audit_unavailable", error.to_string())),
        other => Err(Failure::cannot_run("bad_store", other.to_string())),
    }
}

fn report(folder: &Loaded, out: Out) -> Done {
    let format = if out.json { render::Format::Json } else { render::Format::Text };
    out.text(&render::report(&folder.report(), format, out.color()));
    Ok(FINDINGS)
}

/// A problem of an object as a finding about the files.
fn located(problem: Problem, names: &[(Kind, String)]) -> Diagnostic {
    let object = problem.object.as_deref().and_then(|object| object.split_once('/'));
    let found = object.and_then(|(kind, id)| Some((Kind::parse(kind)?, id)));
    let at = found.and_then(|(kind, id)| {
        let same_kind = names.iter().filter(|(its, _)| *its == kind);
        same_kind.enumerate().find(|(_, (_, name))| name == id).map(|(at, _)| (kind, kind.path(at, id)))
    });
    let (path, message) = match at {
        // A role is a list in files.
        Some((Kind::Role, path)) => (path + &dotted(problem.pointer.trim_start_matches("/members")), problem.message),
        Some((_, path)) => (path + &dotted(&problem.pointer), problem.message),
        None => (String::new(), format!("{}: {}", problem.object.unwrap_or_default(), problem.message)),
    };
    let diagnostic = Diagnostic::new(path, problem.code, message);
    match problem.suggestion {
        Some(suggestion) => diagnostic.suggest(suggestion),
        None => diagnostic,
    }
}

/// `/a/0/b` as `.a[0].b`.
fn dotted(pointer: &str) -> String {
    let part = |part: &str| match part.parse::<usize>() {
        Ok(index) => format!("[{index}]"),
        Err(_) => format!(".{}", part.replace("~1", "/").replace("~0", "~")),
    };
    pointer.split('/').skip(1).map(part).collect()
}

fn text(planned: &Planned) -> String {
    let mut out = String::new();
    for one in &planned.changes {
        out += &line(one.action, one.kind, &one.id);
        if one.action == "update" {
            out.extend(one.difference.iter().map(member));
        }
    }
    let count = |action: &str| planned.changes.iter().filter(|one| one.action == action).count();
    out += &format!(
        "{} to add, {} to change, {} to remove; the store is at revision {}\n",
        count("create"),
        count("update"),
        count("remove"),
        planned.revision
    );
    if !planned.drift.is_empty() {
        out += "\nchanged by others than apply:\n";
    }
    for one in &planned.drift {
        out += &format!("  {} by {} ({}) at {}\n", one.object, one.by, one.source, crate::time::rfc3339(one.at_ms));
    }
    if !planned.permissions.is_empty() {
        out += "\npermissions:\n";
    }
    for one in &planned.permissions {
        out += &format!("  {} {} {}\n", one.who, one.change, one.what);
    }
    out
}

fn line(action: &str, kind: Kind, id: &str) -> String {
    let sign = match action {
        "create" => '+',
        "update" => '~',
        _ => '-',
    };
    format!("{sign} {}/{id}\n", kind.as_str())
}

fn member(member: &Member) -> String {
    let show = |value: &Option<Value>| match value {
        None => "(nothing)".to_owned(),
        Some(value) => value.to_string().chars().take(SHOWN).collect(),
    };
    if is_about_secrets(member) {
        return format!("    {} (secret)\n", member.pointer);
    }
    format!("    {}: {} -> {}\n", member.pointer, show(&member.before), show(&member.after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u9_pointers_become_paths_of_files() {
        assert_eq!(dotted("/servers/0"), ".servers[0]");
        assert_eq!(dotted("/a~1b/c/12/d"), ".a/b.c[12].d");
        assert_eq!(dotted(""), "");
        let names =
            vec![(Kind::Server, "a".to_owned()), (Kind::Server, "b".to_owned()), (Kind::Role, "owner".to_owned())];
        let problem = |object: &str, pointer: &str| Problem {
            object: Some(object.to_owned()),
            pointer: pointer.to_owned(),
            code: "invalid",
            message: "m".to_owned(),
            suggestion: None,
        };
        assert_eq!(located(problem("server/b", "/hostname"), &names).path, "servers[1].hostname");
        assert_eq!(located(problem("role/owner", "/members/3"), &names).path, "roles.owner[3]");
        assert_eq!(located(problem("portal/x", ""), &names).path, "");
    }

    #[test]
    fn u9_an_export_is_a_file_of_resources() {
        let exported = json!({"objects": {"servers": [{"server_id": "a", "name": "x: #y"}],
            "alert_rules": [{"id": "r"}], "roles": [{"role": "owner", "members": ["group:a"]}]}});
        let text = yaml(&as_file(&exported));
        assert!(text.contains("  - {\"server_id\":\"a\",\"name\":\"x: #y\"}\n"), "{text}");
        assert!(text.contains("roles: {\"owner\":[\"group:a\"]}"), "{text}");
        assert!(text.contains("alerts: {\"rules\":[{\"id\":\"r\"}]}"), "{text}");
    }
}
