//! Cedar text to statements, with every problem at its line and column.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;

use bartizan_config::Diagnostic;
use bartizan_config::resources::Resources;
use cedar_policy::pst::Template;
use cedar_policy::{
    Expression, Policy, PolicySet, Schema, ValidationError, ValidationMode, ValidationWarning, Validator,
};

use crate::approval::Approval;
use crate::circumstance::Circumstance;
use crate::fold::{self, BadUser};
use crate::grant::Grant;
use crate::infer::{Problem, Usage, closest};
use crate::never;
use crate::query::Action;
use crate::schema::schema;
use crate::scope::Scope;
use crate::statement::{Condition, Statement};

/// Bytes of one policy text.
const MAX_TEXT: usize = 64 << 10;

/// Operators of one statement. Analysis recurses over chains of them.
const MAX_OPERATORS: usize = 1_000;

/// Compiles texts against the names that exist.
pub(crate) struct Compiler {
    plain_schema: Schema,
    servers: HashSet<String>,
    portals: HashSet<String>,
    /// Servers of each portal that does not have all.
    members: HashMap<String, HashSet<String>>,
    pub(crate) findings: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// A text and where it came from.
struct Source<'a> {
    text: &'a str,
    path: &'a str,
    /// Lines put in front of what the operator wrote.
    added_lines: usize,
}

impl Source<'_> {
    fn report(&self, offset: Option<usize>, code: &'static str, message: impl Into<String>) -> Diagnostic {
        let finding = Diagnostic::new(self.path, code, message);
        match offset {
            Some(offset) => {
                let (line, column) = position(self.text, offset);
                finding.at(line.saturating_sub(self.added_lines).max(1), column)
            }
            None => finding,
        }
    }
}

/// Whether a text is Cedar that forbids nothing. One that cannot be read may be meant to.
pub fn only_permits(text: &str) -> bool {
    PolicySet::from_str(text).is_ok_and(|set| {
        set.templates().next().is_none() && set.policies().all(|policy| policy.effect() == cedar_policy::Effect::Permit)
    })
}

/// Line and column of a byte offset, from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

