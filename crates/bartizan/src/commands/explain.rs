//! `bartizan explain` (U6): the stages of a call and the rule that decides, from the
//! configuration alone. What servers offer is not asked: the tool is taken to exist.

mod circumstances;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bartizan_catalog::{PortalSpec, ServerSpec, Snapshot, exposed_name};
use bartizan_config::Loaded;
use bartizan_config::resources::{Resources, ServerStatus};
use bartizan_model::{PortalId, Principal, PrincipalKind, ReasonCode};
use bartizan_policy::{Action, Explanation, Query, RequestContext};
use bartizan_wire::{Limits, RawJson};
use serde_json::{Value, json};

pub(crate) use circumstances::Circumstances;

use crate::cli::Explain;
use crate::commands::check;
use crate::installation::{clock, read_without_secrets};
use crate::output::{Done, FINDINGS, Failure, OK, Out, table};

/// Largest file of arguments, 4 MiB: the bound of a request.
const ARGS_LIMIT: u64 = 4 << 20;

pub(crate) async fn run(arguments: &Explain, out: Out) -> Done {
    let mut loaded = read_without_secrets(&arguments.config.config)?;
    let Some(snapshot) = check::compile(&mut loaded) else {
        eprint!("{}", loaded.report());
        return Err(Failure::cannot_run("invalid", "the configuration has errors"));
    };
    let args = arguments.args.as_deref().map(read_args).transpose()?;
    let question = Question::new(arguments, &snapshot, &loaded.resources, args)?;
    let answer = question.answer(&snapshot);
    out.either(&answer.value(&question, &loaded), || answer.text(&question, &loaded));
    Ok(if answer.allowed() { OK } else { FINDINGS })
}

fn read_args(path: &Path) -> Result<String, Failure> {
    let wrong = |why: String| Failure::cannot_run("bad_argument", format!("{}: {why}", path.display()));
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(ARGS_LIMIT + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(ARGS_LIMIT + 1).read_to_string(&mut text))
    };
    read.map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > ARGS_LIMIT {
        return Err(wrong("larger than 4 MiB".to_owned()));
    }
    let raw = RawJson::parse(text.trim().to_owned(), &Limits::default()).map_err(|error| wrong(error.to_string()))?;
    if !raw.as_str().starts_with('{') {
        return Err(wrong("the arguments are not a JSON object".to_owned()));
    }
    Ok(raw.as_str().to_owned())
}

/// Who, what and where.
struct Question {
    principal: Principal,
    portal: Option<Arc<PortalSpec>>,
    server: Arc<ServerSpec>,
    tool: String,
    args: Option<String>,
    ip: Option<std::net::IpAddr>,
    client: Option<String>,
    known: circumstances::Known,
}

impl Question {
    fn new(
        arguments: &Explain,
        snapshot: &Snapshot,
        resources: &Resources,
        args: Option<String>,
    ) -> Result<Self, Failure> {
        let wrong = |text: String| Failure::cannot_run("bad_argument", text);
        let portal = match arguments.portal.as_str() {
            "none" => None,
            id => {
                let known = PortalId::parse(id).ok().and_then(|id| snapshot.portals.get(&id).cloned());
                Some(known.ok_or_else(|| wrong(format!("there is no portal `{id}`")))?)
            }
        };
        let groups = arguments.groups.iter().map(|group| Arc::from(group.as_str()));
        let principal = match arguments.user.split_once(':') {
            None if arguments.user == "anonymous" => Principal::anonymous(),
            None => Principal::new(PrincipalKind::User, arguments.user.as_str(), groups),
            Some(("user", name)) => Principal::new(PrincipalKind::User, name, groups),
            Some(("service", name)) => Principal::new(PrincipalKind::Service, name, groups),
            Some(_) => return Err(wrong("the user is neither a name, `service:NAME` nor `anonymous`".to_owned())),
        };
        let (server, tool) = find_tool(&arguments.tool, snapshot, resources, portal.as_deref())
            .ok_or_else(|| wrong(format!("`{}` names no server; write SERVER.TOOL", arguments.tool)))?;
        let known = arguments.circumstances.of(&principal, resources, clock().now_ms()).map_err(wrong)?;
        let client = arguments.client.clone();
        Ok(Self { principal, portal, server, tool, args, ip: arguments.ip, client, known })
    }

