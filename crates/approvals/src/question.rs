//! What is asked, and the text that people read.

use bartizan_model::{EventId, Principal, ServerId, ToolClass};
use bartizan_policy::Approval;
use serde::{Deserialize, Serialize};

use crate::shown::{brief, indented, visible};

/// Longest reason, characters (A16).
pub const MAX_REASON: usize = 500;
/// Longest name that is shown whole, characters.
const NAME: usize = 200;

/// A call that waits.
#[derive(Clone, Debug)]
pub struct CallQuestion<'a> {
    /// Who calls.
    pub requester: &'a Principal,
    /// What asks.
    pub approval: &'a Approval,
    /// `tool:SERVER/NAME`, `prompt:…` or `resource:…`.
    pub subject: &'a str,
    /// Digest over method, target, its definition and all arguments.
    pub digest: &'a str,
    /// Digest over the definition of the target and the version of its server: an answer for the whole tool is good
    /// for these only.
    pub definition: &'a str,
    /// E-mail address of the person who answers for an agent that calls: they are the same side.
    pub owner: Option<&'a str>,
    /// The event of the call.
    pub event: EventId,
    /// What is shown.
    pub details: Details,
}

/// Somebody who wants to be let in.
#[derive(Clone, Debug)]
pub struct EntryQuestion<'a> {
    /// Who.
    pub requester: &'a Principal,
    /// What asks; about an entry.
    pub approval: &'a Approval,
    /// What for, at most [`MAX_REASON`] characters.
    pub reason: &'a str,
    /// Name of the place for people.
    pub name: &'a str,
}

/// Facts of a question; kept sealed. Texts are as somebody sent them, and are made visible where
/// they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Who asks, as in rules.
    pub requester: String,
    /// The client, as it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The grant behind the credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The portal it came through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub portal: Option<String>,
    /// The server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// Original name or URI.
    pub target: String,
    /// The name that the client used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed: Option<String>,
    /// Reviewed class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<ToolClass>,
    /// Labels of what the session has seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// All arguments, as they were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// The rule that asks.
    pub rule: String,
    /// What differs from the last approved call; `None` when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Vec<String>>,
    /// What for, in the words of who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Shortest time to be let in, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_s: Option<u32>,
}

impl Details {
    /// One line: who wants what.
    pub fn headline(&self) -> String {
        let (who, what) = (brief(&self.requester, NAME), brief(&self.target, NAME));
        match (&self.server, self.arguments.is_some()) {
            (Some(server), true) => format!("{who} wants to call {what} of {server}"),
            _ => format!("{who} asks to be let in to {what}"),
        }
    }

    /// Names and values, made visible, in the order in which they are read.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("Asked by", brief(&self.requester, NAME))];
        let mut add = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
        add("Client", self.client.as_deref().map(|client| brief(client, NAME)));
        add("Portal", self.portal.as_deref().map(|portal| brief(portal, NAME)));
        add("Server", self.server.as_ref().map(ToString::to_string));
        add(if self.arguments.is_some() { "Tool" } else { "Place" }, Some(brief(&self.target, 2_000)));
        add("Known to the client as", self.exposed.as_deref().map(|name| brief(name, NAME)));
        add("Class", self.class.map(|class| class.as_str().to_owned()));
        add("Labels", (!self.labels.is_empty()).then(|| brief(&self.labels.join(", "), NAME)));
        add("Rule", Some(brief(&self.rule, NAME)));
        add("Reason", self.reason.as_deref().map(|reason| brief(reason, MAX_REASON * 2)));
        facts
    }

    /// All arguments, indented and visible.
    pub fn shown_arguments(&self) -> Option<String> {
        self.arguments.as_deref().map(|sent| visible(&indented(sent)))
    }

    /// The whole question as plain text.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n\n", self.headline());
        for (name, value) in self.facts() {
            out.push_str(&format!("{name}: {value}\n"));
        }
        if let Some(arguments) = self.shown_arguments() {
            out.push_str(&format!("\nArguments, complete:\n{arguments}\n"));
            out.push_str(&match self.difference.as_deref() {
                None => "\nNo such call was approved before.\n".to_owned(),
                Some([]) => "\nThe same arguments were approved before.\n".to_owned(),
                Some(lines) => format!("\nDifferent from the last approved call:\n{}\n", lines.join("\n")),
            });
        }
        out
    }
}
