//! Proposes classes for tools nobody has reviewed (feature row G3): from words of the
//! name, annotations and parameters. A proposal is for a person to read and paste; it
//! grants nothing, and what is not clear stays `unknown`. Descriptions are not read: they
//! are text written by the server to be believed.

mod words;
mod yaml;

use std::sync::Arc;

use bartizan_model::ToolClass;
use bartizan_wire::splice;

use crate::lists::ToolDef;
use words::{Hint, split};

/// What is proposed for one tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Original name.
    pub name: Arc<str>,
    /// The proposed class.
    pub class: ToolClass,
    /// Why, for people.
    pub reasons: Vec<String>,
    /// The server's own claim contradicts the name: look twice.
    pub contradicts: bool,
}

/// Proposals for a server's tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proposals {
    /// In the order of the tools.
    pub tools: Vec<Proposal>,
}

impl Proposals {
    /// The `classes:` block to paste under the server, with the reasons as comments.
    /// Tools that stay `unknown` are listed in comments.
    pub fn to_yaml(&self) -> String {
        yaml::render(self)
    }

    /// Names proposed for a class, in order.
    pub fn of(&self, class: ToolClass) -> impl Iterator<Item = &Proposal> {
        self.tools.iter().filter(move |proposal| proposal.class == class)
    }
}

/// Proposes a class for each tool.
pub fn propose<'a>(tools: impl IntoIterator<Item = &'a ToolDef>) -> Proposals {
    Proposals { tools: tools.into_iter().map(propose_one).collect() }
}

fn propose_one(tool: &ToolDef) -> Proposal {
    let words = split(&tool.name);
    let name = by_name(&words);
    let parameters = parameters(tool);
    let mut reasons = Vec::new();
    match &name {
        Hint::None => reasons.push("the name does not say what it does".to_owned()),
        Hint::Mixed(a, b) => reasons.push(format!("the name says `{a}` and `{b}`")),
        Hint::Read(word) | Hint::Write(word) | Hint::Destructive(word) | Hint::Runs(word) => {
            reasons.push(format!("the name says `{word}`"));
        }
    }
    let (read_only, destructive) = (tool.read_only_hint, tool.destructive_hint);
    if let Some(claim) = read_only {
        reasons.push(format!("the server says readOnlyHint: {claim}"));
    }
    if let Some(claim) = destructive {
        reasons.push(format!("the server says destructiveHint: {claim}"));
    }
    let claims_harm = read_only == Some(false) || (destructive == Some(true) && read_only != Some(true));
    let (class, contradicts) = match name {
        Hint::Destructive(_) => (ToolClass::Destructive, read_only == Some(true)),
        Hint::Write(_) if destructive == Some(true) => (ToolClass::Destructive, read_only == Some(true)),
        Hint::Write(_) => (ToolClass::Write, read_only == Some(true)),
        Hint::Read(_) if claims_harm => (ToolClass::Unknown, true),
        Hint::Read(_) => match parameters {
            Some(parameter) => {
                reasons.push(format!("but it takes `{parameter}`"));
                (ToolClass::Unknown, read_only == Some(true))
            }
            None => (ToolClass::Read, false),
        },
        Hint::Runs(_) | Hint::Mixed(..) => (ToolClass::Unknown, read_only == Some(true)),
        Hint::None => by_claim(read_only, destructive, parameters, &mut reasons),
    };
    if contradicts {
        reasons.push("these do not agree: look twice".to_owned());
    }
    Proposal { name: Arc::clone(&tool.name), class, reasons, contradicts }
}

/// A name that says nothing: the server's claim fills in the form.
fn by_claim(
    read_only: Option<bool>,
    destructive: Option<bool>,
    parameter: Option<&'static str>,
    reasons: &mut Vec<String>,
) -> (ToolClass, bool) {
    match (read_only, destructive) {
        (Some(true), Some(true)) => (ToolClass::Unknown, true),
        (Some(true), _) => match parameter {
            Some(parameter) => {
                reasons.push(format!("but it takes `{parameter}`"));
                (ToolClass::Unknown, true)
            }
            None => {
                reasons.push("nothing but the server's own word".to_owned());
                (ToolClass::Read, false)
            }
        },
        (_, Some(true)) => (ToolClass::Destructive, false),
        (Some(false), Some(false)) => (ToolClass::Write, false),
        _ => (ToolClass::Unknown, false),
    }
}

/// What the words of a name say together. The first verb rules; a later word that is a
/// plain noun as often (`get_commit`) does not count against a reading verb, a later verb
/// that cannot be one (`get_or_create_label`) does.
fn by_name(words: &[String]) -> Hint {
    let mut found = Hint::None;
    for (at, word) in words.iter().enumerate() {
        let hint = match words::hint(word) {
            // `git_log` reads; `log_message` does not.
            Hint::None if word == "log" && at > 0 && at + 1 == words.len() => Hint::Read(word.clone()),
            hint => hint,
        };
        found = match (found, hint) {
            (found, Hint::None) => found,
            (Hint::None, hint) => hint,
            (Hint::Read(read), Hint::Read(_)) => Hint::Read(read),
            (Hint::Read(read), _) if words::is_noun(word) => Hint::Read(read),
            (Hint::Read(read), Hint::Write(other) | Hint::Destructive(other) | Hint::Runs(other)) => {
                Hint::Mixed(read, other)
            }
            (Hint::Write(_) | Hint::Runs(_), Hint::Destructive(word)) if !words::is_noun(&word) => {
                Hint::Destructive(word)
            }
            (found, _) => found,
        };
    }
    found
}

/// A parameter that a tool which only reads hardly has.
fn parameters(tool: &ToolDef) -> Option<&'static str> {
    const TELLING: [&str; 14] = [
        "sql",
        "command",
        "cmd",
        "script",
        "code",
        "shell",
        "statement",
        "expression",
        "force",
        "overwrite",
        "dry_run",
        "dryrun",
        "confirm",
        "recursive_delete",
    ];
    let properties = tool.input_schema.as_ref().and_then(|schema| splice::get(schema, "properties"))?;
    splice::members(&properties).iter().find_map(|(name, _)| {
        let folded = split(name).join("_");
        TELLING.into_iter().find(|telling| *telling == folded)
    })
}