impl Compiler {
    pub(crate) fn new(resources: &Resources) -> Result<Self, String> {
        let mut portals: HashSet<String> =
            resources.portals.iter().map(|portal| portal.id.as_str().to_owned()).collect();
        if portals.is_empty() {
            portals.insert("default".to_owned());
        }
        Ok(Self {
            plain_schema: schema(None)?,
            servers: resources.servers.iter().map(|server| server.server_id.as_str().to_owned()).collect(),
            portals,
            members: members(resources),
            findings: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// All statements of one policy resource.
    pub(crate) fn policy(&mut self, id: &str, text: &str, path: &str) -> Vec<Statement> {
        let source = Source { text, path, added_lines: 0 };
        let Some(policies) = self.parse(&source) else {
            return Vec::new();
        };
        if policies.is_empty() {
            self.findings.push(source.report(None, "empty_policy", "the policy has no statement"));
        }
        let several = policies.len() > 1;
        let mut statements = Vec::new();
        let mut from = 0;
        for (at, policy) in policies.iter().enumerate() {
            let own = policy.to_cedar().unwrap_or_default();
            let start = text.get(from..).and_then(|rest| rest.find(own.as_str())).map_or(from, |found| from + found);
            from = start + own.len();
            let Some((template, condition)) = self.check(policy, &source, start) else {
                continue;
            };
            let (line, column) = position(text, start);
            let rule = if several { format!("policy {id:?} statement {}", at + 1) } else { format!("policy {id:?}") };
            let rule: Arc<str> = rule.into();
            let approvals = self.approval(policy, &rule, &source, start);
            statements.push(Statement {
                rule,
                approvals,
                path: path.into(),
                line,
                column,
                text: first_line(&own),
                effect: policy.effect(),
                scope: Scope::read(&template),
                condition,
            });
        }
        statements
    }

    /// The annotation `@approval("group:finance-leads")` of a permit.
    fn approval(&mut self, policy: &Policy, rule: &Arc<str>, source: &Source<'_>, start: usize) -> Vec<Arc<Approval>> {
        let Some(text) = policy.annotation("approval") else { return Vec::new() };
        let read = match policy.effect() {
            cedar_policy::Effect::Permit => Approval::annotation(text, rule),
            cedar_policy::Effect::Forbid => Err("a `forbid` asks nobody".to_owned()),
        };
        match read {
            Ok(approval) => vec![approval],
            Err(why) => {
                let at = near(source, start, "@approval").or(Some(start));
                let finding = source.report(at, "invalid_approver", why);
                self.findings.push(finding.suggest("write `@approval(\"group:NAME\")`"));
                Vec::new()
            }
        }
    }

    /// The `when` of a grant.
    pub(crate) fn grant_condition(&mut self, grant: &mut Grant, when: &str) {
        let path = format!("{}.when", grant.path);
        let bare = Source { text: when, path: &path, added_lines: 0 };
        if when.len() > MAX_TEXT {
            self.findings.push(bare.report(None, "policy_too_long", "the condition is longer than 64 KiB"));
            return;
        }
        if operators(when) > MAX_OPERATORS {
            self.findings.push(bare.report(None, "policy_too_deep", "the condition has too many operators"));
            return;
        }
        // On its own first, so that nothing but one condition can be written here.
        if let Err(errors) = Expression::from_str(when) {
            for error in errors.iter() {
                let finding = bare.report(offset_of(error), "policy_syntax", error.to_string());
                self.findings.push(finding);
            }
            return;
        }
        let text = format!("permit(principal, action == Action::\"call_tool\", resource) when {{\n{when}\n}};");
        let source = Source { text: &text, path: &path, added_lines: 1 };
        let Some(policies) = self.parse(&source) else {
            return;
        };
        match policies.as_slice() {
            [policy] => grant.condition = self.check(policy, &source, 0).and_then(|(_, condition)| condition),
            _ => self.findings.push(bare.report(None, "policy_syntax", "a grant's `when` is one condition")),
        }
    }

    /// Parses a text into statements, in order.
    fn parse(&mut self, source: &Source<'_>) -> Option<Vec<Policy>> {
        if source.text.len() > MAX_TEXT {
            self.findings.push(source.report(None, "policy_too_long", "the policy is longer than 64 KiB"));
            return None;
        }
        if operators(source.text) > MAX_OPERATORS {
            let message = format!("a statement has more than {MAX_OPERATORS} operators");
            let finding = source
                .report(None, "policy_too_deep", message)
                .suggest("write long lists as `[\"a\", \"b\"].contains(…)`");
            self.findings.push(finding);
            return None;
        }
        let set = match PolicySet::from_str(source.text) {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    let mut finding = source.report(offset_of(error), "policy_syntax", error.to_string());
                    finding.suggestion = help(error);
                    self.findings.push(finding);
                }
                return None;
            }
        };
        if set.templates().next().is_some() {
            self.findings.push(source.report(None, "policy_unsupported", "templates are not supported"));
            return None;
        }
        let mut policies: Vec<Policy> = set.policies().cloned().collect();
        // The parser numbers them `policy0`, `policy1`, …
        policies.sort_by_key(|policy| {
            let id: &str = policy.id().as_ref();
            id.strip_prefix("policy").and_then(|number| number.parse::<usize>().ok()).unwrap_or(usize::MAX)
        });
        Some(policies)
    }

    /// Everything that can be wrong with one statement.
    fn check(&mut self, policy: &Policy, source: &Source<'_>, start: usize) -> Option<(Template, Option<Condition>)> {
        let before = self.findings.len();
        let template = match policy.to_pst() {
            Ok(tree) => tree.body().clone(),
            Err(error) => {
                self.findings.push(source.report(Some(start), "policy_unsupported", error.to_string()));
                return None;
            }
        };
        let template = match fold::users(&template) {
            Ok(template) => template,
            Err(BadUser { id, why }) => {
                let message = format!("`User::{id:?}`: {why}");
                self.findings.push(source.report(
                    near(source, start, &id).or(Some(start)),
                    "invalid_principal",
                    message,
                ));
                return None;
            }
        };
        self.check_references(policy, source, start);
        let condition = match Condition::compile(&template) {
            Ok(condition) => condition,
            Err(problem) => {
                self.findings.push(problem_report(problem, source, start));
                return None;
            }
        };
        let usage = condition.as_ref().map(|condition| condition.usage.clone()).unwrap_or_default();
        self.check_argument_actions(&template, &usage, source, start);
        if self.findings.len() == before {
            self.validate(policy, &usage, source, start);
            self.check_comparisons(&template, source, start);
        }
        (self.findings.len() == before).then_some((template, condition))
    }

    /// Servers and portals that do not exist would make a rule silently dead.
    fn check_references(&mut self, policy: &Policy, source: &Source<'_>, start: usize) {
        let mut seen = BTreeSet::new();
        for uid in policy.entity_literals() {
            let (kind, id) = (uid.type_name().basename().to_owned(), uid.id().unescaped().to_owned());
            if !seen.insert((kind.clone(), id.clone())) {
                continue;
            }
            let (known, name, code) = match kind.as_str() {
                "Portal" => (&self.portals, id.as_str(), "unknown_portal"),
                "Server" => (&self.servers, id.as_str(), "unknown_server"),
                "Tool" | "Prompt" | "Resource" => match id.split_once('/') {
                    Some((server, _)) => (&self.servers, server, "unknown_server"),
                    None => {
                        let message = format!("`{kind}::\"{id}\"` does not name a server");
                        let finding = source
                            .report(near(source, start, &id), "unknown_server", message)
                            .suggest(format!("write `{kind}::\"SERVER_ID/{id}\"`"));
                        self.findings.push(finding);
                        continue;
                    }
                },
                _ => continue,
            };
            if !known.contains(name) {
                let what = if code == "unknown_portal" { "portal" } else { "server" };
                let mut finding =
                    source.report(near(source, start, name), code, format!("there is no {what} `{name}`"));
                finding.suggestion =
                    closest(name, known.iter().map(String::as_str)).map(|other| format!("did you mean `{other}`?"));
                self.findings.push(finding);
            }
        }
    }

    /// Comparisons with names that cannot be.
    fn check_comparisons(&mut self, template: &Template, source: &Source<'_>, start: usize) {
        let Some(never) = never::find(template, &self.servers, &self.portals, &self.members) else { return };
        let (attribute, word) = (never.attribute, never.word.as_str());
        let message = format!("`{attribute}` is never `{word}` here, so the statement never applies");
        let offset = near(source, start, &format!("{word:?}")).map(|at| at + 1).or(Some(start));
        let mut finding = source.report(offset, "dead_rule", message);
        finding.suggestion = closest(word, never.possible.iter().map(String::as_str))
            .filter(|other| *other != word)
            .map(|other| format!("did you mean `{other}`?"));
        self.warnings.push(finding);
    }

    /// Arguments exist only where something is called with arguments.
    fn check_argument_actions(&mut self, template: &Template, usage: &Usage, source: &Source<'_>, start: usize) {
        if usage.args.is_none() {
            return;
        }
        let scope = Scope::read(template);
        let without =
            Action::ALL.into_iter().filter(|action| !action.has_args()).any(|action| scope.actions & action.bit() != 0);
        if without {
            let finding = source
                .report(
                    near(source, start, "args"),
                    "args_without_call",
                    "`context.args` exists only for `call_tool` and `get_prompt`, but the statement is about other actions too",
                )
                .suggest("write `action == Action::\"call_tool\"`");
            self.findings.push(finding);
        }
    }

    /// Cedar's own validation against the schema.
    fn validate(&mut self, policy: &Policy, usage: &Usage, source: &Source<'_>, start: usize) {
        let schema = match usage.args.as_ref().map(|shape| schema(Some(shape))).transpose() {
            Ok(schema) => schema.unwrap_or_else(|| self.plain_schema.clone()),
            Err(why) => {
                self.findings.push(source.report(Some(start), "policy_unsupported", why));
                return;
            }
        };
        let mut set = PolicySet::new();
        if let Err(error) = set.add(policy.clone()) {
            self.findings.push(source.report(Some(start), "policy_unsupported", error.to_string()));
            return;
        }
        let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
        let mut seen = BTreeSet::new();
        for error in result.validation_errors() {
            // Absent members are handled when they are met: the call is refused.
            if matches!(error, ValidationError::UnsafeOptionalAttributeAccess(_)) {
                let warning = absent_without_sign_in(&error.to_string(), offset_of(error).or(Some(start)), source);
                self.warnings.extend(warning);
                continue;
            }
            let code = match error {
                ValidationError::UnsafeAttributeAccess(_) => "unknown_attribute",
                ValidationError::UnrecognizedEntityType(_) => "unknown_entity_type",
                ValidationError::UnrecognizedActionId(_) => "unknown_action",
                _ => "policy_type",
            };
            let message = without_policy_id(&error.to_string());
            let offset = offset_of(error).or(Some(start));
            if seen.insert((message.clone(), offset)) {
                let mut finding = source.report(offset, code, message);
                finding.suggestion = help(error);
                self.findings.push(finding);
            }
        }
        for warning in result.validation_warnings() {
            let message = match warning {
                ValidationWarning::InvalidActionApplication(_) => {
                    "the action, the principal and the resource do not fit together, so the statement never applies"
                }
                ValidationWarning::ImpossiblePolicy(_) => {
                    "the condition can never be true, so the statement never applies"
                }
                ValidationWarning::BidiCharsInString(_) | ValidationWarning::BidiCharsInIdentifier(_) => {
                    "the text holds characters that change its reading direction"
                }
                _ => continue,
            };
            // An ill-typed condition is reported as such, not also as impossible.
            if seen.is_empty() {
                let finding = source
                    .report(Some(start), "policy_never_applies", message)
                    .suggest("tools, prompts and resources of a server are `resource in Server::\"ID\"`");
                self.findings.push(finding);
            }
        }
    }
}

fn members(resources: &Resources) -> HashMap<String, HashSet<String>> {
    let listed = resources.portals.iter().filter_map(|portal| Some((portal, portal.servers.as_ref()?)));
    listed
        .map(|(portal, list)| {
            let own = list.iter().map(|server| server.as_str().to_owned()).collect();
            (portal.id.as_str().to_owned(), own)
        })
        .collect()
}

/// What only a sign-in tells is absent for many callers, and each of them is refused.
fn absent_without_sign_in(message: &str, offset: Option<usize>, source: &Source<'_>) -> Option<Diagnostic> {
    let each = Circumstance::ALL
        .into_iter()
        .find(|each| each.of_session() && message.contains(&format!("attribute `{}`", each.as_str())))?;
    let name = each.as_str();
    let finding = source.report(
        offset,
        "optional_attribute",
        format!("`context.{name}` is absent unless a sign-in told it, and then every call that asks is refused"),
    );
    Some(finding.suggest(format!("write `context has {name} && …`")))
}

fn problem_report(problem: Problem, source: &Source<'_>, start: usize) -> Diagnostic {
    let offset = problem.near.as_deref().and_then(|word| near(source, start, word)).or(Some(start));
    let mut finding = source.report(offset, problem.code, problem.message);
    finding.suggestion = problem.suggestion;
    finding
}

/// Where a word is first used in a statement.
fn near(source: &Source<'_>, start: usize, word: &str) -> Option<usize> {
    let rest = source.text.get(start..)?;
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let found = rest.match_indices(word).find(|(at, _)| {
        let before = rest.get(..*at).and_then(|text| text.chars().next_back());
        let after = rest.get(at + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    });
    found.or_else(|| rest.match_indices(word).next()).map(|(at, _)| start + at)
}

fn offset_of(error: &dyn miette::Diagnostic) -> Option<usize> {
    error.labels()?.next().map(|label| label.offset())
}

fn help(error: &dyn miette::Diagnostic) -> Option<String> {
    error.help().map(|help| help.to_string())
}

/// Cedar's messages begin with the number of the statement, which the path already says.
fn without_policy_id(message: &str) -> String {
    match message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")) {
        Some((_, rest)) => rest.to_owned(),
        None => message.to_owned(),
    }
}

/// An upper bound for the depth of the deepest statement: everything that can nest,
/// outside of strings and comments. Asked before parsing, which recurses too.
fn operators(text: &str) -> usize {
    let (mut most, mut count) = (0, 0);
    let mut chars = text.char_indices().peekable();
    let mut before = ' ';
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                while let Some((_, inner)) = chars.next() {
                    match inner {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
            }
            '/' if chars.peek().is_some_and(|(_, next)| *next == '/') => {
                while chars.next().is_some_and(|(_, inner)| inner != '\n') {}
            }
            '|' | '&' if before == c => count += 1,
            '+' | '-' | '*' | '.' | '!' | '(' | '[' | '{' | '<' | '>' => count += 1,
            'i' | 'h' | 'l' if !(before.is_alphanumeric() || before == '_') => {
                let rest = text.get(at..).unwrap_or_default();
                count += usize::from(["if", "in", "is", "has", "like"].iter().any(|word| rest.starts_with(word)));
            }
            ';' => {
                most = most.max(count);
                count = 0;
            }
            _ => {}
        }
        before = c;
    }
    most.max(count)
}

fn first_line(text: &str) -> Arc<str> {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default()
        .chars()
        .take(200)
        .collect::<String>()
        .into()
}