    fn answer(&self, snapshot: &Snapshot) -> Answer {
        let context = RequestContext {
            era: self.known.era(),
            ip: self.ip,
            client: self.client.as_deref(),
            client_version: self.known.client_version(),
            session: Some(self.known.session()),
            now_ms: self.known.now_ms(),
        };
        let query = Query {
            principal: &self.principal,
            action: Action::CallTool,
            portal: self.portal.as_ref().map(|portal| &portal.id),
            server: Some(&self.server.id),
            name: &self.tool,
            class: self.server.class_of(&self.tool),
            context: &context,
            args: self.args.as_deref(),
        };
        let listed = snapshot.policies.list_decision(&query);
        let explanation = snapshot.policies.explain(&query);
        let mut stages = Vec::new();
        let shown = self.portal.as_ref().is_some_and(|portal| portal.show_ungranted);
        let visible = listed.allow || (shown && listed.code == Some(ReasonCode::WriteNotGranted));
        stages.push(self.route(visible, &listed));
        if stages.iter().all(|stage| stage.pass) {
            stages.push(Stage::of("state", self.server.status != ServerStatus::Killed, Some(ReasonCode::Killed)));
        }
        if stages.iter().all(|stage| stage.pass) {
            stages.push(Stage {
                rule: explanation.decision.rule.as_deref().map(str::to_owned),
                ..Stage::of("authorize", explanation.decision.allow, explanation.decision.code)
            });
        }
        let decision = &explanation.decision;
        if stages.iter().all(|stage| stage.pass) && !decision.approvals.is_empty() {
            let detail = Some("unless this call was approved already".to_owned());
            let rule = decision.rule.as_deref().map(str::to_owned);
            stages.push(Stage { rule, detail, ..Stage::of("approve", false, Some(ReasonCode::ApprovalRequired)) });
        }
        Answer { stages, explanation, visible }
    }

    /// What is not visible is unknown: the caller is told no more than that.
    fn route(&self, visible: bool, listed: &bartizan_policy::Decision) -> Stage {
        let class = self.server.class_of(&self.tool).as_str();
        let found = Some(format!("{} on server {} (class {class})", self.tool, self.server.id));
        let because = |text: &str| Stage { detail: Some(text.to_owned()), ..Stage::of("route", false, None) };
        if self.portal.as_ref().is_some_and(|portal| !portal.has(&self.server.id)) {
            return because("the server is not behind this portal");
        }
        if self.server.status == ServerStatus::Disabled {
            return because("the server is disabled");
        }
        if !self.server.on_at(self.portal.as_deref(), bartizan_catalog::Kind::Tools, &self.tool) {
            return because("the tool is switched off");
        }
        if visible {
            return Stage { detail: found, ..Stage::of("route", true, None) };
        }
        let rule = listed.rule.as_deref().map(str::to_owned);
        Stage { rule, detail: found, ..Stage::of("route", false, listed.code) }
    }
}

/// `SERVER.TOOL`, or an exposed name of the portal.
fn find_tool(
    text: &str,
    snapshot: &Snapshot,
    resources: &Resources,
    portal: Option<&PortalSpec>,
) -> Option<(Arc<ServerSpec>, String)> {
    if let Some((server, tool)) = text.split_once('.')
        && let Some(spec) = snapshot.order.iter().find(|spec| spec.id.as_str() == server)
    {
        return Some((Arc::clone(spec), tool.to_owned()));
    }
    let portal = portal?;
    let named = |spec: &Arc<ServerSpec>| {
        let server = resources.servers.iter().find(|server| server.server_id == spec.id)?;
        let classes = &server.classes;
        let mut reviewed = classes.read.iter().chain(&classes.write).chain(&classes.destructive);
        let exposed = |name: &str| exposed_name(&spec.id, name, portal.prefix, portal.max_tool_name);
        reviewed.find(|name| exposed(name) == text).map(|name| (Arc::clone(spec), name.clone()))
    };
    let prefixed = |spec: &Arc<ServerSpec>| {
        let tool = text.strip_prefix(spec.id.as_str())?.strip_prefix('_').filter(|tool| !tool.is_empty())?;
        Some((Arc::clone(spec), tool.to_owned()))
    };
    portal.servers.iter().find_map(named).or_else(|| portal.servers.iter().find_map(prefixed))
}

