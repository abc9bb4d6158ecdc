//! Servers that were added since a person last chose are told of together (P38): one prompt
//! with the address of one page, before a call goes on.

use std::time::Duration;

use bartizan_model::{Era, PrincipalKind, ReasonCode};
use bartizan_wire::RawJson;

use super::Stage;
use super::page::{self, Opened};
use crate::call::CallReply;
use crate::exchange::{Answer, Exchange, Reject};
use crate::toggles::Link;

/// Longest wait for a legacy client's person to say something.
const PATIENCE: Duration = Duration::from_secs(30);
/// Servers that are named.
const NAMED: usize = 5;

/// Prompts once, whatever the answer: the call goes on.
///
/// # Errors
/// What a modern client is told in between.
pub(crate) async fn prompt(x: &Exchange) -> Result<(), Reject> {
    let Some((url, message)) = wanted(x).await else { return Ok(()) };
    match tokio::time::timeout(PATIENCE, page::open(x, "added", &url, &message)).await {
        Ok(Opened::Ask(raw)) => Err(told(raw)),
        Ok(Opened::Gone) => Err(Reject::abandoned(Stage::Credential)),
        // Where a refusal is the only way, the call is worth more than the news.
        Ok(Opened::Refuse | Opened::Accepted { .. }) | Err(_) => Ok(()),
    }
}

fn told(raw: RawJson) -> Reject {
    let refused = Reject::refused(Stage::Credential, ReasonCode::LoginRequired, None);
    Reject { code: None, answer: Answer::Reply(Box::new(CallReply::Result(raw))), ..refused }
        .noted("told of servers that were added")
}

/// Address and message, when there is something to tell, and a way to tell it.
async fn wanted(x: &Exchange) -> Option<(String, String)> {
    let caller = &x.caller;
    let holder = caller.selection.holder.as_ref()?;
    let portal = x.endpoint.portal()?;
    let person = caller.principal.kind == PrincipalKind::User && caller.profile.declares("elicitation.url");
    // A call that was asked once more has been told.
    if !person || x.dry || x.resume.is_some() || x.method() != "tools/call" {
        return None;
    }
    // Once for each configuration: what follows asks the store and all policies.
    if !x.gate.states.begins_with(holder, x.snapshot.version) {
        return None;
    }
    let lines = x.gate.server_lines(&x.snapshot, caller, Some(portal), x.at_ms);
    let (ids, person) = (lines.iter().map(|line| line.id.as_str()).collect::<Vec<_>>(), &*caller.principal.id);
    let shown = x.gate.states.shown(person, portal.as_str()).await.ok()?;
    let Some(shown) = shown else {
        // The first time there is nothing new: everything is.
        x.gate.states.show(person, portal.as_str(), &serde_json::to_string(&ids).ok()?).await.ok()?;
        return None;
    };
    let known: Vec<String> = serde_json::from_str(&shown).unwrap_or_default();
    let added: Vec<_> = lines.iter().filter(|line| line.on && !known.iter().any(|id| id == line.id.as_str())).collect();
    let first = added.first()?;
    let once = match caller.profile.era {
        Era::Legacy => holder.to_string(),
        // A grant lives long: once for each time that something is added.
        Era::Modern => format!("{holder}/{}/{}", added.len(), first.id),
    };
    if !x.gate.states.first_prompt(&once).await {
        return None;
    }
    let url = x.gate.selection_url(&Link::new(&caller.principal, portal, holder))?;
    let mut names: Vec<&str> = added.iter().take(NAMED).map(|line| line.name.as_str()).collect();
    if added.len() > NAMED {
        names.push("others");
    }
    Some((url, format!("There are new servers for you: {}. Choose which ones to use.", names.join(", "))))
}
