//! The history as evidence: each line covers the one before, so that nothing can be changed or left
//! out without the head telling (P48).

use aws_lc_rs::digest::{Context, SHA256};
use bartizan_store::repo::definition::history::{self, Line};
use bartizan_wire::{RawJson, canonical};
use serde::{Deserialize, Serialize};

use crate::registry::{Registry, RegistryError};

/// One line of the history, as it is exported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Number, from 1.
    pub seq: i64,
    /// When, milliseconds since the epoch.
    pub at_ms: i64,
    /// Server id.
    pub server: String,
    /// `tool`, `prompt`, `template` or `server`.
    pub kind: String,
    /// Original name.
    pub name: String,
    /// What happened.
    pub action: String,
    /// The pin it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// The pin before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<String>,
    /// Who did it.
    pub who: String,
    /// Why.
    pub reason: String,
    /// Hash of the line before; nothing for the first one.
    pub prev: String,
    /// SHA-256 over `bartizan/definition/1`, NUL and the canonical line without this member.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

impl From<&Line> for Entry {
    fn from(line: &Line) -> Self {
        Self {
            seq: line.seq,
            at_ms: line.at_ms,
            server: line.server.clone(),
            kind: line.kind.clone(),
            name: line.name.clone(),
            action: line.action.clone(),
            pin: line.pin.clone(),
            former: line.former.clone(),
            who: line.who.clone(),
            reason: line.reason.clone(),
            prev: line.prev.clone(),
            hash: line.hash.clone(),
        }
    }
}

impl Entry {
    /// What [`Self::hash`] must be.
    pub fn expected(&self) -> String {
        let open = Self { hash: String::new(), ..self.clone() };
        let form = RawJson::from_serialize(&open).map(|raw| canonical::rfc8785(&raw)).unwrap_or_default();
        let mut context = Context::new(&SHA256);
        context.update(b"bartizan/definition/1\0");
        context.update(form.as_bytes());
        context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The hash of a line that is about to be written.
pub(crate) fn seal(line: &Line) -> String {
    Entry::from(line).expected()
}

/// Why a history is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A line does not say what it said when it was written.
    #[error("line {0} was changed")]
    Changed(i64),
    /// A line is missing, doubled, or not in its place.
    #[error("line {0} does not follow the one before")]
    Order(i64),
    /// The newest line is not the one that is known to be the newest.
    #[error("the history does not end where it should, at line {0}")]
    Head(i64),
}

/// Verifies lines that follow `prev` (nothing for a history from its first line), oldest first.
///
/// # Errors
/// [`Broken`] with the first line that is not good.
pub fn verify<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    mut seq: i64,
    prev: &str,
) -> Result<(i64, String), Broken> {
    let mut prev = prev.to_owned();
    for entry in entries {
        if entry.seq != seq + 1 || entry.prev != prev {
            return Err(Broken::Order(entry.seq));
        }
        if entry.hash != entry.expected() {
            return Err(Broken::Changed(entry.seq));
        }
        (seq, prev) = (entry.seq, entry.hash.clone());
    }
    Ok((seq, prev))
}

/// What was approved of a definition at a time, by lines that were verified: its pin.
pub fn approved_at<'a>(entries: &'a [Entry], server: &str, kind: &str, name: &str, at_ms: i64) -> Option<&'a str> {
    let mut approved: Option<&str> = None;
    for entry in entries.iter().take_while(|entry| entry.at_ms <= at_ms) {
        if entry.server != server || entry.kind != kind || entry.name != name {
            continue;
        }
        match (entry.action.as_str(), entry.pin.as_deref()) {
            ("approved", pin) => approved = pin,
            ("rejected", pin) if pin == approved => approved = None,
            _ => {}
        }
    }
    approved
}

impl Registry {
    /// Lines of the history after a number, oldest first, at most 1,000.
    ///
    /// # Errors
    /// [`RegistryError::Store`].
    pub async fn entries(&self, after: i64) -> Result<Vec<Entry>, RegistryError> {
        Ok(history::after(&self.0.store, after, 1_000).await?.iter().map(Entry::from).collect())
    }

    /// Verifies the whole history in the store up to its head. How many lines there are.
    ///
    /// # Errors
    /// [`RegistryError::Store`]; a history that was changed is the inner error.
    pub async fn verify_history(&self) -> Result<Result<i64, Broken>, RegistryError> {
        // The head first: lines that come meanwhile follow it.
        let (head, hash) = history::head(&self.0.store).await?;
        let (mut seq, mut prev) = (0, String::new());
        while seq < head {
            let mut entries = self.entries(seq).await?;
            entries.retain(|entry| entry.seq <= head);
            match verify(&entries, seq, &prev) {
                Ok((next, _)) if next == seq => return Ok(Err(Broken::Head(seq))),
                Ok(next) => (seq, prev) = next,
                Err(broken) => return Ok(Err(broken)),
            }
        }
        Ok(if prev == hash { Ok(head) } else { Err(Broken::Head(head)) })
    }
}