struct Stage {
    name: &'static str,
    pass: bool,
    code: Option<ReasonCode>,
    rule: Option<String>,
    detail: Option<String>,
}

impl Stage {
    fn of(name: &'static str, pass: bool, code: Option<ReasonCode>) -> Self {
        Self { name, pass, code: code.filter(|_| !pass), rule: None, detail: None }
    }
}

struct Answer {
    stages: Vec<Stage>,
    explanation: Explanation,
    visible: bool,
}

impl Answer {
    fn allowed(&self) -> bool {
        self.stages.iter().all(|stage| stage.pass)
    }

    fn value(&self, question: &Question, loaded: &Loaded) -> Value {
        let stages: Vec<Value> = self
            .stages
            .iter()
            .map(|s| json!({"stage": s.name, "pass": s.pass, "code": s.code, "rule": s.rule, "detail": s.detail}))
            .collect();
        let rules: Vec<Value> = self
            .explanation
            .rules
            .iter()
            .map(|rule| {
                let mut value = json!(rule);
                if let Some(members) = value.as_object_mut() {
                    members.insert("place".into(), json!(loaded.place_of(&rule.path, rule.line)));
                }
                value
            })
            .collect();
        let decided = self.stages.iter().find(|stage| !stage.pass).or_else(|| self.stages.last());
        json!({
            "allowed": self.allowed(), "visible": self.visible,
            "code": decided.and_then(|stage| stage.code), "rule": decided.and_then(|stage| stage.rule.clone()),
            "principal": &**question.principal.key(), "groups": question.principal.groups.iter().map(|g| &**g).collect::<Vec<_>>(),
            "portal": question.portal.as_ref().map(|portal| portal.id.as_str()),
            "server": question.server.id.as_str(), "tool": question.tool,
            "class": question.server.class_of(&question.tool).as_str(), "stages": stages, "rules": rules,
        })
    }

    fn text(&self, question: &Question, loaded: &Loaded) -> String {
        let mut out = format!(
            "{} calls {} on server {} (class {})\n\n",
            question.principal.key(),
            question.tool,
            question.server.id,
            question.server.class_of(&question.tool).as_str()
        );
        for stage in &self.stages {
            let verdict = if stage.pass { "pass" } else { "REFUSED" };
            out.push_str(&format!("{:<10} {verdict}", stage.name));
            for part in [stage.code.map(|code| code.as_str().to_owned()), stage.rule.clone(), stage.detail.clone()] {
                out.push_str(&part.map(|part| format!("  {part}")).unwrap_or_default());
            }
            out.push('\n');
        }
        let rows: Vec<Vec<String>> = self
            .explanation
            .rules
            .iter()
            .map(|rule| {
                let word = |value: Value| value.as_str().unwrap_or_default().replace('_', " ");
                vec![
                    rule.stage.to_owned(),
                    word(json!(rule.kind)),
                    rule.rule.to_string(),
                    word(json!(rule.verdict)),
                    loaded.place_of(&rule.path, rule.line).unwrap_or_else(|| rule.path.to_string()),
                    rule.note.clone().unwrap_or_default(),
                ]
            })
            .collect();
        if !rows.is_empty() {
            out.push('\n');
            out.push_str(&table(&["about", "kind", "rule", "verdict", "place", "note"], &rows));
        }
        let end = match (self.allowed(), self.visible) {
            (true, _) => "allowed",
            (false, true) => "refused",
            (false, false) => "refused; the caller is told that there is no such tool",
        };
        out.push_str(&format!("\n{end}\n"));
        out
    }
}
